"""From one version of a plugin's workers to the next: by a reload under load, and by shares of the sessions."""

from __future__ import annotations

import gc
import os
import threading
import time
from typing import Any

import pytest
from chaos.traffic import Traffic
from support.client import fetch
from support.waiting import eventually
from versions import Versions, address, ask, version_of

from nylon import GatewayError, NylonPlugin
from nylon.testing.fixtures import StartWorker

# ---- blue-green ----


@pytest.mark.parametrize("entry", ["short", "closure"])
def test_switch_of_groups_under_load_loses_nothing_and_mixes_no_versions(
    versions: Versions, entry: str
) -> None:
    versions.worker("v1", "v1")
    versions.worker("v2", "v2")
    with versions.gateway(group="v1") as gateway:
        with Traffic(address(gateway), f"/{entry}", rate=150) as traffic:
            live: list[tuple[float, float, str]] = []  # from when to when a version served what was sent
            for version in ("v1", "v2", "v1", "v2"):
                if live:
                    versions.write(group=version)
                    gateway.reload()
                begun, before = time.monotonic(), len(traffic.answers)
                eventually(lambda before=before: len(traffic.answers) > before + 60, "60 more answers")
                live.append((begun, time.monotonic(), version))
            answers = traffic.stop()
        served = {answer.number: version_of(answer) for answer in answers}
        assert [answer for answer in answers if served[answer.number] is None] == []
        for begun, ended, version in live:
            assert {served[a.number] for a in answers if begun <= a.sent < ended} == {version}
        eventually(lambda: len(versions.logged) == len(answers), "the logging of all")
        assert dict(versions.logged) == served


def test_switch_to_a_group_without_workers_is_refused_and_nothing_changes(versions: Versions) -> None:
    versions.worker("v1", "v1")
    with versions.gateway(group="v1") as gateway:
        versions.write(group="v2")
        with pytest.raises(GatewayError, match=r'plugin `p`: no worker of group "v2" has announced itself'):
            gateway.reload(wait=0.2)
        assert ask(gateway, 5) == {"v1": 5}
        # Who comes while it waits is waited for.
        waiting = threading.Timer(0.3, lambda: versions.worker("v2", "v2"))
        waiting.start()
        assert gateway.reload().started == ["p"]
        waiting.join()
        assert ask(gateway, 5) == {"v2": 5}


def test_switch_to_workers_that_lack_the_entry_is_refused(
    versions: Versions, nylon_worker: StartWorker
) -> None:
    versions.worker("v1", "v1")
    old = NylonPlugin()
    old.request_filter("short")(lambda ctx: ctx.next())
    nylon_worker(old, "v2", servers=(versions.nats,))
    with versions.gateway(group="v1") as gateway:
        versions.write(group="v2")
        with pytest.raises(GatewayError, match=r'no worker of group "v2" has the entry "closure"'):
            gateway.reload(wait=0.5)
        assert ask(gateway, 5) == {"v1": 5}


def test_forced_switch_goes_to_a_group_without_workers_and_says_so(versions: Versions) -> None:
    versions.worker("v1", "v1")
    with versions.gateway(group="v1", per_phase={"request_filter": {"retry": {"max": 0}}}) as gateway:
        versions.write(group="v2", per_phase={"request_filter": {"retry": {"max": 0}}})
        [warning] = gateway.reload(force=True, wait=0.1).warnings
        assert 'no worker of group "v2"' in warning
        assert ask(gateway, 3) == {"503": 3}


def test_stop_does_not_wait_for_a_reload_that_waits(versions: Versions) -> None:
    versions.worker("v1", "v1")
    gateway = versions.gateway(group="v1")
    gateway.start()
    versions.write(group="nobody")
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


