"""Joins of streams, tables and global tables, and the foreign-key join."""

from __future__ import annotations

import re
from typing import Any

from tests.replay_kafka_streams import api
from tests.replay_kafka_streams.describe_text import TextNode, index_of
from tests.replay_kafka_streams.functions import Functions
from tests.replay_kafka_streams.plan import Plan, first_index
from tests.replay_kafka_streams.rebuild_tables import store_option
from tests.replay_kafka_streams.verdict import OutOfScopeError

_REGISTRATION = "KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION"
_METHOD = {"inner": "join", "left": "left_join", "outer": "outer_join"}


def claim(plan: Plan) -> None:
    """Account for the nodes of joins."""
    for node in plan.graph:
        if node.operator == _REGISTRATION or node.name.endswith("-subscription-registration-processor"):
            _foreign_key(plan, node)
    for node in plan.graph:
        if not plan.is_free(node):
            continue
        if _is_stream_join(plan, node):
            _stream_stream(plan, node)
        elif _is_self_join(plan, node):
            _self_join(plan, node)
        elif _is_table_join(plan, node):
            _table_table(plan, node)
        elif node.operator in ("KSTREAM-JOIN", "KSTREAM-LEFTJOIN") or _is_buffered_join(node):
            _stream_table(plan, node)


# --- stream-stream --------------------------------------------------------------------------------------------------


def _sides(
    plan: Plan, merge: TextNode, this: tuple[str, ...], other: tuple[str, ...]
) -> tuple[TextNode, TextNode] | None:
    parents = plan.graph.parents(merge)
    if len(parents) != 2:
        return None
    first = [node for node in parents if node.operator.endswith(this) or node.name.endswith("-this-join")]
    second = [node for node in parents if node.operator.endswith(other) or node.name.endswith("-other-join")]
    return (first[0], second[0]) if len(first) == len(second) == 1 else None


def _stream_sides(plan: Plan, merge: TextNode) -> tuple[TextNode, TextNode] | None:
    if merge.operator.startswith("KTABLE"):
        return None
    sides = _sides(plan, merge, ("STREAM-JOINTHIS", "STREAM-OUTERTHIS"), ("STREAM-JOINOTHER", "STREAM-OUTEROTHER"))
    if sides is None or not all(len(side.parents) == 1 for side in sides):
        return None
    before = [plan.graph[side.parents[0]] for side in sides]
    windowed = all(node.operator == "KSTREAM-WINDOWED" or node.name.endswith("-windowed") for node in before)
    return sides if windowed else None


def _is_stream_join(plan: Plan, node: TextNode) -> bool:
    return node.kind == "Processor" and _stream_sides(plan, node) is not None


def _stream_stream(plan: Plan, merge: TextNode) -> None:
    sides = _stream_sides(plan, merge)
    assert sides is not None
    this, other = sides
    windowed = [plan.graph[side.parents[0]] for side in sides]
    plan.claim(merge, this, other, *windowed)
    outer = [("OUTER" in side.operator or "-outer-" in side.name) for side in sides]
    kind = "outer" if outer[0] else "left" if outer[1] else "inner"
    shared = {store for side in sides for store in side.stores} - {store for node in windowed for store in node.stores}
    if kind != "inner" and not shared:
        raise OutOfScopeError("skipped by REFERENCE.md: the eager outer joins from before 3.1")
    stores = [node.stores[0] for node in windowed]
    order = first_index(*(node.name for node in (*windowed, *sides, merge)), *stores)
    needs = _join_inputs(plan, windowed)
    plan.add(order, needs, merge.name, lambda left, right: _join_streams(plan, merge, kind, left, right, stores))


def _join_inputs(plan: Plan, windowed: list[TextNode]) -> tuple[str, str]:
    left, right = (node.parents[0] for node in windowed)
    if left == right:
        source = plan.graph[left]
        gap = None if source.index is None else source.index + 1
        if gap is not None and gap not in plan.numbers and gap < min(node.index or 0 for node in windowed):
            right = f"{left}#{gap}"
    return left, right


def _join_streams(plan: Plan, merge: TextNode, kind: str, left: Any, right: Any, stores: list[str]) -> Any:
    options: dict[str, Any] = {"name": _joined_name(merge)}
    given = [store for store in stores if index_of(store.removesuffix("-store")) is None]
    if given:
        name = re.sub(r"-(this|outer-this)-join-store$", "", stores[0])
        if name != stores[0]:
            options["store_name"] = name
        else:
            options |= _suppliers(plan, stores)
    return _call_join(plan, merge, left, kind, right, _join_windows(plan), **options)


