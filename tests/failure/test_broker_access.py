"""Brokers that let only some in, and that are to be trusted first: gateway and worker, end to end.

Each way in is a real nats-server configured so, and a request through a gateway that a worker answers. Whoever is
refused stays closed, says what to do, and says no secret.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import golang
from support.client import fetch
from support.configs import Config, route
from support.guarded_brokers import (
    PASSWORD,
    WAYS,
    Authority,
    Way,
    by_certificate,
    by_creds,
    by_nkey,
    by_password,
    by_token,
)
from support.identities import Nkey, Operator, write_secret
from support.origin import Origin
from support.processes import GatewayProcess, Process, Start, WorkerProcess
from support.waiting import eventually

from nylon.access import AUTH_VARIABLES, TLS_VARIABLES
from nylon.embedded import NatsServer

HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def loud_and_without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is helped by the variables of whoever runs the tests, and the logs say all they can."""
    for variable in (*AUTH_VARIABLES.values(), *TLS_VARIABLES.values()):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NYLON_LOG", "debug")


def guarded(start: Start, url: str, connection: Config, entry: str = "stamp") -> GatewayProcess:
    """A gateway with a route that a worker guards, and one that needs none."""
    plugin: Config = {
        "name": "p",
        "type": "messaging",
        "messaging": "nats",
        "group": "g",
        "per_phase": {"request_filter": {"timeout_ms": 1000}},
    }
    paths = [
        route("/guarded/{*rest}", middleware=[{"plugin": "p", "entry": entry}]),
        route("/open/{*rest}"),
    ]
    return start(paths, plugins=[plugin], messaging=[{"name": "nats", "servers": [url], **connection}])


def worker(url: str, arguments: list[str] | None = None, **environment: str) -> WorkerProcess:
    return WorkerProcess(
        "plugins:plugin",
        nats=url,
        group="g",
        app_dir=HERE,
        arguments=arguments or (),
        environment=environment,
    )


def answers(gateway: GatewayProcess) -> bool:
    return fetch(gateway.address, "GET", "/guarded/x").status == 200


def assert_silent(way: Way, *processes: Process) -> None:
    """No log shows a secret, however loud it is."""
    for process in processes:
        assert process.log, "there is a log to look at"
        shown = [secret for secret in way.secrets if secret in process.log]
        assert shown == []


