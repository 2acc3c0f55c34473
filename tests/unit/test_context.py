"""What a handler makes of a response, of its state and of its phase: the same dispatch as in a gateway."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.handlers import raised, read, run

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
