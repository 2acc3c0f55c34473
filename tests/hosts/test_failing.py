"""Raises, time-outs and late results: the policy decides, the client learns nothing, nothing half-done stays."""

from __future__ import annotations

import concurrent.futures
import re

import pytest
from entries.failing import SECRET
from routes import FILTERS, PHASES
from suite import Case
from support.client import Answer, fetch
from support.waiting import eventually


def assert_error(answer: Answer, status: int, text: str) -> str:
    """The client gets a short JSON error and nothing else; returns the request's id."""
    assert answer.status == status
    assert answer.header("content-type") == "application/json"
    error = answer.json()
    assert set(error) == {"error", "status", "request_id"}
    assert (error["error"], error["status"]) == (text, status)
    assert re.fullmatch("[0-9a-f]{32}", error["request_id"])
    everything = repr(answer.headers) + answer.body.decode()
    assert SECRET not in everything
    assert "Traceback" not in everything
    assert ".py" not in everything
    assert answer.header("x-changed") is None
    return str(error["request_id"])


@pytest.mark.parametrize("phase", FILTERS)
def test_a_raise_is_the_clients_500_and_the_whole_story_in_the_log(case: Case, phase: str) -> None:
    answer = case.send("POST", f"raise-in-{phase}", body=b"sent")
    request_id = assert_error(answer, 500, "plugin error")
    record = rf"{request_id}.*?{SECRET}|{SECRET}(?:(?!request_id=).)*request_id={request_id}[^\n]*"
    if case.host.language == "python":
        record = rf"{request_id}.*?Traceback.*?{SECRET}"
    logged = eventually(
        lambda: re.search(record, case.host.handlers_log, re.DOTALL), "what was raised in the log"
    )
    assert phase in logged.group()
    eventually(lambda: request_id in case.host.gateway.log, "the request in the gateway's log")
    assert len(case.forwarded(f"raise-in-{phase}")) == (0 if phase == "request_filter" else 1)
    assert case.origin.received("/changed") == []


@pytest.mark.parametrize("phase", FILTERS)
def test_a_raise_that_may_be_passed_over_leaves_nothing_behind(case: Case, phase: str) -> None:
    answer = case.send("POST", f"raise-continue-{phase}", {"x-own": "1"}, b"sent")
    assert answer.status == 200
    assert answer.header("x-changed") is None
    assert answer.json()["body"] == "sent"
    (received,) = case.forwarded(f"raise-continue-{phase}")
    assert (received.method, received.target) == ("POST", case.path(f"raise-continue-{phase}"))
    assert received.body == b"sent"
    assert received.all("x-changed") == []
    assert case.told() == [{"status": 200, "error": None, "state": {}}]


def test_a_raise_in_logging_is_nobodys_business_but_the_logs(case: Case) -> None:
    answer = case.get("raise-in-logging")
    assert answer.status == 200
    assert case.told()[0]["status"] == 200
    eventually(
        lambda: re.search(
            rf"logging[^\n]*{SECRET}|logging handler raised.*?{SECRET}|{SECRET}(?:(?!phase=).)*phase=logging",
            case.host.handlers_log,
            re.DOTALL,
        ),
        "what was raised in the log",
    )
    assert case.get("raise-in-logging").status == 200


def test_logging_knows_why_an_exchange_failed(case: Case) -> None:
    case.get("raise-in-request_filter")
    (told,) = case.told()
    assert told["status"] == 500
    assert SECRET in told["error"]
    assert told["state"] == {}


@pytest.mark.parametrize("route", ["raise-awaited", "raise-exit", "raise-cancelled", "raise-in-setup"])
def test_every_sort_of_raise_ends_one_request_only(case: Case, route: str) -> None:
    for _ in range(2):
        assert_error(case.get(route), 500, "plugin error")
    assert case.forwarded(route) == []
    assert case.get("fine").status == 200


