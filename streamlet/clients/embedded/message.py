"""The embedded log's message: confluent-kafka's accessors on a slotted class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError

Headers: TypeAlias = "list[tuple[str, bytes | None]]"
HeaderValue: TypeAlias = "str | bytes | None"
HeadersArgument: TypeAlias = "Mapping[str, HeaderValue] | Sequence[tuple[str, HeaderValue]] | None"
DeliveryCallback: TypeAlias = "Callable[[KafkaError | None, Message], None]"


class Message:
    """One record, with the accessors of ``confluent_kafka.Message``; made when a consumer or a report needs it."""

    __slots__ = ("_epoch", "_headers", "_key", "_offset", "_partition", "_stamp", "_timestamp", "_topic", "_value")

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int | None,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Headers | None,
        stamp: int,
        epoch: int | None,
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._offset = offset
        self._key = key
        self._value = value
        self._timestamp = timestamp
        self._headers = headers
        self._stamp = stamp
        self._epoch = epoch

    def error(self) -> KafkaError | None:
        """None: a record. Events such as the end of a partition are `ErrorMessage`."""
        return None

    def topic(self) -> str | None:
        """The topic's name."""
        return self._topic

    def partition(self) -> int | None:
        """The partition's number."""
        return self._partition

    def offset(self) -> int | None:
        """The record's offset; None while it is not delivered."""
        return self._offset

    def key(self) -> bytes | None:
        """The key's bytes, or None."""
        return self._key

    def value(self) -> bytes | None:
        """The value's bytes, or None for a tombstone."""
        return self._value

    def headers(self) -> Headers | None:
        """A copy of the headers, or None where there are none."""
        headers = self._headers
        return None if headers is None else headers.copy()

    def timestamp(self) -> tuple[int, int]:
        """``(type, ms since 1970)``; the type is one of confluent-kafka's ``TIMESTAMP_…`` constants."""
        return self._stamp, self._timestamp

    def leader_epoch(self) -> int | None:
        """The epoch under which the record was appended, 0 unless a test truncated the partition; None in reports."""
        return self._epoch

    def latency(self) -> float | None:
        """None: not measured."""
        return None

    def __len__(self) -> int:
        return 0 if self._value is None else len(self._value)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"Message({self._topic}[{self._partition}]@{self._offset}, key={self._key!r}, value={self._value!r})"


class ErrorMessage(Message):
    """What ``consume`` hands out for an event: the end of a partition, an offset out of range, …"""

    __slots__ = ("_error",)

    def __init__(self, error: KafkaError, topic: str = "", partition: int = -1, offset: int | None = None) -> None:
        super().__init__(topic, partition, offset, None, None, -1, None, TIMESTAMP_NOT_AVAILABLE, None)
        self._error = error

    def error(self) -> KafkaError | None:
        """The event."""
        return self._error

    def topic(self) -> str | None:
        """The topic's name, or None where the event concerns none."""
        return self._topic or None

    def value(self) -> bytes | None:
        """The event as text, as librdkafka gives it."""
        return self._error.str().encode()


def as_bytes(value: str | bytes | None) -> bytes | None:
    """Key or value as bytes; text is UTF-8.

    Raises:
        TypeError: Neither text, bytes nor None.
    """
    if value is None or type(value) is bytes:
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return bytes(value)
    raise TypeError(f"a bytes-like object is required, not {type(value).__name__!r}")


def as_headers(headers: HeadersArgument) -> Headers | None:
    """Headers, given as a mapping or as pairs, as a list of pairs; None for none."""
    if not headers:
        return None
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    normal: Headers = []
    for name, value in pairs:
        if not isinstance(name, str):
            raise TypeError(f"a header's name must be a string, not {name!r}")
        normal.append((name, as_bytes(value)))
    return normal
