"""Grouping, windows and aggregation of streams, also cogrouped."""

from __future__ import annotations

from typing import Any

from tests.replay_kafka_streams import api
from tests.replay_kafka_streams.describe_text import TextNode, index_of
from tests.replay_kafka_streams.plan import Plan, first_index
from tests.replay_kafka_streams.rebuild_streams import group_name
from tests.replay_kafka_streams.words import Op


def claim_group_by(plan: Plan, node: TextNode) -> None:
    """Account for a selected key that is there only to be grouped by."""
    plan.claim(node)
    selector = plan.functions.get("key_select", node.name)
    named = None if node.operator else node.name
    plan.add(node.index, node.parents, node.name, lambda stream: api.call(stream, "group_by", selector, name=named))


def aggregate(plan: Plan, node: TextNode) -> None:
    """Account for an aggregation of one stream."""
    parent = plan.graph[node.parents[0]]
    store = node.stores[0]
    name = group_name(plan, parent, store)

    def run(stream: Any) -> Any:
        windowed = _windowed(plan, _grouped(stream, name), store)
        option = window_store_option(plan, store)
        functions = plan.functions
        if node.operator == "KSTREAM-REDUCE":
            return api.call(windowed, "reduce", functions.get("reducer", node.name), store=option)
        if functions.flags["count"]:
            return api.call(windowed, "count", store=option)
        arguments = [functions.get("init", node.name), functions.get("adder", node.name)]
        if _session(plan, store):
            arguments.append(functions.get("merger", node.name))
        return api.call(windowed, "aggregate", *arguments, store=option)

    plan.add(first_index(store, node.name), node.parents, node.name, run)


def _grouped(stream: Any, name: str | None) -> Any:
    return api.call(stream, "group_by_key", name=name) if hasattr(stream, "group_by_key") else stream


def _session(plan: Plan, store: str) -> Op | None:
    return plan.op("sessionWindowAggregate", store)


def _windowed(plan: Plan, grouped: Any, store: str) -> Any:
    ops = (plan.op(name, store) for name in ("sessionWindowAggregate", "slidingWindowAggregate", "windowAggregate"))
    op = next((op for op in ops if op is not None), None)
    return grouped if op is None else windowed_by(grouped, op)


def windowed_by(grouped: Any, op: Op) -> Any:
    """Return a grouping by the windows that were recorded, with their emit strategy."""
    windows = _windows(op)
    windowed = api.call(grouped, "windowed_by", windows)
    if op.word("emit") == "ON_WINDOW_CLOSE":
        windowed = api.call(windowed, "emit_strategy", api.need("EmitStrategy").ON_WINDOW_CLOSE)
    return windowed


def _windows(op: Op) -> Any:
    if op.name == "sessionWindowAggregate":
        kind, grace = api.need("SessionWindows"), api.ms(op.number("graceMs"))
        return api.call(kind, "of_inactivity_gap", api.ms(op.number("gapMs")), grace=grace)
    if op.name == "slidingWindowAggregate":
        kind, grace = api.need("SlidingWindows"), api.ms(op.number("graceMs"))
        return api.call(kind, "of_time_difference", api.ms(op.number("sizeMs")), grace=grace)
    if op.text.startswith("Unlimited"):
        windows = api.call(api.need("UnlimitedWindows"), "of")
        return api.call(windows, "start_on", op.number("startMs")) if "startMs=" in op.text else windows
    kind, grace = api.need("TimeWindows"), api.ms(op.number("graceMs"))
    windows = api.call(kind, "of_size", api.ms(op.number("sizeMs")), grace=grace)
    if op.number("advanceMs") != op.number("sizeMs"):
        windows = api.call(windows, "advance_by", api.ms(op.number("advanceMs")))
    return windows


def window_store_option(plan: Plan, store: str) -> Any:
    """Return how to ask for a store: by name, or not at all if its name was generated."""
    if index_of(store) is not None:
        return None
    return store


def cogroup(plan: Plan, merge: TextNode) -> None:
    """Account for the aggregations of several streams into one store."""
    parts = plan.graph.parents(merge)
    plan.claim(merge, *parts)
    parts.sort(key=lambda part: part.index or 0)
    store = parts[0].stores[0]
    needs = tuple(part.parents[0] for part in parts)
    names = [group_name(plan, plan.graph[need], store) for need in needs]

    def adder(position: int) -> Any:
        by_position = f"adder@{position}"
        return plan.functions.known.get(by_position) or plan.functions.get("adder", parts[position].name)

    def run(*streams: Any) -> Any:
        grouped = [_grouped(stream, name) for stream, name in zip(streams, names, strict=True)]
        together = api.call(grouped[0], "cogroup", adder(0))
        for position, more in enumerate(grouped[1:], 1):
            together = api.call(together, "cogroup", more, adder(position))
        together = _windowed(plan, together, store)
        arguments = [plan.functions.get("init", merge.name)]
        if _session(plan, store):
            arguments.append(plan.functions.get("merger", merge.name))
        return api.call(together, "aggregate", *arguments, store=window_store_option(plan, store))

    plan.add(first_index(store, merge.name, *(part.name for part in parts)), needs, merge.name, run)
