"""`RateLimit` over several gateways, with real stores that die and come back."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from support.client import Connection, fetch
from support.configs import Config, gateway_config, route
from support.guarded_brokers import PASSWORD, Authority
from support.origin import Origin
from support.processes import GatewayProcess
from support.redis import RedisServer, redis_server
from support.waiting import eventually

from nylon.embedded import NatsServer


class Dying(Protocol):
    """A server that can be killed and come back where it was."""

    def kill(self) -> None: ...
    def restart(self) -> None: ...


class Store:
    """Where buckets are: what a `RateLimit` needs for it, and what the configuration needs beside that."""

    def __init__(self, server: Dying, settings: Config, sections: Config) -> None:
        self.server = server
        self._settings = settings
        self.sections = sections

    def limit(self, name: str, **more: Any) -> Config:
        payload = {"name": name, "key": "${header(x-key)}", **self._settings, **more}
        return {"plugin": "RateLimit", "payload": {"rate": "5/h", "store_timeout_ms": 3000, **payload}}


def in_redis(server: RedisServer) -> Store:
    host, port = server.address
    return Store(server, {"store": "redis", "redis": {"host": host, "port": port}}, {})


def in_nats(server: NatsServer) -> Store:
    messaging = {"name": "shared", "servers": [server.url]}
    return Store(server, {"store": "nats", "nats": {"messaging": "shared"}}, {"messaging": [messaging]})


def nats_server(folder: Path) -> NatsServer:
    return NatsServer(config=f'jetstream {{ store_dir: "{folder}" }}')


@pytest.fixture(scope="module", params=["redis", "nats"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with contextlib.ExitStack() as stack:
        if request.param == "redis":
            yield in_redis(stack.enter_context(redis_server()))
        else:
            yield in_nats(stack.enter_context(nats_server(tmp_path_factory.mktemp("jetstream"))))


@pytest.fixture(scope="module")
def gateways(store: Store) -> Iterator[list[GatewayProcess]]:
    """Two gateways that count together at `/…`, each policy for a store that is away under its own path."""
    limited = [
        route("/shared", middleware=[store.limit("shared")]),
        route("/same", middleware=[store.limit("shared")]),
        route("/other", middleware=[store.limit("other", headers="always")]),
        route("/quick", middleware=[store.limit("quick", rate="10/s", burst=1)]),
        *(
            route(f"/{policy}", middleware=[store.limit(policy, on_store_error=policy, rate="20/h")])
            for policy in ("fail", "local", "allow")
        ),
    ]
    with Origin() as origin, contextlib.ExitStack() as stack:
        config = gateway_config(origin.address, limited, **store.sections)
        yield [stack.enter_context(GatewayProcess(config)) for _ in range(2)]


def statuses(gateways: list[GatewayProcess], path: str, key: str, times: int) -> list[int]:
    """What so many requests get, in turn from each of the gateways."""
    ask = lambda number: fetch(gateways[number % len(gateways)].address, "GET", path, {"x-key": key})  # noqa: E731
    return [ask(number).status for number in range(times)]


def test_gateways_give_out_the_tokens_of_one_bucket(gateways: list[GatewayProcess]) -> None:
    assert statuses(gateways, "/shared", "a", 8) == [200] * 5 + [429] * 3
    assert statuses(gateways, "/same", "a", 2) == [429] * 2, "the name says which bucket"
    assert statuses(gateways, "/shared", "b", 1) == [200], "and the key"
    assert statuses(gateways, "/other", "a", 1) == [200]


def test_what_is_left_is_the_same_wherever_one_asks(gateways: list[GatewayProcess]) -> None:
    left = [fetch(gateway.address, "GET", "/other", {"x-key": "left"}) for gateway in gateways]
    told = [answer.header("ratelimit") or "" for answer in left]
    assert [text.split(";")[1] for text in told] == ["r=4", "r=3"], told
    assert [text.split(";")[0] for text in told] == ['"other"', '"other"']


def test_tokens_come_back_by_themselves(gateways: list[GatewayProcess]) -> None:
    assert statuses(gateways[:1], "/quick", "q", 1) == [200]
    eventually(lambda: statuses(gateways[1:], "/quick", "q", 1) == [200], "another token")


def test_requests_at_the_same_moment_get_no_token_twice(gateways: list[GatewayProcess]) -> None:
    counted: Counter[int] = Counter()
    lock = threading.Lock()
    barrier = threading.Barrier(12)

    def ask(gateway: GatewayProcess) -> None:
        with Connection(gateway.address) as connection:
            barrier.wait()
            mine = Counter(connection.request("GET", "/fail", {"x-key": "race"}).status for _ in range(4))
        with lock:
            counted.update(mine)

    threads = [threading.Thread(target=ask, args=(gateways[number % 2],)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == {200: 20, 429: 28}


def test_a_store_that_is_away_means_what_the_configuration_says(
    store: Store, gateways: list[GatewayProcess]
) -> None:
    """The last one of this file: what the store knew is gone with it."""
    one = gateways[:1]
    assert statuses(one, "/local", "away", 1) == [200]
    store.server.kill()
    assert set(statuses(one, "/fail", "away", 3)) == {503}
    assert set(statuses(one, "/allow", "away", 3)) == {200}
    assert statuses(one, "/local", "away", 22) == [200] * 20 + [429] * 2, "this process counts by itself"
    store.server.restart()
    back = lambda: statuses(one, "/fail", "back", 1) == [200]  # noqa: E731
    eventually(back, "the store", within=30)


Server = Callable[[Path], contextlib.AbstractContextManager[tuple[RedisServer, Config]]]


@contextlib.contextmanager
def with_tls(folder: Path) -> Iterator[tuple[RedisServer, Config]]:
    authority = Authority(folder, "ca")
    with redis_server(password=PASSWORD, tls=authority.sign("127.0.0.1")) as server:
        host, port = server.address
        url = f"rediss://:{PASSWORD}@{host}:{port}/1"
        yield server, {"url": url, "tls": {"ca_file": authority.file}, "key_prefix": "shop"}


@contextlib.contextmanager
def with_another_name(folder: Path) -> Iterator[tuple[RedisServer, Config]]:
    authority = Authority(folder, "ca")
    with redis_server(password=PASSWORD, tls=authority.sign("redis.internal")) as server:
        host, port = server.address
        tls = {"ca_file": authority.file, "hostname": "redis.internal"}
        yield server, {"host": host, "port": port, "user": "default", "password": PASSWORD, "tls": tls}


@pytest.mark.parametrize("server", [with_tls, with_another_name])
def test_a_redis_with_password_and_tls_is_spoken_to(server: Server, tmp_path: Path) -> None:
    with server(tmp_path) as (running, settings), Origin() as origin:
        limit = Store(running, {"store": "redis", "redis": settings}, {}).limit("guarded")
        config = gateway_config(origin.address, [route("/", middleware=[limit])])
        with GatewayProcess(config) as gateway:
            assert statuses([gateway], "/", "a", 6) == [200] * 5 + [429]
        assert PASSWORD not in gateway.log


def test_a_wrong_password_is_told_and_not_shown(tmp_path: Path) -> None:
    with redis_server(password=PASSWORD) as server, Origin() as origin:
        host, port = server.address
        settings = {"host": host, "port": port, "password": "wr0ng-horse"}
        limit = Store(server, {"store": "redis", "redis": settings}, {}).limit("guarded")
        config = gateway_config(origin.address, [route("/", middleware=[limit])])
        with GatewayProcess(config) as gateway:
            assert statuses([gateway], "/", "a", 1) == [503]
            said = lambda: "uthentication failed" in gateway.log  # noqa: E731
            eventually(said, f"a reason in {gateway.log}")
        assert "wr0ng-horse" not in gateway.log and not origin.received("/")


def test_a_broker_without_jetstream_is_told() -> None:
    with NatsServer() as server, Origin() as origin:
        store = in_nats(server)
        limit = store.limit("plain")
        config = gateway_config(origin.address, [route("/", middleware=[limit])], **store.sections)
        with GatewayProcess(config) as gateway:
            assert statuses([gateway], "/", "a", 1) == [503]
            eventually(lambda: "key-value bucket" in gateway.log, "a reason")
