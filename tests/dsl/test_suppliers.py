"""Suppliers, and stores of one's own, in the DSL and with processors."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlet import (
    BytesStore,
    JoinWindows,
    KeyValueStore,
    Materialized,
    Processor,
    Record,
    SessionWindows,
    StoreBuilder,
    Stores,
    StoreSupplier,
    StreamsBuilder,
    TimeWindows,
    Topic,
    TopologyTestDriver,
    log_and_continue,
    serdes,
)
from streamlet.errors import StateStoreError, StateUnreadableError, TopologyError
from tests.dsl.support import IN, OUT, Row, run
from tests.state.support import SortedMap

MS = timedelta(milliseconds=1)
SIZE, KEPT = 10 * MS, 40 * MS
WINDOWS = TimeWindows.of_size(SIZE, grace=30 * MS)
JOIN = JoinWindows.of_time_difference(10 * MS, grace=5 * MS)
JOIN_KEPT = 25 * MS


def windowed(windowed: Any, value: Any) -> tuple[Any, Any]:
    return [windowed.key, windowed.window.start, windowed.window.end], value


def counts(options: Materialized[Any] | None) -> Any:
    return lambda b: b.stream(IN).group_by_key().count(store=options).to_stream().to(OUT)


def window_counts(options: Materialized[Any] | None) -> Any:
    return lambda b: (
        b.stream(IN).group_by_key().windowed_by(WINDOWS).count(store=options).to_stream().map(windowed).to(OUT)
    )


def sessions(options: Materialized[Any] | None) -> Any:
    gap = SessionWindows.of_inactivity_gap(5 * MS, grace=10 * MS)
    return lambda b: b.stream(IN).group_by_key().windowed_by(gap).count(store=options).to_stream().map(windowed).to(OUT)


def versions(options: Materialized[Any] | None) -> Any:
    def program(b: StreamsBuilder) -> None:
        table = b.table(Topic("table", serdes.json, serdes.json), store=options)
        b.stream(IN).to(Topic("table", serdes.json, serdes.json))
        b.stream(IN).left_join(table, lambda one, other: [one, other]).to(OUT)

    return program


def joined(this: Any = None, other: Any = None) -> Any:
    def program(b: StreamsBuilder) -> None:
        stream = b.stream(IN)
        left, right = stream.filter(lambda _, v: v < 5), stream.filter(lambda _, v: v >= 3)
        left.outer_join(right, lambda one, two: [one, two], JOIN, this_store=this, other_store=other).to(OUT)

    return program


def join_store(name: str) -> Any:
    return Stores.persistent_window_store(name, retention=JOIN_KEPT, window_size=2 * SIZE, retain_duplicates=True)


def of(supplier: StoreSupplier) -> Materialized[Any]:
    return Materialized.as_(supplier)


SESSIONS = Materialized[Any]("own", retention=KEPT)
VERSIONED = Materialized[Any]("v", history_retention=KEPT)
PAIRS: dict[str, tuple[Any, Any]] = {
    "key-value, in memory": (counts(None), counts(of(Stores.in_memory_key_value_store("own")))),
    "key-value, own": (counts(None), counts(of(Stores.persistent_key_value_store("own").over(SortedMap)))),
    "windows, own": (
        window_counts(None),
        window_counts(of(Stores.persistent_window_store("own", retention=KEPT, window_size=SIZE).over(SortedMap))),
    ),
    "windows, in memory": (
        window_counts(None),
        window_counts(of(Stores.in_memory_window_store("own", retention=KEPT, window_size=SIZE))),
    ),
    "sessions, own": (
        sessions(SESSIONS), sessions(of(Stores.persistent_session_store("own", retention=KEPT).over(SortedMap))),
    ),
    "sessions, in memory": (
        sessions(SESSIONS), sessions(of(Stores.in_memory_session_store("own", retention=KEPT))),
    ),
    "versions, own": (
        versions(VERSIONED),
        versions(of(Stores.persistent_versioned_key_value_store("v", history_retention=KEPT).over(SortedMap))),
    ),
    "versions, in memory": (
        versions(VERSIONED),
        versions(of(Stores.in_memory_versioned_key_value_store("v", history_retention=KEPT))),
    ),
    "join, own": (joined(), joined(join_store("one").over(SortedMap), join_store("two").over(SortedMap))),
    "join, one side": (joined(), joined(this=join_store("one"))),
}  # fmt: skip
ROWS = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 9), st.integers(0, 100)), max_size=25)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
@settings(max_examples=25, deadline=None)
@given(rows=ROWS)
def test_results_do_not_depend_on_what_a_store_is_kept_in(pair: tuple[Any, Any], rows: list[Row]) -> None:
    plain, supplied = pair
    assert run(supplied, rows) == run(plain, rows)


OWN = Stores.key_value("seen", serdes.string, serdes.int64).over(SortedMap)


class CountSeen(Processor[str, str, str, int]):
    """Counts in a store of one's own."""

    stores = (OWN,)

    def init(self, context: Any) -> None:
        super().init(context)
        self.seen: KeyValueStore[str, int] = context.get_state_store(OWN)

    def process(self, record: Record[str, str]) -> None:
        number = (self.seen.get(record.key) or 0) + 1
        self.seen.put(record.key, number)
        self.context.forward(record.with_value(number))


