"""Cogrouping: one aggregate of several streams."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import (
    KTable,
    Materialized,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    TimeWindows,
    Topic,
    TopologyError,
    TopologyTestDriver,
    serdes,
)
from tests.dsl.windows.support import IN, KEYS, OUT, ms, pipe, results
from tests.dsl.windows.test_session_windows import clusters

OTHER: Topic[Any, Any] = Topic("other", serdes.string, serdes.json)
FOREVER = timedelta(days=1)

ROWS = st.lists(st.tuples(st.booleans(), KEYS, st.integers(0, 9), st.integers(0, 60)), max_size=14)


def add(key: str, value: int, values: list[int]) -> list[int]:
    return sorted([*values, value])


def subtract(key: str, value: int, values: list[int]) -> list[int]:
    return sorted([*values, -value])


def merge(key: str, one: list[int], other: list[int]) -> list[int]:
    return sorted(one + other)


STORE: Any = Materialized("store", value_serde=serdes.json)


def outputs(make: Any, rows: list[tuple[bool, str, Any, int]]) -> list[tuple[str, Any, int]]:
    builder = StreamsBuilder()
    first, second = builder.stream(IN).group_by_key(), builder.stream(OTHER).group_by_key()
    table: KTable[Any, Any] = make(first.cogroup(add).cogroup(second, subtract))
    table.to_stream(lambda key, value: str(key)).to(OUT)
    with TopologyTestDriver(builder.build()) as driver:
        topics = driver.create_input_topic(IN), driver.create_input_topic(OTHER)
        for other, key, value, timestamp in rows:
            topics[other].pipe_input(key, value, timestamp)
        return [(r.key, r.value, r.timestamp) for r in driver.create_output_topic(OUT).read_records_to_list()]


@given(ROWS)
def test_both_streams_feed_one_aggregate(rows: list[tuple[bool, str, int, int]]) -> None:
    state: dict[str, tuple[list[int], int]] = {}
    expected = []
    for other, key, value, timestamp in rows:
        values, latest = state.get(key, ([], timestamp))
        state[key] = sorted([*values, -value if other else value]), max(latest, timestamp)
        expected.append((key, *state[key]))
    assert outputs(lambda together: together.aggregate(list, store=STORE), rows) == expected


@given(ROWS)
def test_in_time_windows_they_meet_per_window(rows: list[tuple[bool, str, int, int]]) -> None:
    windows = TimeWindows.of_size(ms(10), grace=FOREVER)
    made = outputs(lambda together: together.windowed_by(windows).aggregate(list, store=STORE), rows)
    alone = results(windows, [(key, -value if other else value, time) for other, key, value, time in rows])
    assert made == [row for output in alone for row in output]


@given(ROWS)
def test_in_sliding_windows_too(rows: list[tuple[bool, str, int, int]]) -> None:
    windows = SlidingWindows.of_time_difference(ms(10), grace=FOREVER)
    made = outputs(lambda together: together.windowed_by(windows).aggregate(list, store=STORE), rows)
    alone = results(windows, [(key, -value if other else value, time) for other, key, value, time in rows])
    assert made == [row for output in alone for row in output]


@given(ROWS)
def test_in_sessions_they_keep_each_other_alive(rows: list[tuple[bool, str, int, int]]) -> None:
    windows = SessionWindows.of_inactivity_gap(ms(10), grace=FOREVER)
    made = outputs(lambda together: together.windowed_by(windows).aggregate(list, merge, store=STORE), rows)
    table = {key: value for key, value, _ in made}
    expected = clusters(10, [(key, -value if other else value, time) for other, key, value, time in rows])
    assert {key: value for key, value in table.items() if value is not None} == expected


def test_late_is_what_each_stream_says() -> None:
    windows = TimeWindows.of_size(ms(10), grace=timedelta(0))
    rows = [(False, "a", 1, 50), (True, "a", 2, 3), (False, "a", 3, 4)]
    made = outputs(lambda together: together.windowed_by(windows).aggregate(list, store=STORE), rows)
    assert made == [("[a@50/60]", [1], 50), ("[a@0/10]", [-2], 3)]


def test_null_values_are_dropped_without_windows_and_counted_with_them() -> None:
    rows: list[tuple[bool, str, Any, int]] = [(False, "a", None, 1), (False, None, 1, 2)]  # type: ignore[list-item]  # a null key
    assert outputs(lambda together: together.aggregate(list, store=STORE), rows) == []
    windows = TimeWindows.of_size(ms(10), grace=timedelta(0))
    store: Any = Materialized("store", value_serde=serdes.int64)
    count = lambda key, value, total: total + 1  # noqa: E731  # short
    builder = StreamsBuilder()
    table = builder.stream(IN).group_by_key().cogroup(count).windowed_by(windows).aggregate(int, store=store)
    table.to_stream(lambda key, value: str(key)).to(OUT)
    assert pipe(builder.build(), [("a", None, 1), (None, 1, 2)]) == [[("[a@0/10]", 1, 1)], []]


def test_names_and_old_values() -> None:
    builder = StreamsBuilder()
    first, second = builder.stream(IN).group_by_key(), builder.stream(OTHER).group_by_key()
    table = first.cogroup(add).cogroup(second, subtract).aggregate(list, store=STORE, name="users")
    assert table.step.send_old_values(force=True)
    text = str(builder.build().describe())
    for node in (
        "users-cogroup-agg-0 (stores: [store])",
        "users-cogroup-agg-1 (stores: [store])",
        "users-cogroup-merge",
    ):
        assert f"Processor: {node}" in text


def test_topics_must_have_equal_numbers_of_partitions() -> None:
    builder = StreamsBuilder()
    first, second = builder.stream(IN).group_by_key(), builder.stream(OTHER).group_by_key()
    first.cogroup(add).cogroup(second, subtract).aggregate(list, store=STORE)
    (part,) = builder.build().sub_topologies
    assert [set(group) for group in part.copartition_groups] == [{"in", "other"}]


def test_each_stream_is_repartitioned_by_itself_and_needs_a_name() -> None:
    def grouped(builder: StreamsBuilder, topic: Topic[Any, Any], name: str | None) -> Any:
        select = lambda key, value: str(value)  # noqa: E731  # short
        options = {"key_serde": serdes.string, "value_serde": serdes.json}
        return builder.stream(topic).group_by(select, name=name, **options)

    builder = StreamsBuilder()
    named = grouped(builder, IN, "one").cogroup(add).cogroup(grouped(builder, OTHER, "two"), subtract)
    named.aggregate(list, store=STORE)
    text = str(builder.build().describe())
    assert "one-repartition" in text
    assert "two-repartition" in text

    builder = StreamsBuilder()
    unnamed = grouped(builder, IN, None).cogroup(add).cogroup(grouped(builder, OTHER, None), subtract)
    with pytest.raises(TopologyError, match="all would be called store-repartition: name the groupings"):
        unnamed.aggregate(list, store=STORE)


def test_a_stream_is_cogrouped_once() -> None:
    grouped = StreamsBuilder().stream(IN).group_by_key()
    with pytest.raises(TopologyError, match="cogrouped already"):
        grouped.cogroup(add).cogroup(grouped, subtract)
