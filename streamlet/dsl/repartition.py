"""Repartitioning: records go through a topic of the application's own, so that those of a key meet in one task."""

from __future__ import annotations

import re
from collections.abc import Iterable
from copy import copy
from typing import Any

from streamlet.dsl.plan import Plan, Step, Writer
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.stateless import DropNullKeys, PassThrough
from streamlet.topology.nodes import REPARTITION, InternalTopic, Partitioner, ProcessorNode, SinkNode, SourceNode

_GENERATED = re.compile(r"KSTREAM.*-\d{10}")


class RepartitionStep(Step):
    """Becomes a sink, a source, and between the stream and the sink a filter that drops records without a key.

    The filter lets them pass if a step behind accepts them (KIP-962).

    Attributes:
        topic: Its topic, without the application's id.
        serdes: Of the records.
        mergeable: Whether ``merge.repartition.topics`` may replace it by one before it.
    """

    begins_task = True

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
        mergeable: bool = True,
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
        self.serdes = serdes
        self.mergeable = mergeable
        self._ask = ask
        self._partitions = partitions
        self._partitioner = partitioner
        self._in_place_of: tuple[Step, ...] = (self,)
        self._keeps_null_keys = False

    def in_place(
        self, parent: Step, serdes: Serdes, replaced: Iterable[RepartitionStep], *, keeps_null_keys: bool
    ) -> RepartitionStep:
        """Return a repartition through the same topic that stands in place of several; its nodes are called after it.

        Args:
            parent: The step whose records go through it.
            serdes: Of those records.
            replaced: Those that it stands in place of.
            keeps_null_keys: Whether records without a key go through it in any case.
        """
        step = copy(self)
        step.name, step.parents = f"{self.topic}-source", (parent,)
        step.serdes = serdes
        step._sink, step._filter = f"{self.topic}-sink", f"{self.topic}-filter"
        step._in_place_of, step._keeps_null_keys = tuple(replaced), keeps_null_keys
        return step

    def write(self, writer: Writer) -> None:
        """Add the topic and the nodes around it."""
        topology = writer.topology
        key_serde = writer.key_serde(self.serdes.key, self._sink, self._ask)
        value_serde = writer.value_serde(self.serdes.value, self._sink, self._ask)
        keeps = self._keeps_null_keys or any(map(writer.plan.accepts_null_keys_behind, self._in_place_of))
        filter = PassThrough() if keeps else DropNullKeys()
        topology.add_node(ProcessorNode(self._filter, filter, writer.inputs(self)))
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
