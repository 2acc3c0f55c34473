"""gRPC through the gateway, by its own library on both sides: the four kinds of call, and how they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from support.certificates import Authority
from support.client import Address
from support.configs import gateway_config, http_service
from support.processes import GatewayProcess

LARGE = bytes(range(256)) * 4096  # 1 MiB
NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]


class Methods:
    """What the server offers. Messages are bytes: nothing here needs a schema."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.waiting = threading.Event()
        self.go_on = threading.Event()

    def one(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Single: sends back the message and what came with it."""
        metadata = {item.key: item.value for item in context.invocation_metadata()}
        context.send_initial_metadata((("x-before", metadata["x-asked"]),))
        context.set_trailing_metadata((("x-after", metadata["x-asked"]), ("x-after-bin", b"\0\xff")))
        return request

    def many_out(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """A stream of as many messages as the request says."""
        for number in range(int(request)):
            yield b"message %d" % number

    def many_in(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """How many messages came, and their bytes in all."""
        sizes = [len(request) for request in requests]
        return b"%d %d" % (len(sizes), sum(sizes))

    def many_in_late(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """The same, but it looks at none before it may."""
        self.waiting.set()
        assert self.go_on.wait(20)
        return self.many_in(requests, context)

    def both(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Each message, when it comes."""
        for request in requests:
            yield request.upper()

    def failing(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """A status that is none of HTTP's."""
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing of the kind: ü")
        raise AssertionError("abort raises")

    def failing_late(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """The same behind a message."""
        yield b"first"
        context.abort(grpc.StatusCode.DATA_LOSS, "lost the rest")

    def held(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Waits until the client has left."""
        context.add_callback(self.cancelled.set)
        self.waiting.set()
        self.cancelled.wait(20)
        return b""

    def handlers(self) -> grpc.GenericRpcHandler:
        """All of them."""
        return grpc.method_handlers_generic_handler(
            "test.Methods",
            {
                "One": grpc.unary_unary_rpc_method_handler(self.one),
                "ManyOut": grpc.unary_stream_rpc_method_handler(self.many_out),
                "ManyIn": grpc.stream_unary_rpc_method_handler(self.many_in),
                "ManyInLate": grpc.stream_unary_rpc_method_handler(self.many_in_late),
                "Both": grpc.stream_stream_rpc_method_handler(self.both),
                "Failing": grpc.unary_unary_rpc_method_handler(self.failing),
                "FailingLate": grpc.unary_stream_rpc_method_handler(self.failing_late),
                "Held": grpc.unary_unary_rpc_method_handler(self.held),
            },
        )


@contextmanager
def server(methods: Methods) -> Iterator[Address]:
    running = grpc.server(ThreadPoolExecutor(8), options=NO_LIMIT)
    running.add_generic_rpc_handlers((methods.handlers(),))
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield "127.0.0.1", port
    finally:
        running.stop(None).wait(10)


def gateway_to(address: Address, **sections: Any) -> GatewayProcess:
    paths = [{"path": "/{*call}", "service": {"name": "grpc"}}]
    services = [http_service("grpc", address, protocol="http2")]
    return GatewayProcess(gateway_config(None, paths, services=services, **sections))


@pytest.fixture(scope="module", params=["plain", "TLS"])
def channel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[grpc.Channel, Methods]]:
    """A client of the gateway, and what the server behind it offers."""
    methods, authority = Methods(), Authority(tmp_path_factory.mktemp("authority"))
    sections: dict[str, Any] = {}
    if request.param == "TLS":
        certificate = authority.issue("localhost", "localhost")
        sections = {"http": [], "https": ["127.0.0.1:0"], "tls": [certificate]}
    with server(methods) as address, gateway_to(address, **sections) as gateway:
        target = f"localhost:{gateway.address[1]}"
        made = (
            grpc.secure_channel(target, grpc.ssl_channel_credentials(authority.pem), NO_LIMIT)
            if sections
            else grpc.insecure_channel(target, NO_LIMIT)
        )
        with made:
            yield made, methods


Channel = tuple[grpc.Channel, Methods]


@pytest.mark.parametrize("message", [b"", b"a message", LARGE], ids=["empty", "short", "long"])
def test_a_single_call_is_answered_with_all_its_metadata(channel: Channel, message: bytes) -> None:
    call = channel[0].unary_unary("/test.Methods/One")
    answer, done = call.with_call(message, metadata=(("x-asked", "42"),), timeout=20)
    assert answer == message
    assert ("x-before", "42") in [(item.key, item.value) for item in done.initial_metadata()]
    trailing = [(item.key, item.value) for item in done.trailing_metadata()]
    assert trailing == [("x-after", "42"), ("x-after-bin", b"\0\xff")]


def test_a_stream_of_answers_comes_whole_and_in_order(channel: Channel) -> None:
    call = channel[0].unary_stream("/test.Methods/ManyOut")
    assert list(call(b"5000", timeout=20)) == [b"message %d" % number for number in range(5000)]
    assert list(call(b"0", timeout=20)) == []


def test_a_stream_of_requests_arrives_whole(channel: Channel) -> None:
    call = channel[0].stream_unary("/test.Methods/ManyIn")
    assert call(iter([b"12345"] * 5000), timeout=20) == b"5000 25000"
    assert call(iter([LARGE] * 4), timeout=20) == b"4 %d" % (4 * len(LARGE))
    assert call(iter([]), timeout=20) == b"0 0"


def test_a_server_that_takes_its_time_for_small_requests_gets_them_all(channel: Channel) -> None:
    """Small frames that wait for their reader are no flood."""
    connected, methods = channel
    methods.waiting.clear()
    methods.go_on.clear()
    sent = 0

    def requests() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(30_000):
            sent += 1
            yield b"0123456789abcdef"

    call = connected.stream_unary("/test.Methods/ManyInLate").future(requests(), timeout=60)
    assert methods.waiting.wait(10)
    # As many as there is room for on the way.
    before = -1
    while before != sent:
        before = sent
        time.sleep(0.5)
    assert not call.done()
    methods.go_on.set()
    assert call.result() == b"30000 480000"


def test_both_sides_talk_by_turns(channel: Channel) -> None:
    """No message waits for the next one, in either direction."""
    turns: list[bytes] = [b"begin"]
    turn = threading.Semaphore(1)
    over = threading.Event()

    def requests() -> Iterator[bytes]:
        for number in range(100):
            assert turn.acquire(timeout=20)
            turns.append(b"ask %d" % number)
            yield turns[-1]
        over.set()

    for number, answer in enumerate(channel[0].stream_stream("/test.Methods/Both")(requests(), timeout=30)):
        assert answer == b"ASK %d" % number
        assert turns[-1] == b"ask %d" % number
        turn.release()
    assert over.is_set()


def test_a_status_comes_as_the_server_said_it(channel: Channel) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        channel[0].unary_unary("/test.Methods/Failing")(b"", timeout=20)
    assert failure.value.code() == grpc.StatusCode.NOT_FOUND
    assert failure.value.details() == "nothing of the kind: ü"
    answers = channel[0].unary_stream("/test.Methods/FailingLate")(b"", timeout=20)
    assert next(answers) == b"first"
    with pytest.raises(grpc.RpcError) as failure:
        next(answers)
    assert (failure.value.code(), failure.value.details()) == (grpc.StatusCode.DATA_LOSS, "lost the rest")


def test_a_call_that_is_cancelled_ends_at_the_server(channel: Channel) -> None:
    connected, methods = channel
    methods.cancelled.clear()
    methods.waiting.clear()
    call = connected.unary_unary("/test.Methods/Held").future(b"", timeout=20)
    assert methods.waiting.wait(10)
    call.cancel()
    assert methods.cancelled.wait(10)


def test_a_deadline_that_passes_ends_the_call_at_the_server(channel: Channel) -> None:
    connected, methods = channel
    methods.cancelled.clear()
    with pytest.raises(grpc.RpcError) as failure:
        connected.unary_unary("/test.Methods/Held")(b"", timeout=0.5)
    assert failure.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert methods.cancelled.wait(10)


def test_a_server_that_cannot_be_reached_is_unavailable(tmp_path: Path) -> None:
    with server(Methods()) as address:
        pass
    with (
        gateway_to(address) as gateway,
        grpc.insecure_channel(urlsplit(gateway.urls[0]).netloc, NO_LIMIT) as channel,
    ):
        with pytest.raises(grpc.RpcError) as failure:
            channel.unary_unary("/test.Methods/One")(b"", timeout=20)
        assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
