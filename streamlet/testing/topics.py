"""The topics of a `TopologyTestDriver`, to write to and to read from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import ClassVar, Generic, TypeVar

from streamlet.errors import SerializationError
from streamlet.records import Headers, Record
from streamlet.testing.messages import TestMessage
from streamlet.time import milliseconds
from streamlet.topic import Topic

K = TypeVar("K")
V = TypeVar("V")


class TestInputTopic(Generic[K, V]):
    """Writes records to a topic; they are processed before the call returns. Made by
    `TopologyTestDriver.create_input_topic`."""

    __test__: ClassVar[bool] = False

    def __init__(
        self,
        topic: Topic[K, V],
        pipe: Callable[[str, bytes | None, bytes | None, int, Headers], None],
        start_timestamp: int,
        auto_advance: timedelta,
    ) -> None:
        if auto_advance < timedelta(0):
            raise ValueError(f"time cannot go back: {auto_advance}")
        self._topic = topic
        self._pipe = pipe
        self._now_ms = start_timestamp
        self._auto_advance_ms = milliseconds(auto_advance)

    def advance_time(self, by: timedelta) -> None:
        """Move the topic's clock, from which records take their timestamps that are given none.

        Raises:
            ValueError: If `by` is negative.
        """
        if by < timedelta(0):
            raise ValueError(f"time cannot go back: {by}")
        self._now_ms += milliseconds(by)

    def pipe_input(self, key: K | None, value: V | None, timestamp: int | None = None, headers: Headers = ()) -> None:
        """Write a record.

        Args:
            key: Its key.
            value: Its value.
            timestamp: In ms; default: the topic's clock, which then advances by itself if it was told to.
            headers: Its headers.
        """
        if timestamp is None:
            timestamp = self._now_ms
            self._now_ms += self._auto_advance_ms
        topic = self._topic
        try:
            key_bytes = None if key is None else topic.key_serde.serialize(key)
            value_bytes = None if value is None else topic.value_serde.serialize(value)
        except SerializationError as error:
            raise SerializationError(f"the record does not fit topic {topic.name!r}: {error}") from error
        self._pipe(topic.name, key_bytes, value_bytes, timestamp, headers)

    def pipe_raw(
        self, key: bytes | None, value: bytes | None, timestamp: int | None = None, headers: Headers = ()
    ) -> None:
        """Write a record as bytes, to see what becomes of those that cannot be read."""
        if timestamp is None:
            timestamp = self._now_ms
            self._now_ms += self._auto_advance_ms
        self._pipe(self._topic.name, key, value, timestamp, headers)

    def pipe_record(self, record: Record[K | None, V | None]) -> None:
        """Write a record with its timestamp and headers."""
        self.pipe_input(record.key, record.value, record.timestamp, record.headers)

    def pipe_record_list(self, records: Iterable[Record[K | None, V | None]]) -> None:
        """Write records, each with its timestamp and headers."""
        for record in records:
            self.pipe_record(record)

    def pipe_key_value_list(
        self,
        pairs: Iterable[tuple[K | None, V | None]],
        start_timestamp: int | None = None,
        advance: timedelta = timedelta(0),
    ) -> None:
        """Write keys and values.

        Args:
            pairs: The keys and values.
            start_timestamp: Timestamp (ms) of the first; default: all take the topic's clock.
            advance: What to add for each further one, if `start_timestamp` is given.
        """
        for number, (key, value) in enumerate(pairs):
            at = None if start_timestamp is None else start_timestamp + number * milliseconds(advance)
            self.pipe_input(key, value, at)

    def pipe_value_list(
        self, values: Iterable[V | None], start_timestamp: int | None = None, advance: timedelta = timedelta(0)
    ) -> None:
        """Write values without keys; see `pipe_key_value_list`."""
        self.pipe_key_value_list(((None, value) for value in values), start_timestamp, advance)


class TestOutputTopic(Generic[K, V]):
    """Reads what was written to a topic, each record once. Made by `TopologyTestDriver.create_output_topic`."""

    __test__: ClassVar[bool] = False

    def __init__(self, topic: Topic[K, V], records: Callable[[], deque[TestMessage]]) -> None:
        self._topic = topic
        self._records = records

    @property
    def queue_size(self) -> int:
        """How many records wait to be read."""
        return len(self._records())

    @property
    def is_empty(self) -> bool:
        """Whether none waits."""
        return self.queue_size == 0

    def read_record(self) -> Record[K, V]:
        """Read the next record; its key and value may be None.

        Raises:
            LookupError: If there is none.
            SerializationError: If it does not fit the topic's serdes.
        """
        records = self._records()
        if not records:
            raise LookupError(f"topic {self._topic.name!r} has no more records")
        message = records.popleft()
        raw_key, raw_value = message.key(), message.value()
        key: K = None if raw_key is None else self._topic.key_serde.deserialize(raw_key)  # type: ignore[assignment]  # as on a log
        value: V = None if raw_value is None else self._topic.value_serde.deserialize(raw_value)  # type: ignore[assignment]
        return Record(key, value, message.timestamp()[1], tuple(message.headers() or ()))

    def read_value(self) -> V | None:
        """Read the value of the next record; raises like `read_record`."""
        return self.read_record().value

    def read_key_value(self) -> tuple[K, V | None]:
        """Read key and value of the next record; raises like `read_record`."""
        record = self.read_record()
        return record.key, record.value

    def read_records_to_list(self) -> list[Record[K, V]]:
        """Read all records."""
        return [self.read_record() for _ in range(self.queue_size)]

    def read_key_values_to_list(self) -> list[tuple[K, V | None]]:
        """Read keys and values of all records."""
        return [self.read_key_value() for _ in range(self.queue_size)]

    def read_key_values_to_map(self) -> dict[K, V | None]:
        """Read all records, and return the last value of each key."""
        return dict(self.read_key_values_to_list())

    def read_values_to_list(self) -> list[V | None]:
        """Read the values of all records."""
        return [self.read_value() for _ in range(self.queue_size)]
