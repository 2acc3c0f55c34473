"""Worker processes under their supervisor: started, replaced, drained, and never left behind."""

import asyncio
import os
import signal
import time

import msgpack
import pytest
from requester import Requester, call_frame
from supervised import APP, ask, gone

from nylon.embedded import NatsServer


@pytest.fixture(scope="module")
def broker():
    with NatsServer() as server:
        yield server


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_all_workers_serve_and_a_signal_drains_them_and_exits_0(broker, supervised, stop):
    group = f"all-{stop.name}"
    running = supervised(servers=[broker.url], group=group, workers=3)
    running.until_serving(3)
    workers = running.workers()
    pids = {answer.ops[0][2] for answer in ask(broker, *["pid"] * 60, group=group)}
    assert pids == {str(p.pid).encode() for p in workers}

    async def drain_while_busy():
        async with await Requester.connect(broker.url, group) as gateway:
            calls = [asyncio.create_task(gateway.call("slow")) for _ in range(30)]
            await asyncio.sleep(0.2)  # on their way into the handlers, which take half a second
            running.process.send_signal(stop)
            return [answer.outcome for answer in await asyncio.gather(*calls)]

    assert asyncio.run(drain_while_busy()) == ["next"] * 30
    assert running.wait() == 0
    assert gone(workers)
    assert all(f"worker {number} [" in running.log for number in (1, 2, 3))


def test_a_dead_worker_is_replaced(broker, supervised):
    running = supervised(servers=[broker.url], group="replaced", workers=2)
    running.until_serving(2)
    before = running.workers()
    before[0].kill()
    running.until_serving(3)
    after = running.workers()
    assert len(after) == 2
    assert before[0].pid not in {p.pid for p in after}
    assert "was killed by signal 9" in running.log
    assert ask(broker, "pid", group="replaced")[0].outcome == "next"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_like_this\n", "app.py:1"),
        ("plugin = 1\n\n\ndef broken(:\n", "app.py:4"),
        ("plugin = 42\n", "not a NylonPlugin"),
        ("from nylon import NylonPlugin\nplugin = NylonPlugin()\n", "no entries"),
        (
            APP + "@plugin.initialize\ndef init(config):\n    raise RuntimeError('no database')\n",
            "no database",
        ),
    ],
)
def test_a_plugin_that_cannot_be_served_ends_everything_with_1_and_names_the_place(
    broker, supervised, source, said
):
    running = supervised(source, servers=[broker.url], group="broken", workers=3)
    assert running.wait() == 1
    assert said in running.log
    assert "no worker could serve" in running.log
    assert running.log.count("ERROR   worker") == 1
    assert "Traceback" not in running.log


def test_refused_credentials_end_everything_with_1(supervised):
    with NatsServer(config='authorization { user: "a", password: "b" }\n') as server:
        running = supervised(servers=[server.url], group="refused", workers=2, user="a", password="wr0ng")
        assert running.wait() == 1
    assert "refuses these credentials" in running.log
    assert "wr0ng" not in running.log


def test_a_second_signal_kills_a_stuck_worker(broker, supervised):
    running = supervised(servers=[broker.url], group="stuck", workers=1, drain_timeout=60.0)
    running.until_serving(1)
    workers = running.workers()

    async def get_stuck():
        async with await Requester.connect(broker.url, "stuck") as gateway:
            answers, _token = await gateway.send(msgpack.packb(call_frame("stuck")))
            assert (await asyncio.wait_for(answers.get(), 5))["t"] == "ack"

    asyncio.run(get_stuck())
    running.process.send_signal(signal.SIGTERM)
    running.until(lambda: "draining" in running.log)
    running.process.send_signal(signal.SIGTERM)
    assert running.wait() == 1
    assert gone(workers)


def test_a_handler_stuck_past_the_drain_time_does_not_hold_the_process(broker, supervised):
    running = supervised(servers=[broker.url], group="held", workers=1, drain_timeout=0.2)
    running.until_serving(1)
    workers = running.workers()

    async def get_stuck():
        async with await Requester.connect(broker.url, "held") as gateway:
            call = asyncio.create_task(gateway.call("stuck", ms=30_000, patience=20))
            await asyncio.sleep(0.2)
            running.process.send_signal(signal.SIGTERM)
            return (await call).error["k"]

    assert asyncio.run(get_stuck()) == "unavailable"
    running.wait()
    assert gone(workers)


def test_workers_do_not_outlive_a_killed_supervisor(broker, supervised):
    running = supervised(servers=[broker.url], group="orphans", workers=2)
    running.until_serving(2)
    workers = running.workers()
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    end = time.monotonic() + 15
    while not gone(workers):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_workers_start_before_their_broker_and_stop_without_it(supervised, tmp_path):
    with NatsServer() as server:
        server.stop()
        running = supervised(servers=[server.url], group="early", workers=2)
        running.until(lambda: running.log.count("no broker at") == 2)
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 0
