"""The page of the protocol is enough: a worker that was written from it, and knows nothing of Nylon, passes the suite's
own cases behind a real gateway.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from entries.bodies import content
from routes import suite_config
from suite import Host
from support.client import fetch
from support.configs import gateway_config, route
from support.origin import Origin
from support.processes import TESTS, GatewayProcess, Process
from support.waiting import eventually
from test_bodies import (  # noqa: F401  (collected here once more, on the host below)
    test_a_body_by_chunk_or_unfiltered_has_no_limit,
    test_a_raise_in_mid_body_aborts_so_that_it_never_looks_complete,
    test_a_whole_body_filter_gets_all_and_the_length_is_put_right,
    test_an_empty_body_is_one_last_chunk,
    test_chunks_reach_the_client_as_they_come,
)
from test_deciding import (  # noqa: F401
    test_a_plugin_service_answers_itself,
    test_a_plugin_service_that_passes_is_an_error,
    test_a_response_drafted_before_next_is_dropped,
    test_deciding_nothing_passes_untouched_only_where_the_policy_says_so,
    test_end_in_logging_changes_nothing,
    test_end_in_request_filter_stops_and_answers,
    test_end_in_response_body_filter_skips_the_remaining_ones,
    test_end_in_response_filter_skips_the_remaining_ones,
    test_phases_run_in_onion_order,
)
from test_reading import (  # noqa: F401
    test_body_over_the_limit_is_refused_whatever_the_policy,
    test_body_that_was_read_is_still_forwarded,
    test_chunked_body_is_read_whole,
    test_header_value_of_any_bytes_survives_a_handler,
)
from test_sessions import (  # noqa: F401
    test_closures_are_each_sessions_own,
    test_closures_live_across_the_phases,
    test_logging_gets_the_facts,
    test_one_entry_twice_in_a_chain_is_two_sessions,
    test_state_lives_across_the_phases,
)
from test_writing import (  # noqa: F401
    test_path_is_replaced_and_the_query_stays,
    test_query_is_removed,
    test_query_is_replaced_and_the_path_stays,
    test_request_headers_are_set_added_and_removed,
)

HERE = Path(__file__).resolve().parent
GROUP = "foreign"


class ForeignProcess(Process):
    """The foreign worker in a process of its own."""

    def __init__(self, url: str) -> None:
        script = [sys.executable, HERE / "foreign_entries.py", url, GROUP]
        super().__init__(script, cwd=HERE, environment={"PYTHONPATH": str(TESTS)})


@pytest.fixture(scope="module")
def host(nylon_nats: Any) -> Iterator[Host]:
    """The one host here, in place of the suite's."""
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(Origin())
        worker = stack.enter_context(ForeignProcess(nylon_nats.url))
        assert worker.read_line().startswith("serving")
        messaging = [{"name": "nats", "servers": [nylon_nats.url]}]
        plugin = {"type": "messaging", "messaging": "nats", "group": GROUP}
        gateway = stack.enter_context(
            GatewayProcess(suite_config(origin.address, plugin, messaging=messaging))
        )
        eventually(
            lambda: fetch(gateway.address, "GET", "/write-body/ready").status == 200, "a route that works"
        )
        yield Host("foreign", plugin, gateway, origin, worker)


def test_the_foreign_worker_imports_nothing_of_nylon() -> None:
    for path in (TESTS / "support" / "foreign_worker.py", HERE / "foreign_entries.py"):
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        modules = [node.module or "" for node in tree if isinstance(node, ast.ImportFrom)]
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        modules += [name.name for node in tree if isinstance(node, ast.Import) for name in node.names]
        assert not [module for module in modules if module.split(".")[0] == "nylon"]


def test_an_entry_that_the_worker_lacks_is_an_error_never_a_pass(case: Any) -> None:
    assert case.get("answer").status == 500
    assert case.forwarded("answer") == []


async def ask(url: str, subject: str) -> dict[str, Any]:
    client = await nats.connect(url)
    try:
        answer: dict[str, Any] = json.loads((await client.request(subject, timeout=5)).data)
        return answer
    finally:
        await client.close()


def test_a_large_body_comes_in_parts(host: Host, nylon_nats: Any) -> None:
    entry = "read-body-awaited"
    plugin = {"name": "plugin", "type": "messaging", "messaging": "nats", "group": GROUP}
    with Origin() as origin:
        config = gateway_config(
            origin.address,
            [route("/", middleware=[{"plugin": "plugin", "entry": entry}])],
            plugins=[plugin],
            messaging=[{"name": "nats", "servers": [nylon_nats.url]}],
            limits={"max_body_bytes": 4 << 20},
        )
        with GatewayProcess(config) as gateway:
            body = content((3 << 20) + 1)
            eventually(
                lambda: fetch(gateway.address, "POST", "/", body=body).status == 200, "a route that works"
            )
            (received,) = [received for received in origin.received("/") if received.body]
            assert received.body == body
            assert received.header("x-seen") == hashlib.sha256(body).hexdigest()


def test_it_is_a_micro_service_like_any_worker(host: Host, nylon_nats: Any) -> None:
    import asyncio

    info = asyncio.run(ask(nylon_nats.url, f"$SRV.INFO.nylon-{GROUP}"))
    assert info["type"] == "io.nats.micro.v1.info_response"
    assert info["metadata"]["nylon.entry.read-body"] == "request_filter body"


def test_it_leaves_in_good_order(nylon_nats: Any) -> None:
    with ForeignProcess(nylon_nats.url) as second:
        assert second.read_line().startswith("serving")
        second.signal(signal.SIGTERM)
        assert second.wait() == 0
