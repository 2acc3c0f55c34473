"""No call runs twice on a worker, and no reply is lost with the message that carried it."""

import asyncio
import os
import threading

import msgpack
import pytest
from requester import Requester, call_frame, run, serving, until

from nylon import NylonPlugin
from nylon.embedded import NatsServer


class Gates:
    """A plugin whose handlers wait for a gate, each in its own way, and write down that they ran."""

    def __init__(self):
        self.plugin = NylonPlugin()
        self.ran = []
        self.opened = threading.Event()
        self.woken = asyncio.Event()

        @self.plugin.request_filter("pool")
        def pool(ctx):
            self.ran.append(ctx.attempt)
            self.opened.wait(10)
            ctx.response.set_status(202).body_raw(os.urandom(24))
            ctx.end()

        @self.plugin.request_filter("awaits")
        async def awaits(ctx):
            self.ran.append(ctx.attempt)
            await self.woken.wait()
            ctx.response.set_status(202).body_raw(os.urandom(24))
            ctx.end()

        @self.plugin.request_filter("declared", body=True)
        def declared(ctx):
            self.ran.append(ctx.attempt)
            ctx.next()

        @self.plugin.request_filter("inline", inline=True)
        def inline(ctx):
            self.ran.append(ctx.attempt)
            ctx.response.set_status(202).body_raw(os.urandom(24))
            ctx.end()

        @self.plugin.request_filter("large", inline=True)
        def large(ctx):
            self.ran.append(ctx.attempt)
            ctx.response.body_raw(b"x" * 250_000)
            ctx.end()

    def open(self):
        self.opened.set()
        self.woken.set()


@pytest.mark.parametrize("entry", ["pool", "awaits"])
def test_a_probe_is_answered_by_ack_while_the_call_runs_and_by_the_same_reply_after(broker, transport, entry):
    gates = Gates()

    async def main(gateway, worker):
        frame = call_frame(entry)
        call = asyncio.create_task(gateway.raw(msgpack.packb(frame)))
        await until(lambda: gates.ran)
        assert await gateway.probe(worker.worker, frame["id"]) == {
            "t": "ack",
            "v": 1,
            "id": frame["id"],
            "w": worker.worker,
        }
        gates.open()
        reply = (await call).frame
        assert reply["op"][0] == [8, 202]
        for _ in range(3):
            assert await gateway.probe(worker.worker, frame["id"]) == reply
        assert gates.ran == [1]
        assert worker._core.stats()["probes"] == 4
        assert worker._core.stats()["repeated"] == 3

    run(main, broker, gates.plugin, transport=transport)


def test_a_probe_is_answered_by_ack_while_the_call_waits_for_a_thread_or_its_body(broker):
    gates = Gates()

    async def main(gateway, worker):
        first = asyncio.create_task(gateway.call("pool"))
        await until(lambda: gates.ran)
        queued, parked = call_frame("pool"), call_frame("declared", qb=300_000)
        answers = [(await gateway.send(msgpack.packb(frame)))[0] for frame in (queued, parked)]
        kinds = ["ack"], ["ack", "read"]
        for queue, expected in zip(answers, kinds, strict=True):
            assert [(await asyncio.wait_for(queue.get(), 5))["t"] for _ in expected] == expected
        for frame in (queued, parked):
            assert (await gateway.probe(worker.worker, frame["id"]))["t"] == "ack"
        gates.open()
        body = {"id": parked["id"], "b": "q", "ms": 1000, "of": 0, "to": 1, "d": b"a"}
        await gateway.tell(worker.worker, t="body", **body)
        for queue in answers:
            assert (await asyncio.wait_for(queue.get(), 5))["t"] == "reply"
        assert (await first).outcome == "end"

    run(main, broker, gates.plugin, threads=1)


def test_a_call_that_never_came_is_unknown(broker, transport):
    async def main(gateway, worker):
        nobody = os.urandom(16)
        assert await gateway.probe(worker.worker, nobody) == {
            "t": "unknown",
            "v": 1,
            "id": nobody,
            "w": worker.worker,
        }

    run(main, broker, Gates().plugin, transport=transport)


@pytest.mark.parametrize("entry", ["inline", "pool", "awaits"])
def test_a_call_that_has_run_is_answered_as_it_was_and_does_not_run_again(broker, transport, entry):
    gates = Gates()
    gates.open()

    async def main(gateway, worker):
        frame = call_frame(entry)
        reply = (await gateway.raw(msgpack.packb(frame))).frame
        for attempt in (1, 2, 3):
            for target in (None, worker.worker):
                again = await gateway.raw(msgpack.packb({**frame, "a": attempt}), target)
                assert (again.frame, again.before) == (reply, [])
        assert gates.ran == [1]
        assert worker._core.stats()["duplicates"] == 6

    run(main, broker, gates.plugin, transport=transport)


