"""A call that must not run twice runs only where the gateway says so. So does what a worker finds after it stood still:
the gateway may have turned to another one.
"""

import asyncio
import os
import signal

import msgpack
import pytest
from requester import Requester, call_frame, run, serving, until
from stalling import numbered, stalling

from nylon import NylonPlugin


def recording_plugin(ran):
    plugin = NylonPlugin()

    @plugin.request_filter("step")
    async def step(ctx):
        ran.append(ctx.attempt)
        ctx.next()

    @plugin.request_filter("pool")
    def pool(ctx):
        ran.append(ctx.attempt)
        ctx.next()

    @plugin.request_filter("declared", body=True)
    async def declared(ctx):
        ran.append(ctx.request.body())
        ctx.next()

    @plugin.phase_handler("session")
    def session(phase):
        @phase.request_filter
        async def check(ctx):
            ran.append(ctx.attempt)
            ctx.next()

    return plugin


def serve_recording(main, broker, ran, **options):
    run(main, broker, recording_plugin(ran), **options)


@pytest.mark.parametrize("entry", ["step", "pool"])
def test_a_call_that_must_be_claimed_runs_only_after_the_grant(broker, transport, entry):
    ran = []

    async def main(gateway, worker):
        gateway.grant = lambda _claim: None
        frame = call_frame(entry, cl=True)
        answers, _token = await gateway.send(msgpack.packb(frame))
        assert (await asyncio.wait_for(answers.get(), 5))["t"] == "ack"
        await until(lambda: gateway.claims)
        assert gateway.claims == [{"t": "claim", "v": 1, "id": frame["id"], "w": worker.worker}]
        assert (await gateway.probe(worker.worker, frame["id"]))["t"] == "ack"
        assert ran == []
        await gateway.tell(worker.worker, t="grant", id=frame["id"], ok=True)
        reply = await asyncio.wait_for(answers.get(), 5)
        assert (reply["t"], reply["o"]) == ("reply", "next")
        assert ran == [1]

    serve_recording(main, broker, ran, transport=transport)


def test_a_refused_call_does_not_run_and_leaves_nothing_behind(broker, transport):
    ran = []

    async def main(gateway, worker):
        gateway.grant = lambda _claim: False
        for entry in ("step", "pool", "declared", "session"):
            frame = call_frame(entry, cl=True)
            answers, _token = await gateway.send(msgpack.packb(frame))
            assert (await asyncio.wait_for(answers.get(), 5))["t"] == "ack"
            await until(lambda: worker._core.in_flight == 0)
            assert (await gateway.probe(worker.worker, frame["id"]))["t"] == "unknown"
            assert answers.empty()
        assert (ran, worker._core.sessions) == ([], 0)
        assert worker._core.stats()["denied"] == 4
        # A later attempt may come here all the same.
        gateway.grant = lambda _claim: True
        assert (await gateway.raw(msgpack.packb({**frame, "a": 2}))).outcome == "next"
        assert ran == [2]
        await gateway.close_session(worker.worker, frame["s"])

    serve_recording(main, broker, ran, transport=transport)


def test_a_claim_that_nobody_answers_ends_without_a_run_and_frees_its_place(broker):
    ran = []

    async def main(gateway, worker):
        gateway.grant = lambda _claim: None
        frame = call_frame("step", cl=True)
        await gateway.send(msgpack.packb(frame))
        await until(lambda: worker._core.in_flight == 1)
        assert (await gateway.call("step")).outcome == "busy"
        await until(lambda: worker._core.in_flight == 0)
        assert (await gateway.probe(worker.worker, frame["id"]))["t"] == "unknown"
        # What comes too late, or for a call that never was, counts for nothing.
        await gateway.tell(worker.worker, t="grant", id=frame["id"], ok=True)
        await gateway.tell(worker.worker, t="grant", id=os.urandom(16), ok=True)
        assert (await gateway.call("step")).outcome == "next"
        assert ran == [1]

    serve_recording(main, broker, ran, concurrency=1)


def test_a_granted_call_then_asks_for_its_body(broker):
    ran = []

    async def main(gateway, worker):
        frame = call_frame("declared", cl=True, qb=3)
        answers, _token = await gateway.send(msgpack.packb(frame))
        for kind in ("ack", "read"):
            assert (await asyncio.wait_for(answers.get(), 5))["t"] == kind
        assert len(gateway.claims) == 1
        await gateway.tell(worker.worker, t="body", id=frame["id"], b="q", ms=1000, of=0, to=3, d=b"abc")
        assert (await asyncio.wait_for(answers.get(), 5))["o"] == "next"
        assert ran == [b"abc"]

    serve_recording(main, broker, ran)


