"""What a worker makes of single calls: good ones, bad ones, and ones that it cannot take."""

import asyncio
import logging
import os
import threading

import msgpack
import pytest
from requester import call_frame, run, until

from nylon import NylonPlugin
from nylon.embedded import NatsServer


def test_each_kind_of_handler_answers_with_its_decision_and_mutations(broker, transport):
    plugin = NylonPlugin()

    @plugin.request_filter("pool")
    def pool(ctx):
        ctx.request.headers["x-thread"] = threading.current_thread().name
        ctx.next()

    @plugin.request_filter("inline", inline=True)
    def inline(ctx):
        ctx.request.headers["x-key"] = ctx.request.headers["x-api-key"]
        ctx.next()

    @plugin.request_filter("step")
    async def step(ctx):
        ctx.response.set_status(418).body_text("tea")
        ctx.end()

    @plugin.request_filter("wait")
    async def wait(ctx):
        async with asyncio.timeout(1):
            await asyncio.sleep(0.001)
        ctx.state["seen"] = ctx.payload["key"]
        ctx.next()

    async def main(gateway, worker):
        answer = await gateway.call("pool")
        assert (answer.before, answer.outcome, answer.worker) == (["ack"], "next", worker.worker)
        assert answer.ops[0][:2] == [4, "x-thread"]
        assert answer.ops[0][2].startswith(b"nylon-")
        assert (await gateway.call("inline")).ops == [[4, "x-key", b"secret"]]
        answer = await gateway.call("step")
        assert answer.outcome == "end"
        assert [8, 418] in answer.ops
        assert [12, b"tea"] in answer.ops
        answer = await gateway.call("wait", py=msgpack.packb({"key": 7}))
        assert (answer.outcome, msgpack.unpackb(answer.frame["st"])) == ("next", {"seen": 7})
        assert answer.frame["x"] == {"p": 1}
        await until(lambda: worker._core.in_flight == 0)

    run(main, broker, plugin, transport=transport)


def test_a_handler_that_raises_is_answered_at_once_and_logged_with_the_request_id(broker, caplog, transport):
    plugin = NylonPlugin()

    @plugin.request_filter("raises")
    async def raises(ctx):
        ctx.request.headers["x-half"] = "done"
        ctx.next()
        raise ValueError("after next")

    @plugin.request_filter("exits")
    def exits(ctx):
        raise SystemExit(3)

    @plugin.request_filter("undecided")
    async def undecided(ctx):
        pass

    @plugin.request_filter("twice")
    def twice(ctx):
        ctx.end()
        ctx.next()

    async def main(gateway, worker):
        frame = call_frame("raises")
        answer = await gateway.raw(msgpack.packb(frame))
        assert (answer.outcome, answer.error["k"], answer.ops) == ("error", "raised", [])
        assert answer.error["m"] == "ValueError: after next"
        record = next(r for r in caplog.records if r.exc_info and "raises" in r.getMessage())
        assert frame["f"]["id"].hex() in record.getMessage()
        assert record.exc_info[2].tb_next is not None
        assert (await gateway.call("exits")).error["k"] == "raised"
        assert (await gateway.call("undecided")).error["k"] == "undecided"
        answer = await gateway.call("twice")
        assert (answer.outcome, answer.error["k"]) == ("error", "raised")
        assert "DecisionError" in answer.error["m"]
        assert worker._core.stats()["failed"] == 4

    with caplog.at_level(logging.ERROR):
        run(main, broker, plugin, transport=transport)


def test_unknown_entries_and_phases_are_errors_that_name_what_exists(broker):
    plugin = NylonPlugin()
    plugin.request_filter("auth")(lambda ctx: ctx.next())
    plugin.logging("audit")(lambda ctx: None)

    async def main(gateway, _worker):
        answer = await gateway.call("auht")
        assert (answer.before, answer.error["k"]) == ([], "unknown_entry")
        assert "audit, auth" in answer.error["m"]
        answer = await gateway.call("audit", "request_filter")
        assert answer.error["k"] == "unknown_entry"
        assert "no request_filter handler" in answer.error["m"]
        assert (await gateway.call("audit", "logging", sn={})).outcome == "next"

    run(main, broker, plugin)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"garbage",
        os.urandom(64),
        msgpack.packb([1, 2]),
        msgpack.packb({"t": "call", "v": 1}),
        msgpack.packb({"t": "call", "v": 0, "id": bytes(16)}),
        msgpack.packb({"t": "nothing", "v": 1}),
        msgpack.packb({"t": "reply", "v": 1, "id": bytes(16)}),
        msgpack.packb(call_frame("auth", p=9)),
        msgpack.packb(call_frame("auth", q={"m": "GET", "p": "no-slash", "h": []})),
        msgpack.packb(call_frame("auth", q={"m": "GET", "p": "/", "h": [[b"x", b"a\r\nb"]]})),
        msgpack.packb(call_frame("auth"))[:-3],
    ],
    # Named, since several processes have to name them alike.
    ids=[
        "empty",
        "text",
        "noise",
        "list",
        "bare",
        "old-version",
        "unknown-kind",
        "reply",
        "no-such-phase",
        "no-slash",
        "line-break",
        "cut",
    ],
)
def test_garbage_is_answered_counted_and_leaves_the_worker_whole(broker, transport, garbage):
    plugin = NylonPlugin()

    @plugin.request_filter("auth")
    async def auth(ctx):
        ctx.next()

    async def main(gateway, worker):
        for target in (None, worker.worker):
            answer = await gateway.raw(garbage, worker=target)
            assert (answer.outcome, answer.error["k"]) == ("error", "protocol")
        await gateway.client.publish(gateway.subject(), garbage)  # nobody to answer
        assert (await gateway.call("auth")).outcome == "next"

        def counted():
            stats = worker._core.stats()
            # Where the envelope is good it is one call, sent three times.
            return stats["malformed"] + stats["duplicates"]

        await until(lambda: counted() == 3)
        assert worker._core.in_flight == 0

    run(main, broker, plugin, transport=transport)


