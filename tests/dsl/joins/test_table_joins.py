"""Joins of a stream with tables and global tables: against the table's history, and the traps one by one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlet import serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.dsl.materialized import Materialized
from streamlet.errors import TopologyError
from streamlet.processor.api import Processor
from streamlet.records import Record
from streamlet.state import Stores
from streamlet.testing.driver import TopologyTestDriver
from tests.dsl.joins.support import LEFT, OUT, RIGHT, Piped, Row, both, inputs, run

MS = timedelta(milliseconds=1)


@settings(max_examples=150, deadline=None)
@given(inputs(), st.booleans())
def test_the_row_of_now_is_joined(records: list[Piped], left_join: bool) -> None:
    builder = StreamsBuilder()
    stream, table = builder.stream(LEFT), builder.table(RIGHT)
    (stream.left_join(table, both) if left_join else stream.join(table, both)).to(OUT)
    rows: dict[str, str | None] = {}
    expected: list[list[Row]] = []
    for record in records:
        found: list[Row] = []
        if not record.left and record.key is not None:
            rows[record.key] = record.value
        elif record.left and record.value is not None:
            row = None if record.key is None else rows.get(record.key)
            if row is not None or left_join:
                found.append(Row(record.key, both(record.value, row), record.timestamp))
        expected.append(found)
    assert run(builder, records) == expected


@settings(max_examples=150, deadline=None)
@given(inputs(), st.booleans())
def test_a_global_row_is_found_by_any_key(records: list[Piped], left_join: bool) -> None:
    builder = StreamsBuilder()
    stream, table = builder.stream(LEFT), builder.global_table(RIGHT)

    def other_key(key: str | None, value: str) -> str | None:
        return {"a": "b", "b": None, None: "a"}[key]

    if left_join:
        stream.left_join(table, other_key, both).to(OUT)
    else:
        stream.join(table, other_key, both).to(OUT)
    rows: dict[str, str | None] = {}
    expected: list[list[Row]] = []
    for record in records:
        found: list[Row] = []
        if not record.left and record.key is not None:
            rows[record.key] = record.value
        elif record.left and record.value is not None:
            wanted = other_key(record.key, record.value)
            row = None if wanted is None else rows.get(wanted)
            if row is not None or (left_join and wanted is not None):
                found.append(Row(record.key, both(record.value, row), record.timestamp))
        expected.append(found)
    assert run(builder, records) == expected


NAMES = Stores.key_value("names", serdes.string, serdes.string)


class Nothing(Processor[str, str]):
    """Does nothing."""

    def process(self, record: Record[str, str]) -> None:
        """See `Processor`."""


def versioned_join(grace: int | None) -> StreamsBuilder:
    """A left join with a versioned table."""
    builder = StreamsBuilder()
    table = builder.table(RIGHT, store=Materialized("versions", history_retention=timedelta(minutes=5)))
    builder.stream(LEFT).left_join(table, both, grace=None if grace is None else grace * MS).to(OUT)
    return builder


@settings(max_examples=100, deadline=None)
@given(inputs())
def test_a_versioned_table_is_read_as_of_the_record(records: list[Piped]) -> None:
    versions: dict[str, dict[int, str | None]] = {}
    expected: list[list[Row]] = []
    for record in records:
        found: list[Row] = []
        if not record.left and record.key is not None:
            versions.setdefault(record.key, {})[record.timestamp] = record.value
        elif record.left and record.value is not None:
            of_key = versions.get(record.key or "", {})
            before = [time for time in of_key if time <= record.timestamp]
            row = of_key[max(before)] if before else None
            found.append(Row(record.key, both(record.value, row), record.timestamp))
        expected.append(found)
    assert run(versioned_join(None), records) == expected


@settings(max_examples=100, deadline=None)
@given(inputs(), st.integers(0, 20))
def test_with_grace_records_are_joined_once_with_the_row_of_their_time(records: list[Piped], grace: int) -> None:
    """A list of what waits, looked through at each record that waits itself."""
    versions: dict[str, dict[int, str | None]] = {}
    waiting: list[tuple[int, str, int, str]] = []
    expected: list[list[Row]] = []
    now = waited = -1

    def joined(key: str | None, value: str, timestamp: int) -> Row:
        of_key = versions.get(key or "", {})
        before = [time for time in of_key if time <= timestamp]
        return Row(key, both(value, of_key[max(before)] if before else None), timestamp)

    for place, (left, key, value, timestamp) in enumerate(records):
        found: list[Row] = []
        if not left and key is not None:
            versions.setdefault(key, {})[timestamp] = value
        elif left:
            now = max(now, timestamp)
            if value is not None and (key is None or timestamp < waited - grace):
                found.append(joined(key, value, timestamp))
            elif value is not None and key is not None:
                waited = now
                waiting.append((timestamp, key, place, value))
                due = sorted(row for row in waiting if row[0] <= waited - grace)
                waiting = [row for row in waiting if row not in due]
                found += [joined(of, text, time) for time, of, _, text in due]
        expected.append(found)
    assert run(versioned_join(grace), records) == expected


def test_with_grace_records_wait_and_come_in_the_order_of_time() -> None:
    records = [
        Piped(True, "a", "l9", 9),
        Piped(True, "a", "l7", 7),
        Piped(False, "a", "r8", 8),
        Piped(True, "b", "mover", 14),  # 9 is out of the grace now
        Piped(True, "a", "late", 3),
    ]
    assert run(versioned_join(5), records) == [
        [],
        [],
        [],
        [Row("a", "l7+None", 7), Row("a", "l9+r8", 9)],
        [Row("a", "late+None", 3)],
    ]


def test_what_waits_is_still_there_after_a_restart_with_its_headers(tmp_path: Path) -> None:
    config = {"state.dir": str(tmp_path)}
    headers = (("trace", b"1"), ("empty", None))
    with TopologyTestDriver(versioned_join(5).build(), config, initial_wall_clock_time=0) as driver:
        driver.create_input_topic(LEFT).pipe_input("a", "l", timestamp=10, headers=headers)
    with TopologyTestDriver(versioned_join(5).build(), config, initial_wall_clock_time=0) as driver:
        driver.create_input_topic(LEFT).pipe_input("z", "mover", timestamp=99)
        (record,) = driver.create_output_topic(OUT).read_records_to_list()
    assert (record.key, record.value, record.timestamp, tuple(record.headers)) == ("a", "l+None", 10, headers)


def test_grace_needs_a_versioned_table() -> None:
    builder = StreamsBuilder()
    builder.stream(LEFT).join(builder.table(RIGHT), both, grace=MS).to(OUT)
    with pytest.raises(TopologyError, match="history_retention"):
        builder.build()


def test_a_derived_table_is_read_as_of_the_record_too() -> None:
    builder = StreamsBuilder()
    table = builder.table(RIGHT, store=Materialized("versions", history_retention=timedelta(minutes=5)))
    builder.stream(LEFT).join(table.map_values(str.upper), both).to(OUT)
    records = [Piped(False, "a", "old", 1), Piped(False, "a", "new", 10), Piped(True, "a", "l", 5)]
    assert run(builder, records)[-1] == [Row("a", "l+OLD", 5)]


def test_changed_keys_are_repartitioned_to_the_table() -> None:
    builder = StreamsBuilder()
    stream = builder.stream(LEFT).select_key(lambda _, value: value, name="keyed")
    stream.join(builder.table(RIGHT), both, key_serde=serdes.string).to(OUT)
    (part,) = [part for part in builder.build().sub_topologies if part.stores]
    assert part.copartition_groups == (frozenset({"keyed-repartition", "right"}),)


def test_a_global_join_repartitions_nothing() -> None:
    builder = StreamsBuilder()
    stream = builder.stream(LEFT).select_key(lambda _, value: value)
    stream.join(builder.global_table(RIGHT), lambda key, _: key, both).to(OUT)
    topology = builder.build()
    (part,), (filling,) = topology.sub_topologies, topology.global_parts
    assert (part.repartition_topics, part.stores) == ((), ())
    assert [store.logging for store in filling.stores] == [False]
    assert "for global store (will not generate tasks)" in str(topology.describe())


def test_a_global_store_is_nobodys_to_connect_or_to_follow() -> None:
    builder = StreamsBuilder()
    builder.global_table(RIGHT, store="names")
    builder.stream(LEFT).to(OUT)
    topology = builder.build()
    topology.add_processor("reader", Nothing, "KSTREAM-SOURCE-0000000002")
    with pytest.raises(TopologyError, match="is global"):
        topology.connect_processor_and_state_stores("reader", "names")
    with pytest.raises(TopologyError, match="fills a global store"):
        topology.add_sink("sink", OUT, "KTABLE-SOURCE-0000000001")
    with pytest.raises(TopologyError, match="already a store"):
        topology.add_global_store(NAMES, "more", LEFT, "fill", Nothing)
