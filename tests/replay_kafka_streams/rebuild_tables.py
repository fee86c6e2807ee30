"""Tables, their derivations, grouping, suppression."""

from __future__ import annotations

from typing import Any

from tests.replay_kafka_streams import api
from tests.replay_kafka_streams.describe_text import TextNode, index_of, repartitioned
from tests.replay_kafka_streams.plan import Plan, first_index
from tests.replay_kafka_streams.rebuild_aggregates import claim_group_by, cogroup
from tests.replay_kafka_streams.rebuild_streams import feeding, topic
from tests.replay_kafka_streams.verdict import OutOfScopeError
from tests.replay_kafka_streams.words import UNBOUNDED, Op


def claim(plan: Plan) -> None:
    """Account for the nodes of tables."""
    graph = plan.graph
    for node in graph:
        if plan.is_free(node) and node.kind == "Source":
            tables = [child for child in graph.children(node) if child.operator == "KTABLE-SOURCE"]
            if node.is_global or tables:
                _table(plan, node, (tables or graph.children(node))[0])
    for node in graph:
        if not plan.is_free(node):
            continue
        if node.operator == "KTABLE-SELECT":
            _grouped_table(plan, node)
        elif node.operator == "COGROUPKSTREAM-MERGE":
            cogroup(plan, node)
        elif node.operator in _DERIVED:
            _derived(plan, node)
        elif node.operator == "KTABLE-SUPPRESS":
            _suppress(plan, node)
        elif _is_group_by(plan, node):
            claim_group_by(plan, node)


def _is_group_by(plan: Plan, node: TextNode) -> bool:
    """Tell whether a key was selected by `group_by`: its only child leads to a topic before an aggregation."""
    children = plan.graph.children(node)
    if node.kind != "Processor" or len(children) != 1:
        return False
    named = not node.operator and children[0].name == f"{node.name}-repartition-filter"
    if not named and node.operator != "KSTREAM-KEY-SELECT":
        return False
    sink = plan.graph.children(children[0])
    if len(sink) != 1 or sink[0].kind != "Sink" or not sink[0].topics or repartitioned(sink[0].topics[0]) is None:
        return False
    consumers = [child for reader in plan.graph.readers(sink[0].topics[0]) for child in plan.graph.children(reader)]
    if len(consumers) != 1 or consumers[0].operator not in ("KSTREAM-AGGREGATE", "KSTREAM-REDUCE"):
        return False
    base = repartitioned(sink[0].topics[0])
    return base in (node.name, *consumers[0].stores)


def store_option(plan: Plan, node: TextNode, *, own_always: bool = False) -> Any:
    """Return the `store` argument that leads to a node's store: its name, options, or None.

    Args:
        plan: The plan.
        node: The node.
        own_always: Whether a store with a generated name comes without asking for it.
    """
    given = [store for store in node.stores if index_of(store) is None]
    if given:
        name = given[-1]  # a transformer's own stores come first
        versioned = plan.op("versionedStore", name)
        buffered = any({name, f"{other.name}-Buffer"} <= set(other.stores) for other in plan.graph)
        if versioned is None and not buffered:
            return name
        history = api.ms(versioned.milliseconds("historyRetention") if versioned else 300_000)
        return api.make("Materialized", name, history_retention=history)
    if node.stores and not own_always:
        return api.make("Materialized")
    return None


# --- tables and what is derived from them ---------------------------------------------------------------------------


def _table(plan: Plan, source: TextNode, table: TextNode) -> None:
    plan.claim(source, table)
    if not source.topics:
        raise OutOfScopeError("unknown topology: a table of a pattern")
    name = source.topics[0]
    order = source.index
    generated = all(index_of(store) is not None for store in table.stores)
    if order is not None and generated and order - 1 not in _node_numbers(plan):
        order -= 1  # the number of its store's name, used up even if there is no store
    elif order is not None and not table.stores:
        order = source.index
    method = "global_table" if source.is_global else "table"
    option = None if generated else store_option(plan, table, own_always=True)
    plan.add(order, (), table.name, lambda: api.call(plan.builder, method, topic(plan, name), store=option))


def _node_numbers(plan: Plan) -> set[int | None]:
    return {node.index for node in plan.graph}


