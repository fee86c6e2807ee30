"""The records of one partition that wait for their turn, and how far processing has come in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from attrs import frozen

from streamlet.processor.operator import Forward
from streamlet.records import Headers
from streamlet.topology.nodes import SourceNode


class Message(Protocol):
    """A record as the log's consumer returns it: confluent_kafka's interface."""

    def key(self) -> Any: ...
    def value(self) -> Any: ...
    def timestamp(self) -> tuple[int, int]: ...
    def headers(self) -> Any: ...
    def topic(self) -> Any: ...
    def partition(self) -> Any: ...
    def offset(self) -> Any: ...
    def leader_epoch(self) -> int | None: ...


class Head:
    """The first record of a partition, read and stamped."""

    __slots__ = ("headers", "key", "message", "timestamp", "value")

    def __init__(self, message: Message, key: Any, value: Any, timestamp: int, headers: Headers) -> None:
        self.message = message
        self.key = key
        self.value = value
        self.timestamp = timestamp
        self.headers = headers


class RecordQueue:
    """One partition of a source topic.

    Attributes:
        messages: Records read from the log, not looked at yet.
        head: The next record, once it was needed to compare timestamps.
        last: The last record that was processed or dropped; None if there was none since the last restart or rewind.
        partition_time: Highest timestamp so far (ms), -1 before the first record.
    """

    __slots__ = (
        "decode_key", "decode_value", "forward", "head", "idle_until", "index",
        "last", "messages", "partition", "partition_time", "source", "topic",
    )  # fmt: skip

    def __init__(self, index: int, topic: str, partition: int, source: SourceNode, forward: Forward) -> None:
        self.index = index
        self.topic = topic
        self.partition = partition
        self.source = source
        self.forward = forward
        self.decode_key: Callable[[bytes], Any] = source.key_serde.decoder
        self.decode_value: Callable[[bytes], Any] = source.value_serde.decoder
        self.messages: deque[Message] = deque()
        self.head: Head | None = None
        self.last: Message | None = None
        self.partition_time = -1
        self.idle_until: int | None = None

    def __len__(self) -> int:
        return len(self.messages) + (self.head is not None)


@frozen
class TaskOffset:
    """What is committed for a partition.

    Attributes:
        offset: The next record to be read.
        leader_epoch: Leader epoch of the record before it, if the log told.
        metadata: The partition's time and what nodes remember, as text: see `streamlet.runtime.times`.
    """

    offset: int
    leader_epoch: int | None
    metadata: str
