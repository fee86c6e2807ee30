"""The small values that travel between stores, the runtime and the log."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from attrs import frozen

V = TypeVar("V")


class ValueAndTimestamp(NamedTuple, Generic[V]):
    """A value and the time it belongs to, in milliseconds since the epoch."""

    value: V
    timestamp: int


class ChangelogRecord(NamedTuple):
    """One change of a store as it goes to its changelog topic; a value of None deletes the key.

    Keys and values are in Kafka Streams' format, so the value of a timestamped store carries no timestamp: the record
    does.
    """

    key: bytes
    value: bytes | None
    timestamp: int


@frozen
class Position:
    """How much of a changelog partition local state has taken in.

    Attributes:
        offset: The next changelog offset to be read.
        leader_epoch: Leader epoch of the last record that was read or written, to detect a truncated log (KIP-320).
        topic_id: Identity of the topic, to detect that it was deleted and made again.
        committed_at: Wall clock of the commit (ms): state older than the topic's ``delete.retention.ms`` cannot be
            continued.
    """

    offset: int
    leader_epoch: int | None
    topic_id: str | None
    committed_at: int
