"""Registering entries, loading plugins, and the life of one: initialize, sessions, shutdown."""

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nylon import Context, NylonError, NylonPlugin, PhaseHandler, PluginError
from nylon.loading import load_file, load_module
from nylon.testing import PluginClient


def go_on(ctx: Context) -> None:
    ctx.next()


# ---- registration ----


def test_entries_are_listed_in_their_order() -> None:
    plugin = NylonPlugin()
    plugin.request_filter("b")(go_on)
    plugin.add_phase_handler("a", lambda phase: phase.logging(go_on))
    assert plugin.entries == ["b", "a"]


def test_short_forms_of_one_entry_combine() -> None:
    plugin = NylonPlugin()
    calls: list[str] = []
    for phase in ("request_filter", "response_filter", "response_body_filter", "logging"):

        def handler(ctx: Context) -> None:
            calls.append(ctx.phase)
            if ctx.phase == "request_filter":
                ctx.next()

        assert getattr(plugin, phase)("e")(handler) is handler
    with PluginClient(plugin) as client:
        client.get("/", entry="e")
    assert calls == ["request_filter", "response_filter", "response_body_filter", "logging"]


@pytest.mark.parametrize(
    ("register", "kind", "said"),
    [
        (lambda p: (p.request_filter("e")(go_on), p.request_filter("e")(go_on)), PluginError, "twice"),
        (lambda p: [p.add_phase_handler("e", lambda phase: None) for _ in "ab"], PluginError, "twice"),
        (
            lambda p: (p.add_phase_handler("e", lambda phase: None), p.logging("e")(go_on)),
            PluginError,
            "setup function",
        ),
        (lambda p: p.request_filter("")(go_on), PluginError, "name"),
        (lambda p: p.request_filter(go_on), TypeError, 'request_filter\\("name"\\)'),
        (lambda p: p.request_filter("e")("not a function"), TypeError, "must be a function"),
        (lambda p: p.request_filter("e")(lambda: None), TypeError, "one argument"),
        (lambda p: p.request_filter("e")(lambda a, b: None), TypeError, "one argument"),
        (lambda p: p.request_filter("e", stream=True), TypeError, "stream"),
        (lambda p: p.logging("e", body=True), TypeError, "body"),
        (lambda p: p.add_phase_handler("e", 7), TypeError, "must be a function"),
        (lambda p: p.add_phase_handler("e", lambda: None), TypeError, "one argument"),
        (lambda p: p.initialize(7), TypeError, "takes a function"),
        (lambda p: p.initialize(lambda: None), TypeError, "the config"),
        (lambda p: p.shutdown(lambda config: None), TypeError, "no argument"),
    ],
)
def test_what_cannot_be_registered_is_refused_at_once(
    register: Callable[[Any], Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        register(NylonPlugin())


def test_generators_and_async_setups_are_refused() -> None:
    plugin = NylonPlugin()

    def generator(ctx: Context) -> Any:
        yield

    async def async_generator(ctx: Context) -> Any:
        yield

    async def async_setup(phase: PhaseHandler) -> None: ...

    for handler in (generator, async_generator, functools.partial(generator)):
        with pytest.raises(TypeError, match="does not yield"):
            plugin.request_filter("e")(handler)
    with pytest.raises(TypeError, match="plain def"):
        plugin.add_phase_handler("s", async_setup)
    with pytest.raises(TypeError, match="must not yield"):
        plugin.initialize(generator)


def test_a_setup_that_registers_nothing_or_twice_fails_the_load() -> None:
    nothing, twice = NylonPlugin(), NylonPlugin()
    nothing.add_phase_handler("e", lambda phase: None)

    @twice.phase_handler("e")
    def setup(phase: PhaseHandler) -> None:
        phase.logging(go_on)
        phase.logging(go_on)

    with pytest.raises(PluginError, match="registers no handler"):
        PluginClient(nothing)
    with pytest.raises(PluginError, match=r"logging handler of entry .* twice"):
        PluginClient(twice)


def test_nothing_can_be_registered_once_the_plugin_runs() -> None:
    plugin = NylonPlugin()
    kept: list[PhaseHandler] = []

    @plugin.phase_handler("e")
    def setup(phase: PhaseHandler) -> None:
        kept.append(phase)
        phase.logging(go_on)

    with PluginClient(plugin):
        with pytest.raises(PluginError, match="too late"):
            plugin.request_filter("f")(go_on)
        with pytest.raises(PluginError, match="too late"):
            kept[0].request_filter(go_on)


def test_an_unknown_entry_names_the_known_ones() -> None:
    plugin = NylonPlugin()
    plugin.request_filter("known")(go_on)
    with PluginClient(plugin) as client, pytest.raises(PluginError, match="known"):
        client.get("/", entry="unknown")


@pytest.mark.parametrize("kind", ["method", "partial", "callable", "async callable", "async partial"])
def test_any_callable_of_one_argument_can_be_a_handler(kind: str) -> None:
    class Handlers:
        def method(self, ctx: Context) -> None:
            ctx.next()

        def __call__(self, ctx: Context) -> None:
            ctx.next()

    class Async:
        async def __call__(self, ctx: Context) -> None:
            await asyncio.sleep(0)
            ctx.next()

    async def two(number: int, ctx: Context) -> None:
        await asyncio.sleep(0)
        ctx.next()

    handlers: dict[str, Any] = {
        "method": Handlers().method,
        "partial": functools.partial(lambda number, ctx: ctx.next(), 1),
        "callable": Handlers(),
        "async callable": Async(),
        "async partial": functools.partial(two, 1),
    }
    plugin = NylonPlugin()
    plugin.request_filter("e")(handlers[kind])
    with PluginClient(plugin) as client:
        assert client.get("/", entry="e").outcome == "next"


# ---- sessions ----


def test_closures_live_through_the_phases_of_one_session_only() -> None:
    plugin = NylonPlugin()
    seen: list[list[str]] = []

    @plugin.phase_handler("e")
    def setup(phase: PhaseHandler) -> None:
        mine: list[str] = []

        @phase.request_filter
        def first(ctx: Context) -> None:
            mine.append("request")
            ctx.next()

        @phase.response_filter(inline=True)
        def second(ctx: Context) -> None:
            mine.append("response")

        @phase.logging
        async def last(ctx: Context) -> None:
            mine.append("logging")
            seen.append(mine)

    with PluginClient(plugin) as client:
        client.get("/", entry="e")
        client.get("/", entry="e")
    assert seen == [["request", "response", "logging"]] * 2


def test_a_session_that_registers_something_else_is_an_error() -> None:
    plugin = NylonPlugin()
    times = 0

    @plugin.phase_handler("e")
    def setup(phase: PhaseHandler) -> None:
        nonlocal times
        times += 1
        phase.request_filter(go_on)
        if times > 1:
            phase.logging(go_on)

    with PluginClient(plugin) as client:
        result = client.get("/", entry="e")
    assert result.outcome == "error"
    assert result.error is not None and "registers another logging handler" in result.error.message


def test_a_setup_that_raises_in_a_session_fails_the_call() -> None:
    plugin = NylonPlugin()
    times = 0

    @plugin.phase_handler("e")
    def setup(phase: PhaseHandler) -> None:
        nonlocal times
        times += 1
        if times > 1:
            raise RuntimeError("no session today")
        phase.request_filter(go_on)

    with PluginClient(plugin) as client:
        result = client.get("/", entry="e")
    assert result.error is not None and "no session today" in result.error.message


# ---- initialize and shutdown ----


def test_initialize_and_shutdown_run_once_in_order_on_the_handlers_loop() -> None:
    plugin = NylonPlugin()
    calls: list[Any] = []

    @plugin.initialize
    async def first(config: Any) -> None:
        await asyncio.sleep(0)
        calls.append(("first", config, asyncio.get_running_loop()))

    @plugin.initialize
    def second(config: Any) -> None:
        calls.append("second")

    @plugin.shutdown
    def opened_first() -> None:
        calls.append("closed last")

    @plugin.shutdown
    async def opened_last() -> None:
        calls.append("closed first")

    @plugin.request_filter("e")
    async def handler(ctx: Context) -> None:
        assert calls[0][2] is asyncio.get_running_loop()
        ctx.next()

    client = PluginClient(plugin, config={"a": [1]})
    assert client.get("/", entry="e").error is None
    client.close()
    client.close()
    assert calls[0][:2] == ("first", {"a": [1]})
    assert calls[1:] == ["second", "closed first", "closed last"]


@pytest.mark.parametrize("is_async", [False, True])
def test_an_initialize_that_raises_names_its_file_and_line(is_async: bool) -> None:
    plugin = NylonPlugin()

    def fail(config: Any) -> None:
        raise ValueError("no database")

    async def fail_async(config: Any) -> None:
        fail(config)

    plugin.initialize(fail_async if is_async else fail)
    with pytest.raises(PluginError) as info:
        PluginClient(plugin)
    line = fail.__code__.co_firstlineno + 1
    assert str(info.value).startswith(f"{__file__}:{line}: initialize of plugin")
    assert "ValueError: no database" in str(info.value)


def test_a_setup_may_use_what_initialize_has_made() -> None:
    plugin = NylonPlugin()
    made: dict[str, str] = {}
    plugin.initialize(lambda config: made.update(value=config))

    @plugin.phase_handler("e")
    def setup(phase: PhaseHandler) -> None:
        value = made["value"]

        @phase.request_filter
        def handler(ctx: Context) -> None:
            ctx.request.headers["x"] = value
            ctx.next()

    with PluginClient(plugin, config="v") as client:
        assert client.get("/", entry="e").request.headers["x"] == "v"


def test_a_plain_plugin_explains_how_it_is_run() -> None:
    plugin = NylonPlugin()
    with pytest.raises(PluginError, match="nylon worker"):
        plugin.run()
    with pytest.raises(PluginError, match="nylon worker"):
        asyncio.run(plugin.serve())
    plugin.close()


# ---- loading files and modules ----

GOOD = "from nylon import NylonPlugin\nplugin = NylonPlugin()\nother = 7\n"


def write(directory: Path, text: str, name: str = "auth.py") -> str:
    path = directory / name
    path.write_text(text)
    return str(path)


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))


