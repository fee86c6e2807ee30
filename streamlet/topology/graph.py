"""The topology: a graph of frozen nodes, checked as it grows, and cut into sub-topologies.

`Topology` is also the low-level interface for those who wire processors by hand; `StreamsBuilder.build()` makes one
with the same calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

from attrs import evolve, frozen

from streamlet.errors import TopologyError
from streamlet.processor.adapter import ProcessorOperator, stores_of
from streamlet.processor.api import FixedKeyProcessor, Processor
from streamlet.processor.operator import Operator
from streamlet.serdes import Serde
from streamlet.topic import Topic, TopicPattern, check_name
from streamlet.topology.nodes import (
    AutoOffsetReset,
    InternalTopic,
    Node,
    Partitioner,
    ProcessorNode,
    SinkNode,
    SourceNode,
    TimestampExtractor,
    TopicExtractor,
    internal_name,
)

if TYPE_CHECKING:
    import re

    from streamlet.state import StoreBuilder
    from streamlet.topology.description import TopologyDescription


@frozen
class SubTopology:
    """Nodes that belong together because records or stores connect them; a task runs one for one partition.

    Attributes:
        id: Its number, the first half of the ids of its tasks.
        nodes: Parents before children, otherwise in the order in which they were added.
        stores: Builders of the stores its nodes use.
        source_topics: Topics it reads, sorted; internal ones without the application's id.
        patterns: Patterns of topics it reads.
        repartition_topics: The internal ones among `source_topics`.
        copartition_groups: Sets of source topics that must have equal numbers of partitions.
        internal: Names of all internal topics that it reads or writes.
    """

    id: int
    nodes: tuple[Node, ...]
    stores: tuple[StoreBuilder[Any], ...]
    source_topics: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]
    repartition_topics: tuple[InternalTopic, ...]
    copartition_groups: tuple[frozenset[str], ...]
    internal: frozenset[str]

    @property
    def sources(self) -> tuple[SourceNode, ...]:
        """Its source nodes."""
        return tuple(node for node in self.nodes if isinstance(node, SourceNode))

    @property
    def sinks(self) -> tuple[SinkNode, ...]:
        """Its sink nodes."""
        return tuple(node for node in self.nodes if isinstance(node, SinkNode))

    def node(self, name: str) -> Node:
        """Return a node by its name.

        Raises:
            KeyError: If there is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def children(self, name: str) -> tuple[str, ...]:
        """Return the names of the nodes behind a node, in the order in which they were added."""
        return tuple(node.name for node in self.nodes for parent in node.parents if parent == name)

    def is_internal(self, topic: str) -> bool:
        """Tell whether a topic that it reads or writes is internal, so that its name on the log carries the
        application's id."""
        return topic in self.internal


