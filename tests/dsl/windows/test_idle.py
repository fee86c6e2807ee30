"""Windows that close by the wall clock: as if a record of another key had come with the time that it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlet import (
    EmitStrategy,
    KTable,
    Materialized,
    SessionWindows,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
    Topic,
    Topology,
    TopologyError,
    TopologyTestDriver,
    UnlimitedWindows,
    serdes,
)
from streamlet.time import ManualClock
from streamlet.topology.evolution import compatibility
from tests.dsl.windows.aborts import Process
from tests.dsl.windows.support import IN, KEYS, OUT, VALUES, Row, ms, sorted_values
from tests.dsl.windows.test_final_results import KINDS

CLOSE = EmitStrategy.ON_WINDOW_CLOSE
OTHER: Topic[Any, Any] = Topic("other", serdes.string, serdes.json)
OTHER_KEY = "~"

Event = tuple[Any, Any, int]
"""A record; or, with no key, how long nothing comes. Odd values come through the second topic, if there is one."""

EVENTS = st.lists(
    st.one_of(st.tuples(KEYS, VALUES, st.integers(0, 40)), st.tuples(st.none(), st.none(), st.integers(1, 6))),
    max_size=14,
)

Make = Callable[[StreamsBuilder, Any, timedelta | None], KTable[Any, Any]]
"""Aggregates over windows, which close by the clock if a time is given."""


def aggregated(builder: StreamsBuilder, windows: Any, idle_after: timedelta | None) -> KTable[Any, Any]:
    windowed = builder.stream(IN).group_by_key().windowed_by(windows)
    return sorted_values(windowed.emit_strategy(CLOSE, idle_after=idle_after))


def suppressed(builder: StreamsBuilder, windows: Any, idle_after: timedelta | None) -> KTable[Any, Any]:
    table = sorted_values(builder.stream(IN).group_by_key().windowed_by(windows))
    table = table.filter(lambda key, values: values != [0])  # a table in between
    return table.suppress(Suppressed.until_window_closes(idle_after=idle_after))


def cogroup(builder: StreamsBuilder, windows: Any, emit: Callable[[Any], Any]) -> KTable[Any, Any]:
    add = lambda key, value, values: sorted([*values, value])  # noqa: E731  # short
    merge = [lambda key, one, other: sorted(one + other)] if isinstance(windows, SessionWindows) else []
    store = Materialized("windows", value_serde=serdes.json)
    both = builder.stream(IN).group_by_key().cogroup(add).cogroup(builder.stream(OTHER).group_by_key(), add)
    table: KTable[Any, Any] = emit(both.windowed_by(windows)).aggregate(list, *merge, store=store)
    return table


def cogrouped(builder: StreamsBuilder, windows: Any, idle_after: timedelta | None) -> KTable[Any, Any]:
    return cogroup(builder, windows, lambda windowed: windowed.emit_strategy(CLOSE, idle_after=idle_after))


def cogrouped_suppressed(builder: StreamsBuilder, windows: Any, idle_after: timedelta | None) -> KTable[Any, Any]:
    table = cogroup(builder, windows, lambda windowed: windowed)
    return table.suppress(Suppressed.until_window_closes(idle_after=idle_after))


MAKERS: dict[str, Make] = {
    "on closing": aggregated,
    "suppressed": suppressed,
    "cogrouped, on closing": cogrouped,
    "cogrouped, suppressed": cogrouped_suppressed,
}


class Idle:
    """A driver, and what comes out of each event."""

    def __init__(self, topology: Topology, **config: Any) -> None:
        self.driver = TopologyTestDriver(topology, config, initial_wall_clock_time=0)
        topics = {name for part in topology.sub_topologies for name in part.source_topics}
        self.sources = [self.driver.create_input_topic(topic) for topic in (IN, OTHER) if topic.name in topics]
        self.sink = self.driver.create_output_topic(OUT)

    @classmethod
    def of(cls, make: Make, windows: Any, idle_after: int | None) -> Idle:
        builder = StreamsBuilder()
        table = make(builder, windows, None if idle_after is None else ms(idle_after))
        table.to_stream(lambda key, value: str(key)).to(OUT)
        return cls(builder.build())

    def __enter__(self) -> Idle:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.close()

    def read(self) -> list[Row]:
        rows = [(r.key, r.value, r.timestamp) for r in self.sink.read_records_to_list()]
        return [row for row in rows if not row[0].startswith(f"[{OTHER_KEY}@")]

    def pipe(self, key: Any, value: Any, timestamp: int) -> list[Row]:
        self.sources[value % len(self.sources)].pipe_input(key, value, timestamp)
        return self.read()

    def wait(self, milliseconds: int) -> list[Row]:
        self.driver.advance_wall_clock_time(ms(milliseconds))
        return self.read()

    def pipe_other_key(self, timestamp: int) -> list[Row]:
        for source in self.sources:
            source.pipe_input(OTHER_KEY, 1, timestamp)
        return self.read()

    @property
    def dropped(self) -> float:
        return self.driver.metrics().get("dropped-records-total", 0)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(size=st.integers(6, 12), grace=st.integers(0, 9), idle_after=st.integers(1, 9), events=EVENTS)
def test_an_idle_task_closes_windows_as_another_record_would(
    kind: str, make: str, size: int, grace: int, idle_after: int, events: list[Event]
) -> None:
    if kind == "sliding":  # a leap over the retention loses windows there, if a record makes it
        events = [(key, value, number if key is None else number % size) for key, value, number in events]
        idle_after = min(idle_after, size // 2)
    windows = KINDS[kind](size, grace)
    with Idle.of(MAKERS[make], windows, idle_after) as driver, Idle.of(MAKERS[make], windows, None) as model:
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
                expected = model.pipe_other_key(time)
            assert driver.wait(number) == expected
        assert driver.dropped == model.dropped


@pytest.mark.parametrize("make", MAKERS)
def test_the_timeline_of_the_docs(make: str) -> None:
    with Idle.of(MAKERS[make], TimeWindows.of_size(ms(10), grace=ms(5)), 20) as driver:
        assert driver.pipe("k", 1, 3) == []
        assert driver.wait(19) == []
        assert driver.wait(1) == [("[k@0/10]", [1], 3)]
        assert driver.pipe("k", 2, 4) == []
        assert driver.dropped == 1
        assert driver.pipe("k", 3, 23) == []
        assert driver.wait(20) == [("[k@20/30]", [3], 23)]


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_closes_before_the_first_record(make: str) -> None:
    with Idle.of(MAKERS[make], TimeWindows.of_size(ms(10), grace=ms(0)), 1) as driver:
        assert driver.wait(10**6) == []
        assert driver.pipe("k", 1, 3) == []
        assert driver.dropped == 0


# --- aborts, restarts, caches ---------------------------------------------------------------------------------------


def with_troubles(topology: Topology, events: list[Event], troubles: list[bool], *, restart: bool) -> list[list[Row]]:
    """Return what a task sends for each event; at a trouble it is undone (and done again, if it was a record)."""
    clock, changelogs, metadata = ManualClock(), {}, None
    process = Process(topology, changelogs, metadata, {}, clock)
    out: list[list[Row]] = []
    offset = 0
    for (key, value, number), trouble in zip(events, troubles):
        if key is None:
            clock.advance(ms(number))
            sent = process.punctuate()
        else:
            sent = process.process((key, value, number), offset)
        if trouble:
            if restart:
                process.close()
                process = Process(topology, changelogs, metadata, {}, clock)
            else:
                process.abort()
            sent = [] if key is None else process.process((key, value, number), offset)
        offset += key is not None
        out.append(sent)
        metadata = process.commit() or metadata
    process.close()
    return out


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("make", [aggregated, suppressed])
@pytest.mark.parametrize("kind", ["tumbling", "session"])
@settings(max_examples=40)
@given(events=EVENTS, troubles=st.lists(st.booleans(), min_size=14, max_size=14))
def test_what_the_clock_has_closed_goes_with_the_commit(
    kind: str, make: Make, restart: bool, events: list[Event], troubles: list[bool]
) -> None:
    """What was undone never happened; what was committed stays, though the clock counts from the trouble on."""
    idle_after, windows = 3, KINDS[kind](8, 2)
    builder = StreamsBuilder()
    make(builder, windows, ms(idle_after)).to_stream(lambda key, value: str(key)).to(OUT)
    outputs = with_troubles(builder.build(), events, troubles, restart=restart)
    with Idle.of(make, windows, None) as model:
        now = since = 0
        base = time = -1
        for (key, value, number), trouble, sent in zip(events, troubles, outputs):
            if key is not None:
                time = base = max(time, number)
                since = now
                assert sent == model.pipe(key, value, number)
                continue
            now += number
            expected: list[Row] = []
            if trouble:
                since, base = now, time
            elif base >= 0 and now - since >= idle_after:
                time = base + now - since
                expected = model.pipe_other_key(time)
            assert sent == expected


def test_a_window_does_not_close_before_what_caches_hold_back() -> None:
    builder = StreamsBuilder()
    table = suppressed(builder, TimeWindows.of_size(ms(10), grace=ms(0)), ms(20))
    table.to_stream(lambda key, value: str(key)).to(OUT)
    clock = ManualClock()
    process = Process(builder.build(), {}, None, {"statestore.cache.max.bytes": 10**6}, clock)
    process.process(("k", 1, 3), 0)
    process.commit()
    process.process(("k", 2, 4), 1)
    clock.advance(ms(20))
    assert process.punctuate() == []
    assert process.task.commit_requested
    process.commit()
    assert process.punctuate() == []  # the same millisecond: it was looked already
    clock.advance(ms(1))
    assert process.punctuate() == [("[k@0/10]", [1, 2], 4)]
    process.close()


# --- time limits ----------------------------------------------------------------------------------------------------


@given(limit=st.integers(1, 20), idle_after=st.integers(1, 9), events=EVENTS)
def test_what_waits_for_a_time_limit_is_let_go_by_the_clock(limit: int, idle_after: int, events: list[Event]) -> None:
    builder = StreamsBuilder()
    held_back = Suppressed.until_time_limit(ms(limit), idle_after=ms(idle_after))
    builder.table(IN, store=Materialized("table")).suppress(held_back).to_stream().to(OUT)
    held: list[tuple[str, Any, int, int]] = []  # key, value, timestamp; what it is due by, the first change decides
    now = since = 0
    time = base = -1
    with Idle(builder.build()) as driver:
        for key, value, number in events:
            if key is not None:
                time = base = max(time, number)
                since = now
                due = next((entry[3] for entry in held if entry[0] == key), number)
                held = [*(entry for entry in held if entry[0] != key), (key, value, number, due)]
                sent = driver.pipe(key, value, number)
            else:
                now += number
                if base >= 0 and now - since >= idle_after:
                    time = base + now - since
                sent = driver.wait(number)
            gone = sorted((e for e in held if e[3] <= time - limit), key=lambda e: (e[3], e[0]))
            held = [entry for entry in held if entry not in gone]
            assert sent == [entry[:3] for entry in gone]


# --- where it has no meaning ----------------------------------------------------------------------------------------

TUMBLING = TimeWindows.of_size(ms(10), grace=ms(0))
CLOSED = Suppressed.until_window_closes(idle_after=ms(1))


def updates(windows: Any = TUMBLING) -> KTable[Any, Any]:
    return StreamsBuilder().stream(IN).group_by_key().windowed_by(windows).count()


def test_emit_strategies_need_final_results_and_a_time() -> None:
    grouped = StreamsBuilder().stream(IN).group_by_key()
    for windowed in (grouped.windowed_by(TUMBLING), grouped.cogroup(lambda key, value, n: n).windowed_by(TUMBLING)):
        with pytest.raises(TopologyError, match="ON_WINDOW_CLOSE"):
            windowed.emit_strategy(EmitStrategy.ON_WINDOW_UPDATE, idle_after=ms(1))
        with pytest.raises(TopologyError, match="idle_after"):
            windowed.emit_strategy(CLOSE, idle_after=timedelta(0))


def test_unlimited_windows_of_a_cogroup_never_close() -> None:
    cogrouped = StreamsBuilder().stream(IN).group_by_key().cogroup(lambda key, value, n: n)
    with pytest.raises(TopologyError, match="never close"):
        cogrouped.windowed_by(UnlimitedWindows.of()).emit_strategy(CLOSE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Suppressed.until_window_closes(idle_after=timedelta(0)),
            "idle_after must be whole milliseconds from 1",
        ),
        (lambda: Suppressed.until_time_limit(ms(1), idle_after=timedelta(0)), "idle_after must be whole"),
        (lambda: Suppressed.until_time_limit(ms(0), idle_after=ms(1)), "no meaning with a time limit of 0"),
        (
            lambda: updates(UnlimitedWindows.of()).suppress(CLOSED),
            "never close",
        ),
        (
            lambda: aggregated(StreamsBuilder(), TUMBLING, None).suppress(CLOSED),
            r"sends each window once itself: give it to emit_strategy",
        ),
        (
            lambda: updates().suppress(Suppressed.until_time_limit(ms(1))).suppress(CLOSED),
            "KTABLE-SUPPRESS-0000000003 before it holds changes back.*Suppress once",
        ),
        (
            lambda: updates().to_stream().repartition(name="topic").to_table().suppress(CLOSED),
            "topic-repartition-source between them reads from a topic: suppress before that",
        ),
        (
            lambda: updates().group_by(lambda key, n: (key, n)).count().suppress(CLOSED),
            "KSTREAM-SOURCE-.* between them reads from a topic",
        ),
    ],
)
def test_it_is_refused_where_it_has_no_meaning(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        make()


# --- more than one --------------------------------------------------------------------------------------------------


def test_tables_of_two_aggregations_close_together() -> None:
    builder = StreamsBuilder()
    left = sorted_values(builder.stream(IN).group_by_key().windowed_by(TUMBLING), name="left")
    right = sorted_values(builder.stream(OTHER).group_by_key().windowed_by(TUMBLING), name="right")
    both = left.join(right, lambda one, other: one + other, store=Materialized("both", value_serde=serdes.json))
    both.suppress(Suppressed.until_window_closes(idle_after=ms(20))).to_stream(lambda key, value: str(key)).to(OUT)
    with Idle(builder.build()) as driver:
        assert driver.pipe("k", 2, 3) == []
        assert driver.wait(15) == []
        assert driver.pipe("k", 1, 4) == []
        assert driver.wait(15) == []  # a record of either side is a sign of life
        assert driver.wait(5) == [("[k@0/10]", [2, 1], 4)]
        assert driver.pipe("k", 4, 9) == driver.pipe("k", 3, 9) == []
        assert driver.dropped == 2


def test_each_suppression_has_a_clock_of_its_own() -> None:
    builder = StreamsBuilder()
    table = sorted_values(builder.stream(IN).group_by_key().windowed_by(TUMBLING))
    for idle_after in (20, 30):
        closed = table.suppress(Suppressed.until_window_closes(idle_after=ms(idle_after)))
        closed.to_stream(lambda key, value, after=idle_after: f"{key} after {after}").to(OUT)
    with Idle(builder.build()) as driver:
        assert driver.pipe("k", 1, 3) == []
        assert driver.wait(20) == [("[k@0/10] after 20", [1], 3)]
        assert driver.pipe("k", 2, 4) == []
        assert driver.dropped == 1  # late for both: the table is one
        assert driver.wait(29) == []
        assert driver.wait(1) == [("[k@0/10] after 30", [1], 3)]


def test_instances_with_other_times_are_of_one_program() -> None:
    def topology(idle_after: timedelta | None) -> Topology:
        builder = StreamsBuilder()
        suppressed(builder, TUMBLING, idle_after).to_stream(lambda key, value: str(key)).to(OUT)
        return builder.build()

    comparison = compatibility(topology(None), topology(ms(5)))
    assert comparison.same_program
    assert topology(ms(5)).fingerprint() == topology(ms(7)).fingerprint()
