"""Results on closing: one per window, the last one that updates would have had, and never twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import (
    EmitStrategy,
    SessionWindows,
    SlidingWindows,
    Suppressed,
    TimeWindows,
    TopologyError,
    TopologyTestDriver,
    UnlimitedWindows,
)
from streamlet.dsl.windowed_tables import Windows
from tests.dsl.windows.aborts import pipe_with_aborts
from tests.dsl.windows.support import IN, OUT, Row, ms, results, rows_up_to, windowed_topology

CLOSE = EmitStrategy.ON_WINDOW_CLOSE
INTERVAL = "__emit.interval.ms.kstreams.windowed.aggregation__"

KINDS: dict[str, Any] = {
    "tumbling": lambda size, grace: TimeWindows.of_size(ms(size), grace=ms(grace)),
    "hopping": lambda size, grace: TimeWindows.of_size(ms(size), grace=ms(grace)).advance_by(ms((size + 1) // 2)),
    "sliding": lambda size, grace: SlidingWindows.of_time_difference(ms(size), grace=ms(grace)),
    "session": lambda size, grace: SessionWindows.of_inactivity_gap(ms(size), grace=ms(grace)),
}


def closes_at(key: str, kind: str, size: int, grace: int) -> int:
    """Return the stream time at which a window closes; the end of sliding windows and sessions belongs to them."""
    end = int(key.split("/")[1].rstrip("]"))
    return {"tumbling": end, "hopping": end, "sliding": end + 1, "session": end + size + 1}[kind] + grace


def expected(kind: str, size: int, grace: int, rows: list[Row]) -> list[list[Row]]:
    """Return the last update of each window, at the input that closes it."""
    updates = results(KINDS[kind](size, grace), rows)
    open_windows: dict[str, Row] = {}
    out: list[list[Row]] = []
    latest = -1
    for (_, _, timestamp), output in zip(rows, updates, strict=True):
        latest = max(latest, timestamp)
        for row in output:
            if row[1] is None:
                open_windows.pop(row[0], None)
            else:
                open_windows[row[0]] = row
        closed = [row for row in open_windows.values() if closes_at(row[0], kind, size, grace) <= latest]
        for row in closed:
            del open_windows[row[0]]
        out.append(sorted(closed, key=lambda row: place(row[0], kind)))
    return out


def place(key: str, kind: str) -> tuple[int, int, str]:
    start, end = map(int, key.strip("[]").split("@")[1].split("/"))
    return (end, start, key[1]) if kind == "session" else (start, start, key[1])


def leaps(rows: list[Row], most: int) -> bool:
    """Tell whether stream time jumps by more than that."""
    latest = rows[0][2] if rows else 0
    for _, _, timestamp in rows:
        if timestamp - latest > most:
            return True
        latest = max(latest, timestamp)
    return False


@pytest.mark.parametrize("kind", KINDS)
@given(size=st.integers(1, 12), grace=st.integers(0, 15), rows=rows_up_to(60))
def test_a_window_is_sent_once_when_it_closes(kind: str, size: int, grace: int, rows: list[Row]) -> None:
    if kind == "sliding" and leaps(rows, size):
        rows = sorted((row[0], row[1], row[2] // 5) for row in rows)  # see the test below
        if leaps(rows, size):
            return
    assert results(KINDS[kind](size, grace), rows, emit=CLOSE) == expected(kind, size, grace, rows)


@pytest.mark.parametrize("kind", ["tumbling", "hopping", "session"])
def test_nothing_is_lost_when_time_leaps_over_the_retention(kind: str) -> None:
    windows: Windows = KINDS[kind](10, 0)
    outputs = results(windows, [("a", 1, 3), ("b", 2, 4), ("a", 3, 10**9)], emit=CLOSE)
    assert [value for _, value, _ in outputs[2]][-2:] == [[1], [2]]


def test_sliding_windows_that_the_store_forgot_are_lost_as_in_kafka_streams() -> None:
    windows = SlidingWindows.of_time_difference(ms(10), grace=ms(0))
    assert results(windows, [("a", 1, 13), ("a", 3, 10**9)], emit=CLOSE)[1] == []


@pytest.mark.parametrize("kind", KINDS)
@given(rows=rows_up_to(60), aborts=st.lists(st.booleans(), min_size=14, max_size=14))
def test_aborted_and_repeated_records_change_nothing(kind: str, rows: list[Row], aborts: list[bool]) -> None:
    topology = windowed_topology(KINDS[kind](8, 5), emit=CLOSE)
    assert pipe_with_aborts(topology, rows, aborts) == results(KINDS[kind](8, 5), rows, emit=CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@given(rows=rows_up_to(60), restarts=st.lists(st.booleans(), min_size=14, max_size=14))
def test_a_restart_neither_repeats_nor_loses_a_result(kind: str, rows: list[Row], restarts: list[bool]) -> None:
    topology = windowed_topology(KINDS[kind](8, 5), emit=CLOSE)
    assert pipe_with_aborts(topology, rows, restarts, restart=True) == results(KINDS[kind](8, 5), rows, emit=CLOSE)


def test_closed_windows_are_looked_for_once_a_second_of_the_wall_clock() -> None:
    topology = windowed_topology(TimeWindows.of_size(ms(10), grace=ms(0)), emit=CLOSE)
    with TopologyTestDriver(topology, {INTERVAL: 1000}, initial_wall_clock_time=0) as driver:
        source, sink = driver.create_input_topic(IN), driver.create_output_topic(OUT)
        source.pipe_input("a", 1, 1)  # looks, and finds nothing
        source.pipe_input("a", 2, 11)  # the store still remembers what has closed
        assert sink.read_records_to_list() == []
        driver.advance_wall_clock_time(timedelta(seconds=1))
        assert sink.read_records_to_list() == []  # looking needs a record
        source.pipe_input("a", 3, 12)
        assert [r.key for r in sink.read_records_to_list()] == ["[a@0/10]"]


def test_results_of_one_time_come_by_start_and_by_the_bytes_of_keys() -> None:
    windows = TimeWindows.of_size(ms(10), grace=ms(10))
    rows = [("b", 1, 11), ("é", 1, 1), ("b", 2, 2), ("a", 1, 12), ("z", 0, 100)]
    assert [key for key, _, _ in results(windows, rows, emit=CLOSE)[-1]] == [
        "[b@0/10]",
        "[é@0/10]",
        "[a@10/20]",
        "[b@10/20]",
    ]


def test_unlimited_windows_never_close() -> None:
    with pytest.raises(TopologyError, match="never close"):
        windowed_topology(UnlimitedWindows.of(), emit=CLOSE)


@given(size=st.integers(1, 12), grace=st.integers(0, 15), rows=rows_up_to(60))
def test_suppression_until_windows_close_sends_the_same(size: int, grace: int, rows: list[Row]) -> None:
    windows = TimeWindows.of_size(ms(size), grace=ms(grace))
    then = lambda table: table.suppress(Suppressed.until_window_closes())  # noqa: E731
    suppressed, closed = results(windows, rows, then=then), results(windows, rows, emit=CLOSE)
    assert [sorted(output) for output in suppressed] == [sorted(output) for output in closed]
