"""What lives from phase to phase: closures, state, and the facts that `logging` gets."""

from __future__ import annotations

import concurrent.futures
import time

import pytest
from suite import Case
from support.client import Connection, request_bytes
from support.origin import Line, Received, Reply


def test_closures_live_across_the_phases(case: Case) -> None:
    answer = case.get("closure", {"x-who": "me"})
    assert answer.json() == ["request me", "response", "body"]
    assert case.told() == [["request me", "response", "body"]]


def test_closures_are_each_sessions_own(case: Case) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: case.get("closure", {"x-who": str(n)}).json(), range(40)))
    assert answers == [[f"request {n}", "response", "body"] for n in range(40)]


def test_one_entry_twice_in_a_chain_is_two_sessions(case: Case) -> None:
    assert case.get("twice", {"x-who": "me"}).json() == ["request me", "response", "body"]
    assert case.told(2) == [["request me", "response", "body"]] * 2


def test_state_lives_across_the_phases(case: Case) -> None:
    assert case.get("state").json() == {
        "log": ["request", "response", "body"],
        "kinds": {"none": None, "int": 2**40, "float": 0.5, "bytes": "00ff", "text": "caf\u00e9"},
    }
    assert case.told() == [["request", "response", "body"]]


def test_state_lives_beside_closures(case: Case) -> None:
    assert case.get("state-in-setup").header("x-state") == "{'n': 1}"


@pytest.mark.parametrize("route", ["state-too-large", "state-impossible"])
def test_state_that_cannot_travel_is_an_error(case: Case, route: str) -> None:
    assert case.get(route).status == 500
    assert case.forwarded(route) == []


def test_logging_gets_the_facts(case: Case) -> None:
    def behaviour(line: Line, request: Received) -> Reply:
        time.sleep(0.01)  # some languages count in milliseconds
        return Reply(404, [("x-origin", "o")], b"x" * 1000)

    case.origin.behave(case.path("log-facts"), behaviour)
    assert case.get("log-facts").status == 404
    (facts,) = case.told()
    assert (facts["status"], facts["bytes"], facts["error"]) == (404, 1000, None)
    assert (facts["method"], facts["path"], facts["header"]) == ("GET", case.path("log-facts"), "o")
    assert 0.01 <= facts["duration"] < 60
    assert len(facts["request_id"]) == 32


def test_logging_knows_of_a_failed_upstream(case: Case) -> None:
    assert case.get("refusing-logged").status == 502
    (facts,) = case.told()
    assert facts["status"] == 502
    assert "refused" in facts["error"]


def test_logging_knows_of_a_client_that_left(case: Case) -> None:
    body = b"x" * 50_000_000
    case.origin.answer(case.path("log-facts"), Reply(200, [], body))
    with Connection(case.address) as connection:
        connection.send(request_bytes("GET", case.path("log-facts")))
        connection.read_head()
        connection.reset()
    (facts,) = case.told()
    assert facts["status"] == 200
    assert facts["bytes"] < len(body)
    assert facts["error"]


def test_logging_knows_of_a_body_that_broke_off(case: Case) -> None:
    def behaviour(line: Line, request: Received) -> None:
        line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")

    case.origin.behave(case.path("log-facts"), behaviour)
    with Connection(case.address) as connection:
        connection.send(request_bytes("GET", case.path("log-facts")))
        connection.read_until_closed()
    (facts,) = case.told()
    assert (facts["status"], facts["bytes"]) == (200, 9)
    assert facts["error"]


def test_logging_never_delays_the_client(case: Case) -> None:
    """The whole answer is there while `logging` still waits at its gate."""
    with Connection(case.address) as connection:
        answer = connection.request("GET", case.path("slow-log"))
        assert answer.status == 200
        case.origin.await_waiting(case.key)
        assert connection.request("GET", case.path("open")).status == 200
    assert case.origin.told(case.key) == []
    case.origin.open_gate(case.key)
    assert case.told() == ["logged"]
