"""The nodes of a topology, as frozen data, and the names of internal topics."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

from streamlet.processor.operator import Operator
from streamlet.records import Record, RecordMetadata
from streamlet.serdes import Serde

AutoOffsetReset: TypeAlias = Literal["earliest", "latest"]

TimestampExtractor: TypeAlias = Callable[[Record[Any, Any], int], int]
"""From a record (carrying the log's timestamp) and the partition's time so far to the record's timestamp; negative:
drop it."""

TopicExtractor: TypeAlias = Callable[[Any, Any, RecordMetadata | None], str]
"""From key, value and origin of a record to the topic it is written to."""

Partitioner: TypeAlias = Callable[[str, Any, Any, int], int | Collection[int] | None]
"""From topic, key, value and number of partitions to the partition; None leaves it to the client's partitioner.

Several partitions get the record each, none drops it (KIP-837)."""

REPARTITION = "-repartition"
CHANGELOG = "-changelog"


def internal_name(application_id: str, name: str) -> str:
    """Return the name on the log of an internal topic (``counts-repartition``, ``counts-changelog``)."""
    return f"{application_id}-{name}"


def changelog_name(application_id: str, store: str) -> str:
    """Return the name on the log of a store's changelog topic."""
    return internal_name(application_id, store + CHANGELOG)


@frozen
class InternalTopic:
    """A repartition topic.

    Attributes:
        name: Its name without the application's id, ending in ``-repartition``.
        partitions: Their number if the user fixed it; None: that of the streams that feed it.
    """

    name: str
    partitions: int | None = None


@frozen
class SourceNode:
    """Reads topics: either `topics` or `pattern` is given. Names of internal topics are without the application's
    id."""

    name: str
    topics: tuple[str, ...]
    pattern: re.Pattern[str] | None
    key_serde: Serde[Any]
    value_serde: Serde[Any]
    timestamp_extractor: TimestampExtractor | None = None
    auto_offset_reset: AutoOffsetReset | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """A source has none."""
        return ()


@frozen
class ProcessorNode:
    """Processes records; `stores` are the names of those it may use."""

    name: str
    operator: Operator
    parents: tuple[str, ...]
    stores: tuple[str, ...] = ()


@frozen
class SinkNode:
    """Writes to `topic` (without the application's id if it is internal), or to where `topic_extractor` says."""

    name: str
    parents: tuple[str, ...]
    topic: str | None
    topic_extractor: TopicExtractor | None
    key_serde: Serde[Any] = field()
    value_serde: Serde[Any] = field()
    partitioner: Partitioner | None = None


Node: TypeAlias = SourceNode | ProcessorNode | SinkNode
