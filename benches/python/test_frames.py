"""Frames as Python sees them: the same 604-byte call and 117-byte reply through msgpack, ormsgpack and Nylon.

Nylon's codec is not a Python function: it stands behind the worker's byte path, where decoding is lazy and the reply is
written straight into the outgoing bytes. So its rows are whole steps, from the bytes of a NATS message to the bytes of
what is published, and the other codecs have rows of the same steps beside them. `make bench-micro` runs them.
"""

import asyncio
import contextlib
import itertools

import msgpack
import ormsgpack
import pytest

from nylon import NylonPlugin, _core
from nylon.stepper import Stepper

CALLS = 1
CALL_SIZE, REPLY_SIZE = 604, 117
WORKER = "0123456789abcdef"
VALUE = b"0123456789abcdef0123456789abcdef0123456789a"
HEADERS = [
    ["host", b"shop.example.com"],
    ["user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Firefox/131.0"],
    ["accept", b"application/json, text/plain"],
    ["accept-encoding", b"gzip, deflate, br"],
    ["authorization", b"Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0"],
    ["cookie", b"sid=0123456789abcdef"],
    ["x-request-id", b"6b3f2c1e-77aa-4a54"],
]
CODECS = pytest.mark.parametrize("codec", [msgpack, ormsgpack], ids=["msgpack", "ormsgpack"])
numbers = itertools.count(1)


def call(number, padding=0):
    """The sample call of benches/rust; `number` is its id."""
    key = number.to_bytes(16, "big")
    facts = {
        "id": bytes(16),
        "sc": "https",
        "h": "shop.example.com",
        "ip": b"\xc0\0\2\1",
        "at": 1_700_000_000,
    }
    fields = [*HEADERS, ["x-filler", b"x" * padding]]
    head = {"m": "GET", "p": "/api/v1/accounts/12345/orders", "q": "page=2&size=50", "ver": 11, "h": fields}
    envelope = {"t": "call", "v": 1, "id": key, "s": key, "a": 1, "pl": "bench", "e": "check", "p": 1}
    return {**envelope, "ms": 5000, "f": facts, "q": head}


PADDING = CALL_SIZE - len(msgpack.packb(call(0)))
FRAME = msgpack.packb(call(0, PADDING))
REPLY = {"t": "reply", "v": 1, "id": bytes(16), "w": WORKER, "o": "next", "op": [[4, "x-user", VALUE]]}
assert (len(FRAME), len(msgpack.packb(REPLY))) == (CALL_SIZE, REPLY_SIZE)


def published(reply, frame):
    return b"PUB %b %d\r\n%b\r\n" % (reply, len(frame), frame)


def message(number):
    frame = msgpack.packb(call(number, PADDING))
    return b"MSG nylon.g.call %d _INBOX.x.1 %d\r\n%b\r\n" % (CALLS, len(frame), frame)


@CODECS
def test_decode_a_call(benchmark, codec):
    benchmark.group = "decode a call"
    assert benchmark(codec.unpackb, FRAME)["e"] == "check"


@CODECS
def test_encode_a_reply(benchmark, codec):
    benchmark.group = "encode a reply"
    assert len(benchmark(codec.packb, REPLY)) == REPLY_SIZE


@CODECS
def test_serve_a_call(benchmark, codec):
    benchmark.group = "serve a call: decode, handler, acknowledge, encode"

    def serve(frame):
        decoded = codec.unpackb(frame)
        ack = codec.packb({"t": "ack", "v": 1, "id": decoded["id"], "w": WORKER})
        headers = dict(decoded["q"]["h"])
        op = [8, 401]
        if headers.get("authorization") is not None and headers.get("x-request-id") is not None:
            op = [4, "x-user", VALUE]
        reply = {"t": "reply", "v": 1, "id": decoded["id"], "w": WORKER, "o": "next", "op": [op]}
        return published(b"_INBOX.x.1", ack) + published(b"_INBOX.x.1", codec.packb(reply))

    assert b"x-user" in benchmark(serve, FRAME)


class Transport:
    """What asyncio would write to."""

    def __init__(self):
        self.last = b""

    def write(self, data):
        self.last = data

    def abort(self):
        raise AssertionError("the worker gave the connection up")


@contextlib.contextmanager
def serving(handler):
    """A worker's protocol and the transport it writes to, with `handler` as its one entry."""
    plugin = NylonPlugin()
    plugin.request_filter("check", inline=True)(handler)
    loop = asyncio.new_event_loop()
    worker = _core.Worker(
        plugin._registry,
        Stepper(loop, "bench"),
        worker=WORKER,
        group="g",
        prefix="nylon",
        concurrency=64,
        inline=True,
        threads=1,
        plain=False,
    )
    transport = Transport()
    protocol = worker.protocol(transport, asyncio.Protocol())
    worker.take_subscription(CALLS, False)
    worker.online(1 << 20)
    try:
        yield protocol, transport
    finally:
        worker.close()
        loop.close()


def test_serve_a_call_with_nylon(benchmark):
    benchmark.group = "serve a call: decode, handler, acknowledge, encode"

    def handler(ctx):
        headers = ctx.request.headers
        if headers.get("authorization") is None or headers.get("x-request-id") is None:
            ctx.response.set_status(401)
            return ctx.end()
        headers["x-user"] = "0123456789abcdef0123456789abcdef0"
        ctx.next()

    with serving(handler) as (protocol, transport):
        # Each call has an id of its own, made ahead of the clock: one that was seen before is not run again.
        benchmark.pedantic(
            protocol.data_received,
            setup=lambda: ((message(next(numbers)),), {}),
            rounds=20_000,
            warmup_rounds=1_000,
        )
        assert b"x-user" in transport.last
