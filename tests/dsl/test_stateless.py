"""Operators without state: random chains against plain Python, and their traps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import KStream, Record, StreamsBuilder, TaskError, Topic, TopologyError, TopologyTestDriver, serdes
from tests.dsl.support import IN, OUT, Row, run

KEYS = st.none() | st.integers(0, 3)
VALUES = st.none() | st.integers(-5, 5)
ROWS = st.lists(st.tuples(KEYS, VALUES, st.integers(0, 100)), max_size=8)

Link = tuple[Callable[[KStream[Any, Any]], KStream[Any, Any]], Callable[[Row], Iterator[Row]]]
"""An operator, and what it makes of one row."""


def plus(value: Any) -> Any:
    return None if value is None else value + 1


def even(key: Any, value: Any) -> bool:
    return value is not None and value % 2 == 0


def copies(value: Any) -> list[Any]:
    return [value] * (abs(value or 0) % 3)


def _filter(row: Row) -> Iterator[Row]:
    if even(row[0], row[1]):
        yield row


def _filter_not(row: Row) -> Iterator[Row]:
    if not even(row[0], row[1]):
        yield row


def _drop_nulls(row: Row) -> Iterator[Row]:
    if row[1] is not None:
        yield row


def _flat_map_values(row: Row) -> Iterator[Row]:
    for value in copies(row[1]):
        yield row[0], value, row[2]


def _flat_map(row: Row) -> Iterator[Row]:
    for value in copies(row[1]):
        yield value, row[0], row[2]


def _repartition(row: Row) -> Iterator[Row]:
    if row[0] is not None:
        yield row


def _table(row: Row) -> Iterator[Row]:
    if row[0] is not None:
        yield row


LINKS: dict[str, Link] = {
    "filter": (lambda s: s.filter(even), _filter),
    "filter_not": (lambda s: s.filter_not(even), _filter_not),
    "drop_nulls": (lambda s: s.drop_nulls(), _drop_nulls),
    "map": (lambda s: s.map(lambda k, v: (v, k)), lambda row: iter([(row[1], row[0], row[2])])),
    "map_values": (lambda s: s.map_values(plus), lambda row: iter([(row[0], plus(row[1]), row[2])])),
    "map_values with key": (
        lambda s: s.map_values(lambda k, v: k, with_key=True),
        lambda row: iter([(row[0], row[0], row[2])]),
    ),
    "flat_map": (lambda s: s.flat_map(lambda k, v: [(w, k) for w in copies(v)]), _flat_map),
    "flat_map_values": (lambda s: s.flat_map_values(copies), _flat_map_values),
    "select_key": (lambda s: s.select_key(lambda k, v: plus(k)), lambda row: iter([(plus(row[0]), row[1], row[2])])),
    "peek": (lambda s: s.peek(lambda k, v: None), lambda row: iter([row])),
    "repartition": (lambda s: s.repartition(), _repartition),
    "to_table": (lambda s: s.to_table().to_stream(), _table),
}


@given(st.lists(st.sampled_from(sorted(LINKS)), max_size=6), ROWS)
def test_chains_do_what_plain_python_does(names: list[str], rows: list[Row]) -> None:
    def program(builder: StreamsBuilder) -> None:
        stream: KStream[Any, Any] = builder.stream(IN)
        for name in names:
            stream = LINKS[name][0](stream)
        stream.to(OUT)

    expected: list[Row] = []
    for row in rows:
        made = [row]
        for name in names:
            made = [result for each in made for result in LINKS[name][1](each)]
        expected.extend(made)
    assert run(program, rows) == expected


@given(ROWS)
def test_branches_take_each_record_once(rows: list[Row]) -> None:
    def program(builder: StreamsBuilder) -> None:
        branches = (
            builder.stream(IN)
            .split(name="b-")
            .branch(even, name="even")
            .branch(lambda k, v: v is not None and v > 2, name="large")
            .default_branch(name="rest")
        )
        assert list(branches) == ["b-even", "b-large", "b-rest"]
        for name, branch in branches.items():
            branch.map_values(lambda v, name=name: [name, v]).to(OUT)

    def name(value: Any) -> str:
        if even(None, value):
            return "b-even"
        return "b-large" if value is not None and value > 2 else "b-rest"

    assert run(program, rows) == [(k, [name(v), v], t) for k, v, t in rows]


def test_no_default_branch_drops_the_rest() -> None:
    def program(builder: StreamsBuilder) -> None:
        (branch,) = builder.stream(IN).split().branch(even).no_default_branch().values()
        branch.to(OUT)

    assert run(program, [("a", 1, 0), ("a", 2, 1)]) == [("a", 2, 1)]


def test_nothing_can_follow_the_default_branch() -> None:
    split = StreamsBuilder().stream(IN).split()
    split.default_branch()
    with pytest.raises(TopologyError, match="has its last branch already"):
        split.branch(even)


@given(ROWS)
def test_merge_keeps_the_order_within_each_stream(rows: list[Row]) -> None:
    def program(builder: StreamsBuilder) -> None:
        stream = builder.stream(IN)
        stream.filter(even).merge(stream.filter_not(even)).to(OUT)

    assert run(program, rows) == rows


def test_two_streams_of_one_topic_share_the_source_in_the_order_of_the_calls() -> None:
    def program(builder: StreamsBuilder) -> None:
        builder.stream(IN).map_values(lambda v: ["first", v]).to(OUT)
        builder.stream(IN).map_values(lambda v: ["second", v]).to(OUT)

    assert run(program, [("k", 1, 0)]) == [("k", ["first", 1], 0), ("k", ["second", 1], 0)]


def test_overlapping_topics_are_refused() -> None:
    builder = StreamsBuilder()
    other: Topic[Any, Any] = Topic("other", serdes.json, serdes.json)
    builder.stream(IN)
    builder.stream([IN, other])
    with pytest.raises(TopologyError, match="would be read by two sources"):
        builder.build()


def test_the_same_topic_with_two_serdes_is_refused() -> None:
    builder = StreamsBuilder()
    builder.stream(IN)
    builder.stream(Topic("in", serdes.string, serdes.json))
    with pytest.raises(TopologyError, match=r"in is read twice, .* with key_serde=.*give both the same"):
        builder.build()


def test_headers_pass_stateless_and_stateful_operators() -> None:
    builder = StreamsBuilder()
    stream = (
        builder.stream(IN).map_values(plus).group_by(lambda k, v: k, key_serde=serdes.json, value_serde=serdes.json)
    )
    stream.reduce(max).to_stream().to(OUT)
    with TopologyTestDriver(builder.build()) as driver:
        headers = (("trace", b"1"), ("trace", None))
        driver.create_input_topic(IN).pipe_record(Record("k", 1, 5, headers))
        assert driver.create_output_topic(OUT).read_record() == Record("k", 2, 5, headers)


def test_topics_chosen_by_a_function() -> None:
    builder = StreamsBuilder()
    seen: list[Any] = []

    def topic_of(key: Any, value: Any, origin: Any) -> str:
        seen.append(origin)
        return f"out-{value % 2}"

    builder.stream(IN).to(topic_of)
    with TopologyTestDriver(builder.build()) as driver:
        driver.create_input_topic(IN).pipe_key_value_list([("a", 1), ("b", 2)])
        assert driver.produced_topic_names == {"out-0", "out-1"}
    assert [(origin.topic, origin.partition, origin.offset) for origin in seen] == [("in", 0, 0), ("in", 0, 1)]


def test_a_partitioner_is_asked_with_the_number_of_partitions() -> None:
    asked: list[Any] = []

    def partitioner(topic: str, key: Any, value: Any, count: int) -> int:
        asked.append((topic, key, value, count))
        return 0

    assert run(lambda b: b.stream(IN).to(OUT, partitioner=partitioner), [("a", 1, 0)]) == [("a", 1, 0)]
    assert asked == [("out", "a", 1, 1)]


@pytest.mark.parametrize("chosen", ["1", -1, 1.0, True, [0, -1], {"0": 1}, object()])
def test_what_is_no_partition_is_refused(chosen: Any) -> None:
    with pytest.raises(TaskError, match="a partitioner must return a partition from 0 on"):
        run(lambda b: b.stream(IN).to(OUT, partitioner=lambda topic, key, value, count: chosen), [("a", 1, 0)])


@pytest.mark.parametrize(("chosen", "copies"), [(0, 1), (None, 1), ([0, 1], 2), ({1, 2, 3}, 3), ((2, 2), 1), ([], 0)])
def test_a_partitioner_may_choose_several_partitions_or_none(chosen: Any, copies: int) -> None:
    def send(builder: StreamsBuilder) -> None:
        builder.stream(IN).to(OUT, partitioner=lambda topic, key, value, count: chosen)

    assert run(send, [("a", 1, 0)]) == [("a", 1, 0)] * copies


def test_foreach_sees_everything() -> None:
    seen: list[Any] = []
    run(lambda b: b.stream(IN).foreach(lambda k, v: seen.append((k, v))), [("a", 1, 0), (None, None, 1)])
    assert seen == [("a", 1), (None, None)]


@pytest.mark.parametrize("operator", ["map", "flat_map", "select_key"])
def test_new_keys_are_repartitioned_only_where_it_matters(operator: str) -> None:
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    stream = LINKS[operator][0](builder.stream(IN)).map_values(plus)
    assert stream.repartition_required
    assert not stream.repartition().repartition_required
    stream.group_by_key().count(store="n")
    topology = builder.build()
    assert [t.name for part in topology.sub_topologies for t in part.repartition_topics] == [
        "KSTREAM-REPARTITION-0000000003-repartition", "n-repartition",
    ]  # fmt: skip
