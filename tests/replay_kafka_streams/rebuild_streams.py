"""Sources, sinks and the operators of streams."""

from __future__ import annotations

import re
from typing import Any

from streamlet.processor.api import Processor
from streamlet.records import Record
from streamlet.topic import Topic, TopicPattern
from tests.replay_kafka_streams import api
from tests.replay_kafka_streams.describe_text import TextNode, repartitioned
from tests.replay_kafka_streams.plan import Event, Plan, first_index
from tests.replay_kafka_streams.user_processors import with_stores
from tests.replay_kafka_streams.verdict import OutOfScopeError

_KEY_CHANGING = {"KSTREAM-KEY-SELECT", "KSTREAM-MAP", "KSTREAM-FLATMAP", "KSTREAM-PROCESSOR", "KSTREAM-TRANSFORM"}
_GENERATED_BASE = re.compile(r"^(K|COGROUPK)(STREAM|TABLE)-.*-\d{10}$")
AUTOMATIC_CONSUMERS = ("KSTREAM-AGGREGATE", "KSTREAM-REDUCE", "COGROUPKSTREAM-AGGREGATE", "KSTREAM-TOTABLE")


def capture(plan: Plan, name: str) -> Any:
    """Return the supplier of a terminal processor that notes what it sees."""

    class Capture(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None:
            plan.events.append(Event(name, record.key, record.value, record.timestamp))

    return Capture


def claim(plan: Plan) -> None:
    """Account for all nodes that are left."""
    for node in plan.graph:
        if plan.is_free(node) and node.kind == "Source":
            _source(plan, node)
    for node in plan.graph:
        if plan.is_free(node) and node.kind == "Sink":
            _sink(plan, node)
    for node in plan.graph:
        if plan.is_free(node) and (node.operator == "KSTREAM-BRANCH" or _is_named_split(plan, node)):
            _split(plan, node)
    for node in plan.graph:
        if plan.is_free(node) and node.kind == "Processor":
            _processor(plan, node)


# --- sources, sinks, repartitioning ---------------------------------------------------------------------------------


def topic(plan: Plan, name: str) -> Topic[Any, Any]:
    """Return a topic with the case's serde."""
    return Topic(name, plan.serde, plan.serde)


def _source(plan: Plan, node: TextNode) -> None:
    base = repartitioned(node.topics[0]) if node.topics else None
    if base is not None and plan.graph.writers(node.topics[0]):
        _repartition(plan, node, base)
        return
    plan.claim(node)
    source: Any
    if node.pattern is not None:
        source = TopicPattern(node.pattern, plan.serde, plan.serde)
    else:
        listed = [topic(plan, name) for name in node.topics]
        source = listed[0] if len(listed) == 1 else listed
    named = None if node.operator else node.name
    plan.add(node.index, (), node.name, lambda: api.call(plan.builder, "stream", source, name=named))
    for twin in _twins(plan, node):
        plan.add(twin, (), f"{node.name}#{twin}", lambda: api.call(plan.builder, "stream", source))


def _twins(plan: Plan, node: TextNode) -> list[int]:
    """Return the numbers of further sources of the same topic, which were made into one with this source.

    They left nothing but a gap, right behind the source and before both sides of a self join.
    """
    joining = [child for child in plan.graph.children(node) if child.operator == "KSTREAM-WINDOWED"]
    if node.index is None or not joining or joining[0].index is None:
        return []
    if len(joining) == 1 and all(after.operator != "KSTREAM-MERGE" for after in plan.graph.children(joining[0])):
        return []  # joined with another stream
    gap = node.index + 1
    return [gap] if gap not in plan.numbers and gap < min(child.index or 0 for child in joining) else []


def feeding(plan: Plan, source: TextNode) -> TextNode:
    """Return the node whose records a repartition topic carries, claiming the nodes in between."""
    sinks = plan.graph.writers(source.topics[0])
    if len(sinks) != 1 or len(sinks[0].parents) != 1:
        raise OutOfScopeError(f"unknown topology: topic {source.topics[0]} is not written by exactly one stream")
    plan.claim(source, sinks[0])
    before = plan.graph[sinks[0].parents[0]]
    if _is_null_key_filter(plan, before, sinks[0]):
        plan.claim(before)
        return plan.graph[before.parents[0]]
    return before


def _is_null_key_filter(plan: Plan, node: TextNode, sink: TextNode) -> bool:
    if node.operator == "KSTREAM-FILTER":
        return node.index is not None and sink.index is not None and node.index == sink.index + 1
    return node.name.endswith("-repartition-filter")


def _repartition(plan: Plan, source: TextNode, base: str) -> None:
    sink = plan.graph.writers(source.topics[0])[0]
    before = feeding(plan, source)
    if _is_explicit(plan, source, base, before):
        named = None if base.startswith("KSTREAM-REPARTITION-") else base
        order = first_index(base, sink.name, source.name)
        plan.explicit.add(source.name)
        plan.add(order, (before.name,), source.name, lambda stream: api.call(stream, "repartition", name=named))
    else:  # made by the operator behind it
        plan.add(first_index(sink.name, source.name), (before.name,), source.name, lambda stream: stream)


def _is_explicit(plan: Plan, source: TextNode, base: str, before: TextNode) -> bool:
    if base.startswith("KSTREAM-REPARTITION-"):
        return True
    if _GENERATED_BASE.match(base):
        return False
    return not changes_key(plan, before)


def changes_key(plan: Plan, node: TextNode) -> bool:
    """Tell whether a stream's key was changed since its source."""
    while True:
        if node.operator in _KEY_CHANGING:
            return True
        if len(node.parents) != 1:
            return any(changes_key(plan, parent) for parent in plan.graph.parents(node))
        node = plan.graph[node.parents[0]]


def group_name(plan: Plan, parent: TextNode, store: str) -> str | None:
    """Return the name that the user gave a grouping, told by the repartition topic before an aggregation."""
    base = repartitioned(parent.topics[0]) if parent.kind == "Source" and parent.topics else None
    if base is None or base == store or _GENERATED_BASE.match(base) or parent.name not in plan.claimed:
        return None
    return None if parent.name in plan.explicit else base


def _sink(plan: Plan, node: TextNode) -> None:
    plan.claim(node)
    if len(node.parents) != 1:
        raise OutOfScopeError(f"unknown topology: sink {node.name} has {len(node.parents)} parents")
    named = None if node.operator else node.name

    def run(stream: Any) -> Any:
        if node.extractor:
            extractor = plan.functions.get("extractor", node.name)
            api.call(stream, "to", extractor, key_serde=plan.serde, value_serde=plan.serde, name=named)
        else:
            api.call(stream, "to", topic(plan, node.topics[0]), name=named)
        return None

    plan.add(node.index, node.parents, node.name, run)


# --- operators ------------------------------------------------------------------------------------------------------


def _processor(plan: Plan, node: TextNode) -> None:
    plan.claim(node)
    method = _METHODS.get(node.operator)
    if method is not None:
        plan.add(node.index, node.parents, node.name, lambda stream: method(plan, node, stream))
    elif node.operator == "KSTREAM-MERGE" and len(node.parents) == 2:
        plan.add(node.index, node.parents, node.name, lambda one, other: api.call(one, "merge", other))
    elif node.operator in ("KSTREAM-AGGREGATE", "KSTREAM-REDUCE"):
        from tests.replay_kafka_streams.rebuild_aggregates import aggregate

        aggregate(plan, node)
    elif not node.operator and len(node.parents) == 1:
        _named_processor(plan, node)
    else:
        plan.claimed.discard(node.name)


def _named_processor(plan: Plan, node: TextNode) -> None:
    if _is_table(plan, plan.graph[node.parents[0]]):
        plan.attachments.append((node.name, node.parents[0]))
        plan.attachments.sort()
        return
    plan.add(None, node.parents, node.name, lambda stream: _process(plan, node, stream, node.name))


def _is_table(plan: Plan, node: TextNode) -> bool:
    if node.operator == "KTABLE-TOSTREAM":
        return False
    return node.operator.startswith(("KTABLE-", "KSTREAM-AGGREGATE", "KSTREAM-REDUCE", "KSTREAM-TOTABLE", "COGROUP"))


def _process(plan: Plan, node: TextNode, stream: Any, name: str | None) -> Any:
    stores = [_plain_store(plan, store) for store in node.stores]
    if not node.children:
        supplier = capture(plan, node.name)
        return api.call(stream, "process", with_stores(supplier, stores) if stores else supplier, name=name)
    fixed = not plan.functions.has("process", node.name) and plan.functions.has("process_values", node.name)
    supplier = plan.functions.get("process_values" if fixed else "process", node.name)
    method = "process_values" if fixed else "process"
    return api.call(stream, method, with_stores(supplier, stores) if stores else supplier, name=name)


def _plain_store(plan: Plan, name: str) -> Any:
    return api.call(api.need("Stores"), "key_value", name, plan.serde, plan.serde, in_memory=True)


def _filter(plan: Plan, node: TextNode, stream: Any) -> Any:
    method = "filter_not" if node.name in plan.functions.flags.get("filter_not", ()) else "filter"
    return api.call(stream, method, plan.functions.get("filter", node.name))


def _map_values(plan: Plan, node: TextNode, stream: Any) -> Any:
    return _value_mapper(plan, node, stream, "map_values")


def _flat_map_values(plan: Plan, node: TextNode, stream: Any) -> Any:
    return _value_mapper(plan, node, stream, "flat_map_values")


def _value_mapper(plan: Plan, node: TextNode, stream: Any, method: str) -> Any:
    if plan.functions.has(f"{method}_with_key", node.name):
        return api.call(stream, method, plan.functions.get(f"{method}_with_key", node.name), with_key=True)
    return api.call(stream, method, plan.functions.get(method, node.name))


def _simple(method: str, purpose: str) -> Any:
    return lambda plan, node, stream: api.call(stream, method, plan.functions.get(purpose, node.name))


def _nothing(_key: Any, _value: Any) -> None:
    """What `peek` and `foreach` do in these tests leaves no trace."""


def _to_table(plan: Plan, node: TextNode, stream: Any) -> Any:
    from tests.replay_kafka_streams.rebuild_tables import store_option

    return api.call(stream, "to_table", store=store_option(plan, node, own_always=True))


def _process_values(plan: Plan, node: TextNode, stream: Any) -> Any:
    stores = [_plain_store(plan, store) for store in node.stores]
    supplier = plan.functions.get("process_values", node.name)
    return api.call(stream, "process_values", with_stores(supplier, stores) if stores else supplier)


_METHODS: dict[str, Any] = {
    "KSTREAM-FILTER": _filter,
    "KSTREAM-MAP": _simple("map", "map"),
    "KSTREAM-MAPVALUES": _map_values,
    "KSTREAM-FLATMAP": _simple("flat_map", "flat_map"),
    "KSTREAM-FLATMAPVALUES": _flat_map_values,
    "KSTREAM-KEY-SELECT": _simple("select_key", "key_select"),
    "KSTREAM-PEEK": lambda plan, node, stream: api.call(stream, "peek", _nothing),
    "KSTREAM-FOREACH": lambda plan, node, stream: api.call(stream, "foreach", _nothing),
    "KSTREAM-PROCESSOR": lambda plan, node, stream: _process(plan, node, stream, None),
    "KSTREAM-TRANSFORM": lambda plan, node, stream: _process(plan, node, stream, None),
    "KSTREAM-PROCESSVALUES": _process_values,
    "KSTREAM-TRANSFORMVALUES": _process_values,
    "KSTREAM-TOTABLE": _to_table,
    "KTABLE-TOSTREAM": lambda plan, node, table: api.call(table, "to_stream"),
}


# --- split ----------------------------------------------------------------------------------------------------------


def _is_named_split(plan: Plan, node: TextNode) -> bool:
    return (
        plan.is_free(node)
        and node.kind == "Processor"
        and not node.operator
        and len(node.children) > 1
        and all(child.startswith(node.name) and child != node.name for child in node.children)
    )


def _split(plan: Plan, node: TextNode) -> None:
    """Branches are called like the split with a number, or a name of their own, behind it; each uses up a number."""
    branches = [child for child in plan.graph.children(node) if child.name.startswith(node.name)]
    if len(branches) != len(node.children):
        raise OutOfScopeError(f"unknown topology: {node.name} has children that are no branches of it")
    plan.claim(node, *branches)
    after = node.index if node.index is not None else (plan.graph[node.parents[0]].index or 0)
    gaps = iter(number for number in range(after + 1, after + 1000) if number not in plan.numbers)
    order = node.index if node.index is not None else next(gaps)
    plan.add(
        order,
        node.parents,
        node.name,
        lambda stream: api.call(stream, "split", name=node.name if not node.operator else None),
    )
    predicates = None if plan.functions.describes_only else plan.functions.get("branches", node.name)
    before = node.name
    for position, branch in enumerate(sorted(branches, key=_by_suffix(node, branches))):
        suffix = branch.name.removeprefix(node.name)
        predicate = predicates[position] if predicates and position < len(predicates) else _always
        plan.add(next(gaps), (node.name, before), branch.name, _branch_call(suffix, position, predicate))
        before = branch.name
    plan.add(None, (node.name, before), f"{node.name}#end", lambda split, last: None)


def _by_suffix(node: TextNode, branches: list[TextNode]) -> Any:
    """Named branches fill the places that no other branch's number takes; the default branch is the last."""
    suffixes = [branch.name.removeprefix(node.name) for branch in branches]
    taken = {int(suffix) for suffix in suffixes if suffix.isdigit()}
    free = iter(number for number in range(1, len(branches) + 2) if number not in taken)
    places = {suffix: int(suffix) if suffix.isdigit() else next(free) for suffix in suffixes}
    places["0"] = len(branches) + 2
    return lambda branch: places[branch.name.removeprefix(node.name)]


def _branch_call(suffix: str, position: int, predicate: Any) -> Any:
    def run(split: Any, _before: Any) -> Any:
        made: list[Any] = []

        def then(stream: Any) -> Any:
            made.append(stream)
            return stream

        if suffix == "0":
            api.call(split, "default_branch", then=then)
        else:
            api.call(split, "branch", predicate, name=None if suffix == str(position + 1) else suffix, then=then)
        return made[0]

    return run


def _always(_key: Any, _value: Any) -> bool:
    return True
