"""Where a program begins: the source steps, and sources of the same topics made into one."""

from __future__ import annotations

import re
from typing import Any

from streamlet.dsl.plan import Step, Writer
from streamlet.errors import TopologyError
from streamlet.topic import Topic, TopicPattern
from streamlet.topology.nodes import AutoOffsetReset, SourceNode, TimestampExtractor


class SourceStep(Step):
    """Reads topics; a second source of exactly the same topics becomes one with the first on `build()`."""

    def __init__(
        self,
        name: str,
        topics: tuple[Topic[Any, Any], ...] | TopicPattern[Any, Any],
        timestamp_extractor: TimestampExtractor | None,
        auto_offset_reset: AutoOffsetReset | None,
    ) -> None:
        super().__init__(name)
        self.pattern: re.Pattern[str] | None = None
        self.topics: tuple[str, ...] = ()
        if isinstance(topics, TopicPattern):
            self.pattern, typed = topics.pattern, topics
        else:
            self.topics, typed = tuple(topic.name for topic in topics), topics[0]  # type: ignore[assignment]
        self.key_serde, self.value_serde = typed.key_serde, typed.value_serde
        self.timestamp_extractor = timestamp_extractor
        self.auto_offset_reset = auto_offset_reset

    def write(self, writer: Writer) -> None:
        """Add the source, or join the one that reads the same topics."""
        first = self._same_before(writer)
        if first is not None:
            writer.redirect(self, first.name)
            return
        writer.topology.add_node(
            SourceNode(
                self.name,
                self.topics,
                self.pattern,
                self.key_serde,
                self.value_serde,
                self.timestamp_extractor,
                self.auto_offset_reset,
            )
        )

    def _same_before(self, writer: Writer) -> SourceStep | None:
        for other in writer.plan.steps:
            if other is self:
                return None
            if not isinstance(other, SourceStep):
                continue
            same = set(self.topics) == set(other.topics) and self.pattern == other.pattern
            if same:
                self._check_like(other)
                return other
            shared = set(self.topics) & set(other.topics)
            if shared:
                raise TopologyError(
                    f"{other.name} reads {', '.join(other.topics)} and {self.name} reads {', '.join(self.topics)}: "
                    f"{', '.join(sorted(shared))} would be read by two sources; read it once and use that stream twice"
                )
        return None

    def _check_like(self, other: SourceStep) -> None:
        what = ", ".join(self.topics) or f"pattern {self.pattern.pattern if self.pattern else ''}"
        for attribute in ("key_serde", "value_serde", "timestamp_extractor", "auto_offset_reset"):
            mine, theirs = getattr(self, attribute), getattr(other, attribute)
            if mine is not theirs and mine != theirs:
                raise TopologyError(
                    f"{what} is read twice, by {other.name} with {attribute}={theirs!r} "
                    f"and by {self.name} with {attribute}={mine!r}: give both the same"
                )
