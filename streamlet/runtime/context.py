"""What the threads of an application share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Event, Lock
from typing import Any

from attrs import define, field

from streamlet.clients.supplier import ClientSupplier
from streamlet.config import StreamsConfig
from streamlet.metrics import Sensor
from streamlet.records import TaskId
from streamlet.runtime import settings
from streamlet.runtime.hooks import Hooks
from streamlet.runtime.internal_topics import Admin
from streamlet.runtime.outputs import Outputs, PlainOutputs, TransactionalOutputs
from streamlet.runtime.partitions import Layout, tasks_topic
from streamlet.runtime.plan import TaskPlan
from streamlet.runtime.restore import StateRestoreListener
from streamlet.state import StateDirectory, StateMemory
from streamlet.time import Clock
from streamlet.topology import SubTopology


class TaskClaims:
    """Which tasks are open in this process: one that moves between threads is closed before it is opened again.

    Attributes:
        called: Set when a thread begins to wait for a task: a standby copy of it has to step aside.
    """

    def __init__(self) -> None:
        self.called = Event()
        self._open: set[TaskId] = set()
        self._wanted: dict[object, frozenset[TaskId]] = {}
        self._lock = Lock()

    def claim(self, task: TaskId) -> bool:
        """Take a task; False if another thread still has it."""
        with self._lock:
            if task in self._open:
                return False
            self._open.add(task)
            return True

    def claim_copy(self, task: TaskId) -> bool:
        """Take a task for a standby copy; False if a thread has it, or waits for it."""
        return task not in self.wanted() and self.claim(task)

    def want(self, who: object, tasks: Iterable[TaskId]) -> None:
        """Say for which tasks somebody waits now, in place of what it said before."""
        wanted = frozenset(tasks)
        with self._lock:
            new = wanted - self._wanted.get(who, frozenset())
            if wanted:
                self._wanted[who] = wanted
            else:
                self._wanted.pop(who, None)
        if new:
            self.called.set()

    def wanted(self) -> frozenset[TaskId]:
        """Return the tasks that somebody waits for."""
        with self._lock:
            return frozenset().union(*self._wanted.values())

    def release(self, task: TaskId) -> None:
        """Give a task back."""
        with self._lock:
            self._open.discard(task)


@define(eq=False)
class AppContext:
    """What the threads of an application share.

    Attributes:
        sub_topologies: By number.
        layout: The topology over the topics there are; replaced as a whole when those change.
        plan: The tasks; replaced as a whole.
        changelog_configs: Their configs.
        starts: Where to begin reading the partitions of the tasks topic: what is older than this start does not
            concern it.
        restore_listener: Told how restoring goes.
        claims: The tasks that are open in this process.
        global_stores: Read-only views of the global stores, by name.
        on_shutdown_request: Called when another instance asks all to shut down.
        on_plan_changed: Called when the plan may have changed.
    """

    config: StreamsConfig
    sub_topologies: Mapping[int, SubTopology]
    supplier: ClientSupplier
    clock: Clock
    sensor: Sensor
    hooks: Hooks
    memory: StateMemory
    state_directory: StateDirectory
    admin: Admin
    client_id: str
    layout: Layout
    plan: TaskPlan
    changelog_configs: Mapping[str, Mapping[str, str]]
    starts: Mapping[int, int]
    on_shutdown_request: Callable[[str], None]
    on_plan_changed: Callable[[], None]
    restore_listener: StateRestoreListener | None = None
    paused: bool = False
    claims: TaskClaims = field(factory=TaskClaims)
    global_stores: Mapping[str, Any] = field(factory=dict)

    @property
    def tasks_topic(self) -> str:
        """The topic whose partitions stand for tasks."""
        return tasks_topic(self.config.application_id)

    @property
    def task_timeout(self) -> float:
        """How long (seconds) an operation that times out is tried again."""
        return self.config.task_timeout_ms / 1000

    def task_directory(self, task: TaskId) -> Path | None:
        """Return where a task's stores are; None if it has none on disk."""
        stores = self.sub_topologies[task.sub_topology].stores
        on_disk = any(store.persistent or store.bytes_store is not None for store in stores)
        return self.state_directory.task_directory(task) if on_disk else None

    def outputs(self, thread: int, client_id: str, closing: Callable[[], bool]) -> Outputs:
        """Make the producers of a thread."""
        if self.config.exactly_once:
            # Stable over restarts, so that a restarted process fences its own predecessor at once.
            transactional_id = f"{self.config.application_id}-{self.state_directory.process_id}-{thread}"
            producer = settings.producer(self.config, f"{client_id}-producer", transactional_id=transactional_id)
            return TransactionalOutputs(
                lambda: self.supplier.producer(producer), self.clock, self.task_timeout, closing
            )
        plain = settings.producer(self.config, f"{client_id}-producer")

        def make(callbacks: dict[str, Any]) -> Any:
            return self.supplier.producer({**plain, **callbacks})

        return PlainOutputs(make, self.clock, self.task_timeout, closing)