def test_of_two_workers_with_the_same_call_only_the_first_to_claim_runs_it(broker):
    ran = []

    async def main():
        async with (
            serving(recording_plugin(ran), broker.url, group="two") as first,
            serving(recording_plugin(ran), broker.url, group="two") as second,
            await Requester.connect(broker.url, "two") as gateway,
        ):
            holders = {}
            gateway.grant = lambda claim: holders.setdefault(claim["id"], claim["w"]) == claim["w"]
            frames = [call_frame("step", cl=True) for _ in range(50)]
            for frame in frames:
                for attempt, worker in enumerate((first, second), 1):
                    await gateway.send(msgpack.packb({**frame, "a": attempt}), worker.worker)
            await until(lambda: len(gateway.claims) == 100 and len(ran) == 50)
            await until(lambda: first._core.in_flight == second._core.in_flight == 0)
            assert len(ran) == 50

    asyncio.run(main())


# ---- a worker that stood still ----


@pytest.mark.parametrize("granted", [True, False])
def test_calls_that_waited_in_a_stopped_worker_are_claimed_and_run_only_where_granted(
    broker, tmp_path, transport, granted
):
    async def main():
        async with stalling(broker, tmp_path, f"stop-{transport}-{granted}", transport) as (gateway, worker):
            name = (await gateway.call("step")).worker
            # Received and not begun: one call waits for the thread, one for its body.
            held = numbered("pool", "held")
            held["q"]["q"] = "1"
            held_answers, _ = await gateway.send(msgpack.packb(held), name)
            await until(lambda: "/held 1" in worker.began)
            waiting = [numbered("pool", "thread"), numbered("declared", "body", qb=3)]
            answers = [(await gateway.send(msgpack.packb(frame), name))[0] for frame in waiting]
            for queue, kinds in zip(answers, (["ack"], ["ack", "read"]), strict=True):
                assert [(await asyncio.wait_for(queue.get(), 5))["t"] for _ in kinds] == kinds
            assert gateway.claims == []

            # Sent while it is stopped: in the socket.
            gateway.grant = lambda _claim: granted
            worker.process.signal(signal.SIGSTOP)
            entries = [("step", n) for n in range(20)] + [("inline", n) for n in range(20, 40)]
            late = [numbered(entry, number) for entry, number in entries]
            late += [numbered("awaits", "awaits"), numbered("pool", "late")]
            answers += [(await gateway.send(msgpack.packb(frame), name))[0] for frame in late]
            body = {"id": waiting[1]["id"], "b": "q", "ms": 5000, "of": 0, "to": 3, "d": b"abc"}
            await gateway.tell(name, t="body", **body)
            await gateway.client.flush()
            await asyncio.sleep(0.6)
            worker.open()
            worker.process.signal(signal.SIGCONT)

            everything = waiting + late
            await until(lambda: len({claim["id"] for claim in gateway.claims}) == len(everything))
            assert {claim["id"] for claim in gateway.claims} == {frame["id"] for frame in everything}
            # What had begun before goes on: that cannot be fenced.
            while (await asyncio.wait_for(held_answers.get(), 5))["t"] != "reply":
                pass
            if granted:
                for queue in answers:
                    while (frame := await asyncio.wait_for(queue.get(), 5))["t"] != "reply":
                        pass
                    assert frame["o"] == "next"
                begun = [line for line in worker.began if line != "/hello 1"]
                expected = ["/held 1"] + [f"{frame['q']['p']} 1" for frame in everything]
                assert sorted(begun) == sorted(expected)
            else:
                for frame in everything:
                    assert (await gateway.probe(name, frame["id"]))["t"] == "unknown"
                assert [line for line in worker.began if line != "/hello 1"] == ["/held 1"]

            # Once it has caught up, calls run without a claim again.
            gateway.grant = lambda _claim: True
            async with asyncio.timeout(10):
                while True:
                    before = len(gateway.claims)
                    assert (await gateway.call("step")).outcome == "next"
                    if len(gateway.claims) == before:
                        break
            assert "stood still" in worker.process.log

    asyncio.run(main())


def test_calls_behind_a_handler_that_blocks_the_loop_are_claimed(broker, tmp_path):
    async def main():
        async with stalling(broker, tmp_path, "blocks", "hooked") as (gateway, worker):
            name = (await gateway.call("step")).worker
            blocking = numbered("inline", "blocks")
            blocking["q"]["q"] = "0.4"
            behind = [numbered("inline", number) for number in range(10)]
            for frame in [blocking, *behind]:
                await gateway.send(msgpack.packb(frame), name)
            gateway.grant = lambda _claim: False
            ids = {frame["id"] for frame in behind}
            await until(lambda: {claim["id"] for claim in gateway.claims} == ids)
            assert (await gateway.probe(name, behind[0]["id"]))["t"] in ("ack", "unknown")
            assert [line for line in worker.began if line != "/hello 1"] == ["/blocks 1"]

    asyncio.run(main())
