"""What a handler reads and writes, through the test client: the same classes and the same dispatch as in a gateway."""

import asyncio
import json
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nylon
from nylon import (
    BodyError,
    Context,
    ContextClosed,
    DecisionError,
    Headers,
    InvalidValueError,
    NylonError,
    NylonPlugin,
    PhaseError,
    StateError,
)
from nylon.testing import PluginClient, Result, Upstream


def run(
    handler: Callable[[Context], Any],
    *,
    wants_body: bool = False,
    method: str = "GET",
    url: str = "/",
    **kw: Any,
) -> Result:
    """One request through one request_filter that goes on unless it has decided."""
    plugin = NylonPlugin()

    @plugin.request_filter("e", body=wants_body)
    def call(ctx: Context) -> None:
        handler(ctx)
        if not decided(ctx):
            ctx.next()

    def decided(ctx: Context) -> bool:
        return getattr(handler, "decides", False)

    with PluginClient(plugin) as client:
        return client.request(method, url, entry="e", **kw)


def read(look: Callable[[Context], Any], **kw: Any) -> Any:
    """What `look` sees in a request_filter."""
    seen: list[Any] = []
    result = run(lambda ctx: seen.append(look(ctx)), **kw)
    assert result.error is None, result.error
    return seen[0]


def raised(do: Callable[[Context], Any], kind: type[Exception], **kw: Any) -> str:
    """The text of what `do` raises."""

    def handler(ctx: Context) -> str:
        with pytest.raises(kind) as info:
            do(ctx)
        return str(info.value)

    return read(handler, **kw)


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


# ---- the response ----


def end(do: Callable[[Context], Any]) -> Result:
    """A response made in a request_filter that ends."""

    def handler(ctx: Context) -> None:
        do(ctx)
        ctx.end()

    handler.decides = True  # type: ignore[attr-defined]
    return run(handler)


@pytest.mark.parametrize(
    ("make", "content_type", "body"),
    [
        (lambda r: r.body_raw(b"\0\xff"), None, b"\0\xff"),
        (lambda r: r.body_raw(bytearray(b"ab")), None, b"ab"),
        (lambda r: r.body_raw(memoryview(b"ab")), None, b"ab"),
        (lambda r: r.body_text("ü"), "text/plain; charset=utf-8", "ü".encode()),
        (lambda r: r.body_html("<p>"), "text/html; charset=utf-8", b"<p>"),
        (lambda r: r.body_json({"a": ["ü", None]}), "application/json", '{"a":["ü",null]}'.encode()),
        (lambda r: r.set_header("content-type", "a/b").body_json(1), "a/b", b"1"),
    ],
)
def test_each_body_setter_sets_its_content_type(
    make: Callable[[nylon.Response], Any], content_type: str | None, body: bytes
) -> None:
    result = end(lambda ctx: make(ctx.response))
    assert result.outcome == "end"
    assert result.status == 200
    assert result.headers.get("content-type") == content_type
    assert result.body == body


def test_setters_chain_and_read_back() -> None:
    def make(ctx: Context) -> None:
        response = ctx.response.set_status(418).set_header("a", "1").add_header("a", "2").add_header("b", "3")
        response.remove_header("b").remove_header("not-there").body_text("tea")
        assert (response.status, response.headers["a"], response.read_body()) == (418, "1, 2", b"tea")
        assert response.bytes == 3
        assert response.duration is None and response.error is None

    result = end(make)
    assert result.error is None
    assert (result.status, result.headers.get_all("a"), result.text) == (418, ["1", "2"], "tea")


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("/a?b=c#d", "/a?b=c#d"),
        ("https://ü.example/ä b", "https://%C3%BC.example/%C3%A4%20b"),
        ("/a%20b", "/a%20b"),
    ],
)
def test_a_redirect_has_a_legal_location(url: str, location: str) -> None:
    result = end(lambda ctx: ctx.response.redirect(url))
    assert (result.status, result.headers["location"]) == (302, location)


def test_a_redirect_takes_redirect_codes_only() -> None:
    assert end(lambda ctx: ctx.response.redirect("/", 308)).status == 308
    assert "308" in raised(lambda ctx: ctx.response.redirect("/", 200), InvalidValueError)