class Topology:
    """A graph of sources, processors, stores and sinks.

    Every method that adds something checks it at once, raises `TopologyError` and returns the topology itself.

    Attributes:
        optimizations: Those of ``topology.optimization`` that were made when it was built.
        generated: Names with numbers that the builder made up, of which some are names of stores and topics.
    """

    def __init__(self) -> None:
        self.optimizations: frozenset[str] = frozenset()
        self.generated: frozenset[str] = frozenset()
        self._nodes: dict[str, Node] = {}
        self._stores: dict[str, StoreBuilder[Any]] = {}
        self._internal: dict[str, InternalTopic] = {}
        self._copartition: list[tuple[str, ...]] = []
        self._global_stores: set[str] = set()
        self._global_nodes: set[str] = set()

    # --- building ---------------------------------------------------------------------------------------------------

    def add_source(
        self,
        name: str,
        topics: Topic[Any, Any] | Sequence[Topic[Any, Any]] | TopicPattern[Any, Any],
        *,
        timestamp_extractor: TimestampExtractor | None = None,
        auto_offset_reset: AutoOffsetReset | None = None,
    ) -> Self:
        """Add a node that reads topics.

        Args:
            name: Name of the node.
            topics: One topic, several with the same serdes, or a pattern.
            timestamp_extractor: How a record gets its timestamp; default: the log's, an error if negative.
            auto_offset_reset: Where to begin if nothing was committed; default: the consumer's configuration.
        """
        if isinstance(topics, TopicPattern):
            node = SourceNode(
                name, (), topics.pattern, topics.key_serde, topics.value_serde, timestamp_extractor, auto_offset_reset
            )
        else:
            listed = [topics] if isinstance(topics, Topic) else list(topics)
            if not listed:
                raise TopologyError(f"source {name!r} needs at least one topic")
            for topic in listed:
                if not isinstance(topic, Topic):
                    raise TopologyError(f"source {name!r} reads topics: give a Topic, not {topic!r}")
            first = listed[0]
            for topic in listed[1:]:
                if topic.key_serde is not first.key_serde or topic.value_serde is not first.value_serde:
                    raise TopologyError(
                        f"source {name!r}: topics {first.name!r} and {topic.name!r} have different serdes: "
                        f"read them with two sources"
                    )
            names = tuple(topic.name for topic in listed)
            node = SourceNode(
                name, names, None, first.key_serde, first.value_serde, timestamp_extractor, auto_offset_reset
            )
        return self.add_node(node)

    @overload
    def add_processor(
        self,
        name: str,
        supplier: Callable[[], Processor[Any, Any, Any, Any]] | Callable[[], FixedKeyProcessor[Any, Any, Any]],
        *parents: str,
    ) -> Self: ...
    @overload
    def add_processor(self, name: str, supplier: Operator, *parents: str) -> Self: ...
    def add_processor(self, name: str, supplier: Any, *parents: str) -> Self:
        """Add a node that processes records.

        Args:
            name: Name of the node.
            supplier: The processor's class, a function that returns a new processor each time, or an `Operator`.
            parents: Names of the nodes it receives records from.
        """
        stores: Sequence[StoreBuilder[Any]] = ()
        if isinstance(supplier, Operator):
            operator = supplier
        else:
            stores = stores_of(supplier, name)
            operator = ProcessorOperator(supplier)
        self.add_node(ProcessorNode(name, operator, parents))
        for store in stores:
            self.add_state_store(store, name)
        return self

    def add_sink(
        self,
        name: str,
        topic: Topic[Any, Any] | TopicExtractor,
        *parents: str,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        partitioner: Partitioner | None = None,
    ) -> Self:
        """Add a node that writes to a topic.

        Args:
            name: Name of the node.
            topic: The topic, or a function of key, value and origin that returns the name of an existing topic.
            parents: Names of the nodes it receives records from.
            key_serde: Needed with a function.
            value_serde: Needed with a function.
            partitioner: Chooses the partition; default: by the hash of the key, as Java's clients do.
        """
        if isinstance(topic, Topic):
            if key_serde is not None or value_serde is not None:
                raise TopologyError(f"sink {name!r}: the topic brings its serdes along; give none beside it")
            return self.add_node(
                SinkNode(name, parents, topic.name, None, topic.key_serde, topic.value_serde, partitioner)
            )
        if not callable(topic):
            raise TopologyError(f"sink {name!r} writes to a Topic or to where a function says, not {topic!r}")
        if key_serde is None or value_serde is None:
            raise TopologyError(f"sink {name!r}: a topic chosen by a function needs key_serde and value_serde")
        return self.add_node(SinkNode(name, parents, None, topic, key_serde, value_serde, partitioner))

    def add_state_store(self, store: StoreBuilder[Any], *processors: str) -> Self:
        """Add a store, and connect it with processors. Adding the very same builder twice is allowed."""
        name = check_name(store.name, "store")
        known = self._stores.get(name)
        if known is not None and known is not store and known != store:
            raise TopologyError(f"there is already another store {name!r}: give this one its own name")
        self._stores.setdefault(name, store)
        for processor in processors:
            self.connect_processor_and_state_stores(processor, name)
        return self

    def add_global_store(
        self,
        store: StoreBuilder[Any],
        source_name: str,
        topic: Topic[Any, Any],
        processor_name: str,
        supplier: Callable[[], Processor[Any, Any, Any, Any]],
        *,
        timestamp_extractor: TimestampExtractor | None = None,
    ) -> Self:
        """Add a store that every instance has as a whole, with the nodes that fill it; all processors may read it.

        Args:
            store: The store; its changelog is the topic.
            source_name: Name of the node that reads the topic.
            topic: The topic, read as a whole by every instance.
            processor_name: Name of the node that fills the store.
            supplier: The processor's class, or a function that returns a new one; it forwards nothing.
            timestamp_extractor: See `add_source`.
        """
        if not isinstance(topic, Topic):
            raise TopologyError(
                f"source {source_name!r} of a global store reads one topic: give a Topic, not {topic!r}"
            )
        source = SourceNode(source_name, (topic.name,), None, topic.key_serde, topic.value_serde, timestamp_extractor)
        return self.add_global_node(store, source, processor_name, ProcessorOperator(supplier))

    def add_global_node(
        self, store: StoreBuilder[Any], source: SourceNode, processor_name: str, operator: Operator
    ) -> Self:
        """Add a global store with its nodes as they are; `add_global_store` ends here."""
        if store.name in self._stores:
            raise TopologyError(f"there is already a store {store.name!r}: give the global one its own name")
        self.add_node(source)
        self.add_node(ProcessorNode(processor_name, operator, (source.name,), (store.name,)))
        self._stores[store.name] = evolve(store, logging=False)
        self._global_stores.add(store.name)
        self._global_nodes.update((source.name, processor_name))
        return self

    def connect_processor_and_state_stores(self, processor: str, *stores: str) -> Self:
        """Allow a processor to use stores; processors that share a store are in one sub-topology."""
        node = self._nodes.get(processor)
        if not isinstance(node, ProcessorNode):
            what = "is not a processor" if node is not None else "does not exist: add it first"
            raise TopologyError(f"stores {', '.join(map(repr, stores))} cannot be connected: node {processor!r} {what}")
        for store in stores:
            if store not in self._stores:
                raise TopologyError(f"node {processor!r}: store {store!r} does not exist: add it with add_state_store")
            if store in self._global_stores:
                raise TopologyError(
                    f"node {processor!r}: store {store!r} is global: every processor may read it unconnected"
                )
        self._nodes[processor] = evolve(node, stores=tuple(dict.fromkeys((*node.stores, *stores))))
        return self

    def add_node(self, node: Node) -> Self:
        """Add a node as it is; the other methods end here."""
        if not isinstance(node.name, str) or not node.name or any(c in node.name for c in "\n,"):
            raise TopologyError(f"{node.name!r} is no name for a node: use a text without commas and line breaks")
        if node.name in self._nodes:
            raise TopologyError(f"there is already a node {node.name!r}: give this one another name")
        if isinstance(node, SourceNode):
            self._check_source(node)
        elif not node.parents:
            raise TopologyError(f"node {node.name!r} needs at least one parent")
        if len(set(node.parents)) != len(node.parents):
            raise TopologyError(f"node {node.name!r} names a parent twice: {', '.join(node.parents)}")
        for parent in node.parents:
            if parent not in self._nodes:
                raise TopologyError(f"node {node.name!r}: parent {parent!r} does not exist: add it first")
            if isinstance(self._nodes[parent], SinkNode):
                raise TopologyError(f"node {node.name!r}: parent {parent!r} is a sink, nothing comes after it")
            if parent in self._global_nodes:
                raise TopologyError(
                    f"node {node.name!r}: parent {parent!r} fills a global store, nothing comes after it: "
                    f"read topic and store from elsewhere"
                )
        self._nodes[node.name] = node
        return self

    def add_internal_topic(self, topic: InternalTopic) -> Self:
        """Declare that a topic that nodes read and write is the application's own repartition topic."""
        known = self._internal.get(topic.name)
        if known is not None and known != topic:
            raise TopologyError(
                f"repartition topic {topic.name!r} is declared twice, with different numbers of partitions"
            )
        self._internal[topic.name] = topic
        return self

    def copartition(self, sources: Iterable[str]) -> Self:
        """Demand that the topics of these source nodes have equal numbers of partitions."""
        self._copartition.append(tuple(dict.fromkeys(sources)))
        return self

    def _check_source(self, node: SourceNode) -> None:
        if len(set(node.topics)) != len(node.topics):
            raise TopologyError(f"source {node.name!r} names a topic twice: {', '.join(node.topics)}")
        for other in self._nodes.values():
            if not isinstance(other, SourceNode):
                continue
            shared = [topic for topic in node.topics if _reads(other, topic)]
            shared += [topic for topic in other.topics if topic not in shared and _reads(node, topic)]
            if node.pattern is not None and other.pattern is not None and node.pattern == other.pattern:
                shared.append(node.pattern.pattern)
            if shared:
                raise TopologyError(
                    f"source {node.name!r}: topic {shared[0]!r} is read by source {other.name!r} already: "
                    f"a topic has one source, which may have several children"
                )

    # --- reading ----------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, in the order in which they were added."""
        return tuple(self._nodes.values())

    @property
    def stores(self) -> tuple[StoreBuilder[Any], ...]:
        """The builders of all stores, also of those not connected yet."""
        return tuple(self._stores.values())

    def is_internal(self, topic: str) -> bool:
        """Tell whether a topic of this name is internal, so that its name on the log carries the application's id."""
        return topic in self._internal

    def name_on_log(self, application_id: str, topic: str) -> str:
        """Return the name on the log of a topic that nodes read or write."""
        return internal_name(application_id, topic) if self.is_internal(topic) else topic

    @property
    def sub_topologies(self) -> tuple[SubTopology, ...]:
        """The connected parts, numbered in the order in which their first nodes were added; without those that fill
        global stores, which are numbered among them."""
        return self._parts(are_global=False)

    @property
    def global_parts(self) -> tuple[SubTopology, ...]:
        """The parts that fill global stores: no tasks run them, but a thread of each instance."""
        return self._parts(are_global=True)

    def _parts(self, *, are_global: bool) -> tuple[SubTopology, ...]:
        return tuple(
            self._sub_topology(id, names)
            for id, names in enumerate(self._groups())
            if names.isdisjoint(self._global_nodes) is not are_global
        )

    def describe(self) -> TopologyDescription:
        """Return the description; printed, it is Kafka Streams' text."""
        from streamlet.topology.description import TopologyDescription  # it needs this module

        return TopologyDescription.of(self)

    def fingerprint(self) -> str:
        """Return a hash that is equal for equal topologies, in whichever process."""
        text = str(self.describe()) + repr(
            (
                sorted((topic.name, topic.partitions) for topic in self._internal.values()),
                sorted(sorted(group) for part in self.sub_topologies for group in part.copartition_groups),
                sorted(
                    (s.name, s.logging, s.kind.value, s.retention_ms or 0, s.window_size_ms, s.retain_duplicates)
                    for part in self.sub_topologies
                    for s in part.stores
                ),
            )
        )
        reused = sorted((store.name, store.source_topic) for store in self._stores.values() if store.source_topic)
        if reused:
            text += repr(reused)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _groups(self) -> list[frozenset[str]]:
        """Unite nodes with their parents, and the users of each store, in the order in which their first nodes were
        added."""
        root = {name: name for name in self._nodes}

        def find(name: str) -> str:
            while root[name] != name:
                root[name] = name = root[root[name]]
            return name

        user: dict[str, str] = {}
        for node in self._nodes.values():
            for parent in node.parents:
                root[find(parent)] = find(node.name)
            for store in node.stores if isinstance(node, ProcessorNode) else ():
                root[find(user.setdefault(store, node.name))] = find(node.name)
        members: dict[str, set[str]] = {}
        for name in self._nodes:
            members.setdefault(find(name), set()).add(name)
        return [frozenset(group) for group in members.values()]

    def _sub_topology(self, id: int, names: frozenset[str]) -> SubTopology:
        nodes = tuple(node for node in self._nodes.values() if node.name in names)  # parents always precede children
        sources = [node for node in nodes if isinstance(node, SourceNode)]
        topics = sorted({topic for source in sources for topic in source.topics})
        used = {store for node in nodes if isinstance(node, ProcessorNode) for store in node.stores}
        groups = [
            frozenset(topic for source in sources if source.name in group for topic in source.topics)
            for group in self._copartition
        ]
        return SubTopology(
            id=id,
            nodes=nodes,
            stores=tuple(store for name, store in self._stores.items() if name in used),
            source_topics=tuple(topics),
            patterns=tuple(source.pattern for source in sources if source.pattern is not None),
            repartition_topics=tuple(self._internal[topic] for topic in topics if topic in self._internal),
            copartition_groups=tuple(group for group in groups if len(group) > 1),
            internal=frozenset(
                topic
                for node in nodes
                for topic in (node.topics if isinstance(node, SourceNode) else (getattr(node, "topic", None),))
                if topic in self._internal
            ),
        )


def _reads(source: SourceNode, topic: str) -> bool:
    return topic in source.topics or (source.pattern is not None and source.pattern.fullmatch(topic) is not None)
