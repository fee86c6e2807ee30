"""Helpers for tests of tables: programs over two topics, and tables rebuilt from what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from streamlet import KTable, StreamsBuilder, Topic, TopologyTestDriver, serdes

LEFT: Topic[Any, Any] = Topic("left", serdes.json, serdes.json)
RIGHT: Topic[Any, Any] = Topic("right", serdes.json, serdes.json)
OUT: Topic[Any, Any] = Topic("out", serdes.json, serdes.json)

Row = tuple[Any, Any, int]
"""Key, value, timestamp."""
Step = tuple[str, Any, Any, int]
"""``"L"`` or ``"R"``, key, value, timestamp."""
Table = KTable[Any, Any]


def run(
    program: Callable[[Table, Table], Table], steps: Iterable[Step], *, store: Any = None, **config: Any
) -> list[list[Row]]:
    """Build a program over the two tables, and return what each step made come out."""
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    left, right = builder.table(LEFT, store=store), builder.table(RIGHT)
    program(left, right).to_stream().to(OUT)
    with TopologyTestDriver(builder.build(), config, initial_wall_clock_time=0) as driver:
        inputs = {"L": driver.create_input_topic(LEFT), "R": driver.create_input_topic(RIGHT)}
        sink = driver.create_output_topic(OUT)
        out = []
        for side, key, value, timestamp in steps:
            inputs[side].pipe_input(key, value, timestamp)
            out.append([(record.key, record.value, record.timestamp) for record in sink.read_records_to_list()])
        return out


def rows(records: Iterable[list[Row]]) -> dict[Any, Any]:
    """Return the table that the records make."""
    table: dict[Any, Any] = {}
    for record in (record for some in records for record in some):
        if record[1] is None:
            table.pop(record[0], None)
        else:
            table[record[0]] = record[1]
    return table


def pair(left: Any, right: Any) -> Any:
    """Join two values in a way that shows both."""
    return [left, right]
