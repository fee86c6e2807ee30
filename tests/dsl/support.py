"""Helpers for tests of the builder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from streamlet import StreamsBuilder, Topic, TopologyTestDriver, serdes

IN: Topic[Any, Any] = Topic("in", serdes.json, serdes.json)
OUT: Topic[Any, Any] = Topic("out", serdes.json, serdes.json)

Row = tuple[Any, Any, int]
"""Key, value, timestamp."""


def run(program: Callable[[StreamsBuilder], object], rows: Iterable[Row], **config: Any) -> list[Row]:
    """Build a program that reads `IN` and writes `OUT`, pipe rows through it, and return what comes out."""
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    program(builder)
    with TopologyTestDriver(builder.build(), config, initial_wall_clock_time=0) as driver:
        source, sink = driver.create_input_topic(IN), driver.create_output_topic(OUT)
        for key, value, timestamp in rows:
            source.pipe_input(key, value, timestamp)
        return [(r.key, r.value, r.timestamp) for r in sink.read_records_to_list()]
