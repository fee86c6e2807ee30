"""Aggregations and tables, against plain dictionaries and in the spots where they surprise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import KTable, Materialized, StreamsBuilder, Topic, TopologyTestDriver, ValueAndTimestamp, serdes
from streamlet.dsl.plan import ProcessorStep
from streamlet.processor.operator import Forward, NodeContext, Operator
from tests.dsl.support import IN, OUT, Row, run

ROWS = st.lists(
    st.tuples(st.none() | st.integers(0, 2), st.none() | st.integers(-3, 3), st.integers(0, 50)), max_size=12
)


def dictionary_model(rows: list[Row], step: Callable[[Any, Any], Any]) -> tuple[list[Row], dict[Any, tuple[Any, int]]]:
    """Fold rows per key; null keys and null values are dropped; the timestamp of a result is the highest so far."""
    state: dict[Any, tuple[Any, int]] = {}
    out: list[Row] = []
    for key, value, timestamp in rows:
        if key is None or value is None:
            continue
        old, before = state.get(key, (None, timestamp))
        new, time = step(old, value), max(before, timestamp)
        if new is None:
            state.pop(key, None)
        else:
            state[key] = (new, time)
        out.append((key, new, time))
    return out, state


AGGREGATIONS: dict[str, tuple[Callable[[StreamsBuilder], KTable[Any, Any]], Callable[[Any, Any], Any]]] = {
    "count": (lambda b: b.stream(IN).group_by_key().count(store="s"), lambda old, _: (old or 0) + 1),
    "reduce": (
        lambda b: b.stream(IN).group_by_key().reduce(lambda a, v: a - v, store="s"),
        lambda old, v: v if old is None else old - v,
    ),
    "aggregate to None": (
        lambda b: (
            b.stream(IN).group_by_key().aggregate(lambda: 0, lambda k, v, a: None if v == 3 else a + v, store="s")
        ),
        lambda old, v: None if v == 3 else (old or 0) + v,
    ),
    "aggregate in place": (
        lambda b: b.stream(IN).group_by_key().aggregate(list, lambda k, v, a: a.append(v) or a, store="s"),
        lambda old, v: [*(old or []), v],
    ),
}


@pytest.mark.parametrize("name", AGGREGATIONS)
@given(rows=ROWS)
def test_aggregations_fold_per_key(name: str, rows: list[Row]) -> None:
    program, step = AGGREGATIONS[name]
    expected, state = dictionary_model(rows, step)
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    program(builder).to_stream().map_values(lambda v: v).to(OUT)
    with TopologyTestDriver(builder.build()) as driver:
        source = driver.create_input_topic(IN)
        for key, value, timestamp in rows:
            source.pipe_input(key, value, timestamp)
        out = driver.create_output_topic(OUT).read_records_to_list()
        store = driver.get_timestamped_key_value_store("s")
        assert [(r.key, r.value, r.timestamp) for r in out] == expected
        assert dict(store.all()) == {key: ValueAndTimestamp(*row) for key, row in state.items()}


def test_dropped_records_are_counted() -> None:
    builder = StreamsBuilder()
    builder.stream(IN).group_by_key().count(store="n")
    with TopologyTestDriver(builder.build()) as driver:
        driver.create_input_topic(IN).pipe_key_value_list([(None, 1), ("a", None), ("a", 1)])
        assert driver.metrics()["dropped-records-total"] == 2
        assert driver.get_state_store("n").get("a") == 1


def test_a_group_for_which_the_selector_returns_none_is_dropped() -> None:
    def program(builder: StreamsBuilder) -> None:
        groups = builder.stream(IN).group_by(lambda k, v: v if v > 0 else None, key_serde=serdes.json)
        groups.count().to_stream().to(OUT)

    assert run(program, [("a", 1, 0), ("b", -1, 1), ("c", 1, 2)]) == [(1, 1, 0), (1, 2, 2)]


def test_a_named_grouping_is_one_topic_for_all_its_aggregations() -> None:
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    groups = builder.stream(IN).group_by(lambda k, v: v, name="by-value")
    groups.count(store="count")
    groups.reduce(max, store="max")
    topology = builder.build()
    assert len(topology.sub_topologies) == 2
    assert [topic.name for topic in topology.sub_topologies[1].repartition_topics] == ["by-value-repartition"]
    with TopologyTestDriver(topology) as driver:
        driver.create_input_topic(IN).pipe_input("k", "v")
        assert driver.get_state_store("count").get("v") == 1
        assert driver.get_state_store("max").get("v") == "v"


@given(rows=ROWS)
def test_table_filters_forward_tombstones(rows: list[Row]) -> None:
    """A row that does not match goes on as a deletion, in filter as in filter_not, also if it never matched."""

    def program(builder: StreamsBuilder) -> None:
        table: KTable[Any, Any] = builder.table(IN)
        table.filter(lambda k, v: v > 0).to_stream().map_values(lambda v: ["kept", v]).to(OUT)
        table.filter_not(lambda k, v: v > 0).to_stream().map_values(lambda v: ["rest", v]).to(OUT)

    expected: list[Row] = []
    for key, value, timestamp in rows:
        if key is None:
            continue
        holds = value is not None and value > 0
        expected.append((key, ["kept", value if holds else None], timestamp))
        expected.append((key, ["rest", None if holds else value], timestamp))
    assert run(program, rows) == expected


@given(rows=ROWS)
def test_tables_keep_the_last_value_in_order_of_arrival(rows: list[Row]) -> None:
    """Also one with a lower timestamp; mappers do not see tombstones; stores hold what was sent on."""
    builder = StreamsBuilder()
    table: KTable[Any, Any] = builder.table(IN, store="source")
    doubled = table.map_values(lambda v: v * 2, store=Materialized("doubled", value_serde=serdes.json))
    doubled.filter(lambda k, v: v > 0, store="positive").to_stream().to(OUT)
    model: dict[Any, tuple[Any, int]] = {}
    with TopologyTestDriver(builder.build()) as driver:
        source = driver.create_input_topic(IN)
        for key, value, timestamp in rows:
            source.pipe_input(key, value, timestamp)
            if key is not None:
                model[key] = (value, timestamp)
        rows_left = {key: row for key, row in model.items() if row[0] is not None}
        stores = {
            name: dict(driver.get_timestamped_key_value_store(name).all()) for name in ("source", "doubled", "positive")
        }
        out = driver.create_output_topic(OUT).read_key_values_to_map()
    assert stores["source"] == rows_left
    assert stores["doubled"] == {key: (value * 2, time) for key, (value, time) in rows_left.items()}
    assert stores["positive"] == {key: (value * 2, time) for key, (value, time) in rows_left.items() if value > 0}
    assert {key: value for key, value in out.items() if value is not None} == {
        key: value for key, (value, _) in stores["positive"].items()
    }


class Changes(Operator):
    """Notes the changes that reach it: what a join or another aggregation would see."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        return lambda key, change, timestamp, headers: self.seen.append((key, *change[:2], timestamp))


