"""Sliding windows: against all subsets of the whole input, and where they surprise."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import Materialized, SlidingWindows, TopologyError
from tests.dsl.windows.support import Row, dropped, last_of_each, ms, results, rows_up_to, windowed_topology

FOREVER = timedelta(days=1)


def model(difference: int, rows: list[Row]) -> dict[str, list[int]]:
    """Return every window that ends at a record or begins right after one, and holds something."""
    windows: dict[str, list[int]] = {}
    for key in {row[0] for row in rows}:
        times = {row[2] for row in rows if row[0] == key}
        starts = {max(0, time - difference) for time in times} | {time + 1 for time in times}
        for start in starts:
            inside = [row[1] for row in rows if row[0] == key and start <= row[2] <= start + difference]
            if inside:
                windows[f"[{key}@{start}/{start + difference}]"] = sorted(inside)
    return windows


@given(st.integers(0, 15), rows_up_to(40))
def test_windows_are_what_the_whole_input_says(difference: int, rows: list[Row]) -> None:
    outputs = results(SlidingWindows.of_time_difference(ms(difference), grace=FOREVER), rows)
    assert last_of_each(outputs) == model(difference, rows)


@given(st.integers(0, 15), rows_up_to(40))
def test_the_time_of_a_window_is_that_of_its_latest_record(difference: int, rows: list[Row]) -> None:
    outputs = results(SlidingWindows.of_time_difference(ms(difference), grace=FOREVER), rows)
    for place, output in enumerate(outputs):
        for key, _, latest in output:
            start = int(key.split("@")[1].split("/")[0])
            inside = [row[2] for row in rows[: place + 1] if row[0] == key[1] and start <= row[2] <= start + difference]
            assert latest == max(inside)


@given(st.integers(0, 15), st.integers(0, 15), rows_up_to(40))
def test_a_window_that_has_closed_never_changes(difference: int, grace: int, rows: list[Row]) -> None:
    outputs = results(SlidingWindows.of_time_difference(ms(difference), grace=ms(grace)), rows)
    latest = -1
    for (_, _, timestamp), output in zip(rows, outputs, strict=True):
        latest = max(latest, timestamp)
        for key, _, _ in output:
            end = int(key.split("/")[1].rstrip("]"))
            fresh = end > timestamp + difference  # right windows come into being with what is there already
            assert fresh or end >= latest - grace


def test_new_windows_come_after_those_that_are_there() -> None:
    windows = SlidingWindows.of_time_difference(ms(10), grace=FOREVER)
    outputs = results(windows, [("a", 1, 20), ("a", 2, 25), ("a", 3, 22)])
    assert outputs == [
        [("[a@10/20]", [1], 20)],
        [("[a@21/31]", [2], 25), ("[a@15/25]", [1, 2], 25)],
        [
            ("[a@21/31]", [2, 3], 25),  # what is there, from the latest to the earliest
            ("[a@15/25]", [1, 2, 3], 25),
            ("[a@12/22]", [1, 3], 22),  # its own left window
            ("[a@23/33]", [2], 25),  # its own right window, of what came before
        ],
    ]


def test_records_before_the_first_window_share_it() -> None:
    windows = SlidingWindows.of_time_difference(ms(10), grace=FOREVER)
    outputs = results(windows, [("a", 1, 4), ("a", 2, 2)])
    assert outputs == [[("[a@0/10]", [1], 4)], [("[a@3/13]", [1], 4), ("[a@0/10]", [1, 2], 4)]]


def test_null_values_are_dropped_too() -> None:
    windows = SlidingWindows.of_time_difference(ms(10), grace=FOREVER)
    assert results(windows, [("a", None, 4), (None, 2, 2)]) == [[], []]
    assert dropped(windowed_topology(windows), [("a", None, 4), (None, 2, 2)]) == 2


def test_a_record_is_late_when_its_right_window_has_closed() -> None:
    windows = SlidingWindows.of_time_difference(ms(10), grace=timedelta(0))
    assert results(windows, [("a", 1, 41), ("a", 2, 30)])[1] == []
    late_left = [("a", 1, 40), ("a", 2, 30)]  # its left window [20, 30] has closed, the others have not
    assert results(windows, late_left)[1] == [("[a@30/40]", [1, 2], 40), ("[a@31/41]", [1], 40)]
    assert dropped(windowed_topology(windows), late_left) == 1


def test_retention_must_cover_twice_the_difference_and_grace() -> None:
    windows = SlidingWindows.of_time_difference(ms(10), grace=ms(5))
    with pytest.raises(TopologyError, match="shorter than twice the time difference and the grace, 25 ms"):
        windowed_topology(windows, make=lambda w: w.count(store=Materialized("w", retention=ms(24))))
    windowed_topology(windows, make=lambda w: w.count(store=Materialized("w", retention=ms(25))))
