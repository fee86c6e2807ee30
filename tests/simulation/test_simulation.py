"""Schedules with faults at every client call: nothing lost, nothing invented. A failure names its seed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.world import FAULTS, run

_EACH = 10


@pytest.mark.parametrize("first", range(0, 100, _EACH))
@pytest.mark.parametrize("guarantee", ["exactly_once_v2", "at_least_once"])
def test_schedules(guarantee: str, first: int) -> None:
    for seed in range(first, first + _EACH):
        run(seed, exactly_once=guarantee == "exactly_once_v2")


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    exactly_once=st.booleans(),
    without=st.frozensets(st.sampled_from(sorted(FAULTS))),
    most_acts=st.integers(5, 160),
)
def test_any_schedule(seed: int, exactly_once: bool, without: frozenset[str], most_acts: int) -> None:
    """Hypothesis narrows a failure down to few steps."""
    run(seed, exactly_once=exactly_once, without=without, most_acts=most_acts)


def test_all_faults_can_be_left_out() -> None:
    known = set()
    for path in Path(__file__).parent.glob("*.py"):
        known |= set(re.findall(r'chance\("([^"]+)"\)', path.read_text()))
    assert known == FAULTS
    assert not FAULTS & set(run(0, exactly_once=True, without=FAULTS).counts)


def test_a_seed_repeats() -> None:
    for seed in (5, 6, 7):
        once, again = run(seed, exactly_once=True), run(seed, exactly_once=True)
        assert (once.now, once.counts, once.clock.wall_ms()) == (again.now, again.counts, again.clock.wall_ms())
