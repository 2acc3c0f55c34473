"""The flags of `nylon worker`: each reaches what it is for, by its variable as well, and no secret gets out."""

import json
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.command import environment

from nylon.embedded import NatsServer

APP = """
import json
from nylon import NylonPlugin

plugin = NylonPlugin()

@plugin.initialize
def begin(config):
    print("config:", json.dumps(config), flush=True)

@plugin.request_filter("who")
def who(ctx):
    ctx.end()
"""

# The command as it is, but for the last step, which says what it would be taken with.
PARSED = """
import json, nylon.workers
from dataclasses import asdict
from nylon.cli import main

def run_workers(plugin, *, recycling, **options):
    print(json.dumps({"plugin": plugin, **asdict(recycling), **options}))
    return 0

nylon.workers.run_workers = run_workers
main()
"""

FLAGS = [
    ("--nats", "NATS_SERVERS", "nats://a:1, tls://b", {"servers": ["nats://a:1", "tls://b"]}),
    ("--group", "NATS_GROUP", "auth_workers", {"group": "auth_workers"}),
    ("--subject-prefix", "NYLON_SUBJECT_PREFIX", "acme", {"subject_prefix": "acme"}),
    ("--name", "NYLON_WORKER_NAME", "edge", {"name": "edge"}),
    ("--user", "NATS_USER", "ada", {"user": "ada"}),
    ("--password", "NATS_PASSWORD", "s3cret", {"password": "s3cret"}),
    ("--token", "NATS_TOKEN", "t0ken", {"token": "t0ken"}),
    ("--creds", "NATS_CREDS", "w.creds", {"credentials": "w.creds"}),
    ("--nkey", "NATS_NKEY", "seed", {"nkey_seed": "seed"}),
    ("--tls-ca", "NATS_CA", "ca.pem", {"tls_ca": "ca.pem"}),
    ("--tls-cert", "NATS_CERT", "c.pem", {"tls_cert": "c.pem"}),
    ("--tls-key", "NATS_KEY", "k.pem", {"tls_key": "k.pem"}),
    ("--tls-hostname", "NATS_TLS_HOSTNAME", "nats.test", {"tls_hostname": "nats.test"}),
    ("--workers", "NYLON_WORKERS", "3", {"workers": 3}),
    ("--concurrency", "NYLON_CONCURRENCY", "7", {"concurrency": 7}),
    ("--execution", "NYLON_EXECUTION", "inline", {"execution": "inline"}),
    ("--threads", "NYLON_THREADS", "2", {"threads": 2}),
    ("--transport", "NYLON_TRANSPORT", "plain", {"transport": "plain"}),
    ("--drain-timeout", "NYLON_DRAIN_TIMEOUT", "1.5", {"drain_timeout": 1.5}),
    ("--max-requests", "NYLON_MAX_REQUESTS", "1000", {"max_requests": 1000, "jitter": None}),
    ("--max-rss", "NYLON_MAX_RSS", "300", {"max_rss": 300.0}),
    ("--ready-file", "NYLON_READY_FILE", "/tmp/ready", {"ready_file": "/tmp/ready"}),
    ("--app-dir", "NYLON_APP_DIR", "src", {"app_dir": "src"}),
    ("--config", "NYLON_PLUGIN_CONFIG", '{"a": 1}', {"config": '{"a": 1}'}),
]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def parsed(cwd: Path, *arguments: str, **env: str) -> dict:
    """What the command line comes to."""
    command = [sys.executable, "-c", PARSED, "worker", "app:plugin", *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_flag_and_every_variable_reaches_its_option(tmp_path):
    wanted = {name: value for _, _, _, options in FLAGS for name, value in options.items()}
    by_flag = parsed(tmp_path, *[word for flag, _, value, _ in FLAGS for word in (flag, value)])
    assert by_flag == {"plugin": "app:plugin", "reload_dirs": [], **wanted}
    # Who the worker is to the broker is left to the workers themselves: they see the same variables.
    access = {"user", "password", "token", "credentials", "nkey_seed"} | {o for o in wanted if o[:3] == "tls"}
    by_variable = parsed(tmp_path, **{variable: value for _, variable, value, _ in FLAGS})
    assert by_variable == {name: value for name, value in by_flag.items() if name not in access}


def test_what_is_not_given_is_left_to_the_plugin(tmp_path):
    limits = {"max_requests": None, "jitter": None, "max_rss": None}
    assert parsed(tmp_path) == {
        "plugin": "app:plugin", "workers": 1, "app_dir": None, "config": None, "reload_dirs": [],
        "ready_file": None, **limits,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "watched"),
    [
        (("--reload",), ["."]),
        (("--reload", "--app-dir", "src"), ["src"]),
        (("--reload", "--reload-dir", "a", "--reload-dir", "b"), ["a", "b"]),
        ((), []),
    ],
)
def test_reload_watches_where_the_plugin_comes_from_or_what_it_is_told(tmp_path, arguments, watched):
    assert parsed(tmp_path, *arguments)["reload_dirs"] == watched


