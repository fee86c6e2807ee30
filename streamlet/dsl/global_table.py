"""`GlobalKTable`: a table that every instance has as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streamlet.dsl.materialized import PendingStore
from streamlet.dsl.plan import Plan, Step, Writer
from streamlet.dsl.table_operators import ReadTable
from streamlet.processor.operator import Operator
from streamlet.topic import Topic
from streamlet.topology.nodes import SourceNode, TimestampExtractor

if TYPE_CHECKING:
    from streamlet.state import StoreBuilder

K_co = TypeVar("K_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)


class GlobalKTable(Generic[K_co, V_co]):
    """A table of which every instance has all rows, so that a stream can be joined by any key, without repartitioning.

    Made by `StreamsBuilder.global_table`, used by `KStream.join` and `KStream.left_join`.

    Attributes:
        plan: The program; for operators.
        store_name: Name of its store; for operators.
        queryable_name: Name of its store if it was given one.
    """

    def __init__(self, plan: Plan, store_name: str, queryable_name: str | None) -> None:
        self.plan = plan
        self.store_name = store_name
        self.queryable_name = queryable_name


class GlobalStep(Step):
    """Becomes a source and a processor that fills a global store."""

    def __init__(
        self,
        name: str,
        source: str,
        topic: Topic[Any, Any],
        store: PendingStore | StoreBuilder[Any],
        timestamp_extractor: TimestampExtractor | None,
        operator: Operator | None = None,
    ) -> None:
        super().__init__(name)
        self._source = source
        self._topic = topic
        self._store = store
        self._timestamp_extractor = timestamp_extractor
        self._operator = operator

    def write(self, writer: Writer) -> None:
        """Add both nodes and the store."""
        topic = self._topic
        source = SourceNode(
            self._source, (topic.name,), None, topic.key_serde, topic.value_serde, self._timestamp_extractor
        )
        builder = writer.store_builder(self._store, self.name)
        operator = self._operator or ReadTable(builder.name, sends_old=False)
        writer.topology.add_global_node(builder, source, self.name, operator)
