"""A worker's large bodies, seen by a gateway that does what it likes: in parts as far as there is room, whole or not at
all, and gone when nobody wants them.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgpack
import pytest
from requester import Requester, call_frame, serving, until

from nylon import BodyError, NylonPlugin, StreamClosed

KIB, MIB = 1024, 1024 * 1024
PART = 128 * KIB
LARGE = 3 * MIB


@pytest.fixture
def broker(nylon_nats):
    return nylon_nats.url


@pytest.fixture(params=["hooked", "plain"])
def transport(request):
    return request.param


def run(main, broker, plugin, **options):
    async def everything():
        async with (
            serving(plugin, broker, **options) as worker,
            await Requester.connect(broker, "g") as gateway,
        ):
            await gateway.until_served("ready")
            await main(gateway, worker)

    asyncio.run(everything())


def new_plugin():
    plugin = NylonPlugin()

    @plugin.request_filter("ready")
    def ready(ctx):
        ctx.next()

    @plugin.request_filter("answer")
    def answer(ctx):
        ctx.response.body_raw(bytes(range(256)) * (LARGE // 256))
        ctx.end()

    @plugin.request_filter("reads")
    async def reads(ctx):
        ctx.response.set_header("x-size", str(len(await ctx.request.read())))
        ctx.end()

    @plugin.request_filter("declared", body=True)
    def declared(ctx):
        ctx.response.set_header("x-size", str(len(ctx.request.body())))
        ctx.end()

    return plugin


async def next_of(answers, kind, patience=5.0):
    """The next frame, which has to be of this kind; acknowledgements are passed over."""
    async with asyncio.timeout(patience):
        while (frame := await answers.get())["t"] == "ack":
            pass
    assert frame["t"] == kind, frame
    return frame


async def nothing_more(answers):
    """What was sent so far has come: nothing is on its way."""
    await asyncio.sleep(0.2)
    assert answers.empty(), answers.get_nowait()


async def begin(gateway, entry, **change):
    frame = call_frame(entry, **change)
    answers, _ = await gateway.send(msgpack.packb(frame))
    return frame["id"], answers


def test_a_large_answer_goes_as_far_as_there_is_room_and_then_the_reply(broker, transport):
    async def main(gateway, worker):
        call_id, answers = await begin(gateway, "answer")
        first = await next_of(answers, "chunk")
        assert (first["b"], first["n"], first["to"], len(first["d"])) == ("r", 0, LARGE, PART)
        await nothing_more(answers)
        body, number = first["d"], 1
        for up in (3, 2, 11):
            await gateway.tell(worker.worker, t="credit", id=call_id, b="r", up=up)
            while number < up:
                chunk = await next_of(answers, "chunk")
                assert chunk["n"] == number
                body, number = body + chunk["d"], number + 1
            await nothing_more(answers)
        while len(body) < LARGE:
            await gateway.tell(worker.worker, t="credit", id=call_id, b="r", up=number + 1)
            body, number = body + (await next_of(answers, "chunk"))["d"], number + 1
        assert body == bytes(range(256)) * (LARGE // 256)
        reply = await next_of(answers, "reply")
        assert (reply["o"], reply["op"][-1]) == ("end", [12, LARGE])
        await until(lambda: worker._core.in_flight == 0)

    run(main, broker, new_plugin(), transport=transport)


def test_more_room_than_a_window_is_not_believed(broker):
    async def main(gateway, worker):
        call_id, answers = await begin(gateway, "answer")
        await next_of(answers, "chunk")
        await gateway.tell(worker.worker, t="credit", id=call_id, b="r", up=10**9)
        for _ in range(8):
            await next_of(answers, "chunk")
        await nothing_more(answers)

    run(main, broker, new_plugin(), drain_timeout=0.1)


def test_a_transfer_that_the_gateway_gives_up_is_gone(broker):
    async def main(gateway, worker):
        call_id, answers = await begin(gateway, "answer")
        await next_of(answers, "chunk")
        failure = {"k": "protocol", "m": "broken off"}
        await gateway.tell(worker.worker, t="credit", id=call_id, b="r", er=failure)
        await until(lambda: worker._core.in_flight == 0)
        await nothing_more(answers)
        assert (await gateway.call("ready")).outcome == "next"

    run(main, broker, new_plugin())


@pytest.mark.parametrize("entry", ["reads", "declared"])
def test_a_body_in_parts_is_asked_for_as_it_comes(broker, entry):
    async def main(gateway, worker):
        call_id, answers = await begin(gateway, entry, qb=LARGE)
        parts = [bytes(PART)] * (LARGE // PART)
        up, sent = (await next_of(answers, "read"))["up"], 0
        assert up == 8
        while sent < len(parts):
            while sent < min(up, len(parts)):
                part = {"n": sent, "to": LARGE, "d": parts[sent], "ms": 1000}
                await gateway.tell(worker.worker, t="body", id=call_id, b="q", **part)
                sent += 1
            if sent < len(parts):
                more = (await next_of(answers, "read"))["up"]
                assert up < more <= sent + 8
                up = more
        async with asyncio.timeout(5):
            while (frame := await answers.get())["t"] != "reply":
                assert frame["t"] == "read"
        assert frame["op"] == [[9, "x-size", str(LARGE).encode()]]

    run(main, broker, new_plugin())


@pytest.mark.parametrize("entry", ["reads", "declared"])
@pytest.mark.parametrize(
    "wrong",
    [{"n": 2}, {"n": 0}, {"to": LARGE + 1}, {"d": b""}, {"d": bytes(2 * PART)}],
    ids=["gap", "twice", "another size", "empty", "too much"],
)
def test_a_part_that_is_wrong_fails_the_call_and_nothing_is_used(broker, entry, wrong):
    async def main(gateway, worker):
        size = 2 * PART + 1
        call_id, answers = await begin(gateway, entry, qb=size)
        await next_of(answers, "read")
        first = {"n": 0, "to": size, "d": bytes(PART), "ms": 1000}
        for part in (first, {**first, "n": 1, **wrong}):
            await gateway.tell(worker.worker, t="body", id=call_id, b="q", **part)
        reply = await next_of(answers, "reply")
        assert (reply["o"], reply["er"]["k"]) == ("error", "protocol")
        assert "broken off" in reply["er"]["m"]
        await until(lambda: worker._core.in_flight == 0)

    run(main, broker, new_plugin())


# ---- streams ----


def streaming_plugin(seen):
    plugin = new_plugin()

    def note(error):
        seen.append(f"{type(error).__name__}: {error}")
        raise error

    @plugin.request_filter("stream")
    async def stream(ctx):
        try:
            async with ctx.response.set_status(202).stream() as body:
                for _ in range(64):
                    await body.write(bytes(PART))
                    seen.append(len(seen))
        except StreamClosed as error:
            note(error)

    @plugin.request_filter("stream-blocking")
    def stream_blocking(ctx):
        try:
            with ctx.response.set_status(202).stream() as body:
                for _ in range(64):
                    body.write(bytes(PART))
                    seen.append(len(seen))
        except StreamClosed as error:
            note(error)

    @plugin.request_filter("letters")
    async def letters(ctx):
        async with ctx.response.stream() as body:
            for number in range(1000):
                await body.write(f"{number:04}")

    @plugin.request_filter("forgetful")
    async def forgetful(ctx):
        body = ctx.response.stream()
        body.write(bytes(2 * MIB))
        try:
            body.write(b"more")
        except BodyError as error:
            note(error)

    @plugin.request_filter("deaf")
    async def deaf(ctx):
        ctx.response.stream()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    return plugin


@pytest.mark.parametrize("entry", ["stream", "stream-blocking"])
def test_a_stream_goes_as_far_as_there_is_room_and_holds_its_handler_back(broker, entry, transport):
    seen: list[int] = []

    async def main(gateway, worker):
        call_id, answers = await begin(gateway, entry)
        head = await next_of(answers, "reply")
        assert (head["o"], head["op"]) == ("stream", [[8, 202]])
        for number in range(8):
            chunk = await next_of(answers, "chunk")
            assert (chunk["b"], chunk["n"], len(chunk["d"])) == ("s", number, PART)
        await nothing_more(answers)
        assert len(seen) <= 10
        await gateway.tell(worker.worker, t="credit", id=call_id, b="s", up=64)
        for number in range(8, 16):
            assert (await next_of(answers, "chunk"))["n"] == number
        await nothing_more(answers)
        for number in range(16, 64):
            await gateway.tell(worker.worker, t="credit", id=call_id, b="s", up=number + 1)
            assert (await next_of(answers, "chunk"))["n"] == number
        last = await next_of(answers, "chunk")
        assert (last["n"], last["end"], "d" in last) == (64, True, False)
        await until(lambda: worker._core.in_flight == 0)

    run(main, broker, streaming_plugin(seen), transport=transport)


@pytest.mark.parametrize("entry", ["stream", "stream-blocking"])
def test_a_stream_that_nobody_reads_raises_at_the_next_write(broker, entry):
    seen: list[object] = []

    async def main(gateway, worker):
        call_id, answers = await begin(gateway, entry)
        await next_of(answers, "reply")
        failure = {"k": "cancelled", "m": "the client went away"}
        await gateway.tell(worker.worker, t="credit", id=call_id, b="s", er=failure)
        await until(lambda: "StreamClosed: the client went away" in seen)
        await until(lambda: worker._core.in_flight == 0)

    run(main, broker, streaming_plugin(seen))


def test_small_writes_travel_together_where_there_is_no_room(broker):
    async def main(gateway, worker):
        call_id, answers = await begin(gateway, "letters")
        await next_of(answers, "reply")
        body, chunks = b"", 0
        for _ in range(8):
            body, chunks = body + (await next_of(answers, "chunk"))["d"], chunks + 1
        await gateway.tell(worker.worker, t="credit", id=call_id, b="s", up=16)
        while "end" not in (chunk := await next_of(answers, "chunk")):
            body, chunks = body + chunk["d"], chunks + 1
        assert body == b"".join(b"%04d" % number for number in range(1000))
        assert chunks <= 16

    run(main, broker, streaming_plugin([]))


def test_a_write_that_is_not_awaited_is_found_by_the_next_one(broker):
    seen: list[object] = []

    async def main(gateway, worker):
        _, answers = await begin(gateway, "forgetful")
        await next_of(answers, "reply")
        async with asyncio.timeout(5):
            while "er" not in (frame := await answers.get()):
                pass
        assert (frame["t"], frame["er"]["k"]) == ("chunk", "raised")
        assert seen
        assert "await stream.write" in str(seen[0])

    run(main, broker, streaming_plugin(seen))


def test_a_handler_that_does_not_notice_that_nobody_reads_is_cancelled(broker):
    seen: list[object] = []

    async def main(gateway, worker):
        call_id, answers = await begin(gateway, "deaf")
        await next_of(answers, "reply")
        await gateway.tell(worker.worker, t="credit", id=call_id, b="s", er={"k": "cancelled", "m": "gone"})
        await until(lambda: seen == ["cancelled"], 20)
        await until(lambda: worker._core.in_flight == 0)

    run(main, broker, streaming_plugin(seen))


def test_a_worker_that_stops_breaks_off_what_does_not_end_in_time(broker):
    async def main(gateway, worker):
        _, answers = await begin(gateway, "stream")
        await next_of(answers, "reply")
        worker.stop()
        async with asyncio.timeout(10):
            while "er" not in (frame := await answers.get()):
                pass
        assert frame["t"] == "chunk"
        assert "drain time" in frame["er"]["m"]

    with contextlib.suppress(ExceptionGroup):
        run(main, broker, streaming_plugin([]), drain_timeout=0.3)
