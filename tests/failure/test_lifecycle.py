"""A gateway starts and stops any number of times in one process, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import threading

import psutil
import pytest
from support.client import fetch
from support.configs import Config, gateway_config, route
from support.origin import Origin

from nylon import Gateway, NylonPlugin


def plugin() -> NylonPlugin:
    plugin = NylonPlugin()

    @plugin.request_filter("stamp")
    def stamp(ctx: object) -> None:
        ctx.request.headers["x-stamp"] = "1"  # type: ignore[attr-defined]
        ctx.next()  # type: ignore[attr-defined]

    @plugin.response_filter("stamp")
    async def stamp_response(ctx: object) -> None:
        ctx.response.set_header("x-stamp", "1")  # type: ignore[attr-defined]

    return plugin


def config(origin: Origin) -> Config:
    paths = [route("/{*rest}", middleware=[{"plugin": "p", "entry": "stamp"}])]
    return gateway_config(origin.address, paths, plugins=[{"name": "p", "plugin": plugin()}])


def address(gateway: Gateway) -> tuple[str, int]:
    host, port = gateway.urls[0].removeprefix("http://").split(":")
    return host, int(port)


def what_is_open() -> tuple[int, int, int]:
    """Threads of the process, threads of Python, open files and sockets."""
    gc.collect()
    return len(os.listdir("/proc/self/task")), threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def cycle(origin: Origin) -> None:
    with Gateway(config(origin)) as gateway:
        answer = fetch(address(gateway), "GET", "/x")
        assert (answer.status, answer.header("x-stamp")) == (200, "1")


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads and files in /proc")  # noqa: PTH112
def test_fifty_starts_and_stops_leave_no_thread_socket_or_memory(origin: Origin) -> None:
    process = psutil.Process()
    for _ in range(5):
        cycle(origin)
    origin.close_connections()
    before, memory = what_is_open(), process.memory_info().rss
    for _ in range(50):
        cycle(origin)
    origin.close_connections()
    after = what_is_open()
    grown = process.memory_info().rss - memory
    assert after[0] <= before[0] and after[1] <= before[1], (before, after)
    assert after[2] <= before[2] + 2, (before, after)  # the origin's own sockets may be on their way out
    assert grown < 16 * 1024 * 1024


def test_one_gateway_starts_again_after_its_stop(origin: Origin) -> None:
    gateway = Gateway(gateway_config(origin.address))
    for _ in range(3):
        with gateway:
            assert fetch(address(gateway), "GET", "/x").status == 200
        assert gateway.urls == []


def test_several_gateways_run_side_by_side(origin: Origin) -> None:
    with Gateway(config(origin)) as one, Gateway(config(origin)) as two:
        assert address(one) != address(two)
        for gateway in (one, two, one, two):
            assert fetch(address(gateway), "GET", "/x").status == 200


def test_a_stopped_gateway_takes_no_connection(origin: Origin) -> None:
    with Gateway(config(origin)) as gateway:
        where = address(gateway)
    with pytest.raises(ConnectionRefusedError):
        fetch(where, "GET", "/x")


def test_a_request_in_flight_is_finished_before_the_stop(origin: Origin) -> None:
    answers: list[int] = []
    gateway = Gateway(gateway_config(origin.address))
    gateway.start()
    where = address(gateway)
    client = threading.Thread(target=lambda: answers.append(fetch(where, "GET", "/_gate/stop").status))
    client.start()
    origin.await_waiting("stop")
    stopping = threading.Thread(target=gateway.stop)
    stopping.start()
    origin.open_gate("stop")
    client.join(10)
    stopping.join(10)
    assert answers == [204]
