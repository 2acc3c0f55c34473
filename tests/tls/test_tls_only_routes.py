"""Routes that are served over TLS only: what plain requests get instead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support.certificates import Authority
from support.client import Answer, Connection, fetch
from support.configs import Config, gateway_config, route
from support.origin import Origin
from support.processes import GatewayProcess

REDIRECTS = {
    "same.test": True,
    "elsewhere.test": "https://target.test",
    "slash.test": "https://target.test/",
    "bare.test": "target.test",
    "port.test": "${host}:8443",
    "sub.test": "https://www.${host}",
    "page.test": "https://target.test/moved?from=here",
}


def host_route(name: str, tls: Config | None) -> Config:
    """A route for one host."""
    found: Config = {"name": name, "route": {"type": "host", "value": name}, "paths": [route("/{*rest}")]}
    return found if tls is None else {**found, "tls": tls}


@dataclass
class Site:
    """A gateway with routes of all kinds."""

    gateway: GatewayProcess
    origin: Origin
    authority: Authority

    def plain(self, host: str, target: str = "/a", method: str = "GET", **headers: str) -> Answer:
        """A request without TLS."""
        return fetch(self.gateway.address, method, target, {"host": host, **headers})

    def secure(self, host: str, target: str = "/a") -> Answer:
        """A request over TLS."""
        tls = self.authority.client()
        with Connection(self.gateway.tls_address, tls=tls, server_name="site.test") as connection:
            return connection.request("GET", target, {"host": host})


@pytest.fixture(scope="module")
def site(authority: Authority) -> Iterator[Site]:
    routes = [
        *(host_route(host, {"enabled": True, "redirect": to}) for host, to in REDIRECTS.items()),
        host_route("implied.test", {"redirect": True}),
        host_route("only.test", {"enabled": True}),
        host_route("off.test", {"enabled": False, "redirect": True}),
        host_route("free.test", None),
    ]
    with Origin() as origin:
        config = gateway_config(
            origin.address, https=["127.0.0.1:0"], tls=[authority.issue("site", "site.test")], routes=routes
        )
        with GatewayProcess(config) as gateway:
            yield Site(gateway, origin, authority)


@pytest.mark.parametrize(
    ("host", "location"),
    [
        ("same.test", "https://same.test/a/b?c=d%20e&f"),
        ("same.test:8080", "https://same.test/a/b?c=d%20e&f"),
        ("implied.test", "https://implied.test/a/b?c=d%20e&f"),
        ("elsewhere.test", "https://target.test/a/b?c=d%20e&f"),
        ("slash.test", "https://target.test/a/b?c=d%20e&f"),
        ("bare.test", "https://target.test/a/b?c=d%20e&f"),
        ("port.test", "https://port.test:8443/a/b?c=d%20e&f"),
        ("sub.test", "https://www.sub.test/a/b?c=d%20e&f"),
        ("page.test", "https://target.test/moved?from=here"),
    ],
)
def test_plain_requests_are_sent_to_https(site: Site, host: str, location: str) -> None:
    answer = site.plain(host, "/a/b?c=d%20e&f")
    assert (answer.status, answer.header("location"), answer.body) == (301, location, b"")
    assert site.secure(host, "/secure").status == 200


@pytest.mark.parametrize(("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308), ("DELETE", 308)])
def test_a_redirect_keeps_the_method(site: Site, method: str, status: int) -> None:
    answer = site.plain("same.test", "/method", method)
    assert (answer.status, answer.header("location")) == (status, "https://same.test/method")
    assert site.origin.received("/method") == []


def test_a_redirect_without_a_query_has_none(site: Site) -> None:
    assert site.plain("same.test", "/x").header("location") == "https://same.test/x"


def test_a_connection_goes_on_after_a_redirect(site: Site) -> None:
    with Connection(site.gateway.address) as connection:
        assert connection.request("GET", "/x", {"host": "same.test"}).status == 301
        assert connection.request("GET", "/x", {"host": "free.test"}).status == 200


def test_a_route_for_tls_only_refuses_plain_requests(site: Site) -> None:
    answer = site.plain("only.test", "/only")
    assert answer.status == 403
    assert answer.json()["error"] == "this route is served over TLS only"
    assert site.origin.received("/only") == []
    assert site.secure("only.test", "/only").status == 200


@pytest.mark.parametrize("host", ["off.test", "free.test"])
def test_other_routes_are_served_both_ways(site: Site, host: str) -> None:
    assert site.plain(host).status == 200
    assert site.secure(host).status == 200


def test_a_stranger_cannot_claim_tls(site: Site) -> None:
    answer = site.plain("only.test", "/claimed", **{"x-forwarded-proto": "https"})
    assert answer.status == 403


def test_a_trusted_proxy_may_have_spoken_tls(origin: Origin) -> None:
    routes = [host_route("only.test", {"enabled": True}), host_route("same.test", {"redirect": True})]
    config = gateway_config(origin.address, routes=routes, trusted_proxies=["127.0.0.1"])
    with GatewayProcess(config) as gateway:
        for host in ("only.test", "same.test"):
            told = {"host": host, "x-forwarded-proto": "https"}
            assert fetch(gateway.address, "GET", "/trusted", told).status == 200
        assert fetch(gateway.address, "GET", "/plain", {"host": "only.test"}).status == 403
        assert fetch(gateway.address, "GET", "/plain", {"host": "same.test"}).status == 301
