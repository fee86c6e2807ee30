"""Continuations: how a transition that would be too large goes on in the next transaction.

A step starts at most so many tasks; what is left stands on the workflow's agenda, in its state. The manager then writes
a record to its own partition of the workflow topic, in the same transaction: it can be read only when that has
committed, so however much there is to start, no transaction grows with it, and after a crash the record is there
exactly if the step before it is. It names the transition that asked for it, so that a copy of it does nothing.

The record is told by its header; its value is there for those who look at the topic.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from attrs import frozen

from spigot_topologies.wire import Codec
from streamlet import Record, Serde

__all__ = ["CONTINUATIONS", "Continuation", "ContinuationSerde", "asked_for", "continuation", "own_partition"]

CONTINUATIONS: Final = "workflow-continuations"

_HEADER: Final = "sp-continue"
_NAME: Final = "spigot.controllers.kafka.topologies/continue"
_MAX_DIGITS: Final = 18


@frozen
class Continuation:
    """A continuation's value, and the partition it has to go to: that of the workflow, whoever chose it."""

    data: bytes
    partition: int


class ContinuationSerde(Serde[Continuation]):
    """Writes continuations."""

    def serialize(self, value: Continuation, /) -> bytes:
        """The value."""
        return value.data

    def deserialize(self, data: bytes, /) -> Continuation:
        """The value; where it came from is not in the bytes."""
        return Continuation(data, 0)


def own_partition(topic: str, key: Any, value: Continuation, count: int) -> int:
    """The partition for a continuation."""
    return value.partition


def continuation(
    key: bytes, run_id: UUID, sequence: int, codec: Codec, partition: int, timestamp: int
) -> Record[bytes, Continuation]:
    """The record that has the workflow go on after its transition `sequence`."""
    data = codec.write([_NAME, {"spigot/run": run_id, "spigot/sequence": sequence}])
    return Record(key, Continuation(data, partition), timestamp, ((_HEADER, b"%s/%d" % (run_id.bytes, sequence)),))


def asked_for(headers: Iterable[tuple[str, bytes | None]]) -> tuple[UUID, int] | None:
    """The run and the transition that a continuation belongs to; None for a record that is none.

    A header that is broken gives a run that does not exist.
    """
    for name, data in headers:
        if name == _HEADER:
            digits = (data or b"")[17:]
            if data is None or data[16:17] != b"/" or not digits.isdigit() or len(digits) > _MAX_DIGITS:
                return UUID(int=0), 0
            return UUID(bytes=data[:16]), int(digits)
    return None
