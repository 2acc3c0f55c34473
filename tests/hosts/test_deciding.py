"""Next, end, neither, both: where an exchange goes, and which middlewares see it on its way back."""

from __future__ import annotations

import pytest
from routes import FILTERS, PHASES
from suite import Case
from support.client import Answer

ECHO_PREFIX = b'{"method"'


def order(answer: Answer) -> str:
    """The response filters that ran, and the body filters."""
    return "".join(answer.all("x-order"))


def test_phases_run_in_onion_order(case: Case) -> None:
    answer = case.get("onion")
    assert answer.status == 200
    (received,) = case.forwarded("onion")
    assert received.all("x-order") == ["a", "b", "c"]
    assert order(answer) == "cba"
    assert answer.body.endswith(b"} c b a")
    assert answer.header("content-length") == str(len(answer.body))
    assert sorted(case.told(3)) == ["a", "b", "c"]


def test_a_payload_is_rendered_once_and_sees_what_the_chain_has_done(case: Case) -> None:
    answer = case.get("templates-onion")
    assert answer.status == 200
    (received,) = case.forwarded("templates-onion")
    name, again = received.all("x-order")
    assert len(name) == 36
    assert again == name
    assert order(answer) == name * 2
    assert answer.body.endswith(f"}} {name} {name}".encode())
    assert case.told(2) == [name, name]


def test_a_template_beyond_its_limit_fails_the_phase(case: Case) -> None:
    answer = case.get("templates-too-long", {"x-long": "a" * 40_000})
    assert answer.status == 500
    assert case.forwarded("templates-too-long") == []


def test_a_middleware_is_called_only_when_its_condition_holds(case: Case) -> None:
    """In no phase otherwise, and as if it was not there."""
    answer = case.get("when-odd", {"x-odd": "1"})
    assert order(answer) == "codda"
    assert sorted(case.told(3)) == ["a", "c", "odd"]
    for route, headers in (("when-odd", {}), ("when", {"x-odd": "1"})):
        answer = case.get(route, headers)
        assert order(answer) == "ca"
        assert answer.body.endswith(b"} c a")


def test_end_in_request_filter_stops_and_answers(case: Case) -> None:
    """The ender takes part in the response phases, whoever stands behind it does not."""
    answer = case.get("stop-in-request_filter")
    assert answer.status == 403
    assert answer.body == b"stopped stop a"
    assert order(answer) == "stopa"
    assert case.forwarded("stop-in-request_filter") == []
    assert sorted(case.told(2)) == ["a", "stop"]


def test_end_in_response_filter_skips_the_remaining_ones(case: Case) -> None:
    answer = case.get("stop-in-response_filter")
    assert answer.status == 200
    assert order(answer) == "cstop"
    assert answer.body.endswith(b" c stop a")
    assert sorted(case.told(3)) == ["a", "c", "stop"]


def test_end_in_response_body_filter_skips_the_remaining_ones(case: Case) -> None:
    answer = case.get("stop-in-response_body_filter")
    assert order(answer) == "cstopa"
    assert answer.body.endswith(b"} c stop")


def test_end_in_logging_changes_nothing(case: Case) -> None:
    answer = case.get("stop-in-logging")
    assert answer.status == 200
    assert answer.body.endswith(b" c stop a")
    assert sorted(case.told(3)) == ["a", "c", "stop"]


@pytest.mark.parametrize("route", ["undecided", "undecided-awaited"])
def test_deciding_nothing_is_an_error_never_a_pass(case: Case, route: str) -> None:
    assert case.get(route).status == 500
    assert case.forwarded(route) == []


def test_deciding_nothing_passes_untouched_only_where_the_policy_says_so(case: Case) -> None:
    assert case.seen("undecided-continue").all("x-undecided") == []


def test_a_plain_return_means_next_in_the_later_phases(case: Case) -> None:
    answer = case.get("response-undecided")
    assert (answer.status, answer.header("x-response"), answer.header("x-body")) == (200, "1", "1")
    assert answer.body.startswith(ECHO_PREFIX)


def test_a_forgotten_return_after_end_does_not_open_the_door(case: Case) -> None:
    assert case.get("end-then-next").status == 500
    assert case.forwarded("end-then-next") == []


def test_the_first_decision_wins(case: Case) -> None:
    answer = case.get("end-then-next-caught")
    assert (answer.status, answer.body) == (403, b"refused")
    assert "End" in (answer.header("x-error") or "")
    assert case.forwarded("end-then-next-caught") == []
    assert case.seen("next-twice-caught").header("x-refused") == "yes"


def test_a_raise_after_next_is_still_an_error(case: Case) -> None:
    assert case.get("next-then-raise").status == 500
    assert case.forwarded("next-then-raise") == []


def test_writes_after_next_count_since_all_takes_effect_at_the_return(case: Case) -> None:
    assert case.seen("write-after-next").header("x-after") == "1"


def test_a_response_drafted_before_next_is_dropped(case: Case) -> None:
    answer = case.get("draft-then-next")
    assert answer.status == 200
    assert answer.header("x-draft") is None
    assert answer.header("content-type") == "application/json"
    assert answer.body.startswith(ECHO_PREFIX)


@pytest.mark.parametrize("phase", FILTERS)
def test_a_failed_middleware_is_left_out_of_what_follows(case: Case, phase: str) -> None:
    """Where a failure ends the exchange, those who were well still see the error on its way out."""
    answer = case.get(f"onion-raise-in-{phase}")
    assert answer.status == 500
    assert b"plugin error" in answer.body
    ran = {"request_filter": "a", "response_filter": "", "response_body_filter": ""}[phase]
    assert order(answer) == ran
    assert answer.header("x-changed") is None


@pytest.mark.parametrize("phase", FILTERS)
def test_a_failed_middleware_that_may_fail_is_left_out_and_the_rest_go_on(case: Case, phase: str) -> None:
    """One that failed in a phase takes part in no later one either ("r" and "b" are its own marks)."""
    answer = case.get(f"onion-continue-{phase}")
    assert answer.status == 200
    assert order(answer) == ("cra" if phase == "response_body_filter" else "ca")
    assert answer.header("x-changed") is None
    assert answer.body.endswith(b"} c a")


@pytest.mark.parametrize("phase", PHASES)
def test_logging_runs_for_every_middleware_that_was_called(case: Case, phase: str) -> None:
    """Also for one that failed; not for one that the exchange never reached."""
    case.get(f"onion-raise-in-{phase}")
    told = case.told(2 if phase == "request_filter" else 3)
    names = sorted(what if isinstance(what, str) else "failed" for what in told)
    assert names == (["a", "failed"] if phase == "request_filter" else ["a", "c", "failed"])


def test_a_plugin_service_answers_itself(case: Case) -> None:
    answer = case.get("served")
    assert answer.status == 299
    assert answer.json() == {"path": case.path("served"), "payload": "n"}


def test_a_plugin_service_is_filtered_like_any_other(case: Case) -> None:
    answer = case.get("filtered-served")
    assert answer.status == 299
    assert answer.body.endswith(b'"PAYLOAD":"N"}!')


def test_a_plugin_service_that_passes_is_an_error(case: Case) -> None:
    assert case.get("served-pass").status == 500


def test_a_route_without_middleware_runs_none(case: Case) -> None:
    assert case.seen("open").all("x-order") == []
