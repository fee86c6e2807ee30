"""Time in stores that forget: how far it has come, what is too old, and which segments can go."""

from __future__ import annotations

from struct import Struct

import orjson

_SEGMENT = Struct(">Q")
_VERSION = 1
SEGMENT_BYTES = 8
"""Length of the prefix of every key."""
MIN_SEGMENT_MS = 60_000


def segment_interval(retention_ms: int) -> int:
    """Return the length of a segment (ms): half the retention, at least a minute, as in Kafka Streams."""
    return max(retention_ms // 2, MIN_SEGMENT_MS)


class Expiry:
    """The stream time that a store has observed, and what follows from it.

    Every key of such a store begins with the number of its segment, a span of time, so that a segment is deleted by one
    range delete. Reads are strict: what is older than the retention is not shown, even if its segment is still there.

    Args:
        retention_ms: How long entries are kept (ms).

    Attributes:
        observed: Highest time that was put (ms), -1 before the first.
        sequence: Number of the last duplicate that was put, in stores that keep duplicates.
        segment_ms: Length of a segment (ms).
    """

    __slots__ = ("_committed", "_dropped", "_sealed", "observed", "retention_ms", "segment_ms", "sequence")

    def __init__(self, retention_ms: int) -> None:
        self.retention_ms = retention_ms
        self.segment_ms = segment_interval(retention_ms)
        self.observed = -1
        self.sequence = 0
        self._dropped = 0  # the first segment that was not deleted yet
        self._committed = (-1, 0, 0)
        self._sealed = self._committed

    @property
    def oldest(self) -> int:
        """The oldest time that can be read (ms)."""
        return max(0, self.observed - self.retention_ms + 1)

    def segment(self, time: int) -> bytes:
        """Return the prefix of keys of this time."""
        return _SEGMENT.pack(time // self.segment_ms)

    def load(self, data: bytes | None) -> None:
        """Take over what an earlier process committed; None if there is nothing."""
        fields = {} if data is None else orjson.loads(data)
        if fields.get("version") == _VERSION:
            self.observed, self.sequence, self._dropped = fields["observed"], fields["sequence"], fields["dropped"]
        else:
            self.observed, self.sequence, self._dropped = -1, 0, 0
        self._committed = (self.observed, self.sequence, self._dropped)

    def seal(self) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Return the ranges to be deleted with the next commit, and what it has to remember."""
        live = self.oldest // self.segment_ms
        ranges = [(_SEGMENT.pack(self._dropped), _SEGMENT.pack(live))] if live > self._dropped else []
        self._sealed = (self.observed, self.sequence, max(live, self._dropped))
        fields = zip(("observed", "sequence", "dropped"), self._sealed, strict=True)
        return ranges, orjson.dumps({"version": _VERSION, **dict(fields)})

    def committed(self) -> None:
        """What was sealed is in the database."""
        self._committed = self._sealed
        self._dropped = self._sealed[2]

    def rollback(self) -> None:
        """Go back to the time of the last commit: the records are processed again."""
        self.observed, self.sequence, self._dropped = self._committed

    def reset(self) -> None:
        """Forget everything: the store was emptied."""
        self.load(None)


def observed_time(data: bytes | None) -> int:
    """Return the time that a commit remembered, -1 if there is none."""
    return -1 if data is None else int(orjson.loads(data).get("observed", -1))
