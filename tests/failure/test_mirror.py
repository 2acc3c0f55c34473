"""A mirror gets a copy of each call; nobody who counts is ever told."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from chaos.traffic import Traffic
from support.client import fetch
from support.waiting import eventually
from versions import Versions, address, ask, version_of

from nylon import Gateway, NylonPlugin, StreamClosed
from nylon.testing.fixtures import StartWorker


def mirrored(gateway: Gateway) -> dict[str, Any]:
    [plugin] = gateway.status()["plugins"]
    return plugin["mirror"]


@pytest.mark.parametrize("entry", ["short", "closure"])
def test_mirror_runs_every_phase_and_agrees_and_nothing_of_it_reaches_the_exchange(
    versions: Versions, entry: str
) -> None:
    versions.worker("v1", "v1")
    versions.worker("v3", "v3")
    with versions.gateway(group="v1", mirror="v3") as gateway:
        eventually(lambda: mirrored(gateway)["workers"] == 1, "the mirror's worker")
        with Traffic(address(gateway), f"/{entry}", rate=100) as traffic:
            eventually(lambda: len(traffic.answers) >= 60, "60 answers")
            answers = traffic.stop()
        assert {version_of(answer) for answer in answers} == {"v1"}
        eventually(lambda: len(versions.logged) == 2 * len(answers), "the logging of both")
        numbers = sorted(answer.number for answer in answers)
        assert sorted(n for n, version in versions.logged if version == "v3") == numbers
        seen = eventually(
            lambda: (m := mirrored(gateway))["agreed"] == 4 * len(answers) and m,
            "agreement of all four phases",
        )
        assert (seen["next"], seen["end"], seen["failed"], seen["differed"]) == (4 * len(answers), 0, {}, 0)
        assert sum(seen["dropped"].values()) == 0 and seen["p99_ms"] >= seen["p50_ms"] > 0


def test_other_decision_of_the_mirror_is_counted_and_changes_nothing(
    versions: Versions, nylon_worker: StartWorker
) -> None:
    versions.worker("v1", "v1")
    denying = NylonPlugin()

    @denying.request_filter("short")
    async def deny(ctx: Any) -> None:
        ctx.response.set_status(403)
        ctx.end()

    @denying.response_filter("short")
    async def never(ctx: Any) -> None:
        versions.logged.append((-1, "the mirror's response_filter"))

    nylon_worker(denying, "v3", servers=(versions.nats,))
    with versions.gateway(group="v1", mirror="v3") as gateway:
        eventually(lambda: mirrored(gateway)["workers"] == 1, "the mirror's worker")
        assert ask(gateway, 20) == {"v1": 20}
        eventually(lambda: mirrored(gateway)["differed"] == 20, "20 differences")
        seen = mirrored(gateway)
        assert (seen["end"], seen["agreed"]) == (20, 0)
        # After another decision the mirror is not asked about the rest of the exchange.
        assert (-1, "the mirror's response_filter") not in versions.logged


def test_raising_mirror_is_counted_by_kind(versions: Versions, nylon_worker: StartWorker) -> None:
    versions.worker("v1", "v1")
    raising = NylonPlugin()

    @raising.request_filter("short")
    async def fail(ctx: Any) -> None:
        raise LookupError("not here")

    nylon_worker(raising, "v3", servers=(versions.nats,))
    with versions.gateway(group="v1", mirror="v3") as gateway:
        eventually(lambda: mirrored(gateway)["workers"] == 1, "the mirror's worker")
        assert ask(gateway, 10) == {"v1": 10}
        eventually(lambda: mirrored(gateway)["failed"] == {"raised": 10}, "10 failures")


def test_dead_mirror_costs_nothing_and_does_not_hold_a_reload_up(versions: Versions) -> None:
    versions.worker("v1", "v1")
    with versions.gateway(group="v1") as gateway:
        versions.write(group="v1", mirror="v3")
        gateway.reload(wait=5)
        assert ask(gateway, 20) == {"v1": 20}
        dropped = mirrored(gateway)["dropped"]
        # The rest of a session that was not begun is not begun either.
        assert dropped["no_worker"] == 20 and dropped["overloaded"] == dropped["too_large"] == 0


def test_stuck_mirror_holds_back_nobody_and_copies_are_bounded(
    versions: Versions, nylon_worker: StartWorker
) -> None:
    versions.worker("v1", "v1")
    stuck = NylonPlugin()
    released = threading.Event()

    @stuck.request_filter("short")
    def wait(ctx: Any) -> None:
        released.wait(30)
        ctx.next()

    nylon_worker(stuck, "v3", servers=(versions.nats,), concurrency=1000)
    try:
        with versions.gateway(group="v1", mirror="v3") as gateway:
            eventually(lambda: mirrored(gateway)["workers"] == 1, "the mirror's worker")
            with Traffic(address(gateway), "/short", rate=250) as traffic:
                eventually(lambda: len(traffic.answers) >= 500, "500 answers")
                answers = traffic.stop()
            assert {version_of(answer) for answer in answers} == {"v1"}
            seen = mirrored(gateway)
            assert seen["in_flight"] <= 256
            assert seen["dropped"]["overloaded"] >= len(answers) - 256 - 10
            released.set()
    finally:
        released.set()


def test_slow_mirror_takes_no_place_of_max_inflight(versions: Versions, nylon_worker: StartWorker) -> None:
    versions.worker("v1", "v1")
    slow = NylonPlugin()
    released = threading.Event()

    @slow.request_filter("short")
    def wait(ctx: Any) -> None:
        released.wait(30)
        ctx.next()

    nylon_worker(slow, "v3", servers=(versions.nats,))
    versions.write(group="v1", mirror="v3")
    config = json.loads(versions.path.read_text())
    config["messaging"][0] |= {"max_inflight": 1, "overflow_policy": "queue"}
    versions.path.write_text(json.dumps(config))
    try:
        with Gateway.from_file(versions.path) as gateway:
            eventually(lambda: mirrored(gateway)["workers"] == 1, "the mirror's worker")
            assert ask(gateway, 20) == {"v1": 20}
            assert mirrored(gateway)["in_flight"] == 20
            released.set()
    finally:
        released.set()


def test_large_body_is_not_copied(versions: Versions, nylon_worker: StartWorker) -> None:
    plugin = NylonPlugin()
    sizes: list[int] = []

    @plugin.request_filter("short", body=True)
    async def read(ctx: Any) -> None:
        sizes.append(len(ctx.request.body()))
        ctx.next()

    nylon_worker(plugin, "v1", servers=(versions.nats,))
    nylon_worker(plugin, "v3", servers=(versions.nats,))
    with versions.gateway(group="v1", mirror="v3") as gateway:
        eventually(lambda: mirrored(gateway)["workers"] == 1, "the mirror's worker")
        for size in (1000, 600_000, (1 << 20) + 1):
            assert fetch(address(gateway), "POST", "/short/1", (), b"x" * size).status == 200
        eventually(lambda: mirrored(gateway)["agreed"] == 2, "two copies")
        assert mirrored(gateway)["dropped"]["too_large"] == 1
        assert sorted(sizes) == [1000, 1000, 600_000, 600_000, (1 << 20) + 1]


def test_streaming_mirror_is_told_that_nobody_reads(versions: Versions, nylon_worker: StartWorker) -> None:
    told: list[str] = []

    def streaming(name: str, pieces: int) -> NylonPlugin:
        plugin = NylonPlugin()

        @plugin.request_filter("short")
        async def stream(ctx: Any) -> None:
            try:
                async with ctx.response.stream() as stream:
                    for _ in range(pieces):
                        await stream.write(b"x" * 100_000)
            except StreamClosed:
                told.append(name)

        return plugin

    nylon_worker(streaming("counts", 3), "v1", servers=(versions.nats,))
    nylon_worker(streaming("mirror", 1000), "v3", servers=(versions.nats,))
    with versions.gateway(group="v1", mirror="v3") as gateway:
        eventually(lambda: mirrored(gateway)["workers"] == 1, "the mirror's worker")
        assert len(fetch(address(gateway), "GET", "/short/1").body) == 300_000
        eventually(lambda: told == ["mirror"], "the end of the mirror's stream")
        eventually(lambda: mirrored(gateway)["agreed"] == 1, "agreement on the head")
        eventually(lambda: mirrored(gateway)["in_flight"] == 0, "no call of the mirror")


def test_outcomes_and_times_of_each_group_are_shown(versions: Versions) -> None:
    versions.worker("v1", "v1")
    versions.worker("v2", "v2")
    groups = [{"name": "v1", "weight": 3}, {"name": "v2", "weight": 1}]
    with versions.gateway(groups=groups) as gateway:
        found = ask(gateway, 40)

        def shown() -> dict[str, int]:
            [plugin] = gateway.status()["plugins"]
            assert plugin["ready"] and plugin["kind"] == "remote" and "mirror" not in plugin
            return {group["name"]: group["next"] for group in plugin["groups"]}

        wanted = {version: 4 * count for version, count in found.items()}
        eventually(lambda: shown() == wanted, f"four calls per request, by group: {wanted}")
