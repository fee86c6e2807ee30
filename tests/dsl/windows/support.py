"""Helpers for tests of windows: programs over one stream, and what comes out of each input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from streamlet import (
    EmitStrategy,
    KTable,
    Materialized,
    SessionWindowedKStream,
    StreamsBuilder,
    Topic,
    Topology,
    TopologyTestDriver,
    serdes,
)
from streamlet.dsl.windowed_tables import Windows

IN: Topic[Any, Any] = Topic("in", serdes.string, serdes.json)
OUT: Topic[str, Any] = Topic("out", serdes.string, serdes.json)

Row = tuple[Any, Any, int]
"""Key, value, timestamp. Keys within windows are printed: ``[a@0/10]``."""

KEYS = st.sampled_from("ab")
VALUES = st.integers(0, 9)


def rows_up_to(latest: int, *, size: int = 14) -> st.SearchStrategy[list[Row]]:
    """Return lists of rows, out of order as it comes."""
    return st.lists(st.tuples(KEYS, VALUES, st.integers(0, latest)), max_size=size)


def ms(milliseconds: int) -> timedelta:
    """Return a duration."""
    return timedelta(milliseconds=milliseconds)


def sorted_values(windowed: Any, **options: Any) -> KTable[Any, Any]:
    """Aggregate to the sorted list of values: whatever the order of records, and by way of a new list each time."""
    store = Materialized(options.pop("name", "windows"), value_serde=serdes.json, **options)
    add = lambda key, value, values: sorted([*values, value])  # noqa: E731  # passed on
    merge = [lambda key, one, other: sorted(one + other)] if isinstance(windowed, SessionWindowedKStream) else []
    table: KTable[Any, Any] = windowed.aggregate(list, add, *merge, store=store)
    return table


def windowed_topology(
    windows: Windows,
    *,
    emit: EmitStrategy = EmitStrategy.ON_WINDOW_UPDATE,
    make: Callable[[Any], KTable[Any, Any]] = sorted_values,
    then: Callable[[KTable[Any, Any]], KTable[Any, Any]] = lambda table: table,
) -> Topology:
    """Return the topology that aggregates `IN` over windows to `OUT`."""
    builder = StreamsBuilder()
    windowed = builder.stream(IN).group_by_key().windowed_by(windows).emit_strategy(emit)
    then(make(windowed)).to_stream(lambda key, value: str(key)).to(OUT)
    return builder.build()


def pipe(topology: Topology, rows: Iterable[Row], **config: Any) -> list[list[Row]]:
    """Pipe rows through a topology and return what comes out of each."""
    out: list[list[Row]] = []
    with TopologyTestDriver(topology, config, initial_wall_clock_time=0) as driver:
        source, sink = driver.create_input_topic(IN), driver.create_output_topic(OUT)
        for key, value, timestamp in rows:
            source.pipe_input(key, value, timestamp)
            out.append([(r.key, r.value, r.timestamp) for r in sink.read_records_to_list()])
    return out


def results(windows: Windows, rows: Iterable[Row], **options: Any) -> list[list[Row]]:
    """Aggregate rows over windows and return what comes out of each."""
    return pipe(windowed_topology(windows, **options), rows)


def last_of_each(outputs: Iterable[list[Row]]) -> dict[str, Any]:
    """Return the last value of each key that was not deleted."""
    table = {key: value for output in outputs for key, value, _ in output}
    return {key: value for key, value in table.items() if value is not None}


def dropped(topology: Topology, rows: Iterable[Row]) -> float:
    """Return how many records a topology counts as dropped."""
    with TopologyTestDriver(topology, initial_wall_clock_time=0) as driver:
        source = driver.create_input_topic(IN)
        for key, value, timestamp in rows:
            source.pipe_input(key, value, timestamp)
        return driver.metrics().get("dropped-records-total", 0)
