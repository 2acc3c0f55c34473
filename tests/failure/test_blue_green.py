"""From one version of a plugin's workers to the next: by a reload under load, and by shares of the sessions."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos.place import NumberedOrigin
from chaos.traffic import Answer, Traffic
from support.client import Address, fetch
from support.configs import Config, gateway_config, route
from support.waiting import eventually

from nylon import Gateway, GatewayError, NylonPlugin
from nylon.embedded import NatsServer
from nylon.testing.fixtures import StartWorker


def plugin_of(version: str, logged: list[tuple[int, str]]) -> NylonPlugin:
    """Every phase leaves its version: in the headers, in the body, in `logged`."""
    plugin = NylonPlugin()

    @plugin.request_filter("short")
    async def request(ctx: Any) -> None:
        ctx.state["number"] = ctx.params["number"]
        ctx.request.headers["x-checked"] = version
        ctx.next()

    @plugin.response_filter("short")
    def response(ctx: Any) -> None:
        ctx.response.set_header("x-version", version).set_header("x-number", ctx.state["number"])

    @plugin.response_body_filter("short")
    async def body(ctx: Any) -> None:
        ctx.response.body_raw(ctx.response.read_body() + f" signed {version}".encode())

    @plugin.logging("short")
    async def log(ctx: Any) -> None:
        logged.append((int(ctx.state["number"]), version))

    @plugin.phase_handler("closure")
    def closure(phase: Any) -> None:
        kept: dict[str, str] = {}

        @phase.request_filter
        async def request(ctx: Any) -> None:
            kept["number"] = ctx.params["number"]
            ctx.request.headers["x-checked"] = version
            ctx.next()

        @phase.response_filter
        def response(ctx: Any) -> None:
            ctx.response.set_header("x-version", version).set_header("x-number", kept["number"])

        @phase.response_body_filter
        async def body(ctx: Any) -> None:
            ctx.response.body_raw(ctx.response.read_body() + f" signed {version}".encode())

        @phase.logging
        def log(ctx: Any) -> None:
            logged.append((int(kept["number"]), version))

    return plugin


def version_of(answer: Answer) -> str | None:
    """The version that served this request in all phases; None if it is not a right answer of one version."""
    version = answer.headers.get("x-version", "")
    right = f"origin {answer.number} checked {version} signed {version}"
    is_right = answer.status == 200 and answer.headers.get("x-number") == str(answer.number)
    return version if is_right and answer.body == right else None


class Site:
    """A configuration's file, the gateway that runs it, and the workers of two versions."""

    def __init__(self, path: Path, origin: Address, nats: str, start: StartWorker) -> None:
        self.path = path
        self.logged: list[tuple[int, str]] = []
        self._origin = origin
        self._nats = nats
        self._start = start

    def write(self, **plugin: object) -> None:
        """The file, with these keys of the plugin."""
        paths = [
            route(f"/{entry}/{{number}}", middleware=[{"plugin": "p", "entry": entry}])
            for entry in ("short", "closure")
        ]
        config: Config = gateway_config(
            self._origin,
            paths,
            messaging=[{"name": "nats", "servers": [self._nats]}],
            plugins=[{"name": "p", "messaging": "nats", **plugin}],
        )
        self.path.write_text(json.dumps(config))

    def gateway(self, **plugin: object) -> Gateway:
        """A gateway from the file."""
        self.write(**plugin)
        return Gateway.from_file(self.path)

    def worker(self, group: str, version: str) -> Any:
        """A worker of this version in this group."""
        return self._start(plugin_of(version, self.logged), group, servers=(self._nats,))


@pytest.fixture(scope="module")
def broker() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, broker: NatsServer, nylon_worker: StartWorker) -> Iterator[Site]:
    with NumberedOrigin() as origin:
        yield Site(tmp_path / "nylon.yaml", origin.address, broker.url, nylon_worker)


def address(gateway: Gateway) -> Address:
    host, port = gateway.urls[0].removeprefix("http://").split(":")
    return host, int(port)


def ask(gateway: Gateway, count: int, path: str = "/short") -> Counter[str]:
    """How many of so many requests each version has served, or with which status they failed."""
    found: Counter[str] = Counter()
    for number in range(count):
        answer = fetch(address(gateway), "GET", f"{path}/{number}")
        found[(answer.header("x-version") or "?") if answer.status == 200 else str(answer.status)] += 1
    return found


# ---- blue-green ----


@pytest.mark.parametrize("entry", ["short", "closure"])
def test_switch_of_groups_under_load_loses_nothing_and_mixes_no_versions(site: Site, entry: str) -> None:
    site.worker("v1", "v1")
    site.worker("v2", "v2")
    with site.gateway(group="v1") as gateway:
        with Traffic(address(gateway), f"/{entry}", rate=150) as traffic:
            live: list[tuple[float, float, str]] = []  # from when to when a version served what was sent
            for version in ("v1", "v2", "v1", "v2"):
                if live:
                    site.write(group=version)
                    gateway.reload()
                begun, before = time.monotonic(), len(traffic.answers)
                eventually(lambda before=before: len(traffic.answers) > before + 60, "60 more answers")
                live.append((begun, time.monotonic(), version))
            answers = traffic.stop()
        versions = {answer.number: version_of(answer) for answer in answers}
        assert [answer for answer in answers if versions[answer.number] is None] == []
        for begun, ended, version in live:
            assert {versions[a.number] for a in answers if begun <= a.sent < ended} == {version}
        eventually(lambda: len(site.logged) == len(answers), "the logging of all")
        assert dict(site.logged) == versions