def changes(program: Callable[[StreamsBuilder], KTable[Any, Any]], rows: list[Row], *, old: bool = True) -> list[Any]:
    """Return (key, new, old, timestamp) of all changes of a table whose old values were asked for."""
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    table = program(builder)
    seen: list[Any] = []
    if old:
        assert table.step.send_old_values(force=True)
    table.plan.add(ProcessorStep("changes", [table.step], Changes(seen)))
    with TopologyTestDriver(builder.build()) as driver:
        source = driver.create_input_topic(IN)
        for key, value, timestamp in rows:
            source.pipe_input(key, value, timestamp)
    return seen


UPDATES: list[Row] = [("a", 1, 5), ("a", 2, 3), ("a", None, 7), ("a", None, 8)]


def test_old_values_of_a_source_make_it_materialised() -> None:
    assert changes(lambda b: b.table(IN), UPDATES, old=False) == [
        ("a", 1, None, 5), ("a", 2, None, 3), ("a", None, None, 7), ("a", None, None, 8),
    ]  # fmt: skip
    assert changes(lambda b: b.table(IN), UPDATES) == [
        ("a", 1, None, 5), ("a", 2, 1, 3), ("a", None, 2, 7), ("a", None, None, 8),
    ]  # fmt: skip


def test_old_values_are_not_there_without_force() -> None:
    table: KTable[Any, Any] = StreamsBuilder().table(IN)
    assert not table.map_values(lambda v: v).step.send_old_values(force=False)
    assert table.step.store_in_use is None
    assert StreamsBuilder().table(IN, store="s").filter(lambda k, v: True).step.send_old_values(force=False)