@pytest.mark.parametrize("phase", FILTERS)
def test_a_time_out_is_504(case: Case, phase: str) -> None:
    assert_error(case.get(f"hang-in-{phase}"), 504, "plugin timed out")
    assert len(case.forwarded(f"hang-in-{phase}")) == (0 if phase == "request_filter" else 1)


@pytest.mark.parametrize("phase", FILTERS)
def test_a_time_out_that_may_be_passed_over_leaves_nothing_behind(case: Case, phase: str) -> None:
    answer = case.get(f"hang-continue-{phase}")
    assert answer.status == 200
    assert answer.header("x-changed") is None
    (received,) = case.forwarded(f"hang-continue-{phase}")
    assert received.all("x-changed") == []


@pytest.mark.not_on("python-inline", reason="an inline call cannot be pre-empted: it would block its thread")
def test_a_context_is_closed_once_its_time_is_over(case: Case) -> None:
    assert_error(case.get("late"), 504, "plugin timed out")
    case.origin.open_gate(case.key)
    assert case.told() == [["closed"] * 7]


@pytest.mark.not_on("python-inline", reason="an inline call cannot be pre-empted: it would block its thread")
def test_a_decision_after_the_time_out_counts_for_nothing(case: Case) -> None:
    assert_error(case.get("late-next"), 504, "plugin timed out")
    case.origin.open_gate(case.key)
    assert case.told() == ["done"]
    assert case.get("fine").status == 200
    assert case.forwarded("late-next") == []


def test_a_context_is_closed_after_its_phase(case: Case) -> None:
    answer = case.get("keep-context")
    assert answer.status == 200
    assert answer.header("x-closed") == ",".join(["closed"] * 6)


@pytest.mark.not_on("python-inline", reason="an inline handler blocks its thread: that is the bargain")
def test_a_handler_that_blocks_stops_no_other_route(case: Case) -> None:
    """With the plugin's whole pool blocked, everything that needs no thread of it goes on."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        blocked = [pool.submit(case.get, "block") for _ in range(4)]
        case.origin.await_waiting(case.key, 4)
        assert case.get("open").status == 200
        assert case.get("fine-awaited").status == 200
        assert not any(future.done() for future in blocked)
        case.origin.open_gate(case.key)
        assert [future.result().status for future in blocked] == [200] * 4


@pytest.mark.not_on("python-inline", reason="an inline handler blocks its thread: that is the bargain")
def test_a_blocked_handler_leaves_the_pools_other_threads_free(case: Case) -> None:
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        blocked = [pool.submit(case.get, "block") for _ in range(3)]
        case.origin.await_waiting(case.key, 3)
        assert case.get("fine").status == 200
        case.origin.open_gate(case.key)
        assert [future.result().status for future in blocked] == [200] * 3


def test_awaiting_handlers_wait_side_by_side(case: Case) -> None:
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(case.get, "block-awaited") for _ in range(20)]
        case.origin.await_waiting(case.key, 20)
        case.origin.open_gate(case.key)
        assert [future.result().status for future in waiting] == [200] * 20


def test_a_client_that_leaves_while_a_handler_waits_harms_nobody(case: Case) -> None:
    from support.client import Connection, request_bytes

    with Connection(case.address) as connection:
        connection.send(request_bytes("GET", case.path("block-awaited")))
        case.origin.await_waiting(case.key)
        connection.reset()
    case.origin.open_gate(case.key)
    assert case.get("fine").status == 200


@pytest.mark.not_on("python*", "native*", reason="there it is an error at start: see tests/failure")
def test_an_entry_that_no_worker_has_is_an_error_never_a_pass(case: Case) -> None:
    assert fetch(case.address, "GET", case.path("no-such-entry")).status == 500
    assert case.forwarded("no-such-entry") == []


def test_the_suite_covers_every_phase() -> None:
    assert PHASES == ("request_filter", "response_filter", "response_body_filter", "logging")
