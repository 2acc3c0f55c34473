"""Requests that two programs could read in two ways, from the corpus of http_desync_guardian.

Its severe and its ambiguous ones are sent with bytes behind them that are a second request for whoever misreads
where the first one ends. Such a request is refused, the client's connection ends with it, and no origin sees either.
The cases that RFC 9112 reads in one way only are forwarded, and the origin finds the same end as the gateway.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import yaml
from support.client import Connection
from support.crates import crate
from support.origin import Origin
from support.processes import GatewayProcess

REFUSED = 106
"""How many requests are refused; fewer would mean that some of the corpus were not read."""

BEHIND = b"0\r\n\r\nGET /behind HTTP/1.1\r\nHost: behind\r\nX: " + 1_000 * b"x" + b"\r\n\r\n"


@dataclass
class Case:
    """One request of the corpus."""

    name: str
    head: bytes


def encoded(text: object) -> bytes:
    """As the corpus means it: an escape is one byte, other letters are UTF-8."""
    text = str(text)
    return text.encode("latin-1" if max(text, default="a") < "\u0100" else "utf-8")


def cases() -> list[Case]:
    """All that are severe or ambiguous."""
    found = []
    for file in sorted((crate("http_desync_guardian") / "tests").glob("*.yaml")):
        documents: list[dict[str, Any]] = yaml.safe_load(file.read_text())
        for case in documents:
            if case["expected"]["tier"] not in ("Severe", "Ambiguous"):
                continue
            fields = [(encoded(field["name"]), encoded(field["value"])) for field in case["headers"]]
            if all(name.lower() != b"host" for name, _ in fields):
                fields.insert(0, (b"Host", b"desync"))
            first = b" ".join(filter(None, (encoded(case[key]) for key in ("method", "uri", "version"))))
            lines = [first, *(name + b": " + value for name, value in fields)]
            found.append(Case(f"{file.stem}: {case['name']}", b"\r\n".join(lines) + b"\r\n\r\n"))
    return found


READ_IN_ONE_WAY = {
    # A body of a GET or a HEAD has no meaning, but a length like any other (RFC 9110, 9.3.1).
    "ambiguous: Get with a body and Content-Length": ("GET", 1000),
    "ambiguous: Get with a body and Transfer-Encoding": ("GET", 0),
    "ambiguous: Head with a body and Content-Length": ("HEAD", 1000),
    "ambiguous: Head with a body and Transfer-Encoding": ("HEAD", 0),
    "real-life-test-cases: Has a CL in GET": ("GET", 22),
    "real-life-test-cases: Has a TE in GET": ("GET", 0),
    # Fields of other names, which say nothing about the length.
    "ambiguous: Transfer_Encoding with underscore.": ("POST", 0),
    "ambiguous: Content_Length with underscore.": ("POST", 0),
    "ambiguous: Transfer-Encoding with multiple hyphens": ("POST", 0),
    "ambiguous: Transfer-Encoding with multiple delimiters": ("POST", 0),
}
"""Cases that are forwarded: the method, and how long the body is."""


def test_what_can_be_read_in_two_ways_is_refused_and_ends_the_connection(
    plain: tuple[GatewayProcess, Origin],
) -> None:
    gateway, origin = plain
    refused = [case for case in cases() if case.name not in READ_IN_ONE_WAY]
    assert len(refused) == REFUSED
    wrong = []
    for case in refused:
        before = len(origin.requests)
        with Connection(gateway.address) as connection:
            # The refusal may come before all is sent.
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.send(case.head + BEHIND)
            answers = connection.read_until_closed()
        forwarded = [request.path for request in origin.requests[before:]]
        if not answers.startswith(b"HTTP/1.1 400 ") or answers.count(b"HTTP/1.1 ") != 1 or forwarded:
            wrong.append((case, answers, forwarded))
    assert wrong == []


def test_what_can_be_read_in_one_way_only_has_that_length_for_the_origin_too(
    plain: tuple[GatewayProcess, Origin],
) -> None:
    gateway, origin = plain
    forwarded = {case.name: case for case in cases() if case.name in READ_IN_ONE_WAY}
    assert forwarded.keys() == READ_IN_ONE_WAY.keys()
    for name, (method, length) in READ_IN_ONE_WAY.items():
        head = forwarded[name].head
        behind = b"0\r\n\r\n" if b"chunked" in head and b"\r\nTransfer-Encoding:" in head else length * b"x"
        before = len(origin.requests)
        with Connection(gateway.address) as connection:
            connection.send(head + behind)
            assert connection.read_answer(method).status == 200, name
            # The next one is where both believe it to be.
            assert connection.request("GET", "/next").json()["target"] == "/next", name
        seen = [
            (request.method, request.body, request.complete)
            for request in origin.requests[before:]
            if request.path != "/next"
        ]
        assert seen == [(method, length * b"x", True)], name