def test_switch_to_a_group_without_workers_is_refused_and_nothing_changes(site: Site) -> None:
    site.worker("v1", "v1")
    with site.gateway(group="v1") as gateway:
        site.write(group="v2")
        with pytest.raises(GatewayError, match=r'plugin `p`: no worker of group "v2" has announced itself'):
            gateway.reload(wait=0.2)
        assert ask(gateway, 5) == {"v1": 5}
        # Who comes while it waits is waited for.
        waiting = threading.Timer(0.3, lambda: site.worker("v2", "v2"))
        waiting.start()
        assert gateway.reload().started == ["p"]
        waiting.join()
        assert ask(gateway, 5) == {"v2": 5}


def test_forced_switch_goes_to_a_group_without_workers_and_says_so(site: Site) -> None:
    site.worker("v1", "v1")
    with site.gateway(group="v1", per_phase={"request_filter": {"retry": {"max": 0}}}) as gateway:
        site.write(group="v2", per_phase={"request_filter": {"retry": {"max": 0}}})
        [warning] = gateway.reload(force=True, wait=0.1).warnings
        assert 'no worker of group "v2"' in warning
        assert ask(gateway, 3) == {"503": 3}


def test_stop_does_not_wait_for_a_reload_that_waits(site: Site) -> None:
    site.worker("v1", "v1")
    gateway = site.gateway(group="v1")
    gateway.start()
    site.write(group="nobody")
    refused: list[str] = []

    def reload() -> None:
        try:
            gateway.reload(wait=600)
        except GatewayError as error:
            refused.append(str(error))

    reloading = threading.Thread(target=reload)
    reloading.start()
    eventually(lambda: gateway._changing.locked(), "a reload that waits")
    gateway.stop()
    reloading.join(20)
    assert refused == ["the gateway is stopped"] and not gateway.is_running


def test_unchanged_plugin_keeps_what_it_knows_of_its_workers(site: Site) -> None:
    site.worker("v1", "v1")
    with site.gateway(group="v1") as gateway:
        for _ in range(5):
            assert gateway.reload(wait=0).kept == ["p"]
            assert ask(gateway, 2) == {"v1": 2}


# ---- canary ----


def shares(**weights: int) -> list[dict[str, object]]:
    return [{"name": name, "weight": weight} for name, weight in weights.items()]


@pytest.mark.parametrize("entry", ["short", "closure"])
def test_groups_share_the_sessions_by_weight_and_each_is_served_wholly_by_one(site: Site, entry: str) -> None:
    site.worker("v1", "v1")
    site.worker("v2", "v2")
    with (
        site.gateway(groups=shares(v1=80, v2=20)) as gateway,
        Traffic(address(gateway), f"/{entry}", rate=200) as traffic,
    ):
        eventually(lambda: len(traffic.answers) >= 200, "200 answers", within=20)
        answers = traffic.stop()
        eventually(lambda: len(site.logged) == len(answers), "the logging of all")
    versions = [version_of(answer) for answer in answers]
    assert None not in versions
    assert 0.15 < versions.count("v2") / len(versions) < 0.25
    assert dict(site.logged) == {a.number: v for a, v in zip(answers, versions, strict=True)}


def test_weights_change_by_a_reload(site: Site) -> None:
    site.worker("v1", "v1")
    site.worker("v2", "v2")
    with site.gateway(groups=shares(v1=1, v2=0)) as gateway:
        assert ask(gateway, 20) == {"v1": 20}
        site.write(groups=shares(v1=1, v2=1))
        gateway.reload()
        assert abs(ask(gateway, 40)["v2"] - 20) <= 2
        site.write(groups=shares(v1=0, v2=1))
        gateway.reload()
        assert ask(gateway, 20) == {"v2": 20}


def test_share_of_a_dead_group_fails_and_does_not_spill_over(site: Site) -> None:
    site.worker("v1", "v1")
    canary = site.worker("v2", "v2")
    no_retry = {"request_filter": {"retry": {"max": 0}}}
    with site.gateway(groups=shares(v1=1, v2=1), per_phase=no_retry) as gateway:
        canary.stop()
        found = ask(gateway, 40)
        assert abs(found["503"] - 20) <= 2 and found["v1"] == 40 - found["503"]
        # With a weight of 0 nobody needs it, and the reload waits for no worker of it.
        site.write(groups=shares(v1=1, v2=0), per_phase=no_retry)
        gateway.reload(wait=0.5)
        assert ask(gateway, 20) == {"v1": 20}


def test_phase_that_only_one_group_has_is_run_for_its_own_sessions(
    site: Site, nylon_worker: Callable[..., Any]
) -> None:
    site.worker("v1", "v1")
    lacking = NylonPlugin()

    @lacking.request_filter("short")
    async def request(ctx: Any) -> None:
        ctx.request.headers["x-checked"] = "v2"
        ctx.next()

    nylon_worker(lacking, "v2", servers=(site._nats,))
    with site.gateway(groups=shares(v1=1, v2=1)) as gateway:
        bodies = [fetch(address(gateway), "GET", f"/short/{number}").body.decode() for number in range(20)]
    signed = [body for body in bodies if body.endswith("checked v1 signed v1")]
    plain = [body for body in bodies if body.endswith("checked v2")]
    assert len(signed) + len(plain) == 20 and 8 <= len(plain) <= 12
