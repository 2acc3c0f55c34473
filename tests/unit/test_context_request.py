"""What a handler reads of a request and changes in it: the same classes and the same dispatch as in a gateway."""

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.handlers import raised, read, run

from nylon import (
    BodyError,
    Context,
    InvalidValueError,
    NylonPlugin,
)
from nylon.testing import PluginClient

# ---- readers ----


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "PATCH"),
        ("path", "/a%20b/c"),
        ("query", "q=1&q=2&e="),
        ("url", "https://example.com:8443/a%20b/c?q=1&q=2&e="),
        ("host", "example.com:8443"),
        ("scheme", "https"),
        ("http_version", "2"),
        ("client_ip", "2001:db8::1"),
        ("query_params", {"q": ["1", "2"], "e": [""]}),
        ("params", {"id": "7 8"}),
        ("cookies", {"a": "1", "b": "x=y", "c": "q"}),
        ("bytes", 0),
    ],
)
def test_each_property_of_the_request_reads_as_sent(name: str, value: Any) -> None:
    seen = read(
        lambda ctx: getattr(ctx.request, name),
        method="PATCH",
        url="https://example.com:8443/a%20b/c?q=1&q=2&e=",
        http_version="2",
        client_ip="2001:db8::1",
        params={"id": "7 8"},
        headers=[("Cookie", 'a=1; b=x=y; c="q"; a=2; nothing')],
    )
    assert seen == value


def test_the_timestamp_is_in_seconds_since_the_epoch() -> None:
    before = time.time()
    seen = read(lambda ctx: ctx.request.timestamp)
    assert before - 1 <= seen <= time.time() + 1


def test_a_request_id_is_32_hex_digits_and_attempt_is_1() -> None:
    request_id, attempt = read(lambda ctx: (ctx.request_id, ctx.attempt))
    assert len(request_id) == 32
    assert int(request_id, 16) >= 0
    assert attempt == 1


def test_bytes_of_an_unread_request_is_its_declared_length() -> None:
    assert read(lambda ctx: ctx.request.bytes, headers={"content-length": "12"}, body="x" * 12) == 12


# ---- headers ----


def test_headers_are_a_mutable_mapping() -> None:
    def use(ctx: Context) -> None:
        headers = ctx.request.headers
        assert isinstance(headers, MutableMapping)
        assert headers["X-A"] == "1"
        assert headers.get("x-missing") is None
        assert headers.get("x-missing", "d") == "d"
        assert "x-a" in headers and "X-B" not in headers and 7 not in headers
        assert list(headers) == ["x-a"] == headers.keys()
        assert len(headers) == 1
        headers["X-B"] = "2"
        assert headers.setdefault("x-b", "3") == "2"
        assert headers.setdefault("x-c", "3") == "3"
        headers.update({"x-d": "4"}, e="5")
        headers.update([("x-f", "6")])
        assert headers.pop("x-d") == "4"
        assert headers.pop("x-d", None) is None
        with pytest.raises(KeyError, match="x-d"):
            headers.pop("x-d")
        del headers["e"]
        with pytest.raises(KeyError, match="nope"):
            del headers["nope"]
        with pytest.raises(KeyError, match="nope"):
            headers["nope"]
        assert headers.items() == [("x-a", "1"), ("x-b", "2"), ("x-c", "3"), ("x-f", "6")]
        assert headers == dict(headers.items())
        assert headers != {"x-a": "1"}

    result = run(use, headers={"X-A": "1"})
    assert result.error is None
    assert dict(result.request.headers) == {"x-a": "1", "x-b": "2", "x-c": "3", "x-f": "6"}


def test_repeated_fields_join_by_their_kind_and_get_all_gives_each() -> None:
    fields = [("accept", "a"), ("accept", "b"), ("cookie", "a=1"), ("cookie", "b=2")]
    fields += [("set-cookie", "x"), ("set-cookie", "y")]
    joined, each = read(
        lambda ctx: (dict(ctx.request.headers), ctx.request.headers.get_all("Set-Cookie")), headers=fields
    )
    assert joined == {"accept": "a, b", "cookie": "a=1; b=2", "set-cookie": "x"}
    assert each == ["x", "y"]


def test_add_keeps_what_is_there_and_set_replaces_all() -> None:
    def use(ctx: Context) -> None:
        ctx.request.headers.add("x", "1")
        ctx.request.headers.add("x", "2")
        assert ctx.request.headers.get_all("x") == ["1", "2"]
        ctx.request.headers["x"] = "3"
        assert ctx.request.headers.get_all("x") == ["3"]
        ctx.request.headers.clear()

    result = run(use, headers={"a": "b"})
    assert result.error is None
    assert dict(result.request.headers) == {}


