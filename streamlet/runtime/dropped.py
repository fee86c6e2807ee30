"""Dropped records: each is counted, and few are logged."""

from __future__ import annotations

import logging

from streamlet.metrics import Sensor
from streamlet.records import RecordMetadata, TaskId
from streamlet.time import Clock

_log = logging.getLogger(__name__)

_QUIET_SECONDS = 10.0


class DroppedRecords:
    """Tells the sensor about every dropped record, and the log about the first of a kind within ten seconds."""

    def __init__(self, task: TaskId, sensor: Sensor, clock: Clock) -> None:
        self._task = str(task)
        self._sensor = sensor
        self._clock = clock
        self._unsaid: dict[tuple[str, str], int] = {}
        self._quiet_until: dict[tuple[str, str], float] = {}

    def add(self, node: str, reason: str, origin: RecordMetadata | None) -> None:
        """Count a record; `origin` is where it came from."""
        self._sensor.on_dropped(self._task, node, reason)
        kind = (node, reason)
        now = self._clock.monotonic()
        if now < self._quiet_until.get(kind, float("-inf")):
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._quiet_until[kind] = now + _QUIET_SECONDS
        unsaid = self._unsaid.pop(kind, 0)
        where = (
            "in a punctuation"
            if origin is None
            else f"topic {origin.topic}, partition {origin.partition}, offset {origin.offset}"
        )
        more = f"; {unsaid} more since the last message" if unsaid else ""
        _log.warning("record dropped: %s (node %s, task %s, %s)%s", reason, node, self._task, where, more)
