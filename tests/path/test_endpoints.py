"""Services with several endpoints, from Python: what becomes of requests when one dies, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support.client import Address, Connection, fetch
from support.configs import gateway_config, http_service, route
from support.origin import Line, Origin, Received
from support.processes import GatewayProcess
from support.waiting import eventually

from nylon import Context, Gateway, GatewayError, NylonPlugin


@pytest.fixture
def two() -> Iterator[tuple[Origin, Origin]]:
    """Two origins for this test alone."""
    with Origin() as one, Origin() as other:
        yield one, other


def service(*origins: Origin, **more: Any) -> dict[str, Any]:
    """A configuration with one service `origin` over these."""
    addresses = [origin.address for origin in origins]
    return gateway_config(None, services=[http_service("origin", *addresses, **more)])


def address(gateway: Gateway) -> Address:
    host, port = gateway.urls[0].removeprefix("http://").split(":")
    return host, int(port)


def states(gateway: Gateway) -> list[str]:
    (found,) = gateway.status()["services"]
    return [endpoint["state"] for endpoint in found["endpoints"]]


def test_killed_endpoint_costs_no_request_and_is_told_of_once(two: tuple[Origin, Origin]) -> None:
    mortal, other = two
    checked = {"interval": "100ms", "unhealthy_threshold": 2}
    with GatewayProcess(service(mortal, other, retry={}, health_check=checked)) as gateway:
        with Connection(gateway.address) as client:
            for number in range(60):
                if number == 20:
                    mortal.stop()
                assert client.request("GET", f"/{number}").status == 200
        assert len(mortal.received("/0")) + len(other.received("/0")) == 1
        eventually(lambda: "is unhealthy and gets no requests" in gateway.log, "the change in the log")
        assert len(other.received("/59")) == 1
        assert gateway.log.count("is unhealthy and gets no requests") == 1
        assert mortal.authority in gateway.log


def test_status_shows_endpoints_with_their_state_and_their_requests(two: tuple[Origin, Origin]) -> None:
    one, other = two

    def hold(line: Line, request: Received) -> None:
        one.pass_gate("held")

    for origin in two:
        origin.behave("/held", hold)
    passive = {"consecutive_failures": 1, "ejection": "1h", "max_ejection": "1h"}
    with Gateway(service(one, other, passive_health=passive)) as gateway:
        assert states(gateway) == ["healthy", "healthy"]
        with ExitStack() as stack:
            for _ in range(2):
                client = stack.enter_context(Connection(address(gateway)))
                client.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
            one.await_waiting("held", 2)
            (shown,) = gateway.status()["services"]
            assert [endpoint["in_flight"] for endpoint in shown["endpoints"]] == [1, 1]
            assert shown["endpoints"][0] == {
                "address": one.authority,
                "weight": 1,
                "state": "healthy",
                "in_flight": 1,
            }
            one.open_gate("held")
            # Both break off instead of an answer; never are all left alone.
            eventually(lambda: sorted(states(gateway)) == ["ejected", "healthy"], "one is ejected")


def test_body_that_a_plugin_has_read_is_sent_once_more(two: tuple[Origin, Origin]) -> None:
    dying, other = two
    dying.behave("/put", lambda line, request: line.reset())
    plugin = NylonPlugin()

    @plugin.request_filter("read", body=True)
    def read(ctx: Context) -> None:
        assert ctx.request.body() == b"hello"
        ctx.next()

    middleware = [{"plugin": "p", "entry": "read"}]
    config = service(dying, other, retry={"on": ["reset"]})
    config["routes"][0]["paths"] = [route("/put", middleware=middleware)]
    config["plugins"] = [{"name": "p", "plugin": plugin}]
    with Gateway(config) as gateway:
        for _ in range(4):
            assert fetch(address(gateway), "PUT", "/put", body=b"hello").status == 200
        assert fetch(address(gateway), "POST", "/put", body=b"hello").status in (200, 502)
    assert [request.body for request in other.received("/put")][:4] == [b"hello"] * 4
    assert len(dying.received("/put")) >= 2


def test_health_survives_a_reload(two: tuple[Origin, Origin]) -> None:
    sick, other = two
    sick.stop()
    checked = {"interval": "1h", "unhealthy_threshold": 1}
    with Gateway(service(sick, other, health_check=checked)) as gateway:
        eventually(lambda: states(gateway) == ["unhealthy", "healthy"], "the first check")
        gateway.reload(service(other, sick, health_check=checked, algorithm="least_conn"))
        assert states(gateway) == ["healthy", "unhealthy"]


def test_all_down_is_a_503_with_the_time_of_the_next_check(origin: Origin) -> None:
    origin.stop()
    checked = {"interval": "5s", "unhealthy_threshold": 1}
    with Gateway(service(origin, health_check=checked)) as gateway:
        eventually(lambda: states(gateway) == ["unhealthy"], "the first check")
        answer = fetch(address(gateway), "GET", "/")
        assert answer.status == 503 and answer.json()["error"] == "the upstream is down"
        assert 1 <= int(answer.header("retry-after") or 0) <= 6


def test_name_that_must_resolve_and_does_not_is_an_error_at_start_and_at_reload(origin: Origin) -> None:
    names = {"servers": ["127.0.0.1:9"], "timeout": "300ms", "must_resolve": True}
    config = service(origin)
    config["services"][0]["endpoints"].append({"host": "nowhere.test", "port": 80})
    with pytest.raises(GatewayError, match=r"`nowhere\.test`, an endpoint of service `origin`"):
        Gateway({**config, "dns": names}).start()
    with Gateway(service(origin)) as gateway:
        with pytest.raises(GatewayError, match="does not resolve"):
            gateway.reload({**config, "dns": names})
        assert fetch(address(gateway), "GET", "/").status == 200
