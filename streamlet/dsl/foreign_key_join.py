"""Foreign-key joins of tables as steps: two internal topics, and what is on either side of them (KIP-213)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from streamlet import serdes as built_in
from streamlet.dsl.foreign_key_operators import (
    AnswerSubscription,
    KeepSubscription,
    ResolveResponse,
    Subscribe,
    TellSubscribers,
)
from streamlet.dsl.foreign_key_wire import ResponseSerde, SubscriptionSerde
from streamlet.dsl.materialized import Materialized, PendingStore, Store, materialized
from streamlet.dsl.plan import OperatorMaker, Plan, ProcessorStep, Step, Writer
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.table_operators import ReadTable
from streamlet.dsl.table_steps import TableStep
from streamlet.serdes import Serde
from streamlet.state import StoreBuilder, Stores
from streamlet.topology.nodes import InternalTopic, Partitioner, SinkNode, SourceNode

if TYPE_CHECKING:
    from streamlet.dsl.table import KTable

_ASK = Ask("the tables' sources a key serde", "store=Materialized(value_serde=...) to the tables")
_ASK_STORE = Ask("the left table's source a key serde", "store=Materialized(value_serde=...)")
_SUBSCRIPTION = "KTABLE-FK-JOIN-SUBSCRIPTION-"
_OUTPUT = "KTABLE-FK-JOIN-OUTPUT-"


class _Wire:
    """The serdes of both tables, once the program is known."""

    def __init__(self, left: Serdes, right: Serdes) -> None:
        self._slots = left, right
        self.primary_key: Serde[Any] = built_in.bytes_
        self.left_value: Serde[Any] = built_in.bytes_
        self.foreign_key: Serde[Any] = built_in.bytes_
        self.right_value: Serde[Any] = built_in.bytes_

    def settle(self, writer: Writer, node: str) -> None:
        """Find out the serdes."""
        left, right = self._slots
        self.primary_key = writer.key_serde(left.key, node, _ASK)
        self.left_value = writer.value_serde(left.value, node, _ASK)
        self.foreign_key = writer.key_serde(right.key, node, _ASK)
        self.right_value = writer.value_serde(right.value, node, _ASK)

    def subscriptions(self) -> tuple[Serde[Any], Serde[Any]]:
        """Return the serdes of the topic of subscriptions."""
        return self.foreign_key, SubscriptionSerde(self.primary_key)

    def responses(self) -> tuple[Serde[Any], Serde[Any]]:
        """Return the serdes of the topic of responses."""
        return self.primary_key, ResponseSerde(self.right_value)


class _SubscribeStep(ProcessorStep):
    """The first step of a join; settles the serdes for all."""

    def __init__(self, name: str, parent: Step, operator: OperatorMaker, wire: _Wire) -> None:
        super().__init__(name, [parent], operator)
        self._wire = wire

    def write(self, writer: Writer) -> None:
        """Add the node."""
        self._wire.settle(writer, self.name)
        super().write(writer)


class _TopicStep(Step):
    """Becomes a sink and a source of one of the topics."""

    begins_task = True

    def __init__(
        self,
        topic: str,
        sink: str,
        source: str,
        parents: list[Step],
        serdes: Callable[[], tuple[Serde[Any], Serde[Any]]],
        partitioner: Partitioner | None = None,
    ) -> None:
        super().__init__(source, parents)
        self._topic = topic
        self._sink = sink
        self._serdes = serdes
        self._partitioner = partitioner

    def write(self, writer: Writer) -> None:
        """Add the topic and the nodes around it."""
        topology = writer.topology
        key_serde, value_serde = self._serdes()
        topology.add_internal_topic(InternalTopic(self._topic))
        parents = writer.inputs(self)
        topology.add_node(SinkNode(self._sink, parents, self._topic, None, key_serde, value_serde, self._partitioner))
        topology.add_node(SourceNode(self.name, (self._topic,), None, key_serde, value_serde))


class _SubscriptionStore(PendingStore):
    """The store of subscriptions."""

    def __init__(self, name: str, wire: _Wire, serdes: Serdes) -> None:
        super().__init__(name, Materialized(name), serdes, _ASK)
        self._wire = wire

    def builder(self, writer: Writer, node: str) -> StoreBuilder[Any]:
        """Return its declaration."""
        return Stores.timestamped_key_value(self.name, built_in.bytes_, self._wire.subscriptions()[1])


def _to_asker(_topic: str, _key: Any, value: Any, _partitions: int) -> int | None:
    """Return the partition of the row that asked: its table may have been partitioned in any way."""
    return value.partition  # type: ignore[no-any-return]  # a Response


def join_by_foreign_key(
    left: KTable[Any, Any],
    right: KTable[Any, Any],
    extractor: Callable[[Any], Any],
    joiner: Callable[[Any, Any], Any],
    store: Store[Any],
    name: str | None,
    *,
    keeps_left: bool,
) -> KTable[Any, Any]:
    """Add the steps of a foreign-key join, and return its result.

    Args:
        left: The table whose rows refer to rows of the other.
        right: The table that is referred to.
        extractor: From a left value to a key of the right table, or None.
        joiner: From both values to the result's.
        store: Of the result.
        name: Names the nodes, topics and stores.
        keeps_left: Whether rows of the left table without one of the right make a result.
    """
    from streamlet.dsl.table import KTable  # it makes joins

    plan: Plan = left.plan
    right.step.send_old_values(force=True)
    left.step.send_old_values(force=True)
    wire = _Wire(left.serdes, right.serdes)

    def named(suffix: str, prefix: str) -> str:
        return plan.suffixed_name(name, suffix, prefix)

    topic = named("-subscription-registration", _SUBSCRIPTION + "REGISTRATION-") + "-topic"
    subscribe = _SubscribeStep(
        named("-subscription-registration-processor", _SUBSCRIPTION + "REGISTRATION-"),
        left.step,
        lambda: Subscribe(extractor, wire.foreign_key, wire.left_value, keeps_left),
        wire,
    )
    sink = named("-subscription-registration-sink", "KTABLE-SINK-")
    source = named("-subscription-registration-source", "KTABLE-SOURCE-")
    registration = _TopicStep(topic, sink, source, [subscribe], wire.subscriptions)

    subscriptions = named("-subscription-store", _SUBSCRIPTION + "STATE-STORE-")
    keep = ProcessorStep(
        named("-subscription-receive", _SUBSCRIPTION + "PROCESSOR-"),
        [registration],
        lambda: KeepSubscription(subscriptions, wire.foreign_key, wire.primary_key),
        stores=[_SubscriptionStore(subscriptions, wire, left.serdes)],
    )
    right_view = right.step.view()
    answer = ProcessorStep(
        named("-subscription-join-foreign", _SUBSCRIPTION + "PROCESSOR-"),
        [keep],
        AnswerSubscription(right_view),
        store_names=right_view.stores,
    )
    tell = ProcessorStep(
        named("-foreign-join-subscription", _SUBSCRIPTION + "PROCESSOR-"),
        [right.step],
        lambda: TellSubscribers(subscriptions, wire.foreign_key),
        store_names=[subscriptions],
    )

    topic = named("-subscription-response", _SUBSCRIPTION + "RESPONSE-") + "-topic"
    sink = named("-subscription-response-sink", "KTABLE-SINK-")
    source = named("-subscription-response-source", "KTABLE-SOURCE-")
    responses = _TopicStep(topic, sink, source, [answer, tell], wire.responses, _to_asker)
    left_view = left.step.view()
    resolve = ProcessorStep(
        named("-subscription-response-resolver", _SUBSCRIPTION + "RESPONSE-RESOLVER-PROCESSOR-"),
        [responses],
        lambda: ResolveResponse(joiner, left_view, wire.left_value, keeps_left),
        store_names=left_view.stores,
    )

    node = named("-result", _OUTPUT)
    options = materialized(store)
    known = left.serdes.losing_value(node, "joins tables").given(value=options.value_serde)
    pending = PendingStore(options.name or plan.store_name(_OUTPUT), options, known, _ASK_STORE)
    result = TableStep(
        node,
        [resolve],
        lambda step: ReadTable(step.store_in_use, step.sends_old_values),
        store=pending,
        materialized=options.name is not None,
    )
    for step in (subscribe, registration, keep, answer, tell, responses, resolve, result):
        plan.add(step)
    plan.copartition(right.sources | {registration})
    sources = left.sources | {responses}
    plan.copartition(sources)
    return KTable(plan, result, known, sources, options.name)