def _suppliers(plan: Plan, stores: list[str]) -> dict[str, Any]:
    """Return suppliers of the stores whose names were not generated."""
    windows = _join_windows(plan)
    options: dict[str, Any] = {"retention": api.ms(windows.size_ms + windows.grace_ms)}
    options |= {"window_size": api.ms(windows.size_ms), "retain_duplicates": True}
    return {
        side: api.call(api.need("Stores"), "in_memory_window_store", store, **options)
        for side, store in zip(("this_store", "other_store"), stores, strict=True)
        if index_of(store.removesuffix("-store")) is None
    }


def _joined_name(merge: TextNode) -> str | None:
    return None if merge.operator else merge.name.removesuffix("-merge")


def _join_windows(plan: Plan) -> Any:
    kind, op = api.need("JoinWindows"), plan.op("streamStreamJoin")
    if op is None:
        return api.call(kind, "of_time_difference", api.ms(100), grace=api.ms(0))
    before, after = op.number("beforeMs"), op.number("afterMs")
    widest = max(before, after, 0)
    windows = api.call(kind, "of_time_difference", api.ms(widest), grace=api.ms(op.number("graceMs")))
    if before != widest:
        windows = api.call(windows, "before", api.ms(before))
    return windows if after == widest else api.call(windows, "after", api.ms(after))


def _call_join(plan: Plan, node: TextNode, target: Any, kind: str, *arguments: Any, **options: Any) -> Any:
    """Call a join with the case's joiner behind the first arguments that are no joiner's business."""
    other, *rest = arguments
    method = _METHOD[kind]
    if plan.functions.has("joiner_with_key", node.name):
        options["with_key"] = True
        joiner = plan.functions.get("joiner_with_key", node.name)
    else:
        joiner = plan.functions.get("joiner", node.name)
    selector = options.pop("selector", None)
    listed = [other, *([selector] if selector is not None else []), joiner, *rest]
    return api.call(target, method, *listed, **options)


def _is_self_join(plan: Plan, node: TextNode) -> bool:
    parents = plan.graph.parents(node)
    return node.operator == "KSTREAM-MERGE" and len(parents) == 1 and parents[0].operator == "KSTREAM-WINDOWED"


def _self_join(plan: Plan, merge: TextNode) -> None:
    windowed = plan.graph[merge.parents[0]]
    plan.claim(merge, windowed)
    left, right = _join_inputs(plan, [windowed, windowed])
    order = first_index(windowed.name, merge.name, *windowed.stores)
    plan.add(
        order,
        (left, right),
        merge.name,
        lambda one, two: _call_join(plan, merge, one, "inner", two, _join_windows(plan)),
    )


# --- stream-table ---------------------------------------------------------------------------------------------------


def _is_buffered_join(node: TextNode) -> bool:
    return node.kind == "Processor" and f"{node.name}-Buffer" in node.stores


def _stream_table(plan: Plan, node: TextNode) -> None:
    plan.claim(node)
    looked_up = [store for store in node.stores if not store.endswith("-Buffer")]
    table = _table_of(plan, looked_up)
    method = plan.functions.method
    options: dict[str, Any] = {}
    if table.is_global:
        left = "Left" in method or "Left" in plan.functions.test_class
        selector = plan.functions.get("global_key", node.name)
        options["selector"] = selector
    elif node.operator:
        left = node.operator == "KSTREAM-LEFTJOIN"
    else:
        left = "Left" in method
        options["name"] = node.name
    if _is_buffered_join(node):
        options["grace"] = api.ms(_grace(plan.functions))
    kind = "left" if left else "inner"
    needs = (node.parents[0], table.name)
    plan.add(node.index, needs, node.name, lambda stream, other: _call_join(plan, node, stream, kind, other, **options))


def _grace(functions: Functions) -> int:
    found = re.search(r"[Gg]race (\d+) ms", functions.flags["words"])
    return int(found[1]) if found else 2


def _table_of(plan: Plan, stores: list[str]) -> TextNode:
    """Return the table whose values are read from these stores; without any it is the global table."""
    for node in plan.graph:
        if stores and node.operator in _TABLE_MAKERS and set(node.stores) == set(stores):
            return node
    tables = [node for node in plan.graph if node.is_global and node.kind == "Processor"]
    if not stores and len(tables) == 1:
        return tables[0]
    raise OutOfScopeError(f"unknown topology: no single table has the stores {', '.join(stores) or '(none)'}")


