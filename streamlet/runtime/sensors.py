"""Several sensors as one."""

from __future__ import annotations

from collections.abc import Sequence

from streamlet.metrics import Sensor


class SensorGroup(Sensor):
    """Passes every event on to all of its sensors."""

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        self._sensors = tuple(sensors)

    def on_processed(self, task: str, records: int) -> None:
        for sensor in self._sensors:
            sensor.on_processed(task, records)

    def on_dropped(self, task: str, node: str, reason: str) -> None:
        for sensor in self._sensors:
            sensor.on_dropped(task, node, reason)

    def on_commit(self, thread: str, tasks: int, seconds: float) -> None:
        for sensor in self._sensors:
            sensor.on_commit(thread, tasks, seconds)

    def on_abort(self, thread: str, reason: str) -> None:
        for sensor in self._sensors:
            sensor.on_abort(thread, reason)

    def on_restored(self, task: str, store: str, records: int) -> None:
        for sensor in self._sensors:
            sensor.on_restored(task, store, records)

    def on_standby_updated(self, task: str, store: str, records: int) -> None:
        for sensor in self._sensors:
            sensor.on_standby_updated(task, store, records)

    def on_task_created(self, task: str) -> None:
        for sensor in self._sensors:
            sensor.on_task_created(task)

    def on_task_closed(self, task: str) -> None:
        for sensor in self._sensors:
            sensor.on_task_closed(task)

    def on_state(self, state: str) -> None:
        for sensor in self._sensors:
            sensor.on_state(state)
