"""Record caches: against what comes without them, made one per row and commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlet import (
    KTable,
    Materialized,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    TimeWindows,
    Topic,
    Topology,
    TopologyTestDriver,
    serdes,
)
from streamlet.dsl.record_cache import ENTRY_BYTES
from streamlet.state.cache_budget import CacheBudget
from tests.dsl.windows.aborts import pipe_with_aborts
from tests.dsl.windows.support import IN, OUT, Row, ms

CACHE = "statestore.cache.max.bytes"
OTHER: Topic[Any, Any] = Topic("other", serdes.string, serdes.json)
Input = tuple[bool, str, Any, int]
"""Whether to the other topic; key, value, timestamp."""
Batches = list[list[Input]]

KEYS = st.sampled_from("abc")
INPUTS = st.tuples(st.booleans(), KEYS, st.one_of(st.none(), st.integers(1, 9)), st.integers(0, 40))
BATCHES = st.lists(st.lists(INPUTS, max_size=8), max_size=5)


class BatchDriver(TopologyTestDriver):
    """Commits only when told to."""

    def commit(self) -> None:
        """Commit all tasks, and process what they send on, until nothing is left."""
        for _ in range(2 * len(self._units)):
            for unit in self._units:
                super()._commit(unit)
            self._run()

    def _commit(self, unit: Any) -> None:
        """Wait for `commit`."""


def pipe(topology: Topology, batches: Batches, cache: int) -> tuple[list[list[Row]], list[tuple[str, Any]]]:
    """Pipe batches with a commit after each; return what came of each, and all rows of the stores."""
    out: list[list[Row]] = []
    with BatchDriver(topology, {CACHE: cache}, initial_wall_clock_time=0) as driver:
        sink = driver.create_output_topic(OUT)
        topics = (driver.create_input_topic(IN), driver.create_input_topic(OTHER))
        for batch in batches:
            for other, key, value, timestamp in batch:
                topics[other].pipe_input(key, value, timestamp)
            driver.commit()
            out.append([(r.key, r.value, r.timestamp) for r in sink.read_records_to_list()])
            budget = driver._cache_budget
            assert budget is None or budget.used == 0, "nothing is held back after a commit"
        rows: list[tuple[str, Any]] = []
        for name, store in sorted(driver.get_all_state_stores().items()):
            with store.all() if hasattr(store, "all") else store.find_sessions(None, None, 0, 2**40) as found:
                rows += [(f"{name} {key}", value) for key, value in found]
        return out, rows


Program = Callable[[StreamsBuilder, bool], KTable[Any, Any]]


def _store(caching: bool, name: str = "rows", **options: Any) -> Materialized[Any]:
    return Materialized(name, value_serde=serdes.json, caching=caching, **options)


def _windowed(windows: Any) -> Program:
    def program(builder: StreamsBuilder, caching: bool) -> KTable[Any, Any]:
        builder.table(OTHER)  # so that all programs read both
        merge = [lambda key, one, two: one + two] if isinstance(windows, SessionWindows) else []
        windowed: Any = builder.stream(IN).group_by_key().windowed_by(windows)
        table: KTable[Any, Any] = windowed.aggregate(
            list, lambda key, value, values: None if value is None else [*values, value], *merge, store=_store(caching)
        )
        return table

    return program


def _single(make: Callable[[StreamsBuilder, bool], KTable[Any, Any]]) -> Program:
    def program(builder: StreamsBuilder, caching: bool) -> KTable[Any, Any]:
        builder.table(OTHER)
        return make(builder, caching)

    return program


def _cogroup(builder: StreamsBuilder, caching: bool) -> KTable[Any, Any]:
    add = lambda key, value, total: total + value  # noqa: E731  # passed on
    take = lambda key, value, total: None if value > total else total - value  # noqa: E731
    grouped = builder.stream(IN).group_by_key().cogroup(add).cogroup(builder.stream(OTHER).group_by_key(), take)
    return grouped.aggregate(int, store=_store(caching))


SINGLE: dict[str, Program] = {
    "source": _single(lambda builder, caching: builder.table(IN, store=_store(caching))),
    "filter": _single(
        lambda builder, caching: builder.table(IN).filter(lambda key, value: value > 4, store=_store(caching))
    ),
    "count": _single(lambda builder, caching: builder.stream(IN).group_by_key().count(store=_store(caching))),
    "to_table": _single(lambda builder, caching: builder.stream(IN).to_table(store=_store(caching))),
    "aggregate": _single(
        lambda builder, caching: (
            builder.stream(IN)
            .group_by_key()
            .aggregate(int, lambda key, value, total: None if value > 7 else total + value, store=_store(caching))
        )
    ),
    "reduce in place": _single(
        lambda builder, caching: (
            builder.stream(IN)
            .map_values(lambda value: None if value is None else [value])
            .group_by_key(value_serde=serdes.json)
            .reduce(_extended, store=_store(caching))
        )
    ),
    "cogroup": _cogroup,
    "tumbling": _windowed(TimeWindows.of_size(ms(10), grace=ms(5))),
    "hopping": _windowed(TimeWindows.of_size(ms(10), grace=ms(5)).advance_by(ms(5))),
    "sliding": _windowed(SlidingWindows.of_time_difference(ms(8), grace=ms(9))),
    "session": _windowed(SessionWindows.of_inactivity_gap(ms(5), grace=ms(30))),
}


def _extended(values: list[Any], more: list[Any]) -> list[Any]:
    values.extend(more)
    return values


def sends_changes(program: Program, *, caching: bool = True) -> Topology:
    builder = StreamsBuilder()
    program(builder, caching).to_stream(lambda key, value: str(key)).to(OUT)
    return builder.build()


def chained(program: Program) -> Topology:
    """Regroup a table row by row: its group holds what was added and not yet subtracted again."""
    builder = StreamsBuilder()
    table = program(builder, True)
    table.group_by(lambda key, value: (str(key), value), key_serde=serdes.string, value_serde=serdes.json).aggregate(
        list,
        lambda key, value, held: [*held, value],
        _without,
        store=Materialized("groups", value_serde=serdes.json),
    ).to_stream().to(OUT)
    return builder.build()


def _without(key: str, value: Any, held: list[Any]) -> list[Any]:
    assert held == [value], f"{key}: {value} is subtracted, {held} is what was added"
    return []


def last_of_each(outputs: Iterable[Row], seen: dict[str, Any]) -> list[Row]:
    """Return the last output of each key in the order of these, without deletions of what was never sent."""
    last: dict[str, Row] = {}
    for row in outputs:
        last.pop(row[0], None)
        last[row[0]] = row
    sent = [row for row in last.values() if row[1] is not None or seen.get(row[0]) is not None]
    seen.update({key: value for key, value, _ in sent})
    return sent


@pytest.mark.parametrize("name", SINGLE)
@settings(max_examples=30)  # each is two drivers and many records
@given(batches=BATCHES)
def test_one_change_per_row_and_commit(name: str, batches: Batches) -> None:
    topology = sends_changes(SINGLE[name])
    plain, rows = pipe(topology, batches, 0)
    cached, cached_rows = pipe(topology, batches, 1 << 20)
    seen: dict[str, Any] = {}
    assert cached == [last_of_each(outputs, seen) for outputs in plain]
    assert cached_rows == rows


@pytest.mark.parametrize("name", SINGLE)
@settings(max_examples=30)
@given(batches=BATCHES, limit=st.sampled_from([1, 2 * ENTRY_BYTES, 4 * ENTRY_BYTES]))
def test_a_full_cache_sends_before_the_commit(name: str, batches: Batches, limit: int) -> None:
    topology = sends_changes(SINGLE[name])
    plain, rows = pipe(topology, batches, 0)
    cached, cached_rows = pipe(topology, batches, limit)
    assert cached_rows == rows
    for outputs, kept in zip(plain, cached, strict=True):
        for key in {row[0] for row in outputs}:
            every, some = ([row for row in rows if row[0] == key] for rows in (outputs, kept))
            left = iter(every)
            assert all(row in left for row in some), "they are some of all, in their order"
            assert some[-1:] == every[-1:] or every[-1][1] is None


@settings(max_examples=30)
@given(batches=BATCHES)
def test_a_table_can_do_without(batches: Batches) -> None:
    topology = sends_changes(SINGLE["count"], caching=False)
    assert pipe(topology, batches, 1 << 20) == pipe(topology, batches, 0)


@pytest.mark.parametrize("name", SINGLE)
@settings(max_examples=30)
@given(batches=BATCHES, limit=st.sampled_from([1, 3 * ENTRY_BYTES, 1 << 20]))
def test_old_values_are_what_was_sent_before(name: str, batches: Batches, limit: int) -> None:
    topology = chained(SINGLE[name])
    outputs, _ = pipe(topology, batches, limit)
    groups: dict[str, Any] = {key: value for batch in outputs for key, value, _ in batch}
    last: dict[str, Any] = {
        key: value for batch in pipe(sends_changes(SINGLE[name]), batches, 0)[0] for key, value, _ in batch
    }
    assert {key: value for key, value in groups.items() if value} == {
        key: [value] for key, value in last.items() if value is not None
    }


def _joined(kind: str, stored: bool) -> Program:
    def program(builder: StreamsBuilder, caching: bool) -> KTable[Any, Any]:
        left = builder.table(IN, store=_store(caching, "left"))
        right = builder.table(OTHER, store=_store(caching, "right")).map_values(lambda value: value + 1)
        options = {"store": _store(caching, "joined")} if stored else {}
        join = {"inner": left.join, "left": left.left_join, "outer": left.outer_join}[kind]
        table: KTable[Any, Any] = join(right, lambda one, other: (one or 1) * (other or 1), **options)  # type: ignore[operator]
        return table

    return program


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("kind", ["inner", "left", "outer"])
@settings(max_examples=30)
@given(batches=BATCHES, limit=st.sampled_from([1, 3 * ENTRY_BYTES, 1 << 20]))
def test_joins_of_cached_tables_subtract_what_they_added(kind: str, stored: bool, batches: Batches, limit: int) -> None:
    """Products: taking the other side as it is, instead of as it was sent, would subtract what was never added."""
    outputs, _ = pipe(chained(_joined(kind, stored)), batches, limit)
    groups: dict[str, Any] = {key: value for batch in outputs for key, value, _ in batch}
    tables: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for other, key, value, _ in (row for batch in batches for row in batch):
        tables[other][key] = value
    expected: dict[str, Any] = {}
    for key in "abc":
        one, two = tables[0].get(key), tables[1].get(key)
        if (one is not None or kind == "outer") and (two is not None or kind != "inner") and (one or two):
            expected[key] = [(one or 1) * (1 if two is None else two + 1)]
    assert {key: value for key, value in groups.items() if value} == expected


@settings(max_examples=30)
@given(batches=BATCHES)
def test_records_of_streams_see_every_update(batches: Batches) -> None:
    builder = StreamsBuilder()
    builder.stream(IN).left_join(builder.table(OTHER), lambda one, other: [one, other]).to(OUT)
    topology = builder.build()
    assert pipe(topology, batches, 1 << 20) == pipe(topology, batches, 0)


@pytest.mark.parametrize("restart", [False, True])
@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(KEYS, st.integers(1, 9), st.integers(0, 40)), max_size=12),
    aborts=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_what_was_held_back_comes_again_after_an_abort(restart: bool, rows: list[Row], aborts: list[bool]) -> None:
    builder = StreamsBuilder()
    builder.stream(IN).group_by_key().count(store=_store(True)).to_stream().to(OUT)
    topology = builder.build()
    plain = pipe_with_aborts(topology, rows, [False] * len(rows))
    assert pipe_with_aborts(topology, rows, aborts, restart=restart, **{CACHE: 1 << 20}) == plain


def test_the_caches_of_a_thread_share_what_there_is() -> None:
    budget = CacheBudget.of(100, threads=3)
    assert budget is not None
    assert budget.limit == 33
    assert CacheBudget.of(0) is None
    builder = StreamsBuilder()
    builder.table(IN, store=_store(True, "one")).to_stream().to(OUT)
    builder.table(OTHER, store=_store(True, "two")).to_stream().to(OUT)
    with BatchDriver(builder.build(), {CACHE: 3 * (ENTRY_BYTES + 8)}, initial_wall_clock_time=0) as driver:
        one, two = driver.create_input_topic(IN), driver.create_input_topic(OTHER)
        sink = driver.create_output_topic(OUT)
        for key in "ab":
            one.pipe_input(key, 1, 0)
        two.pipe_input("c", 2, 0)
        assert sink.is_empty  # three fit
        two.pipe_input("d", 2, 0)  # the cache that grew is emptied, though the other one holds as much
        assert [record.key for record in sink.read_records_to_list()] == ["c", "d"]
        driver.commit()
        assert [record.key for record in sink.read_records_to_list()] == ["a", "b"]


@pytest.mark.parametrize("kind", ["inner", "left"])
@settings(max_examples=30)
@given(batches=BATCHES, limit=st.sampled_from([1, 3 * ENTRY_BYTES, 1 << 20]))
def test_foreign_keys_of_cached_tables_end_alike(kind: str, batches: Batches, limit: int) -> None:
    builder = StreamsBuilder()
    left, right = builder.table(IN, store=_store(True, "left")), builder.table(OTHER, store=_store(True, "right"))
    join = left.join if kind == "inner" else left.left_join
    table: KTable[Any, Any] = join(right, lambda value: "abc"[value % 3], lambda one, other: [one, other])
    table.to_stream().to(OUT)
    topology = builder.build()
    rows = [
        {key: value for batch in pipe(topology, batches, size)[0] for key, value, _ in batch} for size in (0, limit)
    ]
    plain, cached = ({key: value for key, value in of.items() if value is not None} for of in rows)
    assert cached == plain
