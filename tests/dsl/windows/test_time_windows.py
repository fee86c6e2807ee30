"""Tumbling, hopping and unlimited windows: against the whole input recomputed, and where they surprise."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import (
    Materialized,
    Processor,
    Record,
    StreamsBuilder,
    TimeWindows,
    Topic,
    TopologyError,
    TopologyTestDriver,
    UnlimitedWindows,
    Window,
    Windowed,
    log_and_continue,
    serdes,
)
from tests.dsl.windows.support import IN, Row, dropped, ms, pipe, results, rows_up_to, windowed_topology

TEN = TimeWindows.of_size(ms(10), grace=timedelta(0))


def model(size: int, advance: int, grace: int, rows: list[Row]) -> list[list[Row]]:
    """Recompute every window from all records before: those that came while it was open."""
    out: list[list[Row]] = []
    for place, (key, _, timestamp) in enumerate(rows):
        output: list[Row] = []
        for start in range(0, timestamp + 1, advance):
            inside = [
                (value, time)
                for before, (other, value, time) in enumerate(rows[: place + 1])
                if other == key
                and start <= time < start + size
                and start + size > max(row[2] for row in rows[: before + 1]) - grace
            ]
            late = start + size <= max(row[2] for row in rows[: place + 1]) - grace
            if start <= timestamp < start + size and not late:
                values, times = [value for value, _ in inside], [time for _, time in inside]
                output.append((f"[{key}@{start}/{start + size}]", sorted(values), max(times)))
        out.append(output)
    return out


@given(st.integers(1, 12), st.data(), st.integers(0, 15), rows_up_to(40))
def test_windows_are_what_the_whole_input_says(size: int, data: st.DataObject, grace: int, rows: list[Row]) -> None:
    advance = data.draw(st.integers(1, size))
    windows = TimeWindows.of_size(ms(size), grace=ms(grace)).advance_by(ms(advance))
    assert results(windows, rows) == model(size, advance, grace, rows)


@given(st.integers(1, 12), st.integers(0, 15), rows_up_to(40))
def test_counting_in_tumbling_windows_is_no_exception(size: int, grace: int, rows: list[Row]) -> None:
    windows = TimeWindows.of_size(ms(size), grace=ms(grace))
    counted = results(windows, rows, make=lambda windowed: windowed.count())
    assert counted == [[(key, len(v), t) for key, v, t in output] for output in model(size, size, grace, rows)]


def test_late_records_are_dropped_window_by_window_and_counted() -> None:
    hopping = TimeWindows.of_size(ms(10), grace=timedelta(0)).advance_by(ms(5))
    rows = [("a", 1, 16), ("a", 2, 8)]  # [0, 10) has closed, [5, 15) too
    assert results(hopping, rows)[1] == []
    assert dropped(windowed_topology(hopping), rows) == 2
    rows = [("a", 1, 14), ("a", 2, 8)]  # [5, 15) is open
    assert results(hopping, rows)[1] == [("[a@5/15]", [1, 2], 14)]


def test_a_window_is_open_until_stream_time_reaches_its_end_and_grace() -> None:
    windows = TimeWindows.of_size(ms(10), grace=ms(5))
    assert results(windows, [("a", 1, 14), ("a", 2, 3)])[1] == [("[a@0/10]", [2], 3)]
    assert results(windows, [("a", 1, 15), ("a", 2, 3)])[1] == []


def test_null_keys_are_dropped_but_null_values_count() -> None:
    rows = [("a", None, 1), (None, 1, 2), ("a", 3, 3)]
    counted = results(TEN, rows, make=lambda windowed: windowed.count())
    assert counted == [[("[a@0/10]", 1, 1)], [], [("[a@0/10]", 2, 3)]]


def test_a_null_key_does_not_move_stream_time() -> None:
    assert results(TEN, [(None, 1, 100), ("a", 2, 3)])[1] == [("[a@0/10]", [2], 3)]


def test_reduce_takes_the_first_value_and_none_deletes() -> None:
    def reducer(one: int, other: int) -> Any:
        return None if other == 0 else one - other

    rows = [("a", 5, 1), ("a", 2, 2), ("a", 0, 3), ("a", 7, 4)]
    outputs = results(TEN, rows, make=lambda windowed: windowed.reduce(reducer))
    assert [output[0][1] for output in outputs] == [5, 3, None, 7]


def test_aggregates_may_be_changed_in_place() -> None:
    def append(key: str, value: Any, values: list[Any]) -> list[Any]:
        values.append(value)
        return values

    make = lambda windowed: windowed.aggregate(list, append, store=Materialized(value_serde=serdes.json))  # noqa: E731
    assert results(TEN, [("a", 1, 1), ("a", 2, 2)], make=make)[1] == [("[a@0/10]", [1, 2], 2)]


def test_old_values_are_what_they_were_even_then() -> None:
    def append(key: str, value: Any, values: list[Any]) -> list[Any]:
        values.append(value)
        return values

    seen: list[Any] = []
    builder = StreamsBuilder()
    table = (
        builder.stream(IN)
        .group_by_key()
        .windowed_by(TEN)
        .aggregate(list, append, store=Materialized(value_serde=serdes.json))
    )
    table.step.send_old_values(force=True)
    topology = builder.build()

    class Look(Processor[Any, Any]):
        def process(self, record: Record[Any, Any]) -> None:
            seen.append(record.value[:2])

    topology.add_processor("look", Look, table.step.name)
    pipe(topology, [("a", 1, 1), ("a", 2, 2)])
    assert seen == [([1], []), ([1, 2], [1])]


def test_an_aggregators_exception_leaves_the_window_as_it_was() -> None:
    def add(key: str, value: int, total: int) -> int:
        return total + 1 // value

    make = lambda windowed: windowed.aggregate(int, add, store=Materialized(value_serde=serdes.int64))  # noqa: E731
    topology = windowed_topology(TEN, make=make)
    config = {"processing.exception.handler": log_and_continue}
    outputs = pipe(topology, [("a", 1, 1), ("a", 0, 2), ("a", 1, 3)], **config)
    assert outputs == [[("[a@0/10]", 1, 1)], [], [("[a@0/10]", 2, 3)]]


def test_an_unlimited_window_begins_somewhere_and_never_ends() -> None:
    rows = [("a", 1, 99), ("a", 2, 10**12), ("a", 3, 100)]
    outputs = results(UnlimitedWindows.of().start_on(100), rows)
    key = f"[a@100/{2**63 - 1}]"
    assert outputs == [[], [(key, [2], 10**12)], [(key, [2, 3], 10**12)]]


def test_retention_must_cover_size_and_grace() -> None:
    windows = TimeWindows.of_size(ms(10), grace=ms(5))
    with pytest.raises(
        TopologyError, match=r"store 'windows': the retention, 14 ms, is shorter than size and grace, 15"
    ):
        windowed_topology(windows, make=lambda w: w.count(store=Materialized("windows", retention=ms(14))))
    windowed_topology(windows, make=lambda w: w.count(store=Materialized("windows", retention=ms(15))))
    with pytest.raises(TopologyError, match="kept for ever"):
        windowed_topology(UnlimitedWindows.of(), make=lambda w: w.count(store=Materialized("w", retention=ms(15))))


def test_retention_is_refused_where_there_are_no_windows() -> None:
    with pytest.raises(TopologyError, match="retention is for windowed stores"):
        StreamsBuilder().stream(IN).group_by_key().count(store=Materialized("s", retention=ms(5)))


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_store_can_be_queried_and_keys_within_windows_written(on_disk: bool, tmp_path: Path) -> None:
    builder = StreamsBuilder()
    counts = builder.stream(IN).group_by_key().windowed_by(TEN).count(store="counts")
    windowed_out: Any = Topic("out", serdes.time_windowed(serdes.string, ms(10)), serdes.int64)
    counts.to_stream().to(windowed_out)
    config = {"state.dir": str(tmp_path)} if on_disk else {}
    with TopologyTestDriver(builder.build(), config) as driver:
        driver.create_input_topic(IN).pipe_input("a", 1, 13)
        assert driver.create_output_topic(windowed_out).read_key_values_to_list() == [
            (Windowed("a", Window(10, 20)), 1)
        ]
        assert driver.get_state_store("counts").fetch("a", 10) == (1, 13)


def test_what_windowed_by_takes() -> None:
    with pytest.raises(TopologyError, match="windowed_by takes TimeWindows"):
        StreamsBuilder().stream(IN).group_by_key().windowed_by(10)  # type: ignore[call-overload]  # the error is tested
