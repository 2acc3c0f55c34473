"""The byte path between socket and nats-py: whatever arrives, in whatever pieces, nothing is lost or mixed up."""

import asyncio
import itertools

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nylon import NylonPlugin, _core
from nylon.stepper import Stepper

CALLS, OWN, OTHER = 1, 2, 3
MIB = 1 << 20
numbers = itertools.count(1)


class Transport:
    """What asyncio would write to."""

    def __init__(self):
        self.written = b""
        self.writes = 0
        self.aborted = False

    def write(self, data):
        self.written += data
        self.writes += 1

    def abort(self):
        self.aborted = True

    def replies(self):
        """The frames that were published, with their subjects; every byte of them must be a PUB command."""
        rest, found = self.written, []
        while rest:
            line, _, rest = rest.partition(b"\r\n")
            command, subject, size = line.split()
            assert command == b"PUB"
            found.append((subject, msgpack.unpackb(rest[: int(size)], strict_map_key=False)))
            assert rest[int(size) : int(size) + 2] == b"\r\n"
            rest = rest[int(size) + 2 :]
        return [(subject, frame) for subject, frame in found if frame["t"] != "ack"]


class Inner(asyncio.Protocol):
    """What nats-py would be given."""

    def __init__(self):
        self.received = b""

    def data_received(self, data):
        self.received += data

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass


class Path:
    """A worker, its protocol, and both ends of it."""

    def __init__(self, online=True):
        plugin = NylonPlugin()

        @plugin.request_filter("echo", inline=True)
        def echo(ctx):
            ctx.response.body_raw(ctx.request.body() or b"")
            ctx.end()

        self.loop = asyncio.new_event_loop()
        self.worker = _core.Worker(
            plugin._registry,
            Stepper(self.loop, "test"),
            worker="w1",
            group="g",
            prefix="nylon",
            concurrency=64,
            inline=True,
            threads=1,
            plain=False,
        )
        self.transport, self.inner = Transport(), Inner()
        self.protocol = self.worker.protocol(self.transport, self.inner)
        self.worker.take_subscription(CALLS, False)
        self.worker.take_subscription(OWN, True)
        if online:
            self.worker.online(MIB)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.worker.close()
        self.loop.close()

    def feed(self, data, cuts=()):
        # What the loop's timer does: else the time since the last call would be a stall.
        if self.worker.tick():
            self.worker.caught_up(self.worker.stall)
        for start, end in itertools.pairwise([0, *sorted(c for c in cuts if c < len(data)), len(data)]):
            self.protocol.data_received(data[start:end])


def call(body=b"", **change):
    number = next(numbers).to_bytes(16, "big")
    facts = {"id": number, "sc": "http", "h": "a.b", "ip": b"\x7f\0\0\1", "at": 0}
    head = {"m": "GET", "p": "/", "h": []}
    frame = {"t": "call", "v": 1, "id": number, "s": number, "pl": "p", "e": "echo", "p": 1, "ms": 9000}
    return msgpack.packb({**frame, "f": facts, "q": head, "qb": body, **change})


def message(sid, payload, reply=b"_INBOX.x.1", subject=b"nylon.g.call"):
    return b"MSG %b %d %b %d\r\n%b\r\n" % (subject, sid, reply, len(payload), payload)


def message_with_headers(sid, payload, reply=b"_INBOX.x.1"):
    headers = b"NATS/1.0\r\nA: b\r\n\r\n"
    sizes = b"%d %d" % (len(headers), len(headers) + len(payload))
    return b"HMSG nylon.g.call %d %b %b\r\n%b%b\r\n" % (sid, reply, sizes, headers, payload)


tricky = st.sampled_from([b"", b"MSG a 1 _I 5\r\n", b"PING\r\n", b"\r\n", b"HMSG x 1 2 3\r\n", b"\x00\xff"])
bodies = st.one_of(tricky, st.binary(max_size=200))
pieces = st.lists(
    st.one_of(
        st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b'INFO {"a":"MSG x 1 2"}\r\n']).map(
            lambda b: (b, None)
        ),
        bodies.map(lambda body: (message(OTHER, body), None)),
        bodies.map(lambda body: (message_with_headers(OTHER, body), None)),
        bodies.map(lambda body: (message(CALLS, call(body)), body)),
        bodies.map(lambda body: (message_with_headers(CALLS, call(body)), body)),
        bodies.map(lambda body: (message(OWN, call(body)).replace(b" 2 ", b"\t2  ", 1), body)),
    ),
    max_size=12,
)


