"""Regrouped tables: subtraction before addition, one record for one group, and no trace of rows that moved on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlet import Materialized, StreamsBuilder, TaskError, Topic, TopologyTestDriver, serdes
from streamlet.dsl.change_serde import ChangeSerde
from streamlet.errors import SerializationError
from tests.dsl.tables.support import LEFT, Table, rows, run


def by_team(table: Table, _other: Table) -> Table:
    return table.group_by(lambda key, team: (team, key)).count()


def test_a_row_that_moves_is_subtracted_first_then_added() -> None:
    assert run(by_team, [("L", "ann", "red", 1), ("L", "ann", "blue", 2)]) == [
        [("red", 1, 1)],
        [("red", 0, 2), ("blue", 1, 2)],
    ]


def test_an_update_within_a_group_is_one_record_without_an_intermediate_result() -> None:
    assert run(by_team, [("L", "ann", "red", 1), ("L", "ann", "red", 2)]) == [[("red", 1, 1)], [("red", 1, 2)]]


def test_results_carry_the_highest_timestamp() -> None:
    out = run(by_team, [("L", "ann", "red", 9), ("L", "bob", "red", 3), ("L", "bob", None, 4)])
    assert out == [[("red", 1, 9)], [("red", 2, 9)], [("red", 1, 9)]]


def test_deleting_what_was_never_there_is_silent() -> None:
    assert run(by_team, [("L", "ann", None, 1)]) == [[]]


@pytest.mark.parametrize("left_out", [None, (None, 1), ("red", None)])
def test_a_row_for_which_the_selector_gives_nothing_is_in_no_group(left_out: Any) -> None:
    def program(table: Table, _other: Table) -> Table:
        return table.group_by(lambda key, team: left_out if team == "out" else (team, key)).count()

    steps = [("L", "ann", "out", 1), ("L", "ann", "red", 2), ("L", "ann", "out", 3)]
    assert run(program, steps) == [[], [("red", 1, 2)], [("red", 0, 3)]]


def test_reduce_takes_the_first_value_as_it_is_and_deletes_on_none() -> None:
    def program(table: Table, _other: Table) -> Table:
        grouped = table.group_by(lambda key, value: ("all", value))
        return grouped.reduce(lambda total, value: total + value, lambda total, value: total - value or None)

    steps = [("L", "a", 5, 1), ("L", "b", 2, 2), ("L", "a", None, 3), ("L", "b", None, 4)]
    assert run(program, steps) == [[("all", 5, 1)], [("all", 7, 2)], [("all", 2, 3)], [("all", None, 4)]]


def test_aggregate_begins_with_the_initial_value_and_may_change_it_in_place() -> None:
    def add(_key: Any, value: Any, names: list[Any]) -> list[Any]:
        names.append(value)
        return names

    def subtract(_key: Any, value: Any, names: list[Any]) -> list[Any]:
        names.remove(value)
        return names

    def program(table: Table, _other: Table) -> Table:
        teams = table.group_by(lambda key, team: (team, key)).aggregate(list, add, subtract)
        return teams.group_by(lambda team, names: (len(names), team)).count()  # needs the aggregates as they were

    steps = [("L", "ann", "red", 1), ("L", "bob", "red", 2), ("L", "ann", None, 3)]
    assert rows(run(program, steps)) == {1: 1, 2: 0}


def test_a_selector_that_returns_no_pair_is_told_what_it_should() -> None:
    with pytest.raises(TaskError, match=r"\(key, value\) or None"):
        run(lambda table, _: table.group_by(lambda key, value: value).count(), [("L", "a", "red", 1)])


def test_a_named_topic_is_shared_by_all_aggregations_of_a_group() -> None:
    builder = StreamsBuilder()
    grouped = builder.table(Topic("teams", serdes.string, serdes.string)).group_by(
        lambda key, team: (team, key), key_serde=serdes.string, value_serde=serdes.string, name="by-team"
    )
    grouped.count(store="counts")
    grouped.reduce(max, min, store="names")
    text = str(builder.build().describe())
    assert text.count("(topic: by-team-repartition)") == 1
    assert "stores: [counts]" in text
    assert "stores: [names]" in text


def test_missing_serdes_are_asked_for_at_group_by() -> None:
    builder = StreamsBuilder()
    builder.table(LEFT).group_by(lambda key, value: (value, key)).count()
    with pytest.raises(Exception, match=r"group_by\(key_serde=...\)"):
        builder.build()


def test_the_store_can_be_queried() -> None:
    builder = StreamsBuilder()
    table = builder.table(LEFT).group_by(lambda k, v: (v, k), key_serde=serdes.json, value_serde=serdes.json)
    counts = table.count(store=Materialized("counts", in_memory=True))
    assert counts.queryable_name == "counts"
    with TopologyTestDriver(builder.build(), initial_wall_clock_time=0) as driver:
        driver.create_input_topic(LEFT).pipe_input("ann", "red", 7)
        assert driver.get_state_store("counts").get("red") == 1


changes = st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 5), st.integers(0, 50)), max_size=40)


@settings(deadline=None)
@given(changes)
def test_groups_are_always_those_of_the_rows_as_they_are_now(given: list[tuple[str, int | None, int]]) -> None:
    def total(table: Table, _other: Table) -> Table:
        grouped = table.group_by(lambda key, value: (value % 2, value))
        return grouped.aggregate(
            int, lambda _key, value, so_far: so_far + value, lambda _key, value, so_far: so_far - value
        )

    table: dict[str, int] = {}
    seen: dict[int, int] = {}
    for (key, value, _), out in zip(given, run(total, [("L", *change) for change in given]), strict=True):
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
        seen.update(rows([out]))
        model: Counter[int] = Counter()
        for number in table.values():
            model[number % 2] += number
        assert {group: sum for group, sum in seen.items() if sum} == {g: s for g, s in model.items() if s}


@settings(deadline=None)
@given(st.none() | st.text(max_size=300), st.none() | st.text(max_size=300))
def test_changes_survive_their_bytes(new: str | None, old: str | None) -> None:
    serde = ChangeSerde(serdes.string)
    if new is None and old is None:
        with pytest.raises(SerializationError):
            serde.serialize((new, old, True))
    else:
        assert serde.deserialize(serde.serialize((new, old, True))) == (new, old, True)


@settings(deadline=None)
@given(st.binary(max_size=20))
def test_bytes_of_no_change_are_refused_and_nothing_else_happens(data: bytes) -> None:
    serde = ChangeSerde(serdes.bytes_)
    try:
        new, old, latest = serde.deserialize(data)
    except SerializationError:
        return
    assert latest
    assert new is not None or old is not None
