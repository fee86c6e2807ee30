"""Repartitioning: records go through a topic of the application's own, so that those of a key meet in one task."""

from __future__ import annotations

import re
from typing import Any

from streamlet.dsl.plan import Plan, Step, Writer
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.stateless import DropNullKeys, PassThrough
from streamlet.topology.nodes import REPARTITION, InternalTopic, Partitioner, ProcessorNode, SinkNode, SourceNode

_GENERATED = re.compile(r"KSTREAM.*-\d{10}")


class RepartitionStep(Step):
    """Becomes a sink, a source, and between the stream and the sink a filter that drops records without a key.

    The filter lets them pass if a step behind accepts them (KIP-962).
    """

    def __init__(
        self,
        plan: Plan,
        prefix: str,
        parent: Step,
        serdes: Serdes,
        ask: Ask,
        *,
        partitions: int | None = None,
        partitioner: Partitioner | None = None,
    ) -> None:
        # in the order in which Kafka Streams counts; the numbers are used up also where the names are not
        sink, filter, source = (
            plan.number("KSTREAM-SINK-"),
            plan.number("KSTREAM-FILTER-"),
            plan.number("KSTREAM-SOURCE-"),
        )
        self.topic = prefix if prefix.endswith(REPARTITION) else prefix + REPARTITION
        if not _GENERATED.fullmatch(prefix):
            sink, filter, source = f"{self.topic}-sink", f"{self.topic}-filter", f"{self.topic}-source"
        super().__init__(source, [parent])
        self._sink, self._filter = sink, filter
        self._serdes = serdes
        self._ask = ask
        self._partitions = partitions
        self._partitioner = partitioner

    def write(self, writer: Writer) -> None:
        """Add the topic and the nodes around it."""
        topology = writer.topology
        key_serde = writer.key_serde(self._serdes.key, self._sink, self._ask)
        value_serde = writer.value_serde(self._serdes.value, self._sink, self._ask)
        filter = PassThrough() if writer.plan.accepts_null_keys_behind(self) else DropNullKeys()
        topology.add_node(ProcessorNode(self._filter, filter, writer.outputs(self.parents)))
        topology.add_internal_topic(InternalTopic(self.topic, self._partitions))
        topology.add_node(
            SinkNode(self._sink, (self._filter,), self.topic, None, key_serde, value_serde, self._partitioner)
        )
        topology.add_node(SourceNode(self.name, (self.topic,), None, key_serde, value_serde))


def insert_repartition(
    plan: Plan, prefix: str, parent: Step, serdes: Serdes, ask: Ask, **options: Any
) -> RepartitionStep:
    """Add a repartition topic behind a step, as operators do that need the records of a key together.

    Args:
        plan: The program.
        prefix: The topic's name without its suffix: given by the user, or that of the store it feeds.
        parent: The step whose records go through it.
        serdes: Of those records.
        ask: Where the user can give those that are missing.
        options: Those of `RepartitionStep`.
    """
    step = RepartitionStep(plan, prefix, parent, serdes, ask, **options)
    plan.add(step)
    return step
