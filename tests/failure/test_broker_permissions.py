"""The permissions that docs/nats-protocol.md gives to each side: enough for all they say, and for no more."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path

import nats
import pytest
from support import golang
from support.client import fetch
from support.configs import Config, route
from support.origin import Origin
from support.processes import Process, Start, WorkerProcess
from support.protocol_page import PAGE
from support.waiting import eventually

from nylon.embedded import NatsServer

HERE = Path(__file__).resolve().parent
PASSWORDS = {"GATEWAY_PASSWORD": "of-the-gateway", "WORKER_PASSWORD": "of-the-worker"}


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> str:
    """The server's configuration, as the page has it; its passwords are variables."""
    for name, value in PASSWORDS.items():
        monkeypatch.setenv(name, value)
    found = re.search(r"```text\n(authorization \{\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, "the page has a server's configuration"
    return found[1]


def test_gateway_and_worker_need_no_more_than_the_page_gives_them(
    config: str, origin: Origin, start: Start
) -> None:
    once: Config = {"per_phase": {"request_filter": {"idempotent": False}}}
    paths = [
        route(f"/{entry}/{{*rest}}", middleware=[{"plugin": "p", "entry": entry, **policy}])
        for entry, policy in (("slow", {}), ("hash", {}), ("session", once))
    ]
    plugin: Config = {"name": "p", "messaging": "nats", "group": "auth"}
    body = bytes(range(256)) * 4096  # 1 MiB: it does not travel along
    with NatsServer(config=config) as server:
        gateway_user = {"user": "gateway", "password": PASSWORDS["GATEWAY_PASSWORD"]}
        messaging = [{"name": "nats", "servers": [server.url], "auth": gateway_user}]
        gateway = start(paths, plugins=[plugin], messaging=messaging)
        worker_user = {"NATS_USER": "worker", "NATS_PASSWORD": PASSWORDS["WORKER_PASSWORD"]}
        with WorkerProcess(
            "permitted:plugin", nats=server.url, group="auth", app_dir=HERE, environment=worker_user
        ) as worker:
            worker.await_serving()
            eventually(
                lambda: fetch(gateway.address, "GET", "/session/x").status == 200, "a worker", within=20
            )
            assert fetch(gateway.address, "GET", "/slow/x").status == 200
            answer = fetch(gateway.address, "POST", "/hash/x", body=body)
            assert answer.body.decode() == hashlib.sha256(body).hexdigest()
            answer = fetch(gateway.address, "GET", "/session/y")
            assert answer.header("x-seen") == "/session/y"
        for process in (gateway, worker):
            assert "ermission" not in process.log, process.log


def test_a_worker_in_go_needs_no_more_either(
    config: str, origin: Origin, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "go").touch()
    with NatsServer(config=config) as server:
        gateway_user = {"user": "gateway", "password": PASSWORDS["GATEWAY_PASSWORD"]}
        gateway = start(
            [route("/held", middleware=[{"plugin": "p", "entry": "held"}])],
            plugins=[{"name": "p", "messaging": "nats", "group": "auth"}],
            messaging=[{"name": "nats", "servers": [server.url], "auth": gateway_user}],
        )
        worker_user = {"NATS_USER": "worker", "NATS_PASSWORD": PASSWORDS["WORKER_PASSWORD"]}
        command = [golang.go_program(golang.ENTRIES, "./held"), server.url, "a", tmp_path, "auth"]
        with Process(command, cwd=HERE, environment=worker_user) as worker:
            worker.await_serving()
            eventually(lambda: fetch(gateway.address, "GET", "/held").status == 200, "a worker", within=20)
        for process in (gateway, worker):
            assert "ermission" not in process.log, process.log


@pytest.mark.parametrize(
    ("user", "subject", "listens"),
    [
        ("worker", "nylon.auth.call", False),
        ("worker", "nylon.auth.w.another", False),
        ("worker", "nylon.auth.call", True),  # without the group's queue
        ("gateway", "nylon.auth.call", True),
        ("gateway", "nylon.auth.workers", False),
        ("gateway", "nylon.other.call", False),
    ],
)
def test_neither_side_may_do_what_is_the_others(config: str, user: str, subject: str, listens: bool) -> None:
    async def main(url: str) -> list[str]:
        refused: asyncio.Queue[str] = asyncio.Queue()

        async def on_error(error: Exception) -> None:
            refused.put_nowait(str(error))

        password = PASSWORDS[f"{user.upper()}_PASSWORD"]
        client = await nats.connect(url, user=user, password=password, error_cb=on_error)
        try:
            if listens:
                await client.subscribe(subject, cb=on_error)
            else:
                await client.publish(subject, b"x")
            first = await asyncio.wait_for(refused.get(), 10)
            await client.flush()
            return [first, *(refused.get_nowait() for _ in range(refused.qsize()))]
        finally:
            await client.close()

    with NatsServer(config=config) as server:
        refused = asyncio.run(main(server.url))
    assert len(refused) == 1
    assert "permissions violation" in refused[0].lower()