def test_a_processor_uses_a_store_of_ones_own() -> None:
    made: list[tuple[str, Path | None]] = []

    def factory(name: str, directory: Path | None) -> SortedMap:
        made.append((name, directory))
        return SortedMap(name, directory)

    builder = StreamsBuilder()
    text = Topic("in", serdes.string, serdes.string)
    out = Topic("out", serdes.string, serdes.int64)
    builder.stream(text).process(CountSeen).to(out)
    counts = (
        builder.stream(text)
        .group_by_key()
        .count(store=Materialized.as_(Stores.persistent_key_value_store("counts").over(factory)))
    )
    counts.to_stream().to(Topic("counts-out", serdes.string, serdes.int64))
    with TopologyTestDriver(builder.build(), {}) as driver:
        source, sink = driver.create_input_topic(text), driver.create_output_topic(out)
        for key in "abca":
            source.pipe_input(key, "x")
        assert Counter(r.key for r in sink.read_records_to_list()) == Counter("abca")
        assert driver.get_state_store("seen").get("a") == 2
        assert "topology-test-driver-seen-changelog" in driver.produced_topic_names
    assert made == [("counts", None)]


class Broken(SortedMap):
    def put(self, key: bytes, value: bytes | None, /) -> None:
        raise OSError("disk on fire")


def test_what_an_own_store_raises_names_it() -> None:
    assert isinstance(SortedMap(), BytesStore)
    with pytest.raises(StateStoreError, match=r"store 'own', which is one's own: put raised OSError\('disk on fire'\)"):
        run(counts(of(Stores.persistent_key_value_store("own").over(Broken))), [("a", 1, 1)])
    no_store: Any = lambda _name, _directory: object()  # noqa: E731
    with pytest.raises(StateStoreError, match="which is no BytesStore: it needs get, put, range"):
        run(counts(of(Stores.persistent_key_value_store("own").over(no_store))), [])


class Unreadable(SortedMap):
    def get(self, key: bytes, /) -> bytes | None:
        raise OSError("disk on fire")


BROKEN = Stores.key_value("broken", serdes.string, serdes.int64).over(Unreadable)


class Look(Processor[str, int, str, int]):
    """Reads a store that cannot be read."""

    stores = (BROKEN,)

    def init(self, context: Any) -> None:
        super().init(context)
        self.seen: KeyValueStore[str, int] = context.get_state_store(BROKEN)

    def process(self, record: Record[str, int]) -> None:
        self.seen.get(record.key)


def test_no_record_is_skipped_because_a_store_cannot_be_read() -> None:
    """The handler says to go on without records that are at fault: here, none is."""
    builder = StreamsBuilder()
    builder.stream(IN).process(Look).to(OUT)
    config = {"processing.exception.handler": log_and_continue}
    with TopologyTestDriver(builder.build(), config) as driver:
        source = driver.create_input_topic(IN)
        with pytest.raises(StateUnreadableError, match=r"get raised OSError\('disk on fire'\)"):
            source.pipe_input("a", 1)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (window_counts(of(Stores.persistent_key_value_store("x"))), "needs a timestamped-window store"),
        (window_counts(of(Stores.persistent_window_store("x", retention=KEPT, window_size=5 * MS))), "of 10 ms"),
        (window_counts(of(Stores.persistent_window_store("x", retention=SIZE, window_size=SIZE))), "retention"),
        (counts(of(Stores.persistent_window_store("x", retention=KEPT, window_size=SIZE))), "is for windowed"),
        (joined(join_store("x"), join_store("x")), "cannot be the name of both"),
        (joined(Stores.persistent_key_value_store("x")), "take what Stores"),
        (joined(Stores.persistent_window_store("x", retention=KEPT, window_size=2 * SIZE)), "25 ms"),
        (joined(Stores.persistent_window_store("x", retention=JOIN_KEPT, window_size=2 * SIZE)), "duplicates=True"),
    ],
)  # fmt: skip
def test_suppliers_that_do_not_fit_are_refused(program: Any, message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        run(program, [])


def test_only_suppliers_make_materialized() -> None:
    wrong: Any = StoreBuilder
    with pytest.raises(TopologyError, match="takes a supplier that Stores makes"):
        Materialized.as_(wrong)
