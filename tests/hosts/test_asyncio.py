"""`async def` handlers are real coroutines of a real task: asyncio's own things and the libraries on it work."""

from __future__ import annotations

import concurrent.futures

import pytest
from suite import Case


def test_asyncio_timeout_works_before_the_first_await(case: Case) -> None:
    assert case.get("timeout-passes").status == 200
    assert case.get("timeout-strikes").body == b"struck"


def test_task_groups_work(case: Case) -> None:
    assert case.get("task-group").json() == [0, 1, 2, 3, 4]


def test_there_is_one_current_task_before_and_after_the_first_await(case: Case) -> None:
    assert case.get("current-task").json() == [True, True]


@pytest.mark.parametrize("library", ["aiohttp", "httpx"])
def test_http_clients_work_before_the_first_await(case: Case, library: str) -> None:
    assert case.get(library).json() == f"/asked-by-{library}"


def test_a_handler_may_wait_for_several_things_at_once(case: Case) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(case.get, "gather-at-gate")
        case.origin.await_waiting(case.key, 2)
        case.origin.open_gate(case.key)
        assert answer.result().status == 200


@pytest.mark.parametrize("route", ["context-variable", "context-variable-blocking"])
def test_context_variables_are_each_requests_own(case: Case, route: str) -> None:
    for _ in range(8):
        assert case.get(route).json() == ["unset", True]


def test_def_and_async_def_share_a_session(case: Case) -> None:
    assert case.get("mixed").header("x-seen") == "async,def"
