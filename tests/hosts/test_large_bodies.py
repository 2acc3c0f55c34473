"""Bodies of any size arrive byte by byte, whatever carries them: on workers they travel in parts beyond 256 KiB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from entries.bodies import content
from places import HOSTS
from suite import Case, Host, running_host
from support.client import Address
from support.configs import Config, gateway_config, route
from support.origin import Reply

KIB, MIB = 1024, 1024 * 1024
SIZES = [0, 1, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, MIB - 1, MIB, MIB + 1]
LARGE = 20 * MIB

REQUEST = ("mirror-body", "mirror-body-awaited")
ANSWER = ("answer-content", "last-chunk-content")
MIRROR = "mirror-answer"
ENTRIES = (*REQUEST, *ANSWER, MIRROR)


def configure(origin: Address, plugin: Config, sections: Config) -> Config:
    chains = {name: [name] for name in ENTRIES} | {"digest-answer": ["digest-answer", "answer-content"]}
    paths = [
        route(f"/{name}/{{*rest}}", middleware=[{"plugin": "plugin", "entry": entry} for entry in chain])
        for name, chain in chains.items()
    ]
    limits = {"max_body_bytes": LARGE}
    plugins = [{"name": "plugin", **plugin}]
    return gateway_config(origin, [*paths, route("/{*rest}")], plugins=plugins, limits=limits, **sections)


@pytest.fixture(scope="module", params=tuple(HOSTS))
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """The suite's hosts with a limit that lets the largest body through, each in processes of its own."""
    with running_host(request, configure, "large", "/answer-content/ready?0") as running:
        yield running


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def check(case: Case, name: str, size: int) -> None:
    """One request whose body of this size passes the entry's handler."""
    body = content(size)
    if name in REQUEST:
        assert case.send("POST", name, body=body).status == 200
        assert digest(case.forwarded(name)[-1].body) == digest(body[::-1]), size
    elif name in ANSWER:
        assert digest(case.get(name, query=str(size)).body) == digest(body), size
    else:
        case.origin.answer(case.path(name), Reply(200, [], body))
        assert digest(case.get(name).body) == digest(body[::-1]), size


@pytest.mark.parametrize("name", ENTRIES)
def test_bodies_around_every_limit_arrive_as_they_were(case: Case, name: str) -> None:
    for size in SIZES:
        check(case, name, size)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_body_of_20_mib_arrives_as_it_was(case: Case, name: str) -> None:
    check(case, name, LARGE)


def test_a_response_filter_reads_the_large_body_of_the_handler_that_ended(case: Case) -> None:
    answer = case.get("digest-answer", query=str(3 * MIB))
    assert answer.header("x-seen") == digest(answer.body) == digest(content(3 * MIB))


def test_a_body_over_the_limit_is_still_413(case: Case) -> None:
    assert case.send("POST", "mirror-body", body=bytes(LARGE + 1)).status == 413
    assert case.forwarded("mirror-body") == []


@pytest.mark.not_on("python", "python-inline", "native-[!p]*", reason="in the gateway no body travels")
def test_memory_is_bounded_by_the_body(case: Case) -> None:
    """A small multiple of it: what the handler's own copies take, and what the allocators of four threads keep."""
    for _ in range(5):
        check(case, "mirror-body", LARGE)
    gateway = case.host.gateway
    before = (gateway.peak_memory, case.host.handlers_memory)
    for _ in range(4):
        check(case, "mirror-body", LARGE)
    assert gateway.peak_memory <= before[0] + LARGE
    assert case.host.handlers_memory <= before[1] + LARGE
    assert gateway.peak_memory < 15 * LARGE
    assert case.host.handlers_memory < 25 * LARGE