def test_unchanged_plugin_keeps_what_it_knows_of_its_workers(versions: Versions) -> None:
    versions.worker("v1", "v1")
    with versions.gateway(group="v1") as gateway:
        for _ in range(5):
            assert gateway.reload(wait=0).kept == ["p"]
            assert ask(gateway, 2) == {"v1": 2}


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads and files in /proc")  # noqa: PTH112
def test_thirty_switches_of_group_and_connection_leave_no_thread_and_no_socket(versions: Versions) -> None:
    versions.worker("v1", "v1")
    versions.worker("v2", "v2")

    def what_is_open() -> tuple[int, int]:
        gc.collect()
        return tuple(len(os.listdir(f"/proc/self/{what}")) for what in ("task", "fd"))  # type: ignore[return-value]  # noqa: PTH208

    with versions.gateway(group="v1") as gateway:
        before = (0, 0)
        for number in range(32):
            version = f"v{number % 2 + 1}"
            versions.write(group=version, messaging_options={"max_inflight": 100 + number})
            assert gateway.reload().started == ["p"]
            assert ask(gateway, 2) == {version: 2}
            if number == 1:
                eventually(lambda: gateway.status()["retiring"] == 0, "the end of what was replaced")
                before = what_is_open()
        eventually(
            lambda: all(now <= then for now, then in zip(what_is_open(), before, strict=True)),
            f"no more threads and files than before: {before}",
        )


# ---- canary ----


def shares(**weights: int) -> list[dict[str, object]]:
    return [{"name": name, "weight": weight} for name, weight in weights.items()]


@pytest.mark.parametrize("entry", ["short", "closure"])
def test_groups_share_the_sessions_by_weight_and_each_is_served_wholly_by_one(
    versions: Versions, entry: str
) -> None:
    versions.worker("v1", "v1")
    versions.worker("v2", "v2")
    with (
        versions.gateway(groups=shares(v1=80, v2=20)) as gateway,
        Traffic(address(gateway), f"/{entry}", rate=200) as traffic,
    ):
        eventually(lambda: len(traffic.answers) >= 200, "200 answers", within=20)
        answers = traffic.stop()
        eventually(lambda: len(versions.logged) == len(answers), "the logging of all")
    served = [version_of(answer) for answer in answers]
    assert None not in served
    assert 0.15 < served.count("v2") / len(served) < 0.25
    assert dict(versions.logged) == {a.number: v for a, v in zip(answers, served, strict=True)}


def test_weights_change_by_a_reload(versions: Versions) -> None:
    versions.worker("v1", "v1")
    versions.worker("v2", "v2")
    with versions.gateway(groups=shares(v1=1, v2=0)) as gateway:
        assert ask(gateway, 20) == {"v1": 20}
        versions.write(groups=shares(v1=1, v2=1))
        gateway.reload()
        assert abs(ask(gateway, 40)["v2"] - 20) <= 2
        versions.write(groups=shares(v1=0, v2=1))
        gateway.reload()
        assert ask(gateway, 20) == {"v2": 20}


def test_share_of_a_dead_group_fails_and_does_not_spill_over(versions: Versions) -> None:
    versions.worker("v1", "v1")
    canary = versions.worker("v2", "v2")
    no_retry = {"request_filter": {"retry": {"max": 0}}}
    with versions.gateway(groups=shares(v1=1, v2=1), per_phase=no_retry) as gateway:
        canary.stop()
        found = ask(gateway, 40)
        assert abs(found["503"] - 20) <= 2 and found["v1"] == 40 - found["503"]
        # With a weight of 0 nobody needs it, and the reload waits for no worker of it.
        versions.write(groups=shares(v1=1, v2=0), per_phase=no_retry)
        gateway.reload(wait=0.5)
        assert ask(gateway, 20) == {"v1": 20}


def test_phase_that_only_one_group_has_is_run_for_its_own_sessions(
    versions: Versions, nylon_worker: StartWorker
) -> None:
    versions.worker("v1", "v1")
    lacking = NylonPlugin()

    @lacking.request_filter("short")
    async def request(ctx: Any) -> None:
        ctx.request.headers["x-checked"] = "v2"
        ctx.next()

    nylon_worker(lacking, "v2", servers=(versions.nats,))
    with versions.gateway(groups=shares(v1=1, v2=1)) as gateway:
        bodies = [fetch(address(gateway), "GET", f"/short/{number}").body.decode() for number in range(20)]
    signed = [body for body in bodies if body.endswith("checked v1 signed v1")]
    plain = [body for body in bodies if body.endswith("checked v2")]
    assert len(signed) + len(plain) == 20 and 8 <= len(plain) <= 12