@given(pieces, st.lists(st.integers(0, 3000), max_size=20))
def test_our_messages_are_answered_and_all_other_bytes_go_on_however_they_are_cut(parts, cuts):
    with Path() as path:
        path.feed(b"".join(data for data, _ in parts), cuts)
        assert path.inner.received == b"".join(data for data, body in parts if body is None)
        answers = [frame["op"][-1][1] for _, frame in path.transport.replies()]
        assert answers == [body for _, body in parts if body is not None]
        assert not path.transport.aborted


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_any_bytes_at_all_go_on_in_order_and_never_raise(data, cuts):
    with Path() as path:
        path.feed(data, cuts)
        assert data.startswith(path.inner.received)
        # What is kept back waits for the end of its line, or for the rest of a message of ours.
        held = data[len(path.inner.received) :]
        assert b"\n" not in held or held.startswith((b"MSG", b"HMSG"))


@pytest.mark.parametrize(
    "broken",
    [
        b"MSG\tnylon.g.call 1\r\n",
        b"MSG nylon.g.call x _I 5\r\nhello\r\n",
        b"MSG nylon.g.call 1 _I 99999999999999999999\r\n",
        b"MSG nylon.g.call 1 a b c 5\r\nhello\r\n",
        b"HMSG nylon.g.call 1 _I 9 5\r\nhello\r\n",
        b"MSG nylon.g.call 1 _I 5\r\nhelloXX",
    ],
)
def test_a_stream_that_makes_no_sense_is_left_to_nats_py(broken):
    with Path() as path:
        path.feed(broken)
        path.feed(message(CALLS, call()))
        assert path.inner.received.startswith(broken)
        assert path.inner.received.endswith(b"\r\n")
        assert path.transport.written == b""


def test_a_status_from_the_server_on_our_subject_is_not_a_call():
    with Path() as path:
        headers = b"NATS/1.0 503\r\n\r\n"
        path.feed(b"HMSG nylon.g.w.w1 %d %d %d\r\n%b\r\n" % (OWN, len(headers), len(headers), headers))
        assert path.worker.stats()["malformed"] == 0
        assert path.transport.written == b""


def test_answers_wait_until_the_connection_is_subscribed_and_known():
    with Path(online=False) as path:
        path.feed(message(CALLS, call(b"one")))
        assert path.transport.written == b""
        path.worker.online(MIB)
        assert [frame["op"][-1][1] for _, frame in path.transport.replies()] == [b"one"]
        path.worker.offline()
        path.feed(message(CALLS, call(b"two")))
        assert len(path.transport.replies()) == 1
        path.worker.online(MIB)
        assert len(path.transport.replies()) == 2


def test_answers_go_to_the_newest_connection_only():
    with Path() as path:
        second = Transport()
        protocol = path.worker.protocol(second, Inner())
        path.feed(message(CALLS, call(b"from the old one")))
        assert path.transport.written == b""
        assert len(second.replies()) == 1
        path.protocol.connection_lost(None)  # told late: the new one goes on
        protocol.data_received(message(CALLS, call(b"from the new one")))
        assert len(second.replies()) == 2


def test_a_peer_that_does_not_read_bounds_what_waits_and_what_is_dropped_is_counted():
    with Path() as path:
        path.protocol.pause_writing()
        for _ in range(160):
            path.feed(message(CALLS, call(b"x" * 256_000)))
        assert path.transport.written == b""
        assert path.worker.stats()["dropped"] > 0
        path.protocol.resume_writing()
        assert 0 < len(path.transport.written) <= 32 * MIB + 4096
        assert 100 <= len(path.transport.replies()) <= 131
        assert path.worker.in_flight == 0


def test_much_is_written_before_the_batch_is_over():
    with Path() as path:
        path.feed(b"".join(message(CALLS, call(b"x" * 256_000)) for _ in range(12)))
        assert len(path.transport.replies()) == 12
        assert path.transport.writes > 2


def test_a_message_without_a_reply_subject_runs_and_is_not_answered():
    with Path() as path:
        path.feed(b"MSG nylon.g.call 1 %d\r\n" % len(frame := call()) + frame + b"\r\n")
        assert path.transport.written == b""
        assert path.worker.stats()["calls"] == 1
