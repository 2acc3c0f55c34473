"""Closures of a session on its worker, and bodies that did not travel with their call."""

import asyncio
import os

import msgpack
import pytest
from requester import call_frame, run, until

from nylon import NylonPlugin


def counting_plugin(seen):
    plugin = NylonPlugin()

    @plugin.phase_handler("count")
    def count(phase):
        calls = []

        @phase.request_filter
        async def check(ctx):
            calls.append("request")
            ctx.next()

        @phase.logging
        def log(ctx):
            seen.append([*calls, "logging"])

    return plugin


def test_closures_live_across_the_phases_of_one_session_until_it_is_closed(broker):
    seen = []

    async def main(gateway, worker):
        sessions = [os.urandom(16) for _ in range(3)]
        for session in sessions:
            answer = await gateway.call("count", s=session)
            assert answer.frame["x"] == {"p": 9, "s": True}
        assert worker._core.sessions == 3
        for session in sessions:
            assert (
                await gateway.call("count", "logging", worker=worker.worker, s=session, sn={})
            ).outcome == "next"
        assert seen == [["request", "logging"]] * 3
        for session in sessions:
            await gateway.close_session(worker.worker, session)
        await until(lambda: worker._core.sessions == 0)
        answer = await gateway.call("count", "logging", worker=worker.worker, s=sessions[0], sn={})
        assert answer.error["k"] == "worker_died"

    run(main, broker, counting_plugin(seen))


def test_an_entry_in_the_short_form_keeps_nothing(broker):
    plugin = NylonPlugin()

    @plugin.request_filter("stamp")
    async def stamp(ctx):
        ctx.state["n"] = ctx.state.get("n", 0) + 1
        ctx.next()

    async def main(gateway, worker):
        answer = await gateway.call("stamp", st=msgpack.packb({"n": 4}))
        assert msgpack.unpackb(answer.frame["st"]) == {"n": 5}
        assert worker._core.sessions == 0

    run(main, broker, plugin)


def reading_plugin():
    plugin = NylonPlugin()

    @plugin.request_filter("reads")
    async def reads(ctx):
        body = await ctx.request.read()
        ctx.request.headers["x-size"] = str(len(body))
        ctx.next()

    @plugin.request_filter("declared", body=True)
    def declared(ctx):
        ctx.request.headers["x-size"] = str(len(ctx.request.body()))
        ctx.next()

    @plugin.response_body_filter("shout")
    def shout(ctx):
        ctx.response.body_raw(ctx.response.read_body().upper())

    return plugin


@pytest.mark.parametrize(
    ("entry", "phase", "which", "ops"),
    [
        ("reads", "request_filter", "q", [[4, "x-size", b"200000"]]),
        ("declared", "request_filter", "q", [[4, "x-size", b"200000"]]),
        ("shout", "response_body_filter", "r", [[12, b"A" * 200_000]]),
    ],
)
def test_a_body_that_stayed_with_the_gateway_is_asked_for_once(broker, entry, phase, which, ops):
    async def main(gateway, worker):
        key = "rb" if which == "r" else "qb"
        head = {"r": {"s": 200, "h": []}} if which == "r" else {}
        frame = call_frame(entry, phase, **{key: 200_000}, **head)
        answers, _token = await gateway.send(msgpack.packb(frame))
        assert (await asyncio.wait_for(answers.get(), 5))["t"] == "ack"
        read = await asyncio.wait_for(answers.get(), 5)
        assert (read["t"], read["b"], read["id"], read["w"]) == ("read", which, frame["id"], worker.worker)
        body = {"id": frame["id"], "b": which, "ms": 1000, "n": 0, "to": 200_000, "d": b"a" * 200_000}
        await gateway.tell(worker.worker, t="body", **body)
        reply = await asyncio.wait_for(answers.get(), 5)
        assert (reply["t"], reply["o"]) == ("reply", "next")
        assert [op for op in reply["op"] if op[0] in (4, 12)] == ops

    run(main, broker, reading_plugin())


@pytest.mark.parametrize("entry", ["reads", "declared"])
def test_a_body_that_cannot_be_had_fails_the_call_with_the_gateways_reason(broker, entry):
    async def main(gateway, worker):
        frame = call_frame(entry)
        answers, _token = await gateway.send(msgpack.packb(frame))
        for kind in ("ack", "read"):
            assert (await asyncio.wait_for(answers.get(), 5))["t"] == kind
        failure = {"k": "body_too_large", "m": "over max_body_bytes"}
        await gateway.tell(worker.worker, t="body", id=frame["id"], b="q", ms=1000, er=failure)
        reply = await asyncio.wait_for(answers.get(), 5)
        assert (reply["o"], reply["er"]["k"]) == ("error", "body_too_large")
        await until(lambda: worker._core.in_flight == 0)

    run(main, broker, reading_plugin())


def test_a_setup_that_raises_in_a_session_fails_that_call_only(broker):
    plugin = NylonPlugin()
    setups = []

    @plugin.phase_handler("moody")
    def moody(phase):
        setups.append(1)
        if len(setups) == 2:
            raise RuntimeError("not now")
        phase.request_filter(lambda ctx: ctx.next())

    async def main(gateway, worker):
        sessions = [os.urandom(16), os.urandom(16)]
        answer = await gateway.call("moody", s=sessions[0])
        assert (answer.error["k"], answer.error["m"]) == ("raised", "RuntimeError: not now")
        assert (await gateway.call("moody", s=sessions[1])).outcome == "next"
        for session in sessions:
            await gateway.close_session(worker.worker, session)
        await until(lambda: worker._core.sessions == 0)

    run(main, broker, plugin)


def test_a_setup_finds_what_initialize_has_made(broker):
    plugin = NylonPlugin()
    made = {}

    @plugin.initialize
    async def initialize(config):
        made["greeting"] = "hello"

    @plugin.phase_handler("greet")
    def greet(phase):
        greeting = made["greeting"]

        @phase.request_filter
        def answer(ctx):
            ctx.response.body_text(greeting)
            ctx.end()

    async def main(gateway, worker):
        session = os.urandom(16)
        answer = await gateway.call("greet", s=session)
        assert answer.frame["o"] == "end"
        await gateway.close_session(worker.worker, session)

    run(main, broker, plugin)
