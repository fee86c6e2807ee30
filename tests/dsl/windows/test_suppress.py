"""Suppression: against a plain list, and where it surprises."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import (
    KTable,
    Materialized,
    Processor,
    Record,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    Suppressed,
    TaskError,
    TimeWindows,
    Topology,
    TopologyError,
    TopologyTestDriver,
    serdes,
)
from streamlet.dsl.suppress import find_grace
from streamlet.dsl.suppress_buffer import Buffered, BufferedSerde
from tests.dsl.windows.aborts import pipe_with_aborts
from tests.dsl.windows.support import IN, KEYS, OUT, Row, ms, pipe, results, rows_up_to, windowed_topology

VALUES = st.none() | st.integers(0, 9)
ROWS = st.lists(st.tuples(KEYS, VALUES, st.integers(0, 40)), max_size=14)


def table_topology(suppressed: Suppressed[Any], *, seen: list[Any] | None = None) -> Topology:
    """Return the topology that suppresses a table; `seen` collects its changes."""
    builder = StreamsBuilder()
    table = builder.table(IN, store=Materialized("table")).suppress(suppressed)
    table.to_stream().to(OUT)
    topology = builder.build()
    changes: list[Any] = [] if seen is None else seen

    class Look(Processor[Any, Any]):
        def process(self, record: Record[Any, Any]) -> None:
            changes.append((record.key, *record.value[:2]))

    topology.add_processor("look", Look, table.step.name)
    return topology


def model(limit: int, max_records: int | None, rows: list[Row]) -> list[list[Row]]:
    """Hold back in a plain list: key, value, timestamp and when it is due, which the first change of a key decides."""
    held: list[tuple[str, Any, int, int]] = []
    out: list[list[Row]] = []
    latest = -1
    for key, value, timestamp in rows:
        latest = max(latest, timestamp)
        due = next((entry[3] for entry in held if entry[0] == key), timestamp)
        held = sorted([*(e for e in held if e[0] != key), (key, value, timestamp, due)], key=lambda e: (e[3], e[0]))
        output: list[Row] = []
        while held and (held[0][3] <= latest - limit or (max_records is not None and len(held) > max_records)):
            output.append(held.pop(0)[:3])
        out.append(output)
    return out


@given(st.integers(0, 20), st.none() | st.integers(0, 2), ROWS)
def test_a_time_limit_is_that_of_a_plain_list(limit: int, max_records: int | None, rows: list[Row]) -> None:
    suppressed = Suppressed.until_time_limit(ms(limit), max_records=max_records)
    assert pipe(table_topology(suppressed), rows) == model(limit, max_records, rows)


@pytest.mark.parametrize("restart", [False, True])
@given(st.integers(1, 20), ROWS, st.lists(st.booleans(), min_size=14, max_size=14))
def test_aborts_and_restarts_change_nothing(restart: bool, limit: int, rows: list[Row], troubles: list[bool]) -> None:
    topology = table_topology(Suppressed.until_time_limit(ms(limit), max_records=2))
    assert pipe_with_aborts(topology, rows, troubles, restart=restart) == model(limit, 2, rows)


@given(st.integers(1, 20), ROWS)
def test_old_values_are_what_was_sent_before(limit: int, rows: list[Row]) -> None:
    seen: list[Any] = []
    pipe(table_topology(Suppressed.until_time_limit(ms(limit)), seen=seen), rows)
    sent: dict[str, Any] = {}
    for key, new, old in seen:
        assert old == sent.get(key)
        sent[key] = new


def test_the_first_change_of_a_key_decides_when_it_is_due() -> None:
    outputs = pipe(
        table_topology(Suppressed.until_time_limit(ms(10))),
        [("a", 1, 0), ("a", 2, 9), ("b", 3, 10), ("b", 4, 30)],
    )
    assert outputs == [[], [], [("a", 2, 9)], [("b", 4, 30)]]


def test_deletions_are_changes_too() -> None:
    outputs = pipe(table_topology(Suppressed.until_time_limit(ms(10))), [("a", 1, 0), ("a", None, 1), ("b", 3, 10)])
    assert outputs[2] == [("a", None, 1)]


def test_no_time_limit_holds_nothing_back() -> None:
    rows: list[Row] = [("a", 1, 10), ("a", None, 0), ("b", 1, 5)]
    assert pipe(table_topology(Suppressed.until_time_limit(ms(0))), rows) == [[row] for row in rows]


def test_changes_keep_their_headers_and_time() -> None:
    with TopologyTestDriver(table_topology(Suppressed.until_time_limit(ms(10)))) as driver:
        source = driver.create_input_topic(IN)
        source.pipe_input("a", 1, 3, headers=[("trace", b"1"), ("empty", None)])
        source.pipe_input("b", 1, 13)
        (record,) = driver.create_output_topic(OUT).read_records_to_list()
    assert (record.timestamp, list(record.headers)) == (3, [("trace", b"1"), ("empty", None)])


# --- full buffers ---------------------------------------------------------------------------------------------------


def test_a_full_buffer_may_shut_down() -> None:
    suppressed = Suppressed.until_time_limit(timedelta(days=1), max_records=1, when_full="shut_down")
    with pytest.raises(TaskError, match=r"KTABLE-SUPPRESS-\d+.*holds 2 records of at most 1.*Raise max_records"):
        pipe(table_topology(suppressed), [("a", 1, 0), ("a", 2, 0), ("b", 3, 0)])


def test_windows_closing_in_time_do_not_shut_down() -> None:
    suppressed = Suppressed.until_window_closes(max_records=1)
    windows = TimeWindows.of_size(ms(10), grace=ms(0))
    topology = windowed_topology(windows, then=lambda table: table.suppress(suppressed))
    assert len(pipe(topology, [("a", 1, 0), ("b", 2, 10), ("a", 3, 20)])) == 3
    with pytest.raises(TaskError, match="is full"):
        pipe(topology, [("a", 1, 0), ("b", 2, 1)])


def entry_bytes(key: str, value: Any, prior: Any = None) -> int:
    change = Buffered(0, value, prior, True, 0, ())
    return len(key.encode()) + len(BufferedSerde(serdes.json).serialize(change))


@given(ROWS, st.integers(0, 200))
def test_bytes_are_counted_as_they_are_written(rows: list[Row], most: int) -> None:
    """What stays behind never has more bytes than allowed, and only as much is sent early as must be."""
    suppressed = Suppressed.until_time_limit(timedelta(days=1), max_bytes=most)
    seen: list[Any] = []
    held: dict[str, tuple[Any, Any]] = {}
    sent: dict[str, Any] = {}
    outputs = pipe(table_topology(suppressed, seen=seen), rows)
    for (key, value, _), output in zip(rows, outputs, strict=True):
        prior = held[key][1] if key in held else sent.get(key)
        held[key] = (value, prior)
        for position, (other, _, _) in enumerate(output):
            total = sum(entry_bytes(k, *v) for k, v in held.items())
            assert total > most, position
            sent[other] = held.pop(other)[0]
        assert sum(entry_bytes(k, *v) for k, v in held.items()) <= most


# --- final results --------------------------------------------------------------------------------------------------


def counted(windows: Any, then: Callable[[KTable[Any, Any]], KTable[Any, Any]]) -> Topology:
    return windowed_topology(windows, make=lambda windowed: windowed.count(), then=then)


def final(table: KTable[Any, Any]) -> KTable[Any, Any]:
    return table.suppress(Suppressed.until_window_closes())


def test_final_results_wait_for_the_next_record() -> None:
    topology = counted(TimeWindows.of_size(ms(10), grace=ms(2)), final)
    outputs = pipe(topology, [("a", 1, 0), ("a", 2, 9), ("b", 3, 11), ("b", 4, 12)])
    assert outputs == [[], [], [], [("[a@0/10]", 2, 9)]]


@given(rows_up_to(60), st.integers(1, 12), st.integers(0, 10))
def test_sessions_that_were_merged_away_send_nothing(rows: list[Row], gap: int, grace: int) -> None:
    windows = SessionWindows.of_inactivity_gap(ms(gap), grace=ms(grace))
    outputs = pipe(windowed_topology(windows, then=final), [*rows, ("z", 0, 10_000)])
    updates = results(windows, [*rows, ("z", 0, 10_000)])
    table: dict[str, Any] = {}
    for sent, output in zip(outputs, updates, strict=True):
        table.update({key: value for key, value, _ in output})
        for key, values, _ in sent:
            assert values is not None
            assert values == table[key]
    left = {key for key, value in table.items() if value is not None and not key.startswith("[z")}
    assert {key for output in outputs for key, _, _ in output} >= left


def test_grace_is_found_through_other_tables() -> None:
    windows = TimeWindows.of_size(ms(10), grace=ms(7))
    table = StreamsBuilder().stream(IN).group_by_key().windowed_by(windows).count()
    behind = table.filter(lambda key, value: value > 1).map_values(lambda value: -value)
    assert find_grace(behind.step) == 7
    sessions = SessionWindows.of_inactivity_gap(ms(10), grace=ms(7))
    assert find_grace(StreamsBuilder().stream(IN).group_by_key().windowed_by(sessions).count().step) == 17
    sliding = SlidingWindows.of_time_difference(ms(10), grace=ms(7))
    assert find_grace(StreamsBuilder().stream(IN).group_by_key().windowed_by(sliding).count().step) == 7


def test_without_windows_there_is_nothing_to_close() -> None:
    table: KTable[Any, Any] = StreamsBuilder().stream(IN).group_by_key().count()
    with pytest.raises(TopologyError, match="none before KSTREAM-SOURCE-0000000000 -> KSTREAM-AGGREGATE-0000000002"):
        table.suppress(Suppressed.until_window_closes())


# --- what may be given ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Suppressed.until_time_limit(ms(-1)), "time limit"),
        (lambda: Suppressed.until_time_limit(ms(1), max_records=-1), "max_records"),
        (lambda: Suppressed.until_time_limit(ms(1), max_bytes=True), "max_bytes"),
        (lambda: Suppressed.until_time_limit(ms(1), when_full="wait"), "when_full is"),  # type: ignore[arg-type]  # the error is tested
        (lambda: Suppressed.until_window_closes(when_full="emit_early"), "final results only"),  # type: ignore[arg-type]  # the error is tested
    ],
)
def test_bad_options_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        make()


def test_names_of_node_and_buffer() -> None:
    builder = StreamsBuilder()
    builder.table(IN).suppress(Suppressed.until_time_limit(ms(1)), name="hold").to_stream().to(OUT)
    text = str(builder.build().describe())
    assert "Processor: hold (stores: [hold-store])" in text


@pytest.mark.parametrize("logging", [True, False])
def test_the_buffer_has_a_changelog_unless_it_shall_not(logging: bool) -> None:
    topology = table_topology(Suppressed.until_time_limit(ms(10), logging=logging))
    with TopologyTestDriver(topology, {"application.id": "app"}) as driver:
        driver.create_input_topic(IN).pipe_input("a", 1, 3)
        changelogs = {name for name in driver.produced_topic_names if "SUPPRESS" in name}
    assert changelogs == ({"app-KTABLE-SUPPRESS-STATE-STORE-0000000003-changelog"} if logging else set())


def test_what_is_held_back_survives_on_disk(tmp_path: Path) -> None:
    config = {"state.dir": str(tmp_path)}
    topology = table_topology(Suppressed.until_time_limit(ms(10)))
    with TopologyTestDriver(topology, config) as driver:
        driver.create_input_topic(IN).pipe_input("a", 1, 3)
    with TopologyTestDriver(topology, config) as driver:
        driver.create_input_topic(IN).pipe_input("b", 1, 13)
        assert driver.create_output_topic(OUT).read_key_values_to_list() == [("a", 1)]


@given(
    st.integers(0, 2**62),
    st.none() | st.integers(-(2**53), 2**53),
    st.none() | st.text(),
    st.booleans(),
    st.integers(0, 2**62),
    st.lists(st.tuples(st.text(), st.none() | st.binary())),
)
def test_what_is_held_back_is_read_as_it_was_written(
    time: int, value: Any, prior: Any, latest: bool, timestamp: int, headers: list[tuple[str, bytes | None]]
) -> None:
    serde = BufferedSerde(serdes.json)
    change = Buffered(time, value, prior, latest, timestamp, tuple(headers))
    assert serde.deserialize(serde.serialize(change)) == change
