"""What is wrong in a program is said where it is written, before any record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial, wraps
from typing import Any

import pytest

from streamlet import (
    JoinWindows,
    Materialized,
    Processor,
    Record,
    SessionWindows,
    Stores,
    StreamsBuilder,
    Suppressed,
    TaskError,
    TimeWindows,
    Topic,
    TopologyError,
    TopologyTestDriver,
    UnlimitedWindows,
    serdes,
)

from .support import IN, OUT, run

OTHER: Topic[Any, Any] = Topic("other", serdes.json, serdes.json)
JOINED = JoinWindows.of_time_difference(timedelta(milliseconds=5), grace=timedelta(0))
TUMBLING = TimeWindows.of_size(timedelta(milliseconds=10), grace=timedelta(0))
SESSIONS = SessionWindows.of_inactivity_gap(timedelta(milliseconds=10), grace=timedelta(0))

Program = Callable[[StreamsBuilder], object]


def stream(builder: StreamsBuilder) -> Any:
    """Return what type checkers cannot look into."""
    return builder.stream(IN)


def table(builder: StreamsBuilder) -> Any:
    return builder.table(IN)


def grouped(builder: StreamsBuilder) -> Any:
    return stream(builder).group_by_key()


def regrouped(builder: StreamsBuilder) -> Any:
    return table(builder).group_by(lambda key, value: (value, key), key_serde=serdes.json, value_serde=serdes.json)


async def waits(*arguments: Any) -> Any:
    return arguments


class WaitsToo:
    async def __call__(self, *arguments: Any) -> Any:
        return arguments


FUNCTIONS: dict[str, Callable[[StreamsBuilder, Any], object]] = {
    "filter": lambda b, f: stream(b).filter(f),
    "filter_not": lambda b, f: stream(b).filter_not(f),
    "map": lambda b, f: stream(b).map(f),
    "flat_map": lambda b, f: stream(b).flat_map(f),
    "map_values": lambda b, f: stream(b).map_values(f),
    "map_values with key": lambda b, f: stream(b).map_values(f, with_key=True),
    "flat_map_values": lambda b, f: stream(b).flat_map_values(f),
    "select_key": lambda b, f: stream(b).select_key(f),
    "peek": lambda b, f: stream(b).peek(f),
    "foreach": lambda b, f: stream(b).foreach(f),
    "branch": lambda b, f: stream(b).split().branch(f),
    "branch, then": lambda b, f: stream(b).split().branch(lambda key, value: True, then=f),
    "group_by": lambda b, f: stream(b).group_by(f),
    "to a partition": lambda b, f: stream(b).to(OUT, partitioner=f),
    "repartition": lambda b, f: stream(b).repartition(partitioner=f),
    "reduce": lambda b, f: grouped(b).reduce(f),
    "initializer": lambda b, f: grouped(b).aggregate(f, lambda key, value, aggregate: aggregate),
    "aggregator": lambda b, f: grouped(b).aggregate(int, f),
    "cogroup": lambda b, f: grouped(b).cogroup(f),
    "cogroup, initializer": lambda b, f: grouped(b).cogroup(lambda key, value, aggregate: aggregate).aggregate(f),
    "windowed reduce": lambda b, f: grouped(b).windowed_by(TUMBLING).reduce(f),
    "windowed initializer": lambda b, f: grouped(b).windowed_by(TUMBLING).aggregate(f, lambda key, value, a: a),
    "windowed aggregator": lambda b, f: grouped(b).windowed_by(TUMBLING).aggregate(int, f),
    "session merger": lambda b, f: grouped(b).windowed_by(SESSIONS).aggregate(int, lambda key, value, a: a, f),
    "join of streams": lambda b, f: stream(b).join(b.stream(OTHER), f, JOINED),
    "join with a table": lambda b, f: stream(b).left_join(b.table(OTHER), f),
    "join with a global table": lambda b, f: stream(b).join(b.global_table(OTHER), lambda key, value: key, f),
    "key selector": lambda b, f: stream(b).join(b.global_table(OTHER), f, lambda value, row: row),
    "table filter": lambda b, f: table(b).filter(f),
    "table filter_not": lambda b, f: table(b).filter_not(f),
    "table map_values": lambda b, f: table(b).map_values(f),
    "table group_by": lambda b, f: table(b).group_by(f),
    "table to_stream": lambda b, f: table(b).to_stream(f),
    "table join": lambda b, f: table(b).outer_join(b.table(OTHER), f),
    "foreign key": lambda b, f: table(b).join(b.table(OTHER), f, lambda left, right: left),
    "table reduce, adder": lambda b, f: regrouped(b).reduce(f, lambda value, other: value),
    "table reduce, subtractor": lambda b, f: regrouped(b).reduce(lambda value, other: value, f),
    "table initializer": lambda b, f: regrouped(b).aggregate(f, lambda key, value, a: a, lambda key, value, a: a),
    "table adder": lambda b, f: regrouped(b).aggregate(int, f, lambda key, value, a: a),
    "table subtractor": lambda b, f: regrouped(b).aggregate(int, lambda key, value, a: a, f),
    "extractor": lambda b, f: b.stream(IN, timestamp_extractor=f),
    "global extractor": lambda b, f: b.global_table(IN, timestamp_extractor=f),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_cannot_be_called_is_refused_where_it_is_given(name: str) -> None:
    give = FUNCTIONS[name]
    wrong = ["text", 5, waits, WaitsToo(), partial(waits, 1), lambda a, b, c, d, e, f: None, lambda *, needed: needed]
    for function in wrong:
        with pytest.raises(TopologyError, match=r"function|coroutines|takes a joiner"):
            give(StreamsBuilder(), function)


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"branch, then"}))
def test_a_function_that_does_not_tell_its_parameters_is_taken(name: str) -> None:
    @wraps(waits)
    def decorated(*arguments: Any) -> Any:
        return None

    for function in (dict, decorated, lambda *arguments: None):
        FUNCTIONS[name](StreamsBuilder(), function)


def test_what_to_do_is_said() -> None:
    builder = StreamsBuilder()
    with pytest.raises(
        TopologyError, match=r"map_values\(\) takes a function of value, not <lambda>\(k, v\); with_key=True"
    ):
        stream(builder).map_values(lambda k, v: v)
    with pytest.raises(TopologyError, match="map_values_async is for functions that wait"):
        stream(builder).foreach(waits)
    with pytest.raises(TopologyError, match=r"as initializer, takes a function without parameters, not 0"):
        grouped(builder).aggregate(0, lambda key, value, aggregate: aggregate)


WRONG: dict[str, tuple[Program, str]] = {
    "merge with a table": (lambda b: stream(b).merge(b.table(OTHER)), r"merge\(\) takes a KStream"),
    "merge with nothing": (lambda b: stream(b).merge(None), r"merge\(\) takes a KStream"),
    "a branch to nowhere": (
        lambda b: stream(b).split().branch(lambda key, value: True, then=lambda branch: "branch"),
        "must return a KStream",
    ),
    "partitions as text": (lambda b: stream(b).repartition(partitions="3"), "whole number from 1 on, not '3'"),
    "part of a partition": (lambda b: stream(b).repartition(partitions=1.5), "whole number from 1 on"),
    "no topics": (lambda b: b.stream(None), "a stream reads a Topic"),  # type: ignore[call-overload]
    "a type for a serde": (lambda b: stream(b).group_by_key(key_serde=str), "key_serde must be a Serde"),
    "a type for a store's serde": (
        lambda b: table(b).map_values(len, store=Materialized(value_serde=str)),
        "must be a",
    ),  # type: ignore[arg-type]
    "a type for a join's serde": (
        lambda b: stream(b).join(b.stream(OTHER), lambda one, other: one, JOINED, other_value_serde=int),
        "other_value_serde must be a Serde",
    ),
    "a type for a default serde": (lambda b: StreamsBuilder(default_key_serde=str), "default_key_serde must be"),  # type: ignore[arg-type]
    "a number for a retention": (lambda b: Materialized("name", retention=5), "must be a timedelta, not 5"),  # type: ignore[arg-type]
    "less than a millisecond of history": (
        lambda b: Materialized("name", history_retention=timedelta(microseconds=500)),
        "whole milliseconds",
    ),
    "configs that are numbers": (
        lambda b: Materialized("name", changelog_config={"segment.bytes": 5}),  # type: ignore[dict-item]
        "maps names to text",
    ),
    "configs of a changelog that is not there": (
        lambda b: Materialized("name", logging=False, changelog_config={"segment.bytes": "5"}),
        "with logging=False there is no changelog",
    ),
    "configs of a global table's changelog": (
        lambda b: b.global_table(IN, store=Materialized("name", changelog_config={"segment.bytes": "5"})),
        "the changelog of a global table is its topic, 'in'",
    ),
    "less than a millisecond of waiting": (
        lambda b: Suppressed.until_time_limit(timedelta(microseconds=500)),
        "whole milliseconds",
    ),
    "a join without windows": (
        lambda b: stream(b).join(b.stream(OTHER), lambda one, other: one),
        r"join\(other, joiner, windows\).*missing a required argument: 'windows'",
    ),
    "a join with a table and windows": (
        lambda b: stream(b).join(b.table(OTHER), lambda one, other: one, JOINED),
        r"join\(table, joiner\).*too many",
    ),
    "a join with a global table and grace": (
        lambda b: stream(b).join(b.global_table(OTHER), lambda k, v: k, lambda v, r: v, grace=timedelta(1)),
        r"join\(table, key_selector, joiner\).*'grace'",
    ),
    "options of a store that is not there": (
        lambda b: stream(b).join(b.table(OTHER), lambda one, other: one, in_memory=True),
        "they need grace=",
    ),
    "cogrouped streams": (
        lambda b: grouped(b).cogroup(lambda k, v, a: a).cogroup(b.stream(OTHER), lambda k, v, a: a),
        "what group_by or group_by_key returns",
    ),
    "cogrouped builders": (
        lambda b: grouped(b).cogroup(lambda k, v, a: a).cogroup(grouped(StreamsBuilder()), lambda k, v, a: a),
        "different StreamsBuilders",
    ),
    "the end of what has none": (
        lambda b: grouped(b).windowed_by(UnlimitedWindows.of()).count().suppress(Suppressed.until_window_closes()),
        "unlimited windows, which never close",
    ),
    "a store by name that should be declared": (lambda b: b.add_state_store("name"), "that Stores declares"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str) -> None:
    program, message = WRONG[name]
    with pytest.raises(TopologyError, match=message):
        program(StreamsBuilder())


def count_store(name: str) -> Any:
    return Stores.timestamped_key_value(name, serdes.json, serdes.int64)


SHARED: dict[str, Program] = {
    "two counts of one stream": lambda b: [stream(b).group_by_key().count(store="state") for _ in range(2)],
    "counts of two streams": lambda b: [b.stream(topic).group_by_key().count(store="state") for topic in (IN, OTHER)],
    "a table and one made of it": lambda b: grouped(b).count(store="state").filter(lambda k, v: True, store="state"),
    "two tables": lambda b: [b.table(topic, store="state") for topic in (IN, OTHER)],
    "a declared one and a table's": lambda b: (
        b.add_state_store(count_store("state")),
        grouped(b).count(store="state"),
    ),
    "a table and a global one": lambda b: (b.table(IN, store="state"), b.global_table(OTHER, store="state")),
    "two joins": lambda b: [
        stream(b).join(b.stream(OTHER), lambda one, other: one, JOINED, store_name="state") for _ in range(2)
    ],
    "two suppressions": lambda b: [
        table(b).suppress(Suppressed.until_time_limit(timedelta(1)), name=name) for name in ("state", "state")
    ],
}


@pytest.mark.parametrize("name", SHARED)
def test_no_two_operators_write_to_one_store(name: str) -> None:
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    SHARED[name](builder)
    with pytest.raises(TopologyError, match=r"give (one of them|this one|the global one)"):
        builder.build()


def test_a_store_that_is_written_by_two_operators_would_have_lied() -> None:
    def counts(builder: StreamsBuilder) -> None:
        counted = builder.stream(IN).group_by_key().count(store="all")
        counted.filter(lambda _, count: count > 1, store="some").to_stream().to(OUT)

    assert run(counts, [("k", 1, 0), ("k", 1, 1)]) == [("k", None, 0), ("k", 2, 1)]


def test_groups_are_told_apart_by_type_as_by_value() -> None:
    """``1 == True == 1.0``, but on the topic they are three keys."""

    def groups(builder: StreamsBuilder) -> None:
        table = builder.table(IN).group_by(lambda _, value: (value, 0), key_serde=serdes.json, value_serde=serdes.json)
        table.count(store="counts")

    builder = StreamsBuilder()
    groups(builder)
    with TopologyTestDriver(builder.build()) as driver:
        source = driver.create_input_topic(IN)
        for time, value in enumerate((1, True, 1.0)):
            source.pipe_input("row", value, time)
        counts = driver.get_state_store("counts")
        assert [counts.get(group) for group in (1, True, 1.0)] == [0, 0, 1]


def test_a_global_store_says_that_it_is_only_read() -> None:
    class Writes(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None:
            self.context.get_state_store("all").put(record.key, record.value)

    builder = StreamsBuilder()
    builder.global_table(OTHER, store="all")
    builder.stream(IN).process(Writes)
    with (
        TopologyTestDriver(builder.build()) as driver,
        pytest.raises(TaskError, match="no attribute 'put': this is a view for reading; a global store is written by"),
    ):
        driver.create_input_topic(IN).pipe_input("k", "v")
