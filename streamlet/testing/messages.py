"""Records as a log would return them, without a log."""

from __future__ import annotations

from attrs import frozen

from streamlet.records import Headers


@frozen
class TestMessage:
    """A record of a topic, with the methods of confluent_kafka's `Message` that tasks use."""

    __test__ = False

    topic_: str
    key_: bytes | None
    value_: bytes | None
    timestamp_: int
    headers_: Headers = ()
    partition_: int = 0
    offset_: int = 0

    def topic(self) -> str:
        """Return the topic's name on the log."""
        return self.topic_

    def partition(self) -> int:
        """Return the partition."""
        return self.partition_

    def offset(self) -> int:
        """Return the offset."""
        return self.offset_

    def key(self) -> bytes | None:
        """Return the key's bytes."""
        return self.key_

    def value(self) -> bytes | None:
        """Return the value's bytes."""
        return self.value_

    def timestamp(self) -> tuple[int, int]:
        """Return the kind of timestamp (1: set by the producer) and the timestamp (ms)."""
        return 1, self.timestamp_

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Return the headers, None if there are none."""
        return list(self.headers_) or None

    def leader_epoch(self) -> int | None:
        """Return None: there is no leader."""
        return None
