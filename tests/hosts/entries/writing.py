"""Entries that change requests and responses."""

from typing import Any

from entries.origin import tell
from entries.plugin import plugin
from nylon.errors import InvalidValueError, PhaseError


@plugin.request_filter("write-method")
def write_method(ctx: Any) -> None:
    ctx.request.method = "PUT"
    ctx.next()


@plugin.request_filter("write-path")
def write_path(ctx: Any) -> None:
    ctx.request.path = "/elsewhere/a%20b"
    ctx.next()


@plugin.request_filter("write-query")
def write_query(ctx: Any) -> None:
    ctx.request.query = "a=1&b=%20"
    ctx.next()


@plugin.request_filter("remove-query")
def remove_query(ctx: Any) -> None:
    ctx.request.query = ""
    ctx.next()


@plugin.request_filter("write-headers")
def write_headers(ctx: Any) -> None:
    headers = ctx.request.headers
    headers["X-Set"] = "new"
    headers.add("x-added", "second")
    del headers["x-removed"]
    headers["x-popped-was"] = headers.pop("x-popped")
    headers.update({"x-updated": "1"})
    headers.setdefault("x-set", "not this")
    headers["x-latin"] = "caf\u00e9"
    # A handler reads its own writes.
    headers["x-own-writes"] = f"{headers['x-set']},{headers['x-added']},{'x-removed' in headers}"
    ctx.next()


@plugin.request_filter("write-body")
def write_body(ctx: Any) -> None:
    ctx.request.set_body(b"\x00new\xff")
    ctx.next()


@plugin.request_filter("write-body-text")
def write_body_text(ctx: Any) -> None:
    ctx.request.set_body("caf\u00e9")
    ctx.next()


@plugin.request_filter("empty-body")
def empty_body(ctx: Any) -> None:
    ctx.request.set_body(b"")
    ctx.next()


@plugin.request_filter("replace-read-body", body=True)
def replace_read_body(ctx: Any) -> None:
    ctx.request.set_body(ctx.request.body()[::-1])
    ctx.request.headers["x-now"] = ctx.request.body().decode()
    ctx.next()


@plugin.request_filter("write-framing")
def write_framing(ctx: Any) -> None:
    ctx.request.headers["content-length"] = "1000"
    ctx.request.headers["transfer-encoding"] = "chunked"
    ctx.request.headers["connection"] = "upgrade"
    ctx.request.set_body(b"four")
    ctx.next()


@plugin.request_filter("refused-writes")
def refused_writes(ctx: Any) -> None:
    """Tries everything that is not legal HTTP, and goes on with nothing changed."""
    request, response = ctx.request, ctx.response

    def method() -> None:
        request.method = "GET /x HTTP/1.1\r\nx"

    def connect() -> None:
        request.method = "CONNECT"

    def path() -> None:
        request.path = "/x HTTP/1.1\r\nx-injected: 1\r\n"

    def relative_path() -> None:
        request.path = "x"

    def query() -> None:
        request.query = "a\r\nx-injected: 1"

    def value() -> None:
        request.headers["x-a"] = "a\r\nx-injected: 1"

    def name() -> None:
        request.headers["x-a\r\nx-injected"] = "1"

    attempts = [
        method,
        connect,
        path,
        relative_path,
        query,
        value,
        name,
        lambda: request.headers.add("x-a", "a\nb"),
        lambda: response.set_header("x-a", "a\r\nb"),
        lambda: response.add_header("x-a", "a\0b"),
        lambda: response.set_header("x a", "b"),
        lambda: response.set_status(99),
        lambda: response.set_status(101),
        lambda: response.set_status(600),
        lambda: response.redirect("/x", code=200),
    ]
    passed = []
    for attempt in attempts:
        try:
            attempt()
        except InvalidValueError:
            continue
        passed.append(attempt.__name__)
    request.headers["x-passed"] = ",".join(passed)
    ctx.next()


@plugin.request_filter("answer")
def answer(ctx: Any) -> None:
    """The body in each of its forms, as the request's query says."""
    response = (
        ctx.response.set_status(201).set_header("x-a", "1").add_header("x-a", "2").set_header("x-b", "1")
    )
    response.remove_header("x-b")
    match ctx.request.query:
        case "raw":
            response.body_raw(b"\x00\xff")
        case "text":
            response.body_text("caf\u00e9")
        case "html":
            response.body_html("<p>caf\u00e9")
        case "json":
            response.body_json({"a": [1, None, "caf\u00e9"]})
        case "own-type":
            response.set_header("content-type", "application/problem+json").body_json({})
        case "framing":
            response.set_header("transfer-encoding", "chunked").set_header("content-length", "9").body_text(
                "four"
            )
    ctx.end()


@plugin.request_filter("redirect")
def redirect(ctx: Any) -> None:
    if ctx.request.query:
        ctx.response.redirect("https://example.com/caf\u00e9?a=b", code=int(ctx.request.query))
    else:
        ctx.response.redirect("/there")
    ctx.end()


@plugin.response_filter("write-response")
def write_response(ctx: Any) -> None:
    response = ctx.response.set_status(418)
    response.set_header("x-set", "new").add_header("x-added", "second").remove_header("x-removed")
    response.headers["x-item"] = f"{response.status},{response.headers['x-set']}"


@plugin.response_filter("replace-response-body")
def replace_response_body(ctx: Any) -> None:
    ctx.response.body_text("replaced")


@plugin.phase_handler("write-too-late")
def write_too_late(phase: Any) -> None:
    @phase.response_filter
    def response(ctx: Any) -> None:
        refused = []
        for change in (
            lambda: ctx.request.headers.add("x-a", "1"),
            lambda: ctx.request.set_body(b""),
            lambda: setattr(ctx.request, "path", "/"),
            lambda: setattr(ctx, "chunk", b""),
        ):
            try:
                change()
            except PhaseError:
                refused.append("yes")
        ctx.response.set_header("x-refused", ",".join(refused))

    @phase.logging
    def log(ctx: Any) -> None:
        refused = []
        for change in (lambda: ctx.response.set_status(500), lambda: ctx.request.headers.clear()):
            try:
                change()
            except PhaseError:
                refused.append("yes")
        tell(ctx, refused)
