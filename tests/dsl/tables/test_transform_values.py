"""`transform_values`: one value for each, deletions included, with stores; old values from where they are right."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlet import FixedKeyProcessor, Record, Stores, StreamsBuilder, StreamsError, TopologyTestDriver, serdes
from tests.dsl.tables.support import LEFT, OUT, Table, pair, rows, run

COUNTS = Stores.key_value("counts", serdes.json, serdes.json, in_memory=True)


class Length(FixedKeyProcessor[Any, Any, Any]):
    """Forwards the length of each value, None for None."""

    def process(self, record: Record[Any, Any]) -> None:
        self.context.forward(record.with_value(None if record.value is None else len(record.value)))


class Numbered(FixedKeyProcessor[Any, Any, Any]):
    """Forwards how often a key was updated; deletions are rows as well."""

    stores = (COUNTS,)

    def process(self, record: Record[Any, Any]) -> None:
        counts = self.context.get_state_store(COUNTS)
        count = (counts.get(record.key) or 0) + 1
        counts.put(record.key, count)
        self.context.forward(record.with_value(count))


class Twice(FixedKeyProcessor[Any, Any, Any]):
    """Forwards twice, which a table's transformer must not."""

    def process(self, record: Record[Any, Any]) -> None:
        self.context.forward(record)
        self.context.forward(record)


class Odd(FixedKeyProcessor[Any, Any, Any]):
    """Forwards odd numbers only."""

    def process(self, record: Record[Any, Any]) -> None:
        if record.value is not None and record.value % 2:
            self.context.forward(record)


def test_deletions_are_transformed_too() -> None:
    steps = [("L", 1, "a", 1), ("L", 1, None, 2)]
    assert run(lambda left, _: left.transform_values(Numbered), steps) == [[(1, 1, 1)], [(1, 2, 2)]]
    assert run(lambda left, _: left.transform_values(Length), steps) == [[(1, 1, 1)], [(1, None, 2)]]


def test_what_is_not_forwarded_is_deleted() -> None:
    out = run(lambda left, _: left.transform_values(Odd, store="odd"), [("L", 1, 3, 1), ("L", 1, 4, 2)])
    assert out == [[(1, 3, 1)], [(1, None, 2)]]


STEPS = st.lists(
    st.tuples(st.just("L"), st.integers(0, 2), st.none() | st.integers(0, 5), st.integers(0, 20)), max_size=12
)


@pytest.mark.parametrize("store", [None, "odd"])
@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_groups_of_what_it_makes_are_those_of_the_rows_as_they_are(store: str | None, steps: list[Any]) -> None:
    """Rows that it leaves out are in no group, and what it made of a row before is subtracted."""
    table = {key: value for _, key, value, _ in steps}
    groups = Counter(value for value in table.values() if value is not None and value % 2)

    def program(left: Table, _right: Table) -> Table:
        return left.transform_values(Odd, store=store).group_by(lambda key, odd: (odd, key)).count()

    counted = rows(run(program, steps))
    assert {group: count for group, count in counted.items() if count} == groups
    assert rows(run(lambda left, _: left.transform_values(Odd, store=store), steps)) == {
        key: value for key, value in table.items() if value is not None and value % 2
    }


def test_two_values_for_one_are_refused() -> None:
    with pytest.raises(StreamsError, match="one value for each"):
        run(lambda left, _: left.transform_values(Twice), [("L", 1, 3, 1)])


@pytest.mark.parametrize("store", [None, "lengths"])
def test_old_values_leave_their_groups(store: str | None) -> None:
    def program(left: Table, _right: Table) -> Table:
        return left.transform_values(Length, store=store).group_by(lambda key, length: (length, key)).count()

    steps = [("L", 1, "a", 1), ("L", 1, "bb", 2), ("L", 1, None, 3)]
    assert run(program, steps) == [[(1, 1, 1)], [(1, 0, 2), (2, 1, 2)], [(2, 0, 3)]]


def test_a_join_reads_it_by_transforming_again() -> None:
    def program(left: Table, right: Table) -> Table:
        return right.join(left.transform_values(Length), pair)

    assert run(program, [("L", 1, "abc", 1), ("R", 1, "x", 2)])[-1] == [(1, ["x", 3], 2)]


def test_its_stores_and_the_tables_own_are_connected() -> None:
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    table = builder.table(LEFT).transform_values(Numbered, store="numbers")
    table.to_stream().to(OUT)
    assert table.queryable_name == "numbers"
    topology = builder.build()
    assert "KTABLE-TRANSFORMVALUES-0000000003 (stores: [counts, numbers])" in str(topology.describe())
    with TopologyTestDriver(topology, initial_wall_clock_time=0) as driver:
        driver.create_input_topic(LEFT).pipe_input(1, "a", 1)
        assert driver.get_state_store("numbers").get(1) == 1
