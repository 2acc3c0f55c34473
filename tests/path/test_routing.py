"""Which requests go where: header, host, path, method, and the path that the service sees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.client import Answer, fetch
from support.configs import Config, gateway_config, route
from support.origin import Origin
from support.processes import GatewayProcess


def host_route(name: str, hosts: str, paths: list[Config], kind: str = "host") -> Config:
    return {"name": name, "route": {"type": kind, "value": hosts}, "paths": paths}


def to(name: str, path: str | list[str], **more: object) -> Config:
    """A path whose requests reach the origin under `/name`, so that a test sees which rule it was."""
    return route(path, rewrite=f"/{name}", **more)


CORS = {"plugin": "Cors", "payload": {"allow_origins": ["https://a.test"], "allow_methods": ["PUT"]}}

ROUTES = [
    host_route("selected", "blue|green", [to("selected", "/{*rest}")], "header"),
    host_route("exact", "a.example|b.example", [to("exact", "/{*rest}")]),
    host_route("suffix", "*.example", [to("suffix", "/{*rest}")]),
    host_route("deeper", "*.deep.example", [to("deeper", "/{*rest}")]),
    host_route(
        "paths",
        "paths.test",
        [
            to("fixed", "/items/new"),
            to("one", "/items/{id}"),
            to("two", ["/items/{id}/parts/{part}", "/parts/{part}"]),
            to("get", "/methods", methods=["GET", "HEAD"]),
            to("post", "/methods", methods=["POST"]),
            route("/kept/{*rest}"),
            route("/api/{*rest}", rewrite="/v2"),
            route("/user/{id}/posts/{*rest}", rewrite="/u/{id}/p"),
            route("/joined/a{a}/b{b}", rewrite="/files/{a}{b}/x"),
            to("only-get", "/only-get", methods=["GET"]),
            to("shared", "/shared", methods=["PUT"], middleware=[CORS]),
            to("root", "/"),
        ],
    ),
    host_route("address", "[::1]|127.0.0.1", [to("address", "/{*rest}")]),
]


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[GatewayProcess, Origin]]:
    with Origin() as origin:
        config = gateway_config(origin.address, header_selector="x-lane", routes=ROUTES)
        with GatewayProcess(config) as process:
            yield process, origin


class Ask:
    """Requests to the gateway of this file."""

    def __init__(self, gateway: tuple[GatewayProcess, Origin]) -> None:
        self.address = gateway[0].address

    def __call__(self, host: str, path: str, method: str = "GET", **headers: str) -> Answer:
        return fetch(self.address, method, path, {"host": host, **headers})

    def target(self, host: str, path: str, **headers: str) -> str:
        answer = self(host, path, **headers)
        assert answer.status == 200, answer
        return str(answer.json()["target"])


@pytest.fixture
def ask(gateway: tuple[GatewayProcess, Origin]) -> Ask:
    return Ask(gateway)


@pytest.mark.parametrize(
    ("host", "rule"),
    [
        ("a.example", "exact"),
        ("b.example:8080", "exact"),
        ("A.EXAMPLE", "exact"),
        ("a.example.", "exact"),
        ("c.example", "suffix"),
        ("x.y.example", "suffix"),
        ("x.deep.example", "deeper"),
        ("deep.example", "suffix"),
        ("[::1]", "address"),
        ("[0:0:0::0:1]:80", "address"),
        ("127.0.0.1:8080", "address"),
    ],
)
def test_host_picks_the_route(ask: Ask, host: str, rule: str) -> None:
    assert ask.target(host, "/x") == f"/{rule}/x"


@pytest.mark.parametrize("host", ["example", "other.test", "example.org", "xexample", "[::2]", "10.0.0.1"])
def test_a_host_of_no_route_is_404(ask: Ask, gateway: tuple[GatewayProcess, Origin], host: str) -> None:
    answer = ask(host, "/x")
    assert answer.status == 404
    assert answer.json()["error"] == "no route"
    assert not any(request.header("host") == host for request in gateway[1].requests)


def test_the_selector_header_comes_before_the_host(ask: Ask) -> None:
    assert ask.target("a.example", "/x", **{"x-lane": "blue"}) == "/selected/x"
    assert ask.target("nobody.test", "/x", **{"x-lane": "green"}) == "/selected/x"
    assert ask.target("a.example", "/x", **{"x-lane": "red"}) == "/exact/x"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/items/new", "/fixed"),
        ("/items/7", "/one"),
        ("/items/new%20one", "/one"),
        ("/items/7/parts/8", "/two"),
        ("/parts/8", "/two"),
        ("/", "/root"),
        ("/?q=/items/7", "/root?q=/items/7"),
        ("/kept/a%2Fb/c?d=/../e", "/kept/a%2Fb/c?d=/../e"),
        ("/kept/../items/new", "/fixed"),
        ("/%69tems//new", "/fixed"),
        ("/api/users/7?x=1", "/v2/users/7?x=1"),
        ("/user/a%20b/posts/c/d", "/u/a%20b/p/c/d"),
    ],
)
def test_path_picks_the_rule_and_is_rewritten(ask: Ask, path: str, target: str) -> None:
    assert ask.target("paths.test", path) == target


def test_captured_pieces_cannot_make_a_path_that_leads_elsewhere(
    ask: Ask, gateway: tuple[GatewayProcess, Origin]
) -> None:
    assert ask.target("paths.test", "/joined/a1/b2") == "/files/12/x"
    for path in ("/joined/a./b.", "/joined/a../b;", "/joined/a..%2F/bx"):
        answer = ask("paths.test", path)
        assert (answer.status, answer.json()["error"]) == (400, "the path cannot be rewritten")
    assert not any(request.target.startswith("/files/.") for request in gateway[1].requests)


@pytest.mark.parametrize("path", ["/items", "/items/7/parts", "/Items/7", "/items/7/", "/nothing", "/api"])
def test_a_path_of_no_rule_is_404(ask: Ask, path: str) -> None:
    assert ask("paths.test", path).status == 404


def test_method_picks_among_rules_of_one_path(ask: Ask) -> None:
    assert ask("paths.test", "/methods", "GET").json()["target"] == "/get"
    assert ask("paths.test", "/methods", "POST").json()["target"] == "/post"
    assert ask("paths.test", "/methods", "HEAD").status == 200


def test_another_method_is_405_and_learns_which_there_are(ask: Ask) -> None:
    answer = ask("paths.test", "/methods", "DELETE")
    assert answer.status == 405
    assert {method.strip() for method in (answer.header("allow") or "").split(",")} == {"GET", "HEAD", "POST"}


def test_head_goes_where_get_goes(ask: Ask) -> None:
    answer = ask("paths.test", "/only-get", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    answer = ask("paths.test", "/only-get", "OPTIONS")
    assert (answer.status, answer.header("allow")) == (405, "GET, HEAD")


def test_a_preflight_reaches_the_cors_of_the_method_that_it_asks_about(
    ask: Ask, gateway: tuple[GatewayProcess, Origin]
) -> None:
    fields = {"origin": "https://a.test", "access-control-request-method": "PUT"}
    before = len(gateway[1].requests)
    answer = ask("paths.test", "/shared", "OPTIONS", **fields)
    assert (answer.status, answer.header("access-control-allow-methods")) == (204, "PUT")
    for path, headers in (("/shared", {}), ("/only-get", fields | {"access-control-request-method": "GET"})):
        assert ask("paths.test", path, "OPTIONS", **headers).status == 405
    assert len(gateway[1].requests) == before


def test_errors_of_the_gateway_name_the_request(ask: Ask) -> None:
    error = ask("paths.test", "/nothing").json()
    assert set(error) == {"error", "status", "request_id"}
    assert error["status"] == 404
