"""Sessions: against clusters of the whole input, against a plain list, and where they surprise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import Materialized, SessionWindows, TopologyError, log_and_continue, serdes
from tests.dsl.windows.support import Row, dropped, last_of_each, ms, pipe, results, rows_up_to, windowed_topology

FOREVER = timedelta(days=1)
Session = tuple[int, int, list[int]]


def clusters(gap: int, rows: list[Row]) -> dict[str, list[int]]:
    """Return the sessions of the whole input, recomputed from sorted times."""
    sessions: dict[str, list[int]] = {}
    for key in {row[0] for row in rows}:
        mine = sorted((row[2], row[1]) for row in rows if row[0] == key)
        cluster: list[tuple[int, int]] = []
        for item in [*mine, None]:
            if cluster and (item is None or item[0] - cluster[-1][0] > gap):
                sessions[f"[{key}@{cluster[0][0]}/{cluster[-1][0]}]"] = sorted(value for _, value in cluster)
                cluster = []
            if item is not None:
                cluster.append(item)
    return sessions


def model(gap: int, grace: int, rows: list[Row]) -> list[list[Row]]:
    """Merge sessions in a plain list, record by record."""
    held: dict[str, list[Session]] = {}
    out: list[list[Row]] = []
    latest = -1
    for key, value, timestamp in rows:
        latest = max(latest, timestamp)
        sessions = held.setdefault(key, [])
        near = sorted((s for s in sessions if s[0] <= timestamp + gap and s[1] >= timestamp - gap), key=lambda s: s[1])
        start, end = min([timestamp, *(s[0] for s in near)]), max([timestamp, *(s[1] for s in near)])
        output: list[Row] = []
        if end >= latest - grace - gap:
            values = sorted([value, *(v for s in near for v in s[2])])
            if (start, end) != (timestamp, timestamp):
                output += [(f"[{key}@{s[0]}/{s[1]}]", None, s[1]) for s in near]
            held[key] = [s for s in sessions if s not in near] + [(start, end, values)]
            output.append((f"[{key}@{start}/{end}]", values, end))
        horizon = max((s[1] for some in held.values() for s in some), default=-1) - gap - grace
        for other in held:  # the store forgets what ended its retention before the latest end
            held[other] = [s for s in held[other] if s[1] > horizon]
        out.append(output)
    return out


@given(st.integers(1, 12), rows_up_to(80))
def test_sessions_are_what_the_whole_input_says(gap: int, rows: list[Row]) -> None:
    outputs = results(SessionWindows.of_inactivity_gap(ms(gap), grace=FOREVER), rows)
    assert last_of_each(outputs) == clusters(gap, rows)


@given(st.integers(1, 12), st.integers(0, 15), rows_up_to(80))
def test_every_output_is_that_of_a_plain_list(gap: int, grace: int, rows: list[Row]) -> None:
    assert results(SessionWindows.of_inactivity_gap(ms(gap), grace=ms(grace)), rows) == model(gap, grace, rows)


def test_the_gap_itself_belongs_to_a_session() -> None:
    windows = SessionWindows.of_inactivity_gap(ms(10), grace=FOREVER)
    assert last_of_each(results(windows, [("a", 1, 0), ("a", 2, 10)])) == {"[a@0/10]": [1, 2]}
    assert last_of_each(results(windows, [("a", 1, 0), ("a", 2, 11)])) == {"[a@0/0]": [1], "[a@11/11]": [2]}


def test_a_merged_session_is_deleted_at_its_own_end_and_before_the_new_one() -> None:
    windows = SessionWindows.of_inactivity_gap(ms(10), grace=FOREVER)
    outputs = results(windows, [("a", 1, 0), ("a", 2, 15), ("a", 3, 8), ("a", 4, 8)])
    assert outputs[2:] == [
        [("[a@0/0]", None, 0), ("[a@15/15]", None, 15), ("[a@0/15]", [1, 2, 3], 15)],
        [("[a@0/15]", None, 15), ("[a@0/15]", [1, 2, 3, 4], 15)],  # also when its bounds stay the same
    ]


def test_a_session_of_one_instant_is_overwritten() -> None:
    windows = SessionWindows.of_inactivity_gap(ms(10), grace=FOREVER)
    assert results(windows, [("a", 1, 5), ("a", 2, 5)])[1] == [("[a@5/5]", [1, 2], 5)]


def test_an_old_record_is_in_time_if_its_session_still_is() -> None:
    windows = SessionWindows.of_inactivity_gap(ms(10), grace=timedelta(0))
    rows = [("a", 1, 12), ("b", 2, 15), ("a", 3, 2), ("c", 4, 2)]
    assert results(windows, rows)[2:] == [[("[a@12/12]", None, 12), ("[a@2/12]", [1, 3], 12)], []]
    assert dropped(windowed_topology(windows), rows) == 1


def test_reduce_and_count_merge_by_themselves() -> None:
    windows = SessionWindows.of_inactivity_gap(ms(10), grace=FOREVER)
    rows = [("a", 1, 0), ("a", 2, 15), ("a", 3, 8)]
    assert results(windows, rows, make=lambda w: w.count())[2][-1] == ("[a@0/15]", 3, 15)
    assert results(windows, rows, make=lambda w: w.reduce(lambda one, other: one * 10 + other))[2][-1][1] == 123


def test_an_aggregators_exception_takes_no_session_away() -> None:
    def add(key: str, value: int, total: int) -> int:
        return total + 1 // value

    def make(windowed: Any) -> Any:
        store = Materialized("sessions", value_serde=serdes.int64)
        return windowed.aggregate(int, add, lambda key, one, other: one + other, store=store)

    windows = SessionWindows.of_inactivity_gap(ms(10), grace=FOREVER)
    topology = windowed_topology(windows, make=make)
    config = {"processing.exception.handler": log_and_continue}
    outputs = pipe(topology, [("a", 1, 0), ("a", 0, 5), ("a", 1, 6)], **config)
    assert outputs[1:] == [[], [("[a@0/0]", None, 0), ("[a@0/6]", 2, 6)]]


def test_retention_must_cover_gap_and_grace() -> None:
    windows = SessionWindows.of_inactivity_gap(ms(10), grace=ms(5))
    with pytest.raises(TopologyError, match="shorter than the inactivity gap and the grace, 15 ms"):
        windowed_topology(windows, make=lambda w: w.count(store=Materialized("w", retention=ms(14))))
