"""Records as users see them, and the windows that keys may carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeAlias, TypeVar

from attrs import evolve, frozen

K_co = TypeVar("K_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)
KR = TypeVar("KR")
VR = TypeVar("VR")

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
"""Headers of a record, in order; a name may occur more than once. Never changed in place."""


@frozen
class Record(Generic[K_co, V_co]):
    """A key, a value, a timestamp in milliseconds since the epoch, and headers."""

    key: K_co
    value: V_co
    timestamp: int
    headers: Headers = ()

    def with_key(self, key: KR, /) -> Record[KR, V_co]:
        """Return the same record with another key."""
        return Record(key, self.value, self.timestamp, self.headers)

    def with_value(self, value: VR, /) -> Record[K_co, VR]:
        """Return the same record with another value."""
        return Record(self.key, value, self.timestamp, self.headers)

    def with_timestamp(self, timestamp: int, /) -> Record[K_co, V_co]:
        """Return the same record at another time (ms since the epoch)."""
        return evolve(self, timestamp=timestamp)

    def with_headers(self, headers: Headers, /) -> Record[K_co, V_co]:
        """Return the same record with other headers."""
        return evolve(self, headers=headers)


@frozen
class RecordMetadata:
    """Where the record at hand came from."""

    topic: str
    partition: int
    offset: int


@frozen(order=True)
class TaskId:
    """Identity of a task: the sub-topology and the partition it works on; printed ``0_3`` as in Kafka Streams."""

    sub_topology: int
    partition: int

    def __str__(self) -> str:
        return f"{self.sub_topology}_{self.partition}"

    @classmethod
    def parse(cls, text: str) -> TaskId:
        """Read the printed form back.

        Raises:
            ValueError: If `text` is not of the form ``0_3``.
        """
        sub_topology, _, partition = text.partition("_")
        return cls(int(sub_topology), int(partition))


@frozen(order=True)
class Window:
    """A span of time in milliseconds: `start` belongs to it; whether `end` does depends on the kind of window."""

    start: int
    end: int


@frozen(order=True)
class Windowed(Generic[K_co]):
    """A key within a window."""

    key: K_co
    window: Window

    def __str__(self) -> str:
        return f"[{self.key}@{self.window.start}/{self.window.end}]"
