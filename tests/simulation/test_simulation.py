"""Schedules with faults at every client call: nothing lost, nothing invented. A failure names its seed."""

from __future__ import annotations

import pytest

from tests.simulation.world import run

_EACH = 10


@pytest.mark.parametrize("first", range(0, 100, _EACH))
@pytest.mark.parametrize("guarantee", ["exactly_once_v2", "at_least_once"])
def test_schedules(guarantee: str, first: int) -> None:
    for seed in range(first, first + _EACH):
        run(seed, exactly_once=guarantee == "exactly_once_v2")


def test_a_seed_repeats() -> None:
    for seed in (5, 6, 7):
        once, again = run(seed, exactly_once=True), run(seed, exactly_once=True)
        assert (once.now, once.counts, once.clock.wall_ms()) == (again.now, again.counts, again.clock.wall_ms())
