"""Every entry of the suite is in each host's plugin, or excused by name: no host passes by having less."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import nats
import pytest
from entries import plugin
from places import HOSTS, listed
from suite import Host
from unexpressed import UNEXPRESSED, page_table, without_unexpressed


def asking(url: str) -> Any:
    """A function that gets a worker's answer to a NATS subject."""

    async def ask(subject: str) -> Any:
        client = await nats.connect(url)
        try:
            return json.loads((await client.request(subject, timeout=10)).data)
        finally:
            await client.close()

    return lambda subject: asyncio.run(ask(subject))


def test_each_entry_is_in_the_plugin_or_excused(host: Host, nylon_nats: Any) -> None:
    excused = set(UNEXPRESSED.get(host.name, {}))
    there = listed(host.plugin, asking(nylon_nats.url))
    assert there | excused == set(plugin.entries)
    assert not there & excused, "what is there needs no excuse"


def test_the_page_says_what_each_host_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "native-abi.md").read_text()
    table = page_table(HOSTS, len(plugin.entries))
    assert table in page, f"docs/native-abi.md is to have this table:\n{table}"


def test_excuses_are_for_hosts_and_entries_that_there_are() -> None:
    assert set(UNEXPRESSED) <= set(HOSTS)
    for reasons in UNEXPRESSED.values():
        assert set(reasons) <= set(plugin.entries)
        assert all(reasons.values())


def test_routes_of_excused_entries_are_left_out_with_their_reasons() -> None:
    def path(name: str, service: str, *entries: str) -> dict[str, Any]:
        middleware = [{"plugin": "plugin", "entry": entry} for entry in entries]
        return {"path": f"/{name}/{{*rest}}", "service": {"name": service}, "middleware": middleware}

    paths = [path("one", "origin", "a"), path("two", "origin", "a", "b"), path("three", "served", "a")]
    served = {"name": "served", "plugin": {"name": "plugin", "entry": "c"}}
    config = {"routes": [{"name": "r", "paths": paths}], "services": [{"name": "origin"}, served]}
    left, omitted = without_unexpressed(config, {"b": "no b", "c": "no c"})
    assert left == {"routes": [{"name": "r", "paths": paths[:1]}], "services": [{"name": "origin"}]}
    assert omitted == {"two": "no b", "three": "no c"}


@pytest.mark.parametrize("name", ["one", "other"])
def test_a_case_on_an_omitted_route_is_skipped_with_the_reason(name: str) -> None:
    from suite import Case

    host: Any = type("Stub", (), {"omitted": {"one": "no one"}, "origin": None, "address": None})
    if name == "one":
        with pytest.raises(pytest.skip.Exception, match="one: no one"):
            Case(host, "key").path(name)
    else:
        assert Case(host, "key").path(name) == "/other/key"
