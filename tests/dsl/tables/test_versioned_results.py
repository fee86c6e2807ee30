"""Every operator that makes a table keeps its versions, if its store is to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlet import FixedKeyProcessor, KTable, Materialized, Record, StreamsBuilder, TopologyTestDriver, serdes
from tests.dsl.support import IN, OUT, Row

MS = timedelta(milliseconds=1)
HISTORY = 8


class Same(FixedKeyProcessor[Any, Any, Any]):
    """Forwards what it gets."""

    def process(self, record: Record[Any, Any]) -> None:
        self.context.forward(record)


Make = Callable[[StreamsBuilder, Any], KTable[Any, Any]]

AGGREGATIONS: dict[str, tuple[Make, Callable[[int, Any], Any]]] = {
    "count": (lambda b, store: b.stream(IN).group_by_key().count(store=store), lambda so_far, _: so_far + 1),
    "reduce": (
        lambda b, store: b.stream(IN).group_by_key().reduce(lambda so_far, value: so_far + value, store=store),
        lambda so_far, value: so_far + value,
    ),
    "aggregate": (
        lambda b, store: b.stream(IN).group_by_key().aggregate(int, lambda _, value, a: a + value, store=store),
        lambda so_far, value: so_far + value,
    ),
    "cogroup": (
        lambda b, store: b.stream(IN).group_by_key().cogroup(lambda _, value, a: a + value).aggregate(int, store=store),
        lambda so_far, value: so_far + value,
    ),
}


@pytest.mark.parametrize("name", AGGREGATIONS)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.integers(0, 30)), max_size=12))
def test_an_aggregate_has_a_version_for_each_time_it_changed(name: str, records: list[Row]) -> None:
    """A version has the highest time of its records; what is older than the history when it comes is not there."""
    make, fold = AGGREGATIONS[name]
    versions: dict[str, dict[int, int]] = {}
    expected: list[Row] = []
    now = -1
    for key, value, timestamp in records:
        of_key = versions.setdefault(key, {})
        time = max([timestamp, *of_key])
        if time >= now - HISTORY:
            of_key[time] = fold(of_key[max(of_key)] if of_key else 0, value)
            expected.append((key, of_key[time], time))
            now = max(now, time)
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    make(builder, Materialized("v", history_retention=HISTORY * MS, value_serde=serdes.int64)).to_stream().to(OUT)
    with TopologyTestDriver(builder.build()) as driver:
        source = driver.create_input_topic(IN)
        for key, value, timestamp in records:
            source.pipe_input(key, value, timestamp)
        out = driver.create_output_topic(OUT).read_records_to_list()
        assert [(record.key, record.value, record.timestamp) for record in out] == expected
        assert driver.metrics().get("dropped-records-total", 0) == len(records) - len(expected)
        store = driver.get_state_store("v")
        for key, of_key in versions.items():
            for time in range(max(now - HISTORY, 0), now + 1):
                before = [start for start in of_key if start <= time]
                version = store.get(key, time)
                assert (None if version is None else version.value) == (of_key[max(before)] if before else None)


def table(builder: StreamsBuilder) -> KTable[Any, Any]:
    return builder.table(IN, store=Materialized("source", history_retention=MS * 100))


OTHERS: dict[str, Make] = {
    "map_values": lambda b, store: table(b).map_values(lambda value: value, store=store),
    "filter": lambda b, store: table(b).filter(lambda _, value: True, store=store),
    "transform_values": lambda b, store: table(b).transform_values(Same, store=store),
    "join": lambda b, store: (lambda one: one.join(one, lambda left, right: left, store=store))(table(b)),
    "join by foreign key": lambda b, store: (
        lambda one: one.left_join(one, lambda value: value, lambda left, right: left, store=store)
    )(table(b)),
    "group_by": lambda b, store: (
        table(b).group_by(lambda key, value: (key, value)).reduce(lambda _, new: new, lambda old, _: old, store=store)
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_table_made_of_a_table_has_versions_if_its_store_is_to(name: str) -> None:
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    OTHERS[name](builder, Materialized("v", history_retention=MS * 100)).to_stream().to(OUT)
    with TopologyTestDriver(builder.build()) as driver:
        source = driver.create_input_topic(IN)
        for value, timestamp in ((1, 10), (2, 20), (3, 30)):
            source.pipe_input("k", value, timestamp)
        store = driver.get_state_store("v")
        assert [store.get("k", time).value for time in (19, 20, 30)] == [1, 2, 3]
        assert driver.create_output_topic(OUT).read_values_to_list()[-1] == 3


def test_a_join_reads_what_a_processor_makes_of_a_versioned_table() -> None:
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    made = table(builder).transform_values(Same)
    made.join(made.map_values(lambda value: -value), lambda one, other: [one, other]).to_stream().to(OUT)
    with TopologyTestDriver(builder.build()) as driver:
        driver.create_input_topic(IN).pipe_input("k", 1, 10)
        assert driver.create_output_topic(OUT).read_values_to_list()[-1] == [1, -1]
