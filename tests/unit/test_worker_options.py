"""What a worker is told: options, environment, plugin names."""

import gc
import sys

import pytest

from nylon import ConfigError, NatsPlugin, PluginError
from nylon.access import AUTH_VARIABLES, TLS_VARIABLES, without_user
from nylon.broker import WorkerOptions, describe
from nylon.nats import calm_collector
from nylon.worker import load


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for variable in ("NATS_SERVERS", "NATS_GROUP", *AUTH_VARIABLES.values(), *TLS_VARIABLES.values()):
        monkeypatch.delenv(variable, raising=False)


def test_servers_and_group_come_from_the_call_then_the_environment(monkeypatch):
    assert WorkerOptions(group="g").servers == ("nats://127.0.0.1:4222",)
    monkeypatch.setenv("NATS_SERVERS", "nats://a:1, nats://b:2,")
    monkeypatch.setenv("NATS_GROUP", "from_env")
    options = NatsPlugin().options
    assert (options.servers, options.group) == (("nats://a:1", "nats://b:2"), "from_env")
    options = NatsPlugin("nats://c:3,nats://d:4", "mine").options
    assert (options.servers, options.group) == (("nats://c:3", "nats://d:4"), "mine")
    assert NatsPlugin(["nats://e:5"], "mine").options.servers == ("nats://e:5",)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"group": ""}, "NATS_GROUP"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"drain_timeout": float("nan")}, "drain_timeout is nan"),
        ({"execution": "fast"}, "execution is 'fast'"),
        ({"transport": "udp"}, "transport is 'udp'"),
    ],
)
def test_an_option_that_cannot_work_is_named(options, said):
    with pytest.raises(ConfigError, match=said):
        WorkerOptions(**{"group": "g", **options})


def test_missing_tls_files_are_named(tmp_path):
    options = WorkerOptions(group="g", tls_ca=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        options.access.check()


def test_no_password_gets_into_a_log_line():
    assert without_user("nats://user:pa:ss@host:4222") == "nats://host:4222"
    assert without_user("host:4222") == "host:4222"
    assert describe(TimeoutError()) == "TimeoutError"


@pytest.mark.parametrize("name", ["app:plugin", "app", "app.py:plugin", "app.py"])
def test_a_plugin_is_loaded_by_module_or_file(tmp_path, monkeypatch, name):
    (tmp_path / "app.py").write_text("from nylon import NylonPlugin\nplugin = NylonPlugin()\n")
    monkeypatch.syspath_prepend(str(tmp_path))  # and taken off again
    monkeypatch.delitem(sys.modules, "app", raising=False)
    assert load(name, str(tmp_path)).entries == []


def test_a_plugin_that_is_not_there_is_an_error_that_says_so(tmp_path):
    with pytest.raises(PluginError, match="no such file"):
        load("missing.py:plugin", str(tmp_path))
    (tmp_path / "other.py").write_text("from nylon import NylonPlugin\nauth = NylonPlugin()\n")
    with pytest.raises(PluginError, match="it has auth"):
        load("other.py:plugin", str(tmp_path))


def test_a_plugin_that_never_served_can_be_closed():
    with NatsPlugin("nats://127.0.0.1:1", "g") as plugin:
        plugin.request_filter("x")(lambda ctx: ctx.next())
    plugin.close()
    assert plugin.entries == ["x"]


@pytest.mark.parametrize(("before", "after"), [(700, 10_000), (0, 0), (50_000, 50_000)])
def test_a_collector_that_the_program_has_set_itself_stays_as_it_is(before, after):
    first, *others = gc.get_threshold()
    try:
        gc.set_threshold(before, *others)
        calm_collector()
        assert gc.get_threshold()[0] == after
    finally:
        gc.unfreeze()
        gc.set_threshold(first, *others)
