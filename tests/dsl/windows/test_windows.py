"""The values that describe windows: what they refuse, and which windows a timestamp is in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import JoinWindows, SessionWindows, SlidingWindows, TimeWindows, TopologyError, UnlimitedWindows
from streamlet.dsl.time_window_operators import starts_of
from tests.dsl.windows.support import ms

NO_GRACE = timedelta(0)

REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: TimeWindows.of_size(NO_GRACE, grace=NO_GRACE), "size of windows must be whole milliseconds from 1"),
    (lambda: TimeWindows.of_size(ms(5), grace=ms(-1)), "grace must be"),
    (lambda: TimeWindows.of_size(timedelta(microseconds=1500), grace=NO_GRACE), "whole milliseconds"),
    (lambda: TimeWindows.of_size(5, grace=NO_GRACE), "must be a timedelta"),  # type: ignore[arg-type]  # the error is tested
    (lambda: TimeWindows.of_size(ms(5), grace=NO_GRACE).advance_by(ms(6)), "no window"),
    (lambda: TimeWindows.of_size(ms(5), grace=NO_GRACE).advance_by(NO_GRACE), "advance"),
    (lambda: SlidingWindows.of_time_difference(ms(-1), grace=NO_GRACE), "time difference"),
    (lambda: SessionWindows.of_inactivity_gap(NO_GRACE, grace=NO_GRACE), "inactivity gap"),
    (lambda: UnlimitedWindows.of().start_on(-1), "start of a window"),
    (lambda: JoinWindows.of_time_difference(ms(5), grace=NO_GRACE).before(ms(-6)), "must not end before it begins"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_bad_windows_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        make()


@given(st.integers(1, 30), st.data(), st.integers(0, 200))
def test_a_timestamp_is_in_all_windows_that_hold_it(size: int, data: st.DataObject, timestamp: int) -> None:
    advance = data.draw(st.integers(1, size))
    windows = TimeWindows.of_size(ms(size), grace=NO_GRACE).advance_by(ms(advance))
    brute = [start for start in range(0, timestamp + 1, advance) if start <= timestamp < start + size]
    assert list(starts_of(windows)(timestamp)) == brute


def test_windows_of_a_join_may_lie_to_one_side() -> None:
    windows = JoinWindows.of_time_difference(ms(5), grace=ms(1)).before(ms(-2)).after(ms(9))
    assert (windows.before_ms, windows.after_ms, windows.size_ms, windows.grace_ms) == (-2, 9, 7, 1)
