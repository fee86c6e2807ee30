"""The small values that travel between stores, the runtime and the log."""

from __future__ import annotations

from struct import Struct
from typing import Generic, NamedTuple, TypeVar
from zlib import crc32

from attrs import frozen

V = TypeVar("V")

_LENGTHS = Struct(">qqq")


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
        checksum: Of the record before `offset`. A producer is not told the epoch of what it has written: then this
            tells the log from one that was truncated and has grown again.
    """

    offset: int
    leader_epoch: int | None
    topic_id: str | None
    committed_at: int
    checksum: int | None = None


def record_checksum(key: bytes | None, value: bytes | None, timestamp: int) -> int:
    """Return what tells a changelog record from another one that may lie at its offset."""
    key_length = -1 if key is None else len(key)
    value_length = -1 if value is None else len(value)
    head = crc32(_LENGTHS.pack(timestamp, key_length, value_length))
    return crc32(value or b"", crc32(key or b"", head))