@pytest.mark.parametrize("status", [0, 99, 100, 199, 600, 999])
def test_a_status_is_a_final_one(status: int) -> None:
    assert raised(lambda ctx: ctx.response.set_status(status), InvalidValueError)


def test_json_that_cannot_be_encoded_is_a_type_error() -> None:
    assert raised(lambda ctx: ctx.response.body_json({1, 2}), TypeError)


# ---- payload, state, logger ----


def test_each_call_has_a_payload_of_its_own() -> None:
    seen: list[Any] = []
    plugin = NylonPlugin()

    @plugin.request_filter("e")
    def take(ctx: Context) -> None:
        assert ctx.payload is ctx.payload
        seen.append(json.dumps(ctx.payload))
        ctx.payload["list"].append(4)
        ctx.next()

    payload = {"list": [1, 2.5, None, True, "ü"], "n": -(2**63)}
    with PluginClient(plugin, payload=payload) as client:
        client.get("/", entry="e")
        client.get("/", entry="e")
        nothing = PluginClient(plugin)
        with nothing:
            assert read(lambda ctx: ctx.payload) is None
    assert seen == [json.dumps(payload)] * 2


def test_state_travels_through_the_phases_and_is_dropped_by_a_failure() -> None:
    plugin = NylonPlugin()
    seen: list[Any] = []

    @plugin.request_filter("e")
    def first(ctx: Context) -> None:
        assert ctx.state == {}
        ctx.state["n"] = 1
        ctx.state["t"] = ("a", b"\xff", 1.5)
        ctx.next()

    @plugin.response_filter("e")
    def second(ctx: Context) -> None:
        ctx.state["n"] += 1
        ctx.state["secret"] = "never"
        raise RuntimeError

    @plugin.logging("e")
    def third(ctx: Context) -> None:
        seen.append(dict(ctx.state))

    with PluginClient(plugin) as client:
        result = client.get("/", entry="e")
    assert seen == [{"n": 1, "t": ["a", b"\xff", 1.5]}]
    assert result.state == seen[0]


@pytest.mark.parametrize(
    ("value", "said"),
    [(object(), "object"), ({1, 2}, "set"), (2**70, "int"), ("x" * 70_000, "65536"), (lambda: 0, "closure")],
)
def test_state_that_cannot_travel_fails_the_handler_and_says_what_to_do(value: Any, said: str) -> None:
    plugin = NylonPlugin()

    @plugin.request_filter("e")
    def keep(ctx: Context) -> None:
        ctx.state["x"] = value
        ctx.request.headers["x-changed"] = "1"
        ctx.next()

    with PluginClient(plugin) as client:
        result = client.get("/", entry="e")
    assert result.outcome == "error"
    assert result.error is not None and result.error.kind == "raised"
    assert result.error.message.startswith(StateError.__name__)
    assert said in result.error.message and "closure" in result.error.message
    assert "x-changed" not in result.request.headers


def test_the_logger_names_the_request(caplog: pytest.LogCaptureFixture) -> None:
    def use(ctx: Context) -> None:
        ctx.logger.warning("hello %s", "you", extra={"more": 1})
        use.id = ctx.request_id  # type: ignore[attr-defined]

    run(use)
    (record,) = [record for record in caplog.records if "hello" in record.message]
    request_id = use.id  # type: ignore[attr-defined]
    assert record.message == f"[e {request_id}] hello you"
    assert (record.request_id, record.entry, record.more) == (request_id, "e", 1)  # type: ignore[attr-defined]


# ---- decisions, phases, the end of a context ----


def test_a_second_decision_raises_and_the_first_one_stands_if_it_is_caught() -> None:
    def twice(ctx: Context) -> None:
        ctx.end()
        with pytest.raises(DecisionError, match="End"):
            ctx.next()

    twice.decides = True  # type: ignore[attr-defined]
    assert run(twice).outcome == "end"


