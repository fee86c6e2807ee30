"""`StreamsBuilder`: where programs begin and end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

from attrs import evolve

from streamlet.config import EXPLICIT_NAMING_KEY, boolean
from streamlet.dsl.given import check_function, check_serde
from streamlet.dsl.global_table import GlobalKTable, GlobalStep
from streamlet.dsl.materialized import Store, materialized, pending_store
from streamlet.dsl.optimizations import optimizations
from streamlet.dsl.plan import Plan
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.sources import SourceStep
from streamlet.dsl.stream import KStream
from streamlet.dsl.table import KTable
from streamlet.dsl.table_operators import ReadTable
from streamlet.dsl.table_steps import TableStep
from streamlet.errors import TopologyError
from streamlet.processor.adapter import ProcessorOperator
from streamlet.processor.api import Processor
from streamlet.serdes import Serde
from streamlet.state import StoreBuilder
from streamlet.topic import Topic, TopicPattern
from streamlet.topology.graph import Topology
from streamlet.topology.naming import ensure_named
from streamlet.topology.nodes import AutoOffsetReset, TimestampExtractor

K = TypeVar("K")
V = TypeVar("V")


_ASK = Ask("a Topic with a key_serde", "a Topic with a value_serde")


class StreamsBuilder:
    """Builds a topology, step by step.

    Args:
        default_key_serde: Taken where an operator needs a serde of keys and none is known.
        default_value_serde: Taken where an operator needs a serde of values and none is known.
    """

    def __init__(
        self, *, default_key_serde: Serde[Any] | None = None, default_value_serde: Serde[Any] | None = None
    ) -> None:
        check_serde(default_key_serde, "default_key_serde")
        check_serde(default_value_serde, "default_value_serde")
        self.plan = Plan(default_key_serde, default_value_serde)

    def stream(
        self,
        topics: Topic[K, V] | Sequence[Topic[K, V]] | TopicPattern[K, V],
        *,
        timestamp_extractor: TimestampExtractor | None = None,
        auto_offset_reset: AutoOffsetReset | None = None,
        name: str | None = None,
    ) -> KStream[K, V]:
        """Read topics as one stream.

        Args:
            topics: One topic, several with the same serdes, or a pattern; topics that appear later are found too.
            timestamp_extractor: From a record and the partition's time so far to the record's timestamp (ms); negative
                drops it.
                Default: the log's timestamp, an error if negative.
            auto_offset_reset: Where to begin if nothing was committed; default: the consumer's configuration.
            name: Name of the node.
        """
        step = self._source(self.plan.name(name, "KSTREAM-SOURCE-"), topics, timestamp_extractor, auto_offset_reset)
        return KStream(self.plan, step, Serdes(step.key_serde, step.value_serde), frozenset({step}))

    def table(
        self,
        topic: Topic[K, V],
        *,
        store: Store[V] = None,
        timestamp_extractor: TimestampExtractor | None = None,
        auto_offset_reset: AutoOffsetReset | None = None,
        name: str | None = None,
    ) -> KTable[K, V]:
        """Read a topic as a table: the last value of each key; a null value deletes it, a record without a key is
        dropped.

        Args:
            topic: The topic.
            store: Name or options of the store; default: there is one only if something needs it.
            timestamp_extractor: See `stream`.
            auto_offset_reset: See `stream`.
            name: Name of the source node.
        """
        if not isinstance(topic, Topic):
            raise TopologyError(f"table() reads one topic: give a Topic, not {topic!r}")
        options = materialized(store)
        serdes = Serdes(topic.key_serde, options.value_serde or topic.value_serde)
        pending = pending_store(self.plan, options, topic.name + "-", serdes, _ASK)
        source_name = self.plan.suffixed_name(name, "-source", "KSTREAM-SOURCE-")
        node = self.plan.name(name, "KTABLE-SOURCE-")
        source = self._source(source_name, topic, timestamp_extractor, auto_offset_reset)
        step = TableStep(
            node,
            [source],
            lambda step: ReadTable(step.store_in_use, step.sends_old_values),
            store=pending,
            materialized=options.name is not None,
            topic=topic.name,
        )
        self.plan.add(step)
        return KTable(self.plan, step, serdes, frozenset({source}), options.name)

    def global_table(
        self,
        topic: Topic[K, V],
        *,
        store: Store[V] = None,
        timestamp_extractor: TimestampExtractor | None = None,
        name: str | None = None,
    ) -> GlobalKTable[K, V]:
        """Read a topic as a table that every instance has as a whole, to be joined by any key.

        It is read to its end before the application runs, and updated by a thread of its own from then on: what a join
        finds does not depend on the time of the stream's record.

        Args:
            topic: The topic, which is the table's changelog too.
            store: Name or options of the store.
            timestamp_extractor: See `stream`.
            name: Name of the source node.
        """
        if not isinstance(topic, Topic):
            raise TopologyError(f"global_table() reads one topic: give a Topic, not {topic!r}")
        _check_extractor(timestamp_extractor)
        options = materialized(store)
        serdes = Serdes(topic.key_serde, options.value_serde or topic.value_serde)
        if options.changelog_config:
            raise TopologyError(f"the changelog of a global table is its topic, {topic.name!r}: configure that")
        pending = pending_store(self.plan, evolve(options, logging=False), topic.name + "-", serdes, _ASK)
        source = self.plan.suffixed_name(name, "-source", "KSTREAM-SOURCE-")
        node = self.plan.name(name, "KTABLE-SOURCE-")
        self.plan.add(GlobalStep(node, source, topic, pending, timestamp_extractor))
        return GlobalKTable(self.plan, pending.name, options.name)

    def add_global_store(
        self,
        store: StoreBuilder[Any],
        topic: Topic[K, V],
        supplier: Callable[[], Processor[K, V, Any, Any]],
        *,
        timestamp_extractor: TimestampExtractor | None = None,
        name: str | None = None,
    ) -> Self:
        """Keep a store that every instance has as a whole, filled from a topic by a processor of one's own.

        All other processors may read it, without being connected with it.

        Args:
            store: The store; its changelog is the topic.
            topic: The topic, read as a whole.
            supplier: The processor's class, or a function that returns a new one; it puts into the store and forwards
                nothing. Records may come to it again after a crash.
            timestamp_extractor: See `stream`.
            name: Name of the source node and the processor.
        """
        if not isinstance(topic, Topic):
            raise TopologyError(f"add_global_store() reads one topic: give a Topic, not {topic!r}")
        if not isinstance(store, StoreBuilder):
            raise TopologyError(f"add_global_store() takes a store that Stores declares, not {store!r}")
        _check_extractor(timestamp_extractor)
        source = self.plan.suffixed_name(name, "-source", "KSTREAM-SOURCE-")
        node = self.plan.name(name, "KTABLE-SOURCE-")
        self.plan.add(GlobalStep(node, source, topic, store, timestamp_extractor, ProcessorOperator(supplier)))
        return self

    def add_state_store(self, store: StoreBuilder[Any]) -> Self:
        """Declare a store that processors connect with by name: ``process(..., stores=["name"])``."""
        if not isinstance(store, StoreBuilder):
            raise TopologyError(f"add_state_store() takes a store that Stores declares, not {store!r}")
        self.plan.add_store(store)
        return self

    def build(self, config: Mapping[str, Any] | None = None) -> Topology:
        """Return the topology.

        Args:
            config: ``topology.optimization`` and ``ensure.explicit.internal.resource.naming`` are what is read of it;
                give the same to `start`. The optimisations change names of internal topics and stores: an application
                keeps those it began with.

        Raises:
            ConfigError: If ``topology.optimization`` names what there is not.
            TopologyError: If the program is not valid; missing serdes are listed all at once, each with what to pass,
                and so are missing names, if they are asked for.
        """
        given = config or {}
        topology = self.plan.build(optimizations(given))
        if boolean(EXPLICIT_NAMING_KEY, given.get(EXPLICIT_NAMING_KEY, False)):
            ensure_named(topology)
        return topology

    def _source(
        self,
        name: str,
        topics: Topic[Any, Any] | Sequence[Topic[Any, Any]] | TopicPattern[Any, Any],
        timestamp_extractor: TimestampExtractor | None,
        auto_offset_reset: AutoOffsetReset | None,
    ) -> SourceStep:
        _check_extractor(timestamp_extractor)
        if auto_offset_reset not in (None, "earliest", "latest"):
            raise TopologyError(f"auto_offset_reset is 'earliest' or 'latest', not {auto_offset_reset!r}")
        listed: tuple[Topic[Any, Any], ...] | TopicPattern[Any, Any]
        if isinstance(topics, TopicPattern):
            listed = topics
        else:
            listed = (topics,) if isinstance(topics, Topic) else tuple(topics) if isinstance(topics, Iterable) else ()
            if not listed or not all(isinstance(topic, Topic) for topic in listed):
                raise TopologyError(f"a stream reads a Topic, several of them or a TopicPattern, not {topics!r}")
            if any(
                topic.key_serde is not listed[0].key_serde or topic.value_serde is not listed[0].value_serde
                for topic in listed
            ):
                names = ", ".join(topic.name for topic in listed)
                raise TopologyError(
                    f"{names} have different serdes: read them as streams of their own, and merge those"
                )
        step = SourceStep(name, listed, timestamp_extractor, auto_offset_reset)
        self.plan.add(step)
        return step


def _check_extractor(extractor: TimestampExtractor | None) -> None:
    if extractor is not None:
        check_function(extractor, "timestamp_extractor=", ("record", "partition time"))
