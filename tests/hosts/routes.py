"""The configuration of the suite: one route per entry, and the chains and policies that cases ask for."""

from __future__ import annotations

from typing import Any

from support.client import Address
from support.configs import Config, gateway_config, route

MAX_BODY = 256 * 1024
"""The suite's `limits.max_body_bytes`."""

FILTERS = ("request_filter", "response_filter", "response_body_filter")
PHASES = (*FILTERS, "logging")
SHORT = {"timeout_ms": 300}

ENTRIES = """
    read-request read-headers read-repeated read-bytes read-json read-body read-body-awaited read-body-undeclared
    read-response read-response-body-early read-response-body
    write-method write-path write-query remove-query write-headers write-body write-body-text empty-body
    replace-read-body write-framing refused-writes answer redirect write-response replace-response-body write-too-late
    undecided undecided-awaited end-then-next end-then-next-caught next-twice-caught next-then-raise
    write-after-next draft-then-next response-undecided
    raise-awaited raise-exit raise-cancelled raise-in-setup block block-awaited keep-context fine fine-awaited
    whole whole-untouched whole-emptied by-chunk by-chunk-counting by-chunk-raise by-chunk-swallow touch
    closure state state-in-setup state-too-large state-impossible log-facts slow-log
    timeout-passes timeout-strikes task-group current-task aiohttp httpx gather-at-gate context-variable
    context-variable-blocking mixed
    stream-blocking stream-awaited stream-at-once stream-small stream-inline-large stream-at-gate stream-raise
    stream-raise-at-once stream-unended stream-misused stream-facts stream-empty stream-for-ever
    stream-for-ever-awaited stream-progress
""".split()  # noqa: SIM905 (as a list it would fill two pages)
"""Entries with a route of their own name and nothing special about it."""


def suite_config(
    origin: Address, plugin: Config, *, more_entries: tuple[str, ...] = (), **sections: Any
) -> Config:
    """The whole suite's configuration; `plugin` is how the plugin named `plugin` runs."""
    authority = f"{origin[0]}:{origin[1]}"

    def entry(name: str, payload: Config | None = None, **more: Any) -> Config:
        return {
            "plugin": "plugin",
            "entry": name,
            "payload": {"origin": authority, **(payload or {})},
            **more,
        }

    def on_error(name: str, phases: tuple[str, ...] = FILTERS) -> Config:
        return {phase: {"on_error": name} for phase in phases}

    def one(path: str, *chain: Config, **more: Any) -> Config:
        return route(f"/{path}/{{*rest}}", middleware=list(chain), **more)

    passing = [entry("pass", {"name": name}) for name in "abc"]
    payload = {"text": "caf\u00e9", "number": 2**40, "nested": {"list": [1, None, True, 0.5]}}
    templates = {
        "whole": "${header(x-user)}",
        "nested": [{"deep": "a ${upper(query(q, 'none'))} b"}, "$${header(x-user)}", 7, None],
        "known": "${concat('a', 'b')}",
    }
    odd = {"methods": ["GET"], "header": {"name": "x-odd"}, "not": {"path": "/when/{*rest}"}}
    paths = [
        *(one(name, entry(name)) for name in ENTRIES),
        one("read-payload", entry("read-request", payload)),
        one("read-templates", entry("read-request", templates)),
        one(
            "templates-onion",
            entry("pass", {"name": "${uuid(v4)}"}),
            entry("pass", {"name": "${header(x-order)}"}),
        ),
        one("templates-too-long", entry("pass", {"name": "${concat(header(x-long), header(x-long))}"})),
        *(
            one(name, passing[0], entry("pass", {"name": "odd"}, when=odd), passing[2])
            for name in ("when", "when-odd")
        ),
        route("/read-params/{name}/{*rest}", middleware=[entry("read-request")]),
        # Order: three in a row, with one that ends, raises, or is left out in the middle.
        one("onion", *passing),
        *(
            one(f"stop-in-{phase}", passing[0], entry("stop-in", {"name": "stop", "stop": phase}), passing[2])
            for phase in PHASES
        ),
        *(
            one(f"onion-raise-in-{phase}", passing[0], entry("raise-in", {"raise": phase}), passing[2])
            for phase in PHASES
        ),
        *(
            one(
                f"onion-continue-{phase}",
                passing[0],
                entry("raise-in", {"raise": phase}, per_phase=on_error("continue")),
                passing[2],
            )
            for phase in PHASES
        ),
        one("twice", entry("closure"), entry("closure")),
        # Failures, under each policy.
        *(one(f"raise-in-{phase}", entry("raise-in", {"raise": phase})) for phase in PHASES),
        *(
            one(f"hang-in-{phase}", entry("hang-in", {"hang": phase}, per_phase={phase: SHORT}))
            for phase in FILTERS
        ),
        *(
            one(
                f"hang-continue-{phase}",
                entry("hang-in", {"hang": phase}, per_phase={phase: {**SHORT, "on_error": "continue"}}),
            )
            for phase in FILTERS
        ),
        *(one(name, entry(name, per_phase={"request_filter": SHORT})) for name in ("late", "late-next")),
        one("undecided-continue", entry("undecided", per_phase=on_error("continue"))),
        one("too-large-continue", entry("read-body", per_phase=on_error("continue"))),
        one("by-chunk-raise-continue", entry("by-chunk-raise", per_phase=on_error("continue"))),
        *(
            one(
                f"raise-continue-{phase}", entry("raise-in", {"raise": phase}, per_phase=on_error("continue"))
            )
            for phase in FILTERS
        ),
        one("whole-continue", entry("whole", per_phase=on_error("continue"))),
        one("whole-and-by-chunk", entry("whole"), entry("by-chunk")),
        one("stream-idle", entry("stream-idle", per_phase={"request_filter": SHORT})),
        one("stream-whole", entry("whole"), entry("stream-blocking")),
        one("stream-by-chunk", entry("by-chunk"), entry("stream-awaited")),
        one("stream-both", entry("whole"), entry("by-chunk"), entry("stream-awaited")),
        one("stream-raise-whole", entry("whole"), entry("stream-raise")),
        one("served", service="served"),
        one("served-pass", service="served-pass"),
        one("filtered-served", entry("whole"), service="served"),
        one("open"),
        one("refusing", entry("whole"), service="refusing"),
        one("refusing-logged", entry("log-facts"), service="refusing"),
        *(one(name, entry(name)) for name in more_entries),
    ]
    served = {"service_type": "plugin"}
    services = [
        {
            "name": "served",
            **served,
            "plugin": {"name": "plugin", "entry": "serve", "payload": {"name": "n"}},
        },
        {
            "name": "served-pass",
            **served,
            "plugin": {"name": "plugin", "entry": "serve", "payload": {"pass": True}},
        },
        {"name": "refusing", "service_type": "http", "endpoints": [{"ip": "127.0.0.1", "port": 1}]},
    ]
    return gateway_config(
        origin,
        paths,
        services=services,
        plugins=[{"name": "plugin", **plugin}],
        limits={"max_body_bytes": MAX_BODY},
        **sections,
    )