def test_old_values_of_a_filter_skip_what_was_never_there() -> None:
    rows: list[Row] = [("a", 1, 0), ("a", 2, 1), ("a", 3, 2), ("a", 5, 3)]
    assert changes(lambda b: b.table(IN).filter(lambda k, v: v % 2 == 0), rows) == [
        ("a", 2, None, 1),
        ("a", None, 2, 2),
    ]
    assert changes(lambda b: b.table(IN).filter(lambda k, v: v % 2 == 0, store="s"), rows) == [
        ("a", 2, None, 1), ("a", None, 2, 2),
    ]  # fmt: skip


def test_old_values_of_a_mapper_are_computed_or_stored() -> None:
    expected = [("a", 10, None, 5), ("a", 20, 10, 3), ("a", None, 20, 7), ("a", None, None, 8)]
    assert changes(lambda b: b.table(IN).map_values(lambda v: v * 10), UPDATES) == expected
    assert changes(lambda b: b.table(IN).map_values(lambda v: v * 10, store="s"), UPDATES) == expected


def test_old_values_of_aggregates_begin_with_the_initial_one() -> None:
    rows: list[Row] = [("a", 1, 5), ("a", 2, 3)]
    assert changes(lambda b: b.stream(IN).group_by_key().count(), rows) == [("a", 1, 0, 5), ("a", 2, 1, 5)]
    assert changes(lambda b: b.stream(IN).group_by_key().reduce(lambda a, v: a + v), rows) == [
        ("a", 1, None, 5), ("a", 3, 1, 5),
    ]  # fmt: skip


def test_old_values_survive_an_aggregator_that_changes_its_argument() -> None:
    def program(builder: StreamsBuilder) -> KTable[Any, Any]:
        return builder.stream(IN).group_by_key().aggregate(list, lambda k, v, a: a.append(v) or a)

    rows: list[Row] = [("a", 1, 0), ("a", 2, 1)]
    assert changes(program, rows) == [("a", [1], [], 0), ("a", [1, 2], [1], 1)]


def test_a_view_of_a_derived_table_is_computed_from_the_one_before() -> None:
    builder = StreamsBuilder()
    table: KTable[Any, Any] = builder.table(IN)
    view = table.map_values(lambda v: v + 1).filter(lambda k, v: v > 2).step.view()
    name = table.step.store_in_use
    assert name is not None
    assert view.stores == (name,)
    read: list[Any] = []

    class Reader(Operator):
        def compile(self, context: NodeContext, forward: Forward) -> Forward:
            get = view.open(context)
            return lambda key, value, timestamp, headers: read.append(get(value))

    keys: Topic[Any, Any] = Topic("keys", serdes.json, serdes.json)
    stream = builder.stream(keys)
    builder.plan.add(ProcessorStep("reader", [stream.step], Reader(), store_names=view.stores))
    with TopologyTestDriver(builder.build()) as driver:
        driver.create_input_topic(IN).pipe_key_value_list([("a", 1), ("b", 2)], start_timestamp=4)
        driver.create_input_topic(keys).pipe_key_value_list([(None, "a"), (None, "b"), (None, "c")])
    assert read == [None, (3, 4), None]