@pytest.mark.parametrize("entry", ["inline", "pool"])
def test_copies_of_a_call_in_one_packet_run_once(broker, entry):
    gates = Gates()
    gates.open()

    async def main(gateway, worker):
        frame = call_frame(entry)
        # nats-py writes what one turn of the loop has published at once.
        queues = [await gateway.send(msgpack.packb({**frame, "a": attempt})) for attempt in range(1, 9)]
        replies = 0
        for queue, _token in queues:
            answer = await asyncio.wait_for(queue.get(), 5)
            assert answer["t"] in ("ack", "reply")
            replies += answer["t"] == "reply"
        await until(lambda: worker._core.in_flight == 0)
        assert len(gates.ran) == 1

    run(main, broker, gates.plugin)


def test_a_reply_that_is_no_longer_kept_is_unknown_and_its_call_does_not_run_again(broker):
    gates = Gates()

    async def main(gateway, worker):
        frame = call_frame("large")
        assert (await gateway.raw(msgpack.packb(frame))).outcome == "end"
        assert (await gateway.probe(worker.worker, frame["id"]))["t"] == "reply"
        for _ in range(36):  # more than the 8 MiB that are kept in all
            assert (await gateway.call("large")).outcome == "end"
        assert (await gateway.probe(worker.worker, frame["id"]))["t"] == "unknown"
        again = await gateway.raw(msgpack.packb({**frame, "a": 2}))
        assert (again.outcome, again.before) == ("unknown", [])
        assert len(gates.ran) == 37

    run(main, broker, gates.plugin)


def test_a_reply_is_kept_for_two_seconds(broker):
    gates = Gates()

    async def main(gateway, worker):
        frame = call_frame("inline")
        await gateway.raw(msgpack.packb(frame))

        async def kept():
            return (await gateway.probe(worker.worker, frame["id"]))["t"] == "reply"

        assert await kept()
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(10):
            while await kept():  # noqa: ASYNC110  # forgetting has no event
                await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() - begun > 1.5
        assert (await gateway.raw(msgpack.packb(frame))).outcome == "unknown"
        assert gates.ran == [1]

    run(main, broker, gates.plugin)


def test_a_busy_worker_has_not_run_the_call_and_takes_it_when_it_comes_again(broker):
    gates = Gates()

    async def main(gateway, worker):
        first = asyncio.create_task(gateway.call("awaits"))
        await until(lambda: gates.ran)
        frame = call_frame("awaits")
        assert (await gateway.raw(msgpack.packb(frame))).outcome == "busy"
        assert (await gateway.probe(worker.worker, frame["id"]))["t"] == "unknown"
        gates.open()
        await first
        assert (await gateway.raw(msgpack.packb(frame))).outcome == "end"
        assert gates.ran == [1, 1]

    run(main, broker, gates.plugin, concurrency=1)


def test_replies_made_while_the_broker_is_away_are_sent_and_can_be_asked_for_when_it_is_back(transport):
    gates = Gates()

    async def main(server):
        async with (
            serving(gates.plugin, server.url, transport=transport, concurrency=100) as worker,
            await Requester.connect(server.url, "g") as gateway,
        ):
            frames = [call_frame(entry) for entry in ("pool", "awaits") * 2]
            for frame in frames:
                await gateway.send(msgpack.packb(frame))
            await until(lambda: len(gates.ran) == 4)
            await asyncio.to_thread(server.kill)
            await until(lambda: not worker._broker.client.is_connected)
            gates.open()
            await until(lambda: worker._core.in_flight == 0)
            # Longer than a reply is kept while somebody could ask for it.
            await asyncio.sleep(2.5)
            await asyncio.to_thread(server.start)
            await until(lambda: gateway.client.is_connected and worker._broker.client.is_connected)
            # Connected is not yet subscribed: a gateway asks again, too.
            async with asyncio.timeout(10):
                while (await gateway.probe(worker.worker, frames[0]["id"]))["t"] == "no responders":
                    pass
            for frame in frames:
                answer = await gateway.probe(worker.worker, frame["id"])
                assert (answer["t"], answer["id"], answer["op"][0]) == ("reply", frame["id"], [8, 202])
            assert gates.ran == [1] * 4

    with NatsServer() as server:
        server.restart()
        asyncio.run(main(server))
