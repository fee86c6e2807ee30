"""The sensor interface: one hook an event, free when nobody listens."""

from __future__ import annotations

from collections import defaultdict
from threading import Lock


class Sensor:
    """Hooks that the runtime calls; override those of interest. They must be quick and must not raise.

    Called from the stream threads, so an implementation that is shared must be thread-safe.
    """

    def on_processed(self, task: str, records: int) -> None:
        """`records` more records of a task have gone through its topology."""

    def on_dropped(self, task: str, node: str, reason: str) -> None:
        """A record was dropped as the semantics demand (late, null key, handler chose to continue)."""

    def on_commit(self, thread: str, tasks: int, seconds: float) -> None:
        """A commit of `tasks` tasks took `seconds`."""

    def on_abort(self, thread: str, reason: str) -> None:
        """A transaction was aborted; its input will be processed again."""

    def on_restored(self, task: str, store: str, records: int) -> None:
        """`records` more changelog records were restored into a store."""

    def on_standby_updated(self, task: str, store: str, records: int) -> None:
        """`records` more changelog records are in a standby copy of a store."""

    def on_task_created(self, task: str) -> None:
        """A task was given to this instance."""

    def on_task_closed(self, task: str) -> None:
        """A task was taken from this instance or closed with it."""

    def on_state(self, state: str) -> None:
        """The application changed its state."""


class Counters(Sensor):
    """Counts of everything that happened, by event and by label; what `KafkaStreams.metrics()` returns."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, float] = defaultdict(float)
        self._lock = Lock()

    def _add(self, name: str, amount: float) -> None:
        with self._lock:
            self._counts[name] += amount

    def on_processed(self, task: str, records: int) -> None:
        self._add("process-total", records)
        self._add(f"process-total{{task={task}}}", records)

    def on_dropped(self, task: str, node: str, reason: str) -> None:
        self._add("dropped-records-total", 1)
        self._add(f"dropped-records-total{{node={node},reason={reason}}}", 1)

    def on_commit(self, thread: str, tasks: int, seconds: float) -> None:
        self._add("commit-total", 1)
        self._add("commit-seconds-total", seconds)

    def on_abort(self, thread: str, reason: str) -> None:
        self._add("abort-total", 1)

    def on_restored(self, task: str, store: str, records: int) -> None:
        self._add("restore-total", records)
        self._add(f"restore-total{{task={task},store={store}}}", records)

    def on_standby_updated(self, task: str, store: str, records: int) -> None:
        self._add("standby-update-total", records)
        self._add(f"standby-update-total{{task={task},store={store}}}", records)

    def on_task_created(self, task: str) -> None:
        self._add("task-created-total", 1)

    def on_task_closed(self, task: str) -> None:
        self._add("task-closed-total", 1)

    def snapshot(self) -> dict[str, float]:
        """Return all counts of now."""
        with self._lock:
            return dict(self._counts)
