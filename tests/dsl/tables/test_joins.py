"""Table-table joins: what comes out for each update, and that it is always the join of the tables as they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlet import Materialized, StreamsBuilder, TopologyError, TopologyTestDriver, serdes
from tests.dsl.tables.support import LEFT, RIGHT, Table, pair, rows, run


def inner(left: Table, right: Table) -> Table:
    return left.join(right, pair)


def left_join(left: Table, right: Table) -> Table:
    return left.left_join(right, pair)


def outer(left: Table, right: Table) -> Table:
    return left.outer_join(right, pair)


def test_inner_says_nothing_until_both_sides_are_there() -> None:
    steps = [("L", 1, "a", 5), ("R", 1, "x", 3), ("L", 1, None, 4), ("R", 1, None, 9)]
    assert run(inner, steps) == [[], [(1, ["a", "x"], 5)], [(1, None, 4)], []]


def test_left_follows_the_left_side() -> None:
    steps = [
        ("L", 1, "a", 5),
        ("R", 1, "x", 3),
        ("R", 1, None, 8),
        ("L", 1, None, 4),
        ("L", 1, None, 6),
        ("R", 1, "x", 7),
    ]
    assert run(left_join, steps) == [
        [(1, ["a", None], 5)], [(1, ["a", "x"], 5)], [(1, ["a", None], 8)], [(1, None, 4)], [], []
    ]  # fmt: skip


def test_outer_follows_both_and_deletes_only_what_was_there() -> None:
    steps = [("R", 1, None, 1), ("R", 1, "x", 3), ("L", 1, "a", 2), ("R", 1, None, 4), ("L", 1, None, 5)]
    assert run(outer, steps) == [[], [(1, [None, "x"], 3)], [(1, ["a", "x"], 3)], [(1, ["a", None], 4)], [(1, None, 5)]]


def test_a_table_joins_with_itself() -> None:
    out = run(lambda left, _: left.join(left.map_values(str.upper), pair), [("L", 1, "a", 1), ("L", 1, "b", 2)])
    assert out[0][-1] == (1, ["a", "A"], 1)
    assert out[1][-1] == (1, ["b", "B"], 2)


def test_only_tables_of_one_builder_join() -> None:
    table, other = StreamsBuilder().table(LEFT), StreamsBuilder().table(RIGHT)
    with pytest.raises(TopologyError, match="same StreamsBuilder"):
        table.join(other, pair)
    with pytest.raises(TopologyError, match="takes a joiner"):
        table.join(table, "joiner")  # type: ignore[call-overload]  # what is tested


def test_both_sides_need_equally_many_partitions() -> None:
    builder = StreamsBuilder()
    inner(builder.table(LEFT), builder.table(RIGHT))
    (part,) = builder.build().sub_topologies
    assert part.copartition_groups == (frozenset({"left", "right"}),)


def test_a_name_names_all_nodes_and_a_store_is_queryable() -> None:
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    joined = builder.table(LEFT).join(builder.table(RIGHT), pair, store=Materialized("joined"), name="both")
    topology = builder.build()
    assert {"both", "both-join-this", "both-join-other"} <= {node.name for node in topology.nodes}
    assert joined.queryable_name == "joined"
    with TopologyTestDriver(topology, initial_wall_clock_time=0) as driver:
        driver.create_input_topic(LEFT).pipe_input(1, "a", 5)
        driver.create_input_topic(RIGHT).pipe_input(1, "x", 7)
        assert driver.get_state_store("joined").get(1) == ["a", "x"]


def test_an_out_of_order_update_counts_only_without_versions() -> None:
    steps = [("R", 1, "x", 1), ("L", 1, "new", 9), ("L", 1, "old", 5)]
    versioned = Materialized("left-store", history_retention=timedelta(seconds=10))
    assert run(inner, steps)[-1] == [(1, ["old", "x"], 5)]
    assert run(inner, steps, store=versioned)[-1] == []


def test_an_update_older_than_the_history_does_not_exist() -> None:
    versioned = Materialized("left-store", history_retention=timedelta(milliseconds=10))
    steps = [("L", 1, "new", 100), ("L", 1, "old", 89), ("L", 1, "in time", 90)]
    assert run(lambda left, _: left, steps, store=versioned) == [[(1, "new", 100)], [], [(1, "in time", 90)]]


def test_versioned_tables_cannot_be_suppressed_and_need_a_name() -> None:
    from streamlet import Suppressed

    table = StreamsBuilder().table(LEFT, store=Materialized("rows", history_retention=timedelta(hours=1)))
    with pytest.raises(TopologyError, match="versioned"):
        table.suppress(Suppressed.until_time_limit(timedelta(seconds=1)))
    with pytest.raises(TopologyError, match="name"):
        Materialized(history_retention=timedelta(hours=1))
    with pytest.raises(TopologyError, match="history_retention"):
        Materialized("rows", history_retention=5)  # type: ignore[arg-type]  # what is tested


def model(kind: str, left: dict[int, Any], right: dict[int, Any]) -> dict[int, Any]:
    keys = {
        "inner": left.keys() & right.keys(),
        "left": left.keys() | set(),
        "outer": left.keys() | right.keys(),
    }[kind]
    return {key: [left.get(key), right.get(key)] for key in keys}


PROGRAMS: dict[str, Callable[[Table, Table], Table]] = {"inner": inner, "left": left_join, "outer": outer}
updates = st.lists(
    st.tuples(st.sampled_from("LR"), st.integers(0, 2), st.none() | st.integers(0, 9), st.integers(0, 99)), max_size=30
)


def track(steps: list[Any]) -> list[tuple[dict[int, Any], dict[int, Any]]]:
    tables: dict[str, dict[int, Any]] = {"L": {}, "R": {}}
    seen = []
    for side, key, value, _ in steps:
        if value is None:
            tables[side].pop(key, None)
        else:
            tables[side][key] = value
        seen.append((dict(tables["L"]), dict(tables["R"])))
    return seen


@pytest.mark.parametrize("store", [None, "joined"])
@pytest.mark.parametrize("kind", sorted(PROGRAMS))
@settings(deadline=None)
@given(steps=updates)
def test_the_result_is_the_join_of_the_tables_as_they_are(kind: str, store: str | None, steps: list[Any]) -> None:
    def program(left: Table, right: Table) -> Table:
        method = {"inner": left.join, "left": left.left_join, "outer": left.outer_join}[kind]
        return method(right, pair, store=store)  # type: ignore[operator,no-any-return]  # overloads of three methods

    seen: dict[int, Any] = {}
    for out, (left, right) in zip(run(program, steps), track(steps), strict=True):
        for key, value, _ in out:
            if value is None:
                seen.pop(key, None)
            else:
                seen[key] = value
        assert seen == model(kind, left, right)


@pytest.mark.parametrize("store", [None, "joined"])
@pytest.mark.parametrize("kind", sorted(PROGRAMS))
@settings(deadline=None)
@given(steps=updates)
def test_old_values_behind_a_join_are_those_that_were_sent(kind: str, store: str | None, steps: list[Any]) -> None:
    """Counting a join's rows by group needs the old value of each of its changes."""

    def program(left: Table, right: Table) -> Table:
        method = {"inner": left.join, "left": left.left_join, "outer": left.outer_join}[kind]
        joined: Table = method(right, pair, store=store)  # type: ignore[operator]  # overloads of three methods
        return joined.group_by(lambda key, both: (str(both), key)).count()

    counts = rows(run(program, steps))
    expected: dict[str, int] = {}
    for both in model(kind, *track(steps)[-1]).values() if steps else ():
        expected[str(both)] = expected.get(str(both), 0) + 1
    assert {group: count for group, count in counts.items() if count} == expected


@settings(deadline=None)
@given(steps=updates)
def test_joins_of_joins_are_read_through(steps: list[Any]) -> None:
    """The right side of the outer join is itself a join without a store: it is computed when it is read."""

    def program(left: Table, right: Table) -> Table:
        return left.outer_join(left.left_join(right, pair), pair)

    left, right = track(steps)[-1] if steps else ({}, {})
    both = model("left", left, right)
    assert rows(run(program, steps)) == {key: [left[key], both[key]] for key in left}
