"""Entries that show what a handler can read."""

import hashlib
import json
from typing import Any

from entries.plugin import initialized, plugin
from nylon.errors import BodyError


@plugin.request_filter("read-request", body=True)
def read_request(ctx: Any) -> None:
    request = ctx.request
    seen = {
        "method": request.method,
        "url": request.url,
        "path": request.path,
        "query": request.query,
        "query_params": request.query_params,
        "route_params": request.params,
        "host": request.host,
        "scheme": request.scheme,
        "http_version": request.http_version,
        "client_ip": request.client_ip,
        "cookies": request.cookies,
        "bytes": request.bytes,
        "timestamp": request.timestamp,
        "body": request.body().decode("latin-1"),
        "payload": ctx.payload,
        "params": ctx.params,
        "state": ctx.state,
        "request_id": ctx.request_id,
        "attempt": ctx.attempt,
        "status": ctx.response.status,
        "initialized": initialized,
    }
    ctx.response.body_json(seen)
    ctx.end()


@plugin.request_filter("read-headers")
def read_headers(ctx: Any) -> None:
    headers = ctx.request.headers
    try:
        missing = headers["x-missing"]
    except KeyError as error:
        missing = f"no {error.args[0]}"
    ctx.response.body_json(
        {
            "got": headers.get("X-One"),
            "item": headers["x-ONE"],
            "missing": headers.get("x-missing"),
            "default": headers.get("x-missing", "none"),
            "missing_item": missing,
            "in": ["X-One" in headers, "x-missing" in headers],
            "joined": headers.get("x-many"),
            "names": [name for name in headers if name.startswith("x-")],
            "items": sorted(item for item in headers.items() if item[0].startswith("x-")),
            "length_fits": len(headers) == len(list(headers)),
            "empty": headers.get("x-empty"),
        }
    )
    ctx.end()


@plugin.request_filter("read-repeated")
def read_repeated(ctx: Any) -> None:
    headers = ctx.request.headers
    ctx.response.body_json([headers.get_all("X-Many"), headers.get_all("x-missing")])
    ctx.end()


@plugin.request_filter("read-bytes")
def read_bytes(ctx: Any) -> None:
    value = ctx.request.headers["x-raw"]
    ctx.request.headers["x-raw-copy"] = value
    ctx.request.headers["x-raw-hex"] = value.encode("utf-8", "surrogateescape").hex()
    ctx.next()


@plugin.request_filter("read-json", body=True)
def read_json(ctx: Any) -> None:
    ctx.response.body_json({"sum": sum(ctx.request.json()["numbers"])})
    ctx.end()


@plugin.request_filter("read-body", body=True)
def read_body(ctx: Any) -> None:
    ctx.request.headers["x-seen"] = hashlib.sha256(ctx.request.body()).hexdigest()
    ctx.next()


@plugin.request_filter("read-body-awaited", inline=False)
async def read_body_awaited(ctx: Any) -> None:
    first = await ctx.request.read()
    second = await ctx.request.read()
    assert first == second == ctx.request.body()
    ctx.request.headers["x-seen"] = hashlib.sha256(first).hexdigest()
    ctx.next()


@plugin.request_filter("read-body-undeclared")
def read_body_undeclared(ctx: Any) -> None:
    try:
        ctx.request.body()
    except BodyError as error:
        ctx.response.body_text(str(error))
    ctx.end()


@plugin.response_filter("read-response")
def read_response(ctx: Any) -> None:
    response = ctx.response
    seen = [
        response.status,
        response.headers["x-origin"].encode("utf-8", "surrogateescape").hex(),
        response.headers.get_all("set-cookie"),
        response.headers.get("x-missing"),
        response.bytes,
        response.duration,
        response.error,
        ctx.request.method,
        ctx.request.path,
    ]
    response.set_header("x-seen", json.dumps(seen))


@plugin.response_filter("read-response-body-early")
def read_response_body_early(ctx: Any) -> None:
    try:
        ctx.response.read_body()
    except BodyError as error:
        ctx.response.set_header("x-refused", str(error))


@plugin.response_body_filter("read-response-body")
def read_response_body(ctx: Any) -> None:
    body = ctx.response.read_body()
    ctx.response.set_header("x-seen", f"{len(body)} {hashlib.sha256(body).hexdigest()} {ctx.response.bytes}")