@pytest.mark.parametrize(
    ("way", "told"),
    [(way, "environment") for way in WAYS]
    + [(way, "flags") for way in (by_password, by_token, by_nkey, by_creds, by_certificate)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_request_reaches_a_worker_through_a_broker_that_lets_both_in(
    origin: Origin, start: Start, tmp_path: Path, way, told: str
) -> None:
    way = way(tmp_path)
    with NatsServer(config=way.server) as server:
        gateway = guarded(start, way.url(server), way.gateway)
        with worker(
            way.url(server),
            way.flags if told == "flags" else None,
            **(way.environment if told == "environment" else {}),
        ) as serving:
            serving.await_serving()
            eventually(lambda: answers(gateway), "a request that the worker lets pass", within=20)
            assert origin.received("/guarded/x")[0].header("x-stamp") == "1"
            assert_silent(way, gateway, serving)


def go_worker(url: str, log: Path, **environment: str) -> Process:
    """A worker that is a program in Go; it writes down the paths that it has seen."""
    log.touch()
    program = golang.go_program(golang.ENTRIES, "./recording")
    return Process([program, url, "g", log], cwd=HERE, environment=environment)


@pytest.mark.parametrize("way", WAYS)
def test_a_worker_in_go_gets_in_by_the_same_variables(start: Start, tmp_path: Path, way) -> None:
    way, log = way(tmp_path), tmp_path / "began"
    with NatsServer(config=way.server) as server:
        gateway = guarded(start, way.url(server), way.gateway, "step")
        with go_worker(way.url(server), log, **way.environment) as serving:
            assert "serving" in serving.read_line()
            eventually(lambda: answers(gateway), "a request that the worker lets pass", within=20)
            assert "/guarded/x 1" in log.read_text()
            assert_silent(way, gateway, serving)


def test_a_worker_in_go_that_is_refused_ends_and_says_no_secret(tmp_path: Path) -> None:
    way = by_password(tmp_path)
    with (
        NatsServer(config=way.server) as server,
        go_worker(server.url, tmp_path / "began", NATS_USER="nylon", NATS_PASSWORD="wr0ng-enough") as refused,
    ):
        assert refused.wait() == 1
        assert "Authorization Violation" in refused.log
        assert "wr0ng-enough" not in refused.log


REFUSED = [
    (
        by_password,
        {"auth": {"user": "nylon", "password": "wr0ng"}},
        ["--user", "nylon", "--password", "wr0ng"],
    ),
    (by_token, {"auth": {"token": "wr0ng"}}, ["--token", "wr0ng"]),
    (by_nkey, "another", "another"),
    (by_creds, "another", "another"),
]


@pytest.mark.parametrize(
    ("way", "gateway_has", "worker_has"), REFUSED, ids=lambda value: getattr(value, "__name__", "")
)
def test_wrong_credentials_stay_outside_and_say_so_until_they_are_right(
    origin: Origin, start: Start, tmp_path: Path, way, gateway_has, worker_has
) -> None:
    own, others = tmp_path / "own", tmp_path / "others"
    own.mkdir(), others.mkdir()
    right, wrong = way(own), way(others)
    if gateway_has == "another":
        gateway_has, worker_has = wrong.gateway, wrong.flags
    with NatsServer(config=right.server) as server:
        gateway = guarded(start, server.url, gateway_has)
        with worker(server.url, worker_has) as refused:
            assert refused.wait() == 1
            assert "it refuses these credentials" in refused.log
        assert fetch(gateway.address, "GET", "/open/x").status == 200
        assert fetch(gateway.address, "GET", "/guarded/x").status == 503
        eventually(lambda: "the broker refuses these credentials: check `auth`" in gateway.log, "a reason")
        assert origin.received("/guarded/x") == []
        for process in (gateway, refused):
            assert "wr0ng" not in process.log
        assert_silent(wrong, gateway, refused)
        port = server.port
    if gateway_has == wrong.gateway:
        # The broker lets them in from now on: nobody restarts the gateway.
        with NatsServer(config=wrong.server, port=port) as server, worker(server.url, worker_has):
            eventually(lambda: answers(gateway), "a gateway that has tried on", within=20)


def test_a_broker_that_wants_credentials_is_told_none(start: Start, tmp_path: Path) -> None:
    way = by_password(tmp_path)
    with NatsServer(config=way.server) as server:
        gateway = guarded(start, server.url, {})
        eventually(lambda: "wants to know who connects: set `auth`" in gateway.log, "a reason")
        with worker(server.url) as refused:
            assert refused.wait() == 1
            assert "it wants credentials" in refused.log


def distrust_unknown_authority(folder: Path) -> tuple[str, Config, dict[str, str]]:
    other = Authority(folder, "other")
    return (
        Authority(folder, "ca").server("127.0.0.1"),
        {"tls": {"ca_file": other.file}},
        {"NATS_CA": other.file},
    )


def distrust_without_authority(folder: Path) -> tuple[str, Config, dict[str, str]]:
    return Authority(folder, "ca").server("127.0.0.1"), {"tls": True}, {}


def distrust_another_name(folder: Path) -> tuple[str, Config, dict[str, str]]:
    authority = Authority(folder, "ca")
    return (
        authority.server("nats.internal"),
        {"tls": {"ca_file": authority.file}},
        {"NATS_CA": authority.file},
    )


def lack_of_a_certificate(folder: Path) -> tuple[str, Config, dict[str, str]]:
    authority = Authority(folder, "ca")
    verify = f', ca_file: "{authority.file}", verify: true'
    return (
        authority.server("127.0.0.1", more=verify),
        {"tls": {"ca_file": authority.file}},
        {"NATS_CA": authority.file},
    )


def lack_of_tls(folder: Path) -> tuple[str, Config, dict[str, str]]:
    ca = Authority(folder, "ca").file
    return "", {"tls": {"ca_file": ca}}, {"NATS_CA": ca}


@pytest.mark.parametrize(
    ("broken", "gateway_says", "worker_says"),
    [
        (distrust_unknown_authority, "set `tls.ca_file`", "give its authority's as tls_ca"),
        (distrust_without_authority, "set `tls.ca_file`", "give its authority's as tls_ca"),
        (distrust_another_name, "set `tls.hostname`", "give tls_hostname"),
        (lack_of_a_certificate, "set `tls.cert` and `tls.key`", "give tls_cert and tls_key"),
        (lack_of_tls, "speaks no TLS, and this connection insists on it", "TLS is asked for here"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broker_that_is_not_to_be_trusted_gets_no_call(
    origin: Origin, start: Start, tmp_path: Path, broken, gateway_says: str, worker_says: str
) -> None:
    config, connection, environment = broken(tmp_path)
    with NatsServer(config=config) as server:
        gateway = guarded(start, server.url, connection)
        with worker(server.url, **environment) as refused:
            assert refused.wait() == 1
            assert worker_says in refused.log, refused.log
        assert fetch(gateway.address, "GET", "/guarded/x").status == 503
        eventually(lambda: gateway_says in gateway.log, "a reason")
        assert fetch(gateway.address, "GET", "/open/x").status == 200
        assert origin.received("/guarded/x") == []
        reasons = [
            line.partition("trying on: ")[2] for line in gateway.log.splitlines() if "trying on" in line
        ]
        assert len(reasons) == len(set(reasons)), "each reason is said once, however often it was tried"


@contextmanager
def listening_in_the_middle() -> Iterator[tuple[str, list[bytes]]]:
    """A server that says that it needs no TLS, and keeps what it is told."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(0.5)
                    try:
                        connection.sendall(
                            b'INFO {"server_id":"x","version":"2.11.0","max_payload":1048576}\r\n'
                        )
                        while data := connection.recv(4096):
                            heard.append(data)
                    except OSError:
                        continue

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()


def test_no_password_is_sent_in_the_clear_where_tls_is_asked_for(start: Start) -> None:
    with listening_in_the_middle() as (address, heard):
        gateway = guarded(start, f"tls://nylon:{PASSWORD}@{address}", {})
        with worker(f"tls://nylon:{PASSWORD}@{address}") as refused:
            assert refused.wait() == 1
        eventually(lambda: "no connection to the broker" in gateway.log, "an attempt")
        assert not [data for data in heard if PASSWORD.encode() in data or b"CONNECT" in data]


def test_rotated_seeds_count_at_the_next_connect(start: Start, tmp_path: Path) -> None:
    way, rotated = by_nkey(tmp_path), Nkey()
    with NatsServer(config=way.server) as server:
        gateway = guarded(start, server.url, way.gateway)
        with worker(server.url, **way.environment) as serving:
            eventually(lambda: answers(gateway), "a working route", within=20)
            port = server.port
            server.stop()
            for file in ("gateway.nk", "worker.nk"):
                write_secret(tmp_path / file, rotated.seed)
            guard = f"authorization {{ users: [ {{ nkey: {rotated.public} }} ] }}"
            with NatsServer(config=guard, port=port):
                eventually(lambda: answers(gateway), "a working route with the new seeds", within=20)
            assert serving.running


def test_credentials_that_expire_are_renewed_without_a_restart(start: Start, tmp_path: Path) -> None:
    operator = Operator()
    files = [tmp_path / "gateway.creds", tmp_path / "worker.creds"]

    def issue(expires_in: float | None = None) -> None:
        for file in files:
            write_secret(file, operator.creds(file.stem, expires_in))

    issue()
    with NatsServer(config=operator.config) as server:
        gateway = guarded(start, server.url, {"auth": {"creds": str(files[0])}})
        with worker(server.url, NATS_CREDS=str(files[1])) as serving:
            eventually(lambda: answers(gateway), "a working route", within=20)
            # Both come back with credentials for a few seconds, so however slow their start was.
            issue(expires_in=4)
            server.restart()
            eventually(lambda: answers(gateway), "a working route after the restart", within=20)
            issue()
            eventually(
                lambda: gateway.log.count("lost the broker") == 2, "the broker's good-bye to the gateway"
            )
            eventually(lambda: serving.log.count("the broker is back") == 2, "the worker's return")
            eventually(lambda: answers(gateway), "a working route with the new credentials", within=20)
            assert serving.running
