"""Workers in Go that are replaced while requests come."""

from __future__ import annotations

import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support import golang
from support.configs import route
from support.load import send_many
from support.processes import Process, Start
from support.waiting import eventually

from nylon.embedded import NatsServer

HERE = Path(__file__).resolve().parent


def worker(nats: NatsServer, name: str, folder: Path) -> Process:
    """One that serves, and whose handlers need not wait."""
    process = Process([golang.go_program(golang.ENTRIES, "./held"), nats.url, name, folder], cwd=HERE)
    process.await_serving()
    return process


def test_no_request_is_lost_while_workers_are_replaced(start: Start, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with NatsServer() as nats, ThreadPoolExecutor(1) as clients:
        gateway = start(
            [route("/held", middleware=[{"plugin": "p", "entry": "held"}])],
            plugins=[{"name": "p", "type": "messaging", "messaging": "nats", "group": "g"}],
            messaging=[{"name": "nats", "servers": [nats.url]}],
        )
        old = worker(nats, "0", tmp_path)
        request = b"GET /held HTTP/1.1\r\nhost: x\r\n\r\n"
        statuses: Counter[int] = Counter()
        for number in range(1, 4):
            new = worker(nats, str(number), tmp_path)
            load = clients.submit(send_many, gateway.address, request, count=2000, connections=16)
            eventually((tmp_path / f"ran-1.{number - 1}").exists, "a request on the one that is to leave")
            old.signal(signal.SIGTERM)
            assert old.wait() == 0, old.log
            old.stop()
            statuses += load.result()
            old = new
        old.stop()
    assert statuses == {200: 6000}