# What a field value may hold (RFC 9110, 5.5), as the bytes of a client.
field_values = st.binary(max_size=60).filter(
    lambda raw: all(byte >= 32 or byte == 9 for byte in raw) and 127 not in raw
)


@settings(max_examples=60, deadline=None)
@given(st.lists(field_values, max_size=6))
def test_any_header_bytes_survive_the_way_in_and_out(values: list[bytes]) -> None:
    as_text = [value.decode("utf-8", "surrogateescape") for value in values]

    def copy(ctx: Context) -> None:
        for value in ctx.request.headers.get_all("x-in"):
            ctx.request.headers.add("x-out", value)

    result = run(copy, headers=[("x-in", value) for value in as_text])
    assert result.error is None
    out = [value.encode("utf-8", "surrogateescape") for value in result.request.headers.get_all("x-out")]
    assert out == values


@pytest.mark.parametrize(
    ("name", "value"), [("a b", "x"), ("", "x"), ("ü", "x"), ("x", "a\r\nb: c"), ("x", "\0"), ("x", "\ud800")]
)
def test_illegal_header_fields_are_refused(name: str, value: str) -> None:
    def use(ctx: Context) -> None:
        ctx.request.headers[name] = value

    assert raised(use, InvalidValueError)
    assert raised(lambda ctx: ctx.response.set_header(name, value), ValueError)


def test_values_that_are_no_strings_are_type_errors() -> None:
    assert raised(lambda ctx: ctx.request.headers.__setitem__("x", 1), TypeError)  # type: ignore[arg-type]


# ---- the request's mutations ----


def test_method_path_query_and_body_are_replaced_for_the_service() -> None:
    def change(ctx: Context) -> None:
        ctx.request.method = "PUT"
        ctx.request.path = "/new"
        ctx.request.query = "a=b"
        assert ctx.request.set_body("ü").path == "/new"
        assert ctx.request.bytes == 2

    result = run(change, url="/old?x=1", wants_body=True, method="POST")
    request = result.request
    assert (request.method, request.path, request.query) == ("PUT", "/new", "a=b")
    assert result.request_body == "ü".encode()


def test_an_empty_query_is_removed() -> None:
    result = run(lambda ctx: setattr(ctx.request, "query", ""), url="/x?a=1")
    assert result.request.url == "http://testserver/x"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "NO WAY"),
        ("method", "CONNECT"),
        ("path", "x"),
        ("path", "/a b"),
        ("path", "/?"),
        ("query", "#"),
    ],
)
def test_what_no_request_line_can_hold_is_refused(name: str, value: str) -> None:
    assert raised(lambda ctx: setattr(ctx.request, name, value), InvalidValueError)


def test_reading_json_gives_the_value_and_other_text_is_a_value_error() -> None:
    seen: list[Any] = []
    plugin = NylonPlugin()

    @plugin.request_filter("e", body=True)
    def take(ctx: Context) -> None:
        try:
            seen.append(ctx.request.json())
        except ValueError as error:
            seen.append(type(error).__name__)
        ctx.next()

    with PluginClient(plugin) as client:
        client.post("/", entry="e", body='{"a": ["ü"]}')
        client.post("/", entry="e", body="{")
    assert seen == [{"a": ["ü"]}, "JSONDecodeError"]


def test_a_body_that_was_not_asked_for_says_how_to_ask() -> None:
    assert "body=True" in raised(lambda ctx: ctx.request.body(), BodyError, method="POST")
    assert "body=True" in raised(lambda ctx: ctx.request.read(), BodyError, method="POST")


def test_an_async_handler_reads_an_undeclared_body_and_a_second_time_at_once() -> None:
    plugin = NylonPlugin()

    @plugin.request_filter("e")
    async def take(ctx: Context) -> None:
        first = await ctx.request.read()
        assert await ctx.request.read() == first == ctx.request.body()
        ctx.request.set_body(first + b"!")
        ctx.next()

    with PluginClient(plugin) as client:
        result = client.post("/", entry="e", body=b"\xff" * 100_000)
    assert result.request_body == b"\xff" * 100_000 + b"!"


def test_two_tasks_may_await_the_body_together() -> None:
    plugin = NylonPlugin()

    @plugin.request_filter("e")
    async def take(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:

            async def one() -> bytes:
                return await ctx.request.read()

            tasks = [group.create_task(one()) for _ in range(3)]
        assert [task.result() for task in tasks] == [b"body"] * 3
        ctx.next()

    with PluginClient(plugin) as client:
        assert client.post("/", entry="e", body=b"body").error is None
