"""A broker of several nodes: one of them dies or freezes, and nobody who asks the gateway notices for long."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.place import Place, processes_of
from support.client import fetch
from support.cluster import Cluster
from support.configs import Config, route
from support.processes import GatewayProcess, Start, WorkerProcess
from support.waiting import eventually

from nylon.embedded import NatsServer

GATEWAY = "nylon gateway"
WORKER = "nylon worker"
HERE = Path(__file__).resolve().parent


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as nodes:
        yield nodes


def guarded(start: Start, servers: str) -> GatewayProcess:
    plugin: Config = {"name": "p", "messaging": "nats", "group": "g"}
    paths = [route("/{*rest}", middleware=[{"plugin": "p", "entry": "stamp"}])]
    return start(paths, plugins=[plugin], messaging=[{"name": "nats", "servers": servers}])


def answers(gateway: GatewayProcess) -> bool:
    return fetch(gateway.address, "GET", "/x").status == 200


@pytest.mark.parametrize("known", ["named in the configuration", "told of by the cluster"])
def test_a_node_may_die_under_the_gateway_and_then_under_a_worker(cluster: Cluster, known: str) -> None:
    first, second, third = cluster.nodes
    servers = [first.url] if known == "told of by the cluster" else [node.url for node in cluster.nodes]
    with Place(
        nats=cluster, messaging={"servers": servers}, workers=1, started={"nats": second.url}
    ) as place:
        place.start_workers(1, nats=third.url)
        eventually(lambda: cluster.node_of(GATEWAY), "a connected gateway")
        with place.traffic(rate=100) as traffic:
            eventually(lambda: len(traffic.answers) > 100, "a load")
            gateways = cluster.node_of(GATEWAY)
            assert gateways is not None
            gateways.kill()
            eventually(lambda: cluster.node_of(GATEWAY), "a gateway at another node")
            count = len(traffic.answers)
            eventually(lambda: len(traffic.answers) > count + 100, "a load that goes on")
            cluster.restart(gateways)
            others = [node for node in cluster.running if node is not cluster.node_of(GATEWAY)]
            # Both workers may have come to the gateway's node.
            workers = cluster.node_of(WORKER, others) or cluster.node_of(WORKER)
            assert workers is not None
            workers.kill()
            count = len(traffic.answers)
            eventually(lambda: len(traffic.answers) > count + 100, "a load that goes on")
            account = place.account(traffic)
        print(account.row())
        assert account.wrong == [], account.examples() + processes_of(place.gateway)
        assert account.doubled == []


def test_both_sides_go_on_to_the_next_server_where_the_first_is_down(start: Start) -> None:
    with NatsServer() as dead:
        url = dead.url
    with socket.create_server(("127.0.0.1", 0)) as silent, NatsServer() as alive:
        # The second one takes connections, and says nothing.
        servers = f"{url},nats://127.0.0.1:{silent.getsockname()[1]},{alive.url}"
        gateway = guarded(start, servers)
        with WorkerProcess("plugins:plugin", nats=servers, group="g", app_dir=HERE) as worker:
            worker.await_serving()
            eventually(lambda: answers(gateway), "an answer over the server that is there", within=20)


def test_both_sides_leave_a_node_that_is_frozen(cluster: Cluster, start: Start) -> None:
    gateway = guarded(start, cluster.nodes[0].url)
    with WorkerProcess("plugins:plugin", nats=cluster.nodes[0].url, group="g", app_dir=HERE) as worker:
        eventually(lambda: answers(gateway), "a working route", within=20)
        os.kill(cluster.nodes[0].pid, signal.SIGSTOP)
        try:
            others = cluster.nodes[1:]
            eventually(lambda: cluster.node_of(GATEWAY, others), "a gateway at another node", within=20)
            eventually(lambda: cluster.node_of(WORKER, others), "a worker at another node", within=20)
            eventually(lambda: answers(gateway), "a working route", within=20)
            assert worker.running
        finally:
            os.kill(cluster.nodes[0].pid, signal.SIGCONT)