def test_an_uncaught_second_decision_is_an_error() -> None:
    result = run(lambda ctx: (ctx.next(), ctx.next()))
    assert result.outcome == "error"
    assert result.error is not None and "DecisionError" in result.error.message


def test_a_closed_context_refuses_everything() -> None:
    kept: list[Any] = []
    run(lambda ctx: kept.extend([ctx, ctx.request, ctx.response, ctx.request.headers]))
    ctx, request, response, headers = kept
    uses: list[Callable[[], Any]] = [
        lambda: ctx.request,
        lambda: ctx.payload,
        lambda: ctx.state,
        lambda: ctx.request_id,
        lambda: ctx.logger,
        ctx.next,
        ctx.end,
        lambda: request.path,
        lambda: request.body(),
        lambda: request.read(),
        lambda: setattr(request, "path", "/x"),
        lambda: response.status,
        lambda: response.set_status(200),
        lambda: response.body_json({}),
        lambda: headers["x"],
        lambda: list(headers),
        lambda: headers.update(x="1"),
    ]
    for use in uses:
        with pytest.raises(ContextClosed, match="closed"):
            use()
    assert "closed" in repr(ctx) and "closed" in repr(request) and "closed" in repr(headers)


@pytest.mark.parametrize("phase", ["response_filter", "response_body_filter", "logging"])
def test_the_request_is_read_only_after_the_service_was_called(phase: str) -> None:
    plugin = NylonPlugin()

    @getattr(plugin, phase)("e")
    def late(ctx: Context) -> None:
        with pytest.raises(PhaseError, match="called already"):
            ctx.request.headers["x"] = "1"
        with pytest.raises(PhaseError):
            ctx.request.path = "/x"
        with pytest.raises(PhaseError):
            ctx.request.set_body(b"")
        if phase == "logging":
            with pytest.raises(PhaseError, match="client has it"):
                ctx.response.set_status(200)
        else:
            ctx.response.set_status(201)

    with PluginClient(plugin) as client:
        result = client.get("/", entry="e")
    assert result.error is None


def test_the_response_body_is_whole_in_its_filter_and_unread_before() -> None:
    plugin = NylonPlugin()

    @plugin.response_filter("e")
    def head(ctx: Context) -> None:
        with pytest.raises(BodyError, match="response_body_filter"):
            ctx.response.read_body()
        assert ctx.response.bytes == 7
        ctx.response.remove_header("x-inner")

    @plugin.response_body_filter("e")
    def whole(ctx: Context) -> None:
        with pytest.raises(PhaseError, match="stream=True"):
            ctx.chunk  # noqa: B018
        with pytest.raises(PhaseError):
            ctx.chunk = b""
        ctx.response.body_raw(ctx.response.read_body().upper())

    answer = Upstream(headers=[("x-inner", "1"), ("content-length", "7")], body=b"content")
    with PluginClient(plugin) as client:
        result = client.get("/", entry="e", upstream=answer)
    assert result.error is None
    assert result.body == b"CONTENT"
    assert "x-inner" not in result.headers


def test_a_streaming_filter_sees_each_chunk_once_and_may_change_it() -> None:
    plugin = NylonPlugin()
    seen: list[Any] = []

    @plugin.response_body_filter("e", stream=True)
    def each(ctx: Context) -> None:
        seen.append((ctx.chunk, ctx.end_of_stream))
        ctx.chunk = ctx.chunk.upper()
        with pytest.raises(PhaseError, match="head is sent"):
            ctx.response.set_status(200)

    with PluginClient(plugin) as client:
        result = client.get("/", entry="e", upstream=Upstream(body=[b"a", b"b", b"c"]))
    assert result.error is None
    assert seen == [(b"a", False), (b"b", False), (b"c", True)]
    assert result.body == b"ABC"


def test_the_exceptions_that_rust_raises_are_those_of_the_errors_module() -> None:
    from nylon import _core, errors

    assert sorted(_core._error_names()) == sorted(errors.__all__)
    assert all(issubclass(getattr(errors, name), NylonError) for name in errors.__all__)


def test_headers_cannot_be_made_by_hand() -> None:
    with pytest.raises(TypeError):
        Headers()
