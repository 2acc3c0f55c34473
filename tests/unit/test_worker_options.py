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


def who(**options):
    access = WorkerOptions(group="g", **options).access
    names = ("user", "password", "token", "credentials", "nkey_seed")
    return {name: value for name in names if (value := getattr(access, name)) is not None}


def test_who_a_worker_is_comes_from_the_call_then_the_url_then_the_environment(monkeypatch):
    monkeypatch.setenv("NATS_USER", "ann")
    monkeypatch.setenv("NATS_PASSWORD", "secret")
    assert who() == {"user": "ann", "password": "secret"}
    assert who(user="bob") == {"user": "bob", "password": "secret"}
    assert who(token="t") == {"token": "t"}
    assert who(servers=("nats://c%40:p%3A@h",)) == {"user": "c@", "password": "p:"}
    assert who(servers=("nats://t0ken@h", "nats://t0ken@i")) == {"token": "t0ken"}


@pytest.mark.parametrize(
    ("variable", "option"),
    [*((v, n) for n, v in (AUTH_VARIABLES | TLS_VARIABLES).items() if v != "NATS_USER")],
)
def test_each_setting_has_its_variable(monkeypatch, variable, option):
    monkeypatch.setenv(variable, "value")
    if variable == "NATS_PASSWORD":
        monkeypatch.setenv("NATS_USER", "ann")
    if variable in ("NATS_CERT", "NATS_KEY"):
        monkeypatch.setenv("NATS_CERT", "value")
        monkeypatch.setenv("NATS_KEY", "value")
    assert getattr(NatsPlugin("nats://h", "g").options, option) == "value"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"user": "ann"}, "user and password .* belong together"),
        ({"password": "p"}, "user and password .* belong together"),
        ({"token": "t", "nkey_seed": "f"}, r"token \(NATS_TOKEN\), nkey_seed \(NATS_NKEY\)"),
        ({"user": "u", "password": "p", "credentials": "f"}, "more than one way"),
        ({"tls_cert": "f"}, "tls_cert needs tls_key"),
        ({"tls_key": "f"}, "tls_key needs tls_cert"),
        ({"servers": ("nats://u:s3cret@a", "nats://v:s3cret@b")}, "name different users"),
        ({"servers": ("nats://u:s3cret@a",), "token": "t"}, "a user in the servers' URLs and token"),
    ],
)
def test_two_ways_to_say_who_a_worker_is_or_half_of_one_are_refused(options, said):
    with pytest.raises(ConfigError, match=said) as caught:
        WorkerOptions(group="g", **options)
    assert "s3cret" not in str(caught.value)


def test_a_changed_way_in_leaves_nothing_of_the_old_one():
    own = NatsPlugin("nats://u:p@a", "g").options
    assert own.changed({"group": "h"}).password == "p"
    changed = own.changed({"token": "t"})
    assert (changed.user, changed.password, changed.token) == (None, None, "t")
    changed = own.changed({"servers": ["nats://v:q@b"]})
    assert (changed.servers, changed.user, changed.password) == (("nats://b",), "v", "q")


@pytest.mark.parametrize("option", [{"tls": True}, {"tls_ca": "f"}, {"servers": ("nats://a", "tls://b")}])
def test_tls_that_is_asked_for_is_insisted_on(option):
    assert WorkerOptions(group="g", **option).tls
    assert not WorkerOptions(group="g").tls


def test_no_secret_is_in_a_workers_representation():
    options = WorkerOptions(servers=("nats://u:s3cret@a",), group="g")
    assert "s3cret" not in repr(options)
    assert "s3cret" not in repr(options.access)


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("nkey_seed", "hello", "holds no nkey seed"),
        ("nkey_seed", None, "cannot be read"),
        ("credentials", "hello", "holds no user JWT"),
        ("tls_ca", "hello", "TLS cannot use the file"),
    ],
)
def test_a_file_that_is_broken_is_named_before_anything_is_tried(tmp_path, option, text, said):
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        WorkerOptions(group="g", **{option: str(path)}).access.check()
    assert str(path) in str(caught.value)
