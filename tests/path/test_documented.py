"""The tables of docs/routing.md and docs/templates.md, tried row by row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.client import fetch
from support.configs import Config, gateway_config, route
from support.origin import Origin
from support.processes import GatewayProcess

DOCS = Path(__file__).parents[2] / "docs"
ROUTING = (DOCS / "routing.md").read_text(encoding="utf-8")
TEMPLATES = (DOCS / "templates.md").read_text(encoding="utf-8")

ROUTED = re.findall(r"^\| `([^` ]+)` \| `([A-Z]+) (/\S*)` \| (.+) \|$", ROUTING, re.MULTILINE)
RENDERED = re.findall(r"^\| `([^`]*\$[^`]*)` \| `([^`]+)` \|", TEMPLATES, re.MULTILINE)


def example(text: str) -> Config:
    """The first configuration of a page."""
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block is not None
    config: Config = yaml.safe_load(block.group(1))
    return config


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture(scope="module")
def routed(origin: Origin) -> Iterator[GatewayProcess]:
    config = example(ROUTING)
    host, port = origin.address
    config["services"][0]["endpoints"] = [{"ip": host, "port": port}]
    with GatewayProcess({"http": ["127.0.0.1:0"], "runtime": {"threads": 1}, **config}) as process:
        yield process


@pytest.mark.parametrize(("host", "method", "path", "outcome"), ROUTED)
def test_a_request_goes_where_the_manual_says(
    routed: GatewayProcess, origin: Origin, host: str, method: str, path: str, outcome: str
) -> None:
    before = len(origin.requests)
    answer = fetch(routed.address, method, path, {"host": host})
    if refused := re.match(r"(\d+)(?:, `Allow: (.+)`)?", outcome):
        assert (answer.status, answer.header("allow")) == (int(refused[1]), refused[2])
        assert len(origin.requests) == before
        return
    assert answer.status == 200
    (seen,) = origin.requests[before:]
    assert f"`{seen.method} {seen.target}`" == outcome


def test_the_selector_header_decides_before_the_host(routed: GatewayProcess, origin: Origin) -> None:
    for lane, target in (("canary", "/canary/x"), ("beta", "/canary/x"), ("gamma", "/x")):
        answer = fetch(routed.address, "GET", "/x", {"host": "shop.example", "x-lane": lane})
        assert answer.status == 200
        assert origin.requests[-1].target == target


@pytest.fixture(scope="module")
def rendered(origin: Origin) -> Iterator[dict[str, str]]:
    """What the service was sent for each template of the table."""
    fields = [{"name": f"x-row-{row}", "value": template} for row, (template, _) in enumerate(RENDERED)]
    middleware = [{"plugin": "RequestHeaderModifier", "payload": {"add": fields}}]
    config = gateway_config(origin.address, [route("/items/{id}", middleware=middleware)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGION", "north")
        with GatewayProcess(config) as process:
            headers = {"host": "shop.example:8080", "x-user": "ann", "cookie": "sid=7; theme=dark"}
            target = "/items/a%20b?q=caf%C3%A9+1&q=2"
            assert fetch(process.address, "POST", target, headers).status == 200
    seen = origin.requests[-1]
    yield {
        template: (seen.header(f"x-row-{row}") or "").encode("latin-1").decode()
        for row, (template, _) in enumerate(RENDERED)
    }


@pytest.mark.parametrize(("template", "text"), RENDERED)
def test_a_template_gives_what_the_manual_says(rendered: dict[str, str], template: str, text: str) -> None:
    assert rendered[template] == text


def test_the_tables_were_found() -> None:
    assert len(ROUTED) >= 15
    assert len(RENDERED) >= 20
