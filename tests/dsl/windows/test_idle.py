"""Windows that close by the wall clock: as if a record of another key had come with the time that it is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlet import EmitStrategy, KTable, StreamsBuilder, TimeWindows, TopologyError, TopologyTestDriver
from tests.dsl.windows.support import IN, KEYS, OUT, VALUES, Row, ms, sorted_values
from tests.dsl.windows.test_final_results import KINDS

CLOSE = EmitStrategy.ON_WINDOW_CLOSE
OTHER_KEY = "~"

Event = tuple[Any, Any, int]
"""A record; or, with no key, how long nothing comes."""

EVENTS = st.lists(
    st.one_of(st.tuples(KEYS, VALUES, st.integers(0, 40)), st.tuples(st.none(), st.none(), st.integers(1, 6))),
    max_size=14,
)


class Idle:
    """A driver, and what comes out of each event."""

    def __init__(self, windows: Any, idle_after: int | None) -> None:
        builder = StreamsBuilder()
        windowed = builder.stream(IN).group_by_key().windowed_by(windows)
        table: KTable[Any, Any] = sorted_values(
            windowed.emit_strategy(CLOSE, idle_after=None if idle_after is None else ms(idle_after))
        )
        table.to_stream(lambda key, value: str(key)).to(OUT)
        self.driver = TopologyTestDriver(builder.build(), initial_wall_clock_time=0)
        self.source, self.sink = self.driver.create_input_topic(IN), self.driver.create_output_topic(OUT)

    def __enter__(self) -> Idle:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.close()

    def read(self) -> list[Row]:
        rows = [(r.key, r.value, r.timestamp) for r in self.sink.read_records_to_list()]
        return [row for row in rows if not row[0].startswith(f"[{OTHER_KEY}@")]

    def pipe(self, key: Any, value: Any, timestamp: int) -> list[Row]:
        self.source.pipe_input(key, value, timestamp)
        return self.read()

    def wait(self, milliseconds: int) -> list[Row]:
        self.driver.advance_wall_clock_time(ms(milliseconds))
        return self.read()

    @property
    def dropped(self) -> float:
        return self.driver.metrics().get("dropped-records-total", 0)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(size=st.integers(6, 12), grace=st.integers(0, 9), idle_after=st.integers(1, 9), events=EVENTS)
def test_an_idle_task_closes_windows_as_another_record_would(
    kind: str, size: int, grace: int, idle_after: int, events: list[Event]
) -> None:
    if kind == "sliding":  # a leap over the retention loses windows there, if a record makes it
        events = [(key, value, number if key is None else number % size) for key, value, number in events]
        idle_after = min(idle_after, size // 2)
    windows = KINDS[kind](size, grace)
    with Idle(windows, idle_after) as driver, Idle(windows, None) as model:
        now = since = 0
        time = base = -1
        for key, value, number in events:
            if key is not None:
                time = base = max(time, number)
                since = now
                assert driver.pipe(key, value, number) == model.pipe(key, value, number)
                continue
            now += number
            expected: list[Row] = []
            if base >= 0 and now - since >= idle_after:
                time = base + now - since
                expected = model.pipe(OTHER_KEY, 0, time)
            assert driver.wait(number) == expected
        assert driver.dropped == model.dropped


def test_the_timeline_of_the_docs() -> None:
    with Idle(TimeWindows.of_size(ms(10), grace=ms(5)), 20) as driver:
        assert driver.pipe("k", 1, 3) == []
        assert driver.wait(19) == []
        assert driver.wait(1) == [("[k@0/10]", [1], 3)]
        assert driver.pipe("k", 2, 4) == []
        assert driver.dropped == 1
        assert driver.pipe("k", 3, 23) == []
        assert driver.wait(20) == [("[k@20/30]", [3], 23)]


def test_nothing_closes_before_the_first_record() -> None:
    with Idle(TimeWindows.of_size(ms(10), grace=ms(0)), 1) as driver:
        assert driver.wait(10**6) == []
        assert driver.pipe("k", 1, 3) == []
        assert driver.dropped == 0


def test_it_needs_final_results_and_a_time() -> None:
    windowed = StreamsBuilder().stream(IN).group_by_key().windowed_by(TimeWindows.of_size(ms(10), grace=ms(0)))
    with pytest.raises(TopologyError, match="ON_WINDOW_CLOSE"):
        windowed.emit_strategy(EmitStrategy.ON_WINDOW_UPDATE, idle_after=ms(1))
    with pytest.raises(TopologyError, match="idle_after"):
        windowed.emit_strategy(CLOSE, idle_after=timedelta(0))