_TABLE_MAKERS = {
    "KTABLE-SOURCE",
    "KSTREAM-TOTABLE",
    "KSTREAM-AGGREGATE",
    "KSTREAM-REDUCE",
    "KTABLE-AGGREGATE",
    "KTABLE-REDUCE",
}


# --- table-table ----------------------------------------------------------------------------------------------------


def _is_table_join(plan: Plan, node: TextNode) -> bool:
    return _table_sides(plan, node) is not None


def _table_sides(plan: Plan, node: TextNode) -> tuple[TextNode, TextNode] | None:
    if node.operator and node.operator != "KTABLE-MERGE":
        return None
    return _sides(plan, node, ("KTABLE-JOINTHIS",), ("KTABLE-JOINOTHER",)) if node.kind == "Processor" else None


def _table_table(plan: Plan, merge: TextNode) -> None:
    sides = _table_sides(plan, merge)
    assert sides is not None
    plan.claim(merge, *sides)
    merges = sorted(
        (node for node in plan.graph if node.operator == "KTABLE-MERGE" and _table_sides(plan, node)),
        key=lambda node: node.index or 0,
    )
    position = merges.index(merge) if merge in merges else 0
    kinds = _table_join_kinds(plan)
    kind = kinds[min(position, len(kinds) - 1)]
    order = first_index(merge.name, *merge.stores, *(side.name for side in sides))
    needs = (sides[0].parents[0], sides[1].parents[0])
    option = store_option(plan, merge)
    named = None if merge.operator else merge.name.removesuffix("-merge")
    purpose = "rejoiner" if plan.functions.has("rejoiner") else "joiner"

    def run(left: Any, right: Any) -> Any:
        joiner = plan.functions.get(purpose, merge.name)
        return api.call(left, _METHOD[kind], right, joiner, store=option, name=named)

    plan.add(order, needs, merge.name, run)


def _table_join_kinds(plan: Plan) -> list[str]:
    """Return the kinds of the case's table-table joins, in the order of the calls."""
    functions = plan.functions
    text = f"{functions.test_class} {functions.method} {functions.flags['words']}"
    two = re.match(r"test(Inner|Left|Outer)(Inner|Left|Outer)", functions.method)
    if two:
        return [two[1].lower(), two[2].lower()]
    one = re.match(r"test(Inner|Left|Outer)", functions.method)
    if one:
        return [one[1].lower()]
    if functions.test_class.startswith("KTableKTableForeignKey"):
        return ["left" if _is_left_foreign_key(functions) else "inner"]
    for mark, kind in (
        ("KTableKTableLeft", "left"),
        ("KTableKTableOuter", "outer"),
        (".outerJoin(", "outer"),
        (".leftJoin(", "left"),
    ):
        if mark in text:
            return [kind]
    return ["inner"]


# --- foreign key ----------------------------------------------------------------------------------------------------


def _is_left_foreign_key(functions: Functions) -> bool:
    if functions.method in ("shouldEmitRecordOnNullForeignKeyForLeftJoins", "shouldEmitRecordWhenOldAndNewFkDiffer"):
        return True
    rows = functions.flags["variants"]
    return bool(rows) and rows[0].split(", ")[0] == "true" and "leftJoin" in functions.flags["words"]


def _foreign_key(plan: Plan, registration: TextNode) -> None:
    graph = plan.graph
    (to_right,) = graph.children(registration)
    (received,) = graph.readers(to_right.topics[0])
    (subscribe,) = graph.children(received)
    (answer,) = graph.children(subscribe)
    (to_left,) = graph.children(answer)
    (update,) = [node for node in graph.parents(to_left) if node.name != answer.name]
    (responses,) = graph.readers(to_left.topics[0])
    (resolver,) = graph.children(responses)
    (result,) = graph.children(resolver)
    cluster = (registration, to_right, received, subscribe, answer, to_left, update, responses, resolver, result)
    plan.claim(*cluster)
    named = None if registration.operator else registration.name.removesuffix("-subscription-registration-processor")
    topics = (to_right.topics[0].removesuffix("-topic"), to_left.topics[0].removesuffix("-topic"))
    order = first_index(*topics, *(node.name for node in cluster))
    kind = "left" if _is_left_foreign_key(plan.functions) else "inner"
    option = store_option(plan, result)

    def run(left: Any, right: Any) -> Any:
        extractor = plan.functions.get("foreign_key", registration.name)
        joiner = plan.functions.get("joiner", result.name)
        return api.call(left, _METHOD[kind], right, extractor, joiner, store=option, name=named)

    plan.add(order, (registration.parents[0], update.parents[0]), result.name, run)
