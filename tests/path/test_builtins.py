"""The gateway's own plugins beside others: each sees what the phases' order says, whatever the others do."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.client import Answer, Connection, Truncated, fetch
from support.configs import Config, gateway_config, route
from support.origin import Origin, Reply
from support.processes import GatewayProcess

PLUGIN = """
from nylon import NylonPlugin

plugin = NylonPlugin()


@plugin.phase_handler("whole")
def whole(phase):
    @phase.response_body_filter
    def upper(ctx):
        ctx.response.body_raw(ctx.response.read_body().upper())


@plugin.phase_handler("by_chunk")
def by_chunk(phase):
    @phase.response_body_filter(stream=True)
    def upper(ctx):
        ctx.chunk = ctx.chunk.upper()


@plugin.phase_handler("ending")
def ending(phase):
    @phase.response_body_filter(stream=True)
    def upper(ctx):
        ctx.chunk = ctx.chunk.upper()
        ctx.end()


@plugin.phase_handler("failing_head")
def failing_head(phase):
    @phase.response_filter
    def fail(ctx):
        raise RuntimeError("on purpose")


@plugin.phase_handler("failing_body")
def failing_body(phase):
    @phase.response_body_filter(stream=True)
    def fail(ctx):
        raise RuntimeError("on purpose")


@plugin.phase_handler("setting")
def setting(phase):
    @phase.response_filter
    def replace(ctx):
        ctx.response.body_raw(b"replaced " * 500)


@plugin.phase_handler("streaming")
def streaming(phase):
    @phase.request_filter
    async def write(ctx):
        ctx.response.set_header("content-type", "text/plain")
        stream = ctx.response.stream()
        for n in range(3):
            await stream.write(b"part %d " % n * 100)
        await stream.end()


@plugin.phase_handler("refusing")
def refusing(phase):
    @phase.request_filter
    def refuse(ctx):
        ctx.response.set_status(401).body_json({"error": "unauthorized"})
        ctx.end()
"""

TEXT = b"a line that says the same again and again\n" * 200
COMPRESS = {"plugin": "Compress", "payload": {"encodings": ["gzip"]}}
CORS = {"plugin": "Cors", "payload": {"allow_origins": "https://a.example"}}


def through(path: str, *middleware: str | Config) -> Config:
    """A path through built-ins and entries of the plugin."""
    items = [{"plugin": "beside", "entry": one} if isinstance(one, str) else one for one in middleware]
    return route(path, middleware=items)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, Origin]]:
    file = tmp_path_factory.mktemp("plugin") / "beside.py"
    Path(file).write_text(PLUGIN)
    paths = [
        through("/whole-inside", COMPRESS, "whole"),
        through("/chunks-inside", COMPRESS, "by_chunk"),
        through("/both-inside", COMPRESS, "whole", "by_chunk"),
        through("/ending-inside", COMPRESS, "ending"),
        through("/failing-head", "failing_head", COMPRESS),
        through("/failing-head-inside", COMPRESS, "failing_head"),
        through("/failing-body", COMPRESS, "failing_body"),
        through("/setting", COMPRESS, "setting"),
        through("/streaming", COMPRESS, "streaming"),
        through("/refused", CORS, "refusing"),
        through("/sometimes", {**COMPRESS, "when": {"header": {"name": "x-compress", "value": "yes"}}}),
    ]
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(Origin())
        for path in paths:
            origin.answer(path["path"], Reply(200, [("content-type", "text/plain")], TEXT))
        config = gateway_config(
            origin.address, paths, plugins=[{"name": "beside", "type": "python", "file": str(file)}]
        )
        yield stack.enter_context(GatewayProcess(config)), origin


def get(served: tuple[GatewayProcess, Origin], path: str, **fields: str) -> Answer:
    headers = {"accept-encoding": "gzip", **{name.replace("_", "-"): value for name, value in fields.items()}}
    return fetch(served[0].address, "GET", path, headers)


@pytest.mark.parametrize("path", ["/whole-inside", "/chunks-inside", "/both-inside", "/ending-inside"])
def test_what_another_filter_made_of_a_body_is_compressed(
    served: tuple[GatewayProcess, Origin], path: str
) -> None:
    answer = get(served, path)
    assert answer.header("content-encoding") == "gzip"
    assert gzip.decompress(answer.body) == TEXT.upper()


@pytest.mark.parametrize("path", ["/failing-head", "/failing-head-inside"])
def test_an_error_in_the_place_of_a_response_is_not_called_compressed(
    served: tuple[GatewayProcess, Origin], path: str
) -> None:
    answer = get(served, path)
    assert (answer.status, answer.header("content-encoding")) == (500, None)
    assert answer.json()["error"] == "plugin error"


def test_a_filter_that_fails_inside_cuts_the_compressed_body(
    served: tuple[GatewayProcess, Origin],
) -> None:
    with Connection(served[0].address) as connection, pytest.raises(Truncated):
        connection.request("GET", "/failing-body", {"accept-encoding": "gzip"})


def test_a_body_that_a_handler_set_or_writes_is_compressed(served: tuple[GatewayProcess, Origin]) -> None:
    answer = get(served, "/setting")
    assert gzip.decompress(answer.body) == b"replaced " * 500
    answer = get(served, "/streaming")
    assert answer.header("content-encoding") == "gzip"
    assert gzip.decompress(answer.body) == b"".join(b"part %d " % n * 100 for n in range(3))


def test_a_refusal_can_be_read_by_the_page_that_caused_it(served: tuple[GatewayProcess, Origin]) -> None:
    answer = get(served, "/refused", origin="https://a.example")
    assert (answer.status, answer.header("access-control-allow-origin")) == (401, "https://a.example")


def test_a_built_in_is_skipped_for_requests_that_it_is_not_for(
    served: tuple[GatewayProcess, Origin],
) -> None:
    assert get(served, "/sometimes").header("content-encoding") is None
    assert get(served, "/sometimes", x_compress="yes").header("content-encoding") == "gzip"
