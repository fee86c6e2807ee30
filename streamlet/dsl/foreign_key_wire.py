"""What a foreign-key join sends through its two topics, in the bytes of Kafka Streams (KIP-213, KIP-690).

A subscription goes from a row of the left table to the partition of the row it refers to; a response comes back.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Any, NamedTuple

from streamlet.errors import SerializationError
from streamlet.serdes import Serde

_NO_HASH = 0x80
_HASH_BYTES = 16
_PARTITION = Struct(">i")
_LENGTH = Struct(">i")


class Instruction(IntEnum):
    """What the right side does with a subscription."""

    DELETE = 0
    """Delete it, and say nothing."""
    DELETE_AND_TELL = 1
    """Delete it, and answer that there is no row."""
    ANSWER = 2
    """Keep it, and answer, also that there is no row."""
    ANSWER_IF_FOUND = 3
    """Keep it, and answer only if there is a row."""


class Subscription(NamedTuple):
    """A row of the left table wants to know about a row of the right one.

    Attributes:
        hash: Hash of the left row's value, None if it was deleted.
        instruction: What to do.
        primary_key: Key of the left row.
        partition: Partition of the left row, to which the answer goes; None if an old version did not say.
    """

    hash: bytes | None
    instruction: int
    primary_key: Any
    partition: int | None


class Response(NamedTuple):
    """The answer.

    Attributes:
        hash: Hash of the left row's value at the time of the subscription.
        value: Value of the right row, None if there is none.
        partition: Partition of the left row; not among the bytes.
    """

    hash: bytes | None
    value: Any
    partition: int | None = None


class SubscriptionSerde(Serde[Subscription]):
    """A byte of version (its highest bit: no hash), the instruction, the hash, the primary key, the partition."""

    def __init__(self, primary_key: Serde[Any]) -> None:
        self.immutable = primary_key.immutable
        self._key = primary_key

    def serialize(self, value: Subscription, /) -> bytes:
        """Return the bytes of a subscription, version 1; of version 0 if the partition is not known."""
        version = 0 if value.partition is None else 1
        head = bytes((version if value.hash is not None else version | _NO_HASH, value.instruction))
        tail = b"" if value.partition is None else _PARTITION.pack(value.partition)
        return b"%b%b%b%b" % (head, value.hash or b"", self._key.serialize(value.primary_key), tail)

    def deserialize(self, data: bytes, /) -> Subscription:
        """Return the subscription of these bytes.

        Raises:
            SerializationError: If they are of another version, or cut off.
        """
        hash, start = _read_hash(data, 2)
        version = data[0] & ~_NO_HASH
        if version > 1:
            raise SerializationError(f"a subscription of version {version}; known are 0 and 1")
        end = len(data) - (_PARTITION.size if version else 0)
        if end < start:
            raise SerializationError(f"a subscription cut off at {len(data)} bytes")
        partition = _PARTITION.unpack_from(data, end)[0] if version else None
        return Subscription(hash, data[1], self._key.deserialize(data[start:end]), partition)

    def __repr__(self) -> str:
        return f"subscriptions of {self._key!r}"


class ResponseSerde(Serde[Response]):
    """A byte of version (its highest bit: no hash), the hash, the value; no bytes of a value are no value."""

    def __init__(self, value_serde: Serde[Any]) -> None:
        self.immutable = value_serde.immutable
        self._value = value_serde

    def serialize(self, value: Response, /) -> bytes:
        """Return the bytes of a response."""
        data = b"" if value.value is None else self._value.serialize(value.value)
        return (bytes((_NO_HASH,)) if value.hash is None else b"\x00" + value.hash) + data

    def deserialize(self, data: bytes, /) -> Response:
        """Return the response of these bytes.

        Raises:
            SerializationError: If they are of another version, or cut off.
        """
        hash, start = _read_hash(data, 1)
        if data[0] & ~_NO_HASH:
            raise SerializationError(f"a response of version {data[0] & ~_NO_HASH}; known is 0")
        return Response(hash, self._value.deserialize(data[start:]) if len(data) > start else None)

    def __repr__(self) -> str:
        return f"responses with {self._value!r}"


def _read_hash(data: bytes, start: int) -> tuple[bytes | None, int]:
    """Return the hash behind `start`, and where it ends."""
    if len(data) < start:
        raise SerializationError(f"a message of a foreign-key join cut off at {len(data)} bytes")
    if data[0] & _NO_HASH:
        return None, start
    end = start + _HASH_BYTES
    if len(data) < end:
        raise SerializationError(f"a message of a foreign-key join cut off at {len(data)} bytes, in its hash")
    return data[start:end], end


def key_prefix(foreign_key: bytes) -> bytes:
    """Return how the keys of all subscriptions to a foreign key begin: its length, and itself."""
    return _LENGTH.pack(len(foreign_key)) + foreign_key


def combined_key(foreign_key: bytes, primary_key: bytes) -> bytes:
    """Return the key of a subscription in its store."""
    return key_prefix(foreign_key) + primary_key
