"""A worker that is asked to stop loses nothing: what it has taken is answered, and what its sessions still owe."""

import asyncio
import itertools
import os

import msgpack
from requester import Requester, call_frame, serving, until

from nylon import NylonPlugin


def every_kind(ran):
    """A plugin with a handler of each kind; they write down which call they ran."""
    plugin = NylonPlugin()

    @plugin.request_filter("inline", inline=True)
    def inline(ctx):
        ran.append(ctx.request.path)
        ctx.next()

    @plugin.request_filter("pool")
    def pool(ctx):
        ran.append(ctx.request.path)
        ctx.next()

    @plugin.request_filter("step")
    async def step(ctx):
        ran.append(ctx.request.path)
        ctx.next()

    @plugin.request_filter("awaits")
    async def awaits(ctx):
        ran.append(ctx.request.path)
        await asyncio.sleep(0.02)
        ctx.next()

    return plugin


def test_no_call_of_thousands_is_lost_or_sent_twice_while_workers_come_and_go(broker, transport):
    ran = []

    async def main():
        stop = asyncio.Event()
        numbers = itertools.count()
        entries = itertools.cycle(["inline", "pool", "step", "awaits"])

        async def steady(gateway):
            while not stop.is_set():
                number = next(numbers)
                head = {"m": "GET", "p": f"/{number}", "h": []}
                answer = await gateway.call(next(entries), q=head, patience=20)
                assert answer.outcome == "next"

        async with (
            serving(every_kind(ran), broker.url, transport=transport, concurrency=1000),
            await Requester.connect(broker.url, "g") as gateway,
        ):
            callers = [asyncio.create_task(steady(gateway)) for _ in range(40)]
            for _ in range(8):
                async with serving(
                    every_kind(ran), broker.url, transport=transport, concurrency=1000
                ) as second:
                    before = second._core.stats()["calls"]
                    await until(lambda s=second, b=before: s._core.stats()["calls"] > b + 100)
            stop.set()
            await asyncio.gather(*callers)
        total = next(numbers)
        assert total > 2000
        assert sorted(ran) == sorted(f"/{number}" for number in range(total))

    asyncio.run(main())


def test_a_draining_worker_keeps_its_sessions_answers_probes_and_takes_no_new_ones(broker, transport):
    plugin = NylonPlugin()
    seen = []
    gate = asyncio.Event()

    @plugin.phase_handler("session")
    def session(phase):
        @phase.request_filter
        async def check(ctx):
            ctx.next()

        @phase.logging
        def log(ctx):
            seen.append(ctx.request.path)

    @plugin.request_filter("slow")
    async def slow(ctx):
        await gate.wait()
        ctx.next()

    async def main():
        async with await Requester.connect(broker.url, "g") as gateway:
            async with serving(plugin, broker.url, transport=transport) as worker:
                heard = []

                async def on_announce(message):
                    heard.append(msgpack.unpackb(message.data)["t"])

                await gateway.client.subscribe("nylon.g.workers", cb=on_announce)
                sid, frame = os.urandom(16), call_frame("slow")
                assert (await gateway.call("session", s=sid)).outcome == "next"
                running = asyncio.create_task(gateway.raw(msgpack.packb(frame)))
                await until(lambda: worker._core.in_flight == 1)
                worker.stop()
                await until(lambda: "leave" in heard)
                async with asyncio.timeout(10):
                    while (await gateway.call("slow", ms=1)).outcome != "no responders":
                        pass
                # The own subject is still there.
                assert (await gateway.probe(worker.worker, frame["id"]))["t"] == "ack"
                gate.set()
                reply = (await running).frame
                assert reply["o"] == "next"
                assert await gateway.probe(worker.worker, frame["id"]) == reply
                later = await gateway.call("session", "logging", worker=worker.worker, s=sid, sn={})
                assert later.outcome == "next"
                await gateway.close_session(worker.worker, sid)
            assert seen == ["/hello"]
            assert (await gateway.probe(worker.worker, frame["id"]))["t"] == "no responders"

    asyncio.run(main())


def test_replies_that_a_slow_broker_has_not_taken_yet_leave_before_the_worker_does(broker):
    plugin = NylonPlugin()

    @plugin.request_filter("large")
    async def large(ctx):
        ctx.response.body_raw(b"x" * 200_000)
        ctx.end()

    async def main():
        async with (
            await Requester.connect(broker.url, "g") as gateway,
            serving(plugin, broker.url, concurrency=1000) as worker,
        ):
            calls = [asyncio.create_task(gateway.call("large")) for _ in range(100)]
            await until(lambda: worker._core.stats()["calls"] == 100)
            worker.stop()
            assert [answer.outcome for answer in await asyncio.gather(*calls)] == ["end"] * 100

    asyncio.run(main())
