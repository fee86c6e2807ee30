"""Topologies that were wired by hand with the Processor API."""

from __future__ import annotations

from typing import Any

from streamlet.errors import TopologyError
from streamlet.processor.api import Processor
from streamlet.records import Record
from streamlet.topic import Topic, TopicPattern
from streamlet.topology.graph import Topology
from tests.replay_kafka_streams import api
from tests.replay_kafka_streams.describe_text import Graph, TextNode
from tests.replay_kafka_streams.natural import NaturalSerde
from tests.replay_kafka_streams.plan import Event, Plan
from tests.replay_kafka_streams.user_processors import LargestValue
from tests.replay_kafka_streams.verdict import OutOfScopeError


class _Silent(Processor[Any, Any, Any, Any]):
    def process(self, record: Record[Any, Any]) -> None:
        """Nothing: only the description is of interest."""


def _noting(plan: Plan, node: TextNode) -> Any:
    """Return what these tests put everywhere: a processor that forwards, and notes what it sees if it is the last."""
    if node.name == "aggregator":
        return LargestValue

    class Noting(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None:
            if not node.children:
                plan.events.append(Event(node.name, record.key, record.value, record.timestamp))
            self.context.forward(record)

    return Noting


def empty() -> Topology:
    """Return a topology with no nodes."""
    return Topology()


def build(graph: Graph, plan: Plan | None = None) -> Topology:
    """Return the topology with these nodes; with a plan its processors do what these tests' processors do.

    Raises:
        OutOfScopeError: If a name is refused.
    """
    try:
        return _build(graph, plan)
    except TopologyError as refused:
        if "legal name" not in str(refused):
            raise
        raise OutOfScopeError(f"refused by name: {str(refused).partition(':')[0]}") from refused


def _build(graph: Graph, plan: Plan | None) -> Topology:
    topology, serde, done = Topology(), NaturalSerde() if plan is None else plan.serde, set[str]()
    pending = list(graph)
    while pending:
        node = next(node for node in pending if all(parent in done for parent in node.parents))
        _add(topology, graph, node, serde, _Silent if plan is None else _noting(plan, node))
        done.add(node.name)
        pending = [other for other in pending if other.name not in done]
    return topology


def _add(topology: Topology, graph: Graph, node: TextNode, serde: NaturalSerde, supplier: Any) -> None:
    if node.is_global:
        if node.kind == "Processor":
            (source,) = graph.parents(node)
            store = api.call(
                api.need("Stores"), "key_value", node.stores[0], serde, serde, in_memory=True, logging=False
            )
            topic = Topic(source.topics[0], serde, serde)
            api.call(topology, "add_global_store", store, source.name, topic, node.name, _Silent)
        return
    if node.kind == "Source":
        pattern = node.pattern
        source_of: Any = (
            TopicPattern(pattern, serde, serde)
            if pattern is not None
            else [Topic(name, serde, serde) for name in node.topics]
        )
        topology.add_source(node.name, source_of)
    elif node.kind == "Processor":
        topology.add_processor(node.name, supplier, *node.parents)
        for name in node.stores:
            topology.add_state_store(
                api.call(api.need("Stores"), "key_value", name, serde, serde, in_memory=True), node.name
            )
    else:
        topology.add_sink(node.name, Topic(node.topics[0], serde, serde), *node.parents)