def test_help_groups_the_flags_names_every_variable_and_shows_no_secret(nylon):
    shown = nylon("worker", "--help", NATS_PASSWORD="s3cret", NATS_TOKEN="t0ken").out
    places = [shown.index(f"─ {panel} ─") for panel in
              ("What to serve", "Broker", "Capacity", "Life", "Development")]  # fmt: skip
    assert places == sorted(places)
    for flag, variable, _, _ in FLAGS:
        assert re.search(rf"{flag}\s", shown) and f"[env var: {variable}]" in shown
    for flag in ("--reload ", "--reload-dir ", "--max-requests-jitter ", "--check "):
        assert flag in shown
    assert "s3cret" not in shown and "t0ken" not in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--max-requests-jitter", "5"), "--max-requests"),
        (("--reload-dir", "."), "--reload"),
        (("--max-requests", "0"), "--max-requests"),
        (("--max-rss", "lots"), "--max-rss"),
        (("--drain-timeout", "-1"), "--drain-timeout"),
    ],
)
def test_flag_that_cannot_work_is_a_usage_error(nylon, app, arguments, said):
    result = nylon("worker", "app:plugin", "--group", "g", *arguments)
    assert result.code == 2
    assert said in result.err


@pytest.fixture(scope="module")
def guarded():
    with NatsServer(config='authorization { user: "ada", password: "s3cret" }\n') as server:
        yield server


@pytest.fixture(scope="module")
def tokened():
    with NatsServer(config='authorization { token: "s3cret" }\n') as server:
        yield server


def test_credentials_come_from_variables_or_flags(nylon, app, guarded, tokened):
    check = ("worker", "app:plugin", "--group", "g", "--check")
    for result in (
        nylon(*check, "--nats", guarded.url, NATS_USER="ada", NATS_PASSWORD="s3cret"),
        nylon(*check, "--nats", guarded.url, "--user", "ada", "--password", "s3cret"),
        nylon(*check, "--nats", tokened.url, NATS_TOKEN="s3cret"),
    ):
        assert result.code == 0, result.err
        assert "s3cret" not in result.out + result.err


def test_plugins_own_credentials_win_over_variables_and_flags_over_both(nylon, app, guarded, tokened):
    (app / "own.py").write_text(
        f'from nylon import NatsPlugin\nplugin = NatsPlugin("{guarded.url}", "g", user="ada", password="s3cret")\n'
        'plugin.request_filter("who")(lambda ctx: ctx.next())\n'
    )
    check = ("worker", "own:plugin", "--check")
    assert nylon(*check, NATS_USER="eve", NATS_PASSWORD="x", NATS_TOKEN="y").code == 0
    assert nylon(*check, "--nats", tokened.url, "--token", "s3cret", NATS_USER="eve").code == 0
    assert nylon(*check, "--user", "eve", "--password", "x").code == 1


def test_check_says_that_credentials_are_refused_without_saying_them(nylon, app, guarded):
    env = {"NATS_USER": "ada", "NATS_PASSWORD": "wr0ng"}
    result = nylon("worker", "app:plugin", "--nats", guarded.url, "--group", "g", "--check", **env)
    assert result.code == 1
    assert "refuses these credentials" in result.err
    assert "wr0ng" not in result.out + result.err


def test_processes_have_titles_and_show_no_secret(app, start, guarded):
    flags = ("--nats", guarded.url, "--group", "titled", "--user", "ada", "--password", "s3cret")
    running = start("nylon", "worker", "app:plugin", *flags, "--workers", "2")
    running.wait_for("serving group titled")
    supervisor = psutil.Process(running.process.pid)
    titles = ["".join(process.cmdline()) for process in (supervisor, *supervisor.children())]
    assert titles[0] == "nylon: supervisor of titled (app:plugin)"
    assert sorted(titles[1:]) == [f"nylon: worker {number} of titled (app:plugin)" for number in (1, 2)]
    assert "s3cret" not in running.output


@pytest.mark.parametrize("inline", [True, False])
def test_plugin_gets_its_config_from_a_file_or_from_the_flag(app, start, nylon_nats, inline):
    text = '{"key": "k", "limit": 3}'
    (app / "app.json").write_text(text)
    given = text if inline else "app.json"
    running = start(
        "nylon", "worker", "app:plugin", "--nats", nylon_nats.url, "--group", "cfg", "--config", given
    )
    assert json.loads(running.wait_for("config:").partition(":")[2]) == {"key": "k", "limit": 3}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('{"key": }', "config:1:9: the plugin's config is not JSON"),
        ("no-such.json", "no-such.json: cannot read the plugin's config: No such file or directory"),
        ("bad.json", "bad.json:2:1: the plugin's config is not JSON"),
    ],
)
def test_config_that_cannot_be_read_is_said_with_its_place(app, nylon, nylon_nats, given, said):
    (app / "bad.json").write_text("[1,\n}")
    result = nylon("worker", "app:plugin", "--nats", nylon_nats.url, "--group", "cfg", "--config", given)
    assert result.code == 1
    assert said in result.err
