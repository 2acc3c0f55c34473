"""`nylon.testing.PluginClient`: what it runs, and what its results say."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from nylon import Context, InvalidValueError, NylonPlugin, PluginError
from nylon.testing import PluginClient, Upstream


def echo() -> NylonPlugin:
    """Ends with what it got."""
    plugin = NylonPlugin()

    @plugin.request_filter("echo", body=True)
    def answer(ctx: Context) -> None:
        request = ctx.request
        ctx.response.body_json(
            {
                "method": request.method,
                "url": request.url,
                "body": request.body().decode(),
                "ip": request.client_ip,
                "version": request.http_version,
                "params": ctx.params,
                "payload": ctx.payload,
            }
        )
        ctx.end()

    return plugin


@pytest.mark.parametrize("method", ["get", "post", "put", "delete"])
def test_each_method_sends_its_request(method: str) -> None:
    with PluginClient(echo(), payload="default") as client:
        result = getattr(client, method)("/a?b=c", entry="echo", body="ü")
    assert result.json() == {
        "method": method.upper(),
        "url": "http://testserver/a?b=c",
        "body": "ü",
        "ip": "127.0.0.1",
        "version": "1.1",
        "params": {},
        "payload": "default",
    }
    assert (result.outcome, result.status, result.headers["content-type"]) == ("end", 200, "application/json")


def test_a_request_takes_all_that_a_client_could_send() -> None:
    with PluginClient(echo(), payload="default") as client:
        result = client.request(
            "OPTIONS",
            "https://api.example:8443/x",
            entry="echo",
            payload={"a": 1},
            params={"id": "7"},
            client_ip="2001:db8::1",
            http_version="2",
        )
    assert result.json() == {
        "method": "OPTIONS",
        "url": "https://api.example:8443/x",
        "body": "",
        "ip": "2001:db8::1",
        "version": "2",
        "params": {"id": "7"},
        "payload": {"a": 1},
    }


def test_illegal_requests_are_refused() -> None:
    with PluginClient(echo()) as client:
        for options in [
            {"headers": {"a b": "c"}},
            {"client_ip": "nowhere"},
            {"url": "/a b"},
            {"method": "A B"},
        ]:
            given: dict[str, Any] = {"method": "GET", "url": "/", **options}
            with pytest.raises(InvalidValueError):
                client.request(entry="echo", **given)


def test_a_whole_exchange_runs_the_phases_that_the_entry_has_in_order() -> None:
    plugin = NylonPlugin()
    seen: list[Any] = []

    @plugin.request_filter("e")
    def first(ctx: Context) -> None:
        seen.append(ctx.phase)
        ctx.request.headers["x"] = "1"
        ctx.next()

    @plugin.response_filter("e")
    async def second(ctx: Context) -> None:
        seen.append((ctx.phase, ctx.response.status, ctx.response.headers["a"]))
        ctx.response.set_status(203)

    @plugin.logging("e")
    def last(ctx: Context) -> None:
        seen.append((ctx.phase, ctx.response.status, ctx.response.bytes, ctx.response.error))

    with PluginClient(plugin) as client:
        result = client.get("/", entry="e", upstream=Upstream(201, {"a": "b"}, b"body"))
    assert seen == ["request_filter", ("response_filter", 201, "b"), ("logging", 203, 4, None)]
    assert (result.outcome, result.status, result.body) == ("next", 203, b"body")
    assert result.request.headers["x"] == "1"
    assert [name for name in result.phases] == ["request_filter", "response_filter", "logging"]


def test_a_failure_skips_the_response_phases_and_is_told_to_logging() -> None:
    plugin = NylonPlugin()
    seen: list[Any] = []

    @plugin.request_filter("e")
    def first(ctx: Context) -> None:
        raise ValueError("no")

    plugin.response_filter("e")(lambda ctx: seen.append("response_filter"))
    plugin.logging("e")(lambda ctx: seen.append(ctx.response.error))
    with PluginClient(plugin) as client:
        result = client.get("/", entry="e")
    assert result.outcome == "error" and result.status is None and result.body == b""
    assert result.error is not None
    assert (result.error.kind, result.error.message) == ("raised", "ValueError: no")
    assert seen == ["ValueError: no"]


def test_one_phase_runs_alone_over_a_given_response() -> None:
    plugin = NylonPlugin()
    plugin.response_filter("e")(lambda ctx: ctx.response.set_header("x", str(ctx.response.status)) and None)

    @plugin.response_body_filter("e", stream=True)
    def upper(ctx: Context) -> None:
        ctx.chunk = ctx.chunk.upper() + (b"." if ctx.end_of_stream else b"")

    @plugin.logging("e")
    def last(ctx: Context) -> None:
        assert ctx.response.bytes == 3

    with PluginClient(plugin) as client:
        head = client.run_phase("response_filter", entry="e", response=Upstream(404))
        assert (head.outcome, head.status, head.headers["x"]) == ("next", 404, "404")
        body = client.run_phase("response_body_filter", entry="e", response=Upstream(body=[b"ab", b"c"]))
        assert body.body == b"ABC."
        assert client.run_phase("logging", entry="e", response=Upstream(body=b"abc")).error is None


def test_a_result_can_be_read_after_the_client_is_closed() -> None:
    client = PluginClient(echo())
    result = client.get("/x", entry="echo")
    client.close()
    assert result.request.path == "/x"
    assert result.status == 200


def test_many_threads_may_share_a_client() -> None:
    plugin = NylonPlugin()

    @plugin.request_filter("e")
    async def handler(ctx: Context) -> None:
        ctx.request.headers["x"] = ctx.request.path
        ctx.next()

    wrong: list[str] = []
    with PluginClient(plugin) as client:

        def ask(number: int) -> None:
            for turn in range(20):
                path = f"/{number}/{turn}"
                if client.get(path, entry="e").request.headers["x"] != path:
                    wrong.append(path)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_closed_client_answers_unavailable() -> None:
    plugin = NylonPlugin()
    plugin.request_filter("e")(lambda ctx: ctx.next())
    client = PluginClient(plugin)
    client.close()
    result = client.get("/", entry="e")
    assert result.error is not None and result.error.kind == "unavailable"


def test_what_is_no_plugin_is_refused() -> None:
    with pytest.raises(PluginError, match="NylonPlugin"):
        PluginClient(object())  # type: ignore[arg-type]


def test_the_examples_of_the_manual_work_as_written() -> None:
    text = (Path(__file__).parents[2] / "docs" / "plugin-api.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (example,) = (block for block in blocks if "@plugin.phase_handler" in block)
    (test,) = (block for block in blocks if "PluginClient" in block)
    names: dict[str, Any] = {}
    exec(compile(example + test, "plugin-api.md", "exec"), names)
    names["test_a_wrong_key_is_refused"]()
    with PluginClient(names["plugin"], payload={"key": "secret"}) as client:
        passed = client.get("/x", entry="auth", headers={"x-api-key": "secret"})
        assert (passed.outcome, passed.request.headers["x-user"]) == ("next", "42")
        assert len(client.get("/x", entry="stamp").request.headers["x-stamp"]) == 32


def test_a_stream_is_gathered_into_the_body():
    plugin = NylonPlugin()

    @plugin.request_filter("e")
    async def handler(ctx):
        async with ctx.response.set_status(202).stream() as stream:
            for _ in range(30):
                await stream.write(b"x" * 10_000)

    with PluginClient(plugin) as client:
        result = client.get("/", entry="e")
    assert (result.outcome, result.status, result.body) == ("end", 202, b"x" * 300_000)


def test_a_stream_without_its_end_is_an_error():
    plugin = NylonPlugin()

    @plugin.request_filter("e")
    def handler(ctx):
        ctx.response.stream().write("half")

    with PluginClient(plugin) as client:
        result = client.get("/", entry="e")
    assert result.error is not None
    assert (result.outcome, result.error.kind, result.body) == ("error", "undecided", b"")
    assert "stream.end()" in result.error.message
