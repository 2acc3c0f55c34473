"""Limits of a worker process, and the pauses before it is started again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nylon.backoff import Backoff
from nylon.errors import ConfigError
from nylon.recycling import Recycling, resident_megabytes


@given(most=st.integers(1, 10_000), jitter=st.none() | st.integers(0, 10_000))
def test_each_process_draws_its_own_limit_within_the_jitter(most, jitter):
    drawn = Recycling(max_requests=most, jitter=jitter, max_rss=10.0).drawn()
    assert most <= drawn.max_requests <= most + (most // 10 if jitter is None else jitter)
    assert drawn.max_rss == 10.0


def test_processes_started_together_do_not_end_together():
    limits = Recycling(max_requests=1000)
    assert len({limits.drawn().max_requests for _ in range(50)}) > 10


def test_limit_of_calls_is_reached_with_the_last_of_them():
    limits = Recycling(max_requests=100)
    assert limits.reached(99) is None
    assert limits.reached(100) == "it has had 100 calls"


def test_limit_of_memory_is_reached_by_what_is_held_now():
    held = resident_megabytes()
    assert held > 5
    assert Recycling(max_rss=held * 2).reached(1_000_000) is None
    assert "more than 5" in Recycling(max_rss=5).reached(0)


def test_no_limit_is_never_reached():
    assert Recycling().drawn().reached(10**9) is None


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_requests": 0}, "max_requests is 0"),
        ({"max_rss": -1.0}, "max_rss is -1.0"),
        ({"max_requests": 1, "jitter": -1}, "max_requests_jitter is -1"),
    ],
)
def test_limit_that_cannot_work_is_an_error(limits, said):
    with pytest.raises(ConfigError, match=said):
        Recycling(**limits)


@given(first=st.floats(0.01, 1), times=st.integers(1, 12))
def test_pauses_double_up_to_the_longest_and_begin_anew(first, times):
    backoff = Backoff(first, first * 100)
    for n in range(times):
        wanted = min(first * 2**n, first * 100)
        assert 0.75 * wanted <= backoff.next() <= 1.25 * wanted
    backoff.reset()
    assert 0.75 * first <= backoff.next() <= 1.25 * first