def test_two_files_of_one_name_are_two_plugins(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = load_file(write(tmp_path / "a", GOOD))
    second = load_file(write(tmp_path / "b", GOOD))
    assert first is not second
    assert load_file(write(tmp_path / "a", GOOD)) is not first


def test_a_file_may_import_its_neighbours_and_pickle_its_classes(tmp_path: Path) -> None:
    write(tmp_path, "VALUE = 5\n", "neighbour_of_auth.py")
    text = GOOD + "import neighbour_of_auth, pickle\nclass C: pass\npickle.loads(pickle.dumps(C()))\n"
    text += "main = __name__ == '__main__'\n"
    assert isinstance(load_file(write(tmp_path, text)), NylonPlugin)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (\n", r"auth\.py:1.*SyntaxError"),
        ("\nif True\n    pass\n", r"auth\.py:2:\d+: SyntaxError"),
        ("\n\nimport not_there_at_all\n", r"auth\.py:3: importing .* ModuleNotFoundError.*not_there_at_all"),
        ("def f():\n    raise ValueError('bad')\nf()\n", r"auth\.py:2: .* ValueError: bad"),
        ("raise SystemExit(2)\n", r"auth\.py:1: .* SystemExit: 2"),
        ("", r"auth\.py:1: there is no plugin called 'plugin'.* no plugin at all"),
        ("from nylon import NylonPlugin\napp = NylonPlugin()\n", r"it has app"),
        ("plugin = 7\n", r"auth\.py:1: 'plugin' is a int, not a NylonPlugin"),
        (
            "from nylon import NylonPlugin\nplugin = NylonPlugin()\nplugin.request_filter('e')(7)\n",
            r"auth\.py:3: .*TypeError: the request_filter handler",
        ),
    ],
)
def test_a_file_that_is_no_plugin_is_told_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PluginError, match=said) as info:
        load_file(write(tmp_path, text))
    assert "nylon/loading.py" not in str(info.value)


def test_a_missing_file_and_a_missing_module_are_named(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"nowhere\.py: there is no such file"):
        load_file(str(tmp_path / "nowhere.py"))
    with pytest.raises(PluginError, match="no_such_module_here"):
        load_module("no_such_module_here")


def test_a_module_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(
        tmp_path,
        "class holder:\n    from nylon import NylonPlugin\n    app = NylonPlugin()\n",
        "mod_for_test.py",
    )
    assert isinstance(load_module("mod_for_test", "holder.app"), NylonPlugin)
    assert issubclass(PluginError, NylonError)