def _derived(plan: Plan, node: TextNode) -> None:
    plan.claim(node)
    method, purpose = _DERIVED[node.operator]
    if purpose == "filter" and node.name in plan.functions.flags.get("filter_not", ()):
        method = "filter_not"
    own = [store for store in node.stores if index_of(store) is None]
    extra = own[:-1] if purpose == "transform_values" else []

    def run(table: Any) -> Any:
        function = plan.functions.get(purpose, node.name)
        if purpose == "transform_values":
            stores = [
                api.call(api.need("Stores"), "key_value", name, plan.serde, plan.serde, in_memory=True)
                for name in extra
            ]
            if stores:
                from tests.replay_kafka_streams.user_processors import with_stores

                function = with_stores(function, stores)
        option = store_option(plan, node)
        if option is None and _left_a_gap(plan, node):
            option = api.make("Materialized")
        return api.call(table, method, function, store=option)

    plan.add(first_index(node.name, *node.stores), node.parents, node.name, run)


def _left_a_gap(plan: Plan, node: TextNode) -> bool:
    """Tell whether a number before the node was used up by options without a name, for a store that was never made."""
    if node.index is None or node.index - 1 in plan.numbers:
        return False
    before = next((other.operator for other in plan.graph if other.index == (node.index or 0) - 2), "")
    return before not in ("KSTREAM-TOTABLE", "KTABLE-FK-JOIN-OUTPUT")  # these use up one behind them


_DERIVED = {
    "KTABLE-FILTER": ("filter", "filter"),
    "KTABLE-MAPVALUES": ("map_values", "map_values"),
    "KTABLE-TRANSFORMVALUES": ("transform_values", "transform_values"),
}


# --- grouping -------------------------------------------------------------------------------------------------------


def _grouped_table(plan: Plan, select: TextNode) -> None:
    plan.claim(select)
    group = plan.functions.get("table_group", select.name)
    sinks = [child for child in plan.graph.children(select) if child.kind == "Sink"]
    if len(sinks) != len(select.children):
        raise OutOfScopeError(f"unknown topology: {select.name} sends to something else than a topic")
    readers = [reader for sink in sinks for reader in plan.graph.readers(sink.topics[0])]
    results = [child for reader in readers for child in plan.graph.children(reader)]
    name = None
    if results:
        base = repartitioned(sinks[0].topics[0])
        name = None if base in results[0].stores else base
    plan.add(select.index, select.parents, select.name, lambda table: api.call(table, "group_by", group, name=name))
    for reader, result in zip(readers, results, strict=True):
        feeding(plan, reader)
        plan.claim(result)
        plan.add(
            first_index(*result.stores, result.name, reader.name),
            (select.name,),
            result.name,
            lambda grouped, result=result: _aggregate(plan, result, grouped),
        )


def _aggregate(plan: Plan, node: TextNode, grouped: Any) -> Any:
    functions, option = plan.functions, store_option(plan, node, own_always=True)
    if node.operator == "KTABLE-REDUCE":
        reducer, subtractor = functions.get("reducer", node.name), functions.get("subtractor", node.name)
        return api.call(grouped, "reduce", reducer, subtractor, store=option)
    if functions.flags["count"]:
        return api.call(grouped, "count", store=option)
    arguments = [functions.get(purpose, node.name) for purpose in ("init", "adder", "remover")]
    return api.call(grouped, "aggregate", *arguments, store=option)


# --- suppress -------------------------------------------------------------------------------------------------------


def _suppress(plan: Plan, node: TextNode) -> None:
    plan.claim(node)
    plan.add(
        first_index(node.name, *node.stores),
        node.parents,
        node.name,
        lambda table: api.call(table, "suppress", suppressed(plan.op("suppress"))),
    )


def suppressed(op: Op | None) -> Any:
    """Return what `suppress` is given.

    Raises:
        OutOfScopeError: For limits in bytes: they count Java's buffers.
    """
    kind = api.need("Suppressed")
    if op is None:
        return api.call(kind, "until_time_limit", api.ms(10))
    if "maxBytes" in op.text and op.number("maxBytes") != UNBOUNDED:
        raise OutOfScopeError("skipped by REFERENCE.md: a limit in bytes of Java's buffers")
    eager = "EagerBufferConfig" in op.text
    records = op.number("maxRecords" if eager else "maxKeys")
    options: dict[str, Any] = {}
    if records != UNBOUNDED:
        options["max_records"] = records
    if not eager and records != UNBOUNDED:
        options["when_full"] = "shut_down"
    if "FinalResults" in op.text or "WindowEndTimeDefinition" in op.text:
        return api.call(kind, "until_window_closes", **options)
    limit = min(
        op.milliseconds("timeToWaitForMoreEvents"), 10**14
    )  # a timedelta is shorter than Java's longest duration
    return api.call(kind, "until_time_limit", api.ms(limit), **options)