def test_a_full_worker_says_busy_at_once_and_takes_calls_again(broker, transport):
    plugin = NylonPlugin()
    gate = threading.Event()

    @plugin.request_filter("held")
    def held(ctx):
        gate.wait(10)
        ctx.next()

    async def main(gateway, _worker):
        held_calls = [asyncio.create_task(gateway.call("held")) for _ in range(3)]
        answers = []
        while not answers or answers[-1].outcome != "busy":
            answers.append(await asyncio.wait_for(gateway.call("held"), 3))
        assert answers[-1].before == []
        gate.set()
        assert [(await call).outcome for call in held_calls] == ["next"] * 3
        assert (await gateway.call("held")).outcome == "next"

    run(main, broker, plugin, concurrency=3, transport=transport)


def test_a_call_whose_time_is_over_when_its_turn_comes_is_not_run(broker):
    plugin = NylonPlugin()
    gate = threading.Event()
    ran = []

    @plugin.request_filter("queue")
    def queue(ctx):
        ran.append(ctx.request.path)
        gate.wait(10)
        ctx.next()

    async def main(gateway, worker):
        first = asyncio.create_task(gateway.call("queue"))
        await until(lambda: ran)
        late = call_frame("queue", ms=30)
        late["q"]["p"] = "/late"
        answer = await gateway.raw(msgpack.packb(late))
        assert answer.error["k"] == "timed_out"
        gate.set()
        assert (await first).outcome == "next"
        await until(lambda: worker._core.in_flight == 0)
        assert ran == ["/hello"]

    run(main, broker, plugin, threads=1)


def test_an_async_handler_is_cancelled_at_its_deadline_and_its_context_closed(broker):
    plugin = NylonPlugin()
    seen = []

    @plugin.request_filter("slow")
    async def slow(ctx):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            try:
                ctx.next()
            except Exception as error:
                seen.append(type(error).__name__)
            raise

    async def main(gateway, worker):
        answer = await gateway.call("slow", ms=50)
        assert answer.error["k"] == "timed_out"
        await until(lambda: seen == ["ContextClosed"])
        assert worker._core.in_flight == 0

    run(main, broker, plugin)


def test_a_call_that_is_here_already_is_acknowledged_and_not_run_again(broker):
    plugin = NylonPlugin()
    runs = []
    gate = asyncio.Event()

    @plugin.request_filter("once")
    async def once(ctx):
        runs.append(ctx.attempt)
        await gate.wait()
        ctx.next()

    async def main(gateway, worker):
        frame = call_frame("once")
        first = asyncio.create_task(gateway.raw(msgpack.packb(frame)))
        await until(lambda: runs)
        again, _token = await gateway.send(msgpack.packb({**frame, "a": 2}))
        assert (await asyncio.wait_for(again.get(), 5))["t"] == "ack"
        gate.set()
        assert (await first).outcome == "next"
        assert runs == [1]
        assert worker._core.stats()["duplicates"] == 1

    run(main, broker, plugin)


def test_a_reply_over_max_payload_becomes_an_error_and_keeps_the_connection(transport):
    plugin = NylonPlugin()

    @plugin.request_filter("big")
    async def big(ctx):
        for number in range(10):
            ctx.response.set_header(f"x-{number}", "x" * 10_000)
        ctx.end()

    @plugin.request_filter("small")
    def small(ctx):
        ctx.next()

    async def main(gateway, worker):
        client = worker._broker.client
        answer = await gateway.call("big")
        assert (answer.outcome, answer.error["k"]) == ("error", "protocol")
        assert "max_payload" in answer.error["m"]
        assert (await gateway.call("small")).outcome == "next"
        assert client.stats["reconnects"] == 0

    with NatsServer(config="max_payload: 20000\n") as server:
        run(main, server, plugin, transport=transport)
