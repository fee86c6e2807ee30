"""The tasks of a thread: opened when the group gives them, made ready, rewound, committed away and closed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence

from confluent_kafka import KafkaException, TopicPartition

from streamlet.clients.supplier import Consumer
from streamlet.errors import StreamsError
from streamlet.records import TaskId
from streamlet.runtime import settings
from streamlet.runtime.active import ActiveTask, Phase, Resume
from streamlet.runtime.assignment import tasks_of
from streamlet.runtime.collector import ProducerCollector
from streamlet.runtime.context import AppContext
from streamlet.runtime.failures import error_of, is_busy
from streamlet.runtime.internal_topics import LogBusyError
from streamlet.runtime.outputs import Outputs
from streamlet.runtime.places import Place
from streamlet.runtime.restore import Restorer
from streamlet.runtime.task import Task
from streamlet.state import TaskState
from streamlet.state.cache_budget import CacheBudget

_log = logging.getLogger(__name__)

_ATTEMPT_SECONDS = 5.0


class TaskSet:
    """The tasks that a thread owns.

    Args:
        app: The application.
        consumer: The thread's consumer.
        outputs: The thread's producers.
        restorer: Restores their stores.

    Attributes:
        caught_up: Partitions whose end was reached.
        careful: Whether stores serialise when they are written to.
        wake: Set when a task has something to send on that it had taken before.
    """

    def __init__(self, app: AppContext, consumer: Consumer, outputs: Outputs, restorer: Restorer[ActiveTask]) -> None:
        self._app = app
        self._consumer = consumer
        self._outputs = outputs
        self._restorer = restorer
        self._tasks: dict[int, ActiveTask] = {}
        self._by_place: dict[Place, ActiveTask] = {}
        self._running: tuple[ActiveTask, ...] = ()
        self.caught_up: set[Place] = set()
        self.careful = False
        self._cache_budget = CacheBudget.of(app.config.cache_max_bytes, app.config.num_stream_threads)
        self.wake = threading.Event()

    def _wake(self) -> None:
        if not self.wake.is_set():  # the thread clears it before it looks
            self.wake.set()

    # --- reading ----------------------------------------------------------------------------------------------------

    @property
    def all(self) -> tuple[ActiveTask, ...]:
        """All tasks, in whichever phase."""
        return tuple(self._tasks.values())

    @property
    def running(self) -> tuple[ActiveTask, ...]:
        """Those that process records."""
        return self._running

    @property
    def ready(self) -> bool:
        """Whether all of them run."""
        return len(self._running) == len(self._tasks)

    @property
    def waits(self) -> bool:
        """Whether a task has records that it will send on later."""
        return any(task.task.waits for task in self._running)

    def at(self, place: Place) -> ActiveTask | None:
        """Return the running task that reads a partition."""
        return self._by_place.get(place)

    def lag(self, topic: str, partition: int) -> int | None:
        """Return how many records of a partition wait on the log, None if that is not known (KIP-695).

        Transaction markers look like a record until the end of the partition is reported.
        """
        place = (topic, partition)
        if place in self.caught_up:
            return 0
        task = self._by_place.get(place)
        if task is None:
            return None
        try:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
        except KafkaException:
            return None
        return None if end < 0 else max(end - task.expected[place], 0)

    # --- taking on --------------------------------------------------------------------------------------------------

    def sync(self, owned: Iterable[int]) -> bool:
        """Open the tasks of newly owned partitions of the tasks topic; True if none is missing.

        Raises:
            StateStoreError: A task's stores cannot be opened.
        """
        new, unknown = tasks_of(self._app.plan, (index for index in owned if index not in self._tasks))
        if unknown and max(unknown) >= len(self._app.plan.tasks):
            self._app.on_plan_changed()
        waiting: list[TaskId] = []
        for index, id in new.items():
            if id.sub_topology not in self._app.sub_topologies:
                continue
            if self._app.claims.claim(id):
                try:
                    self._tasks[index] = self._open(index, id)
                except BaseException:
                    self._app.claims.release(id)
                    raise
                self._app.sensor.on_task_created(str(id))
            else:
                waiting.append(id)
        self._app.claims.want(self, waiting)
        return not waiting

    def _open(self, index: int, id: TaskId) -> ActiveTask:
        app = self._app
        sub_topology = app.sub_topologies[id.sub_topology]
        partitions = app.layout.partitions_of(id)
        collector = ProducerCollector(self._outputs)
        task = Task(
            sub_topology,
            id,
            partitions=partitions,
            collector=collector,
            config=app.config,
            clock=app.clock,
            sensor=app.sensor,
            lag=self.lag,
            global_stores=app.global_stores,
            cache_budget=self._cache_budget,
            wake=self._wake,
        )
        collector.task = task
        state = TaskState.open(
            sub_topology.stores, directory=app.task_directory(id), memory=app.memory, timestamp=task.timestamp
        )
        state.careful = self.careful
        return ActiveTask(id, index, sub_topology, partitions, task, collector, state)

    def advance(self) -> bool:
        """Bring tasks that were opened on their way: find where they start, and begin to restore.

        Returns:
            False if the log could not answer now.

        Raises:
            StreamsError: The log did not answer for ``task.timeout.ms``, or a partition has nowhere to start.
        """
        opened = [task for task in self._tasks.values() if task.phase is Phase.OPENED]
        if not opened:
            return True
        try:
            self._find_starts(opened)
            ready = self._restorer.start(opened)
        except (KafkaException, LogBusyError) as error:
            if isinstance(error, KafkaException) and not is_busy(error_of(error)):
                raise
            self._restorer.remove(opened)
            self._count_failure(opened, error)
            return False
        for task in opened:
            task.phase = Phase.RESTORING
            task.attempts_since = None
        self.activate(ready)
        return True

    def _count_failure(self, tasks: Sequence[ActiveTask], error: Exception) -> None:
        now = self._app.clock.monotonic()
        for task in tasks:
            if task.attempts_since is None:
                task.attempts_since = now
            elif now - task.attempts_since > self._app.task_timeout:
                raise StreamsError(
                    f"task {task.id} could not be started for {self._app.task_timeout:.0f} s (task.timeout.ms): {error}"
                ) from error
        _log.info("tasks %s cannot start yet: %s", ", ".join(str(task.id) for task in tasks), error)

    def _find_starts(self, tasks: Sequence[ActiveTask]) -> None:
        """Find committed offsets first and targets of restoring after them: a predecessor's commit is then decided."""
        places = {place: task for task in tasks for place in task.partitions}
        if not places:
            return
        committed = self._consumer.committed([TopicPartition(*place) for place in places], timeout=_ATTEMPT_SECONDS)
        missing: dict[str, list[Place]] = {"earliest": [], "latest": []}
        for found in committed:
            place = (found.topic, found.partition)
            if found.error is not None:
                raise KafkaException(found.error)
            task = places[place]
            if found.offset >= 0:
                task.resume[place] = Resume(found.offset, _epoch(found.leader_epoch))
                task.metadata[place] = found.metadata or ""
                task.task.restore_time(place, found.metadata)
            else:
                missing[self.reset_of(task, place)].append(place)
        for policy, wanted in missing.items():
            for place, offset in self._app.admin.offsets_now(wanted, end=policy == "latest").items():
                task = places[place]
                task.resume[place] = Resume(offset)
                if policy == "latest":  # or a restart before the first commit would skip what came in between
                    task.pinned[place] = offset

    def reset_of(self, task: ActiveTask, place: Place) -> str:
        """Return where a partition begins that has no usable offset: ``earliest`` or ``latest``.

        Raises:
            StreamsError: Nowhere.
        """
        if place[0] in self._app.layout.repartition:
            return "earliest"
        for source in task.sub_topology.sources:
            named = place[0] in source.topics or (source.pattern is not None and source.pattern.fullmatch(place[0]))
            if named and source.auto_offset_reset is not None:
                return source.auto_offset_reset
        policy = settings.default_reset(self._app.config)
        if policy not in ("earliest", "latest"):
            raise StreamsError(
                f"{place[0]}[{place[1]}] (task {task.id}) has no committed offset within the log, "
                f"and auto.offset.reset is {policy!r}: give the source auto_offset_reset='earliest' or 'latest'"
            )
        return policy

    def activate(self, tasks: Iterable[ActiveTask]) -> None:
        """Let restored tasks process records.

        Raises:
            TaskError: A processor could not be initialised.
        """
        for task in tasks:
            task.task.initialize(task.state)
            task.task.set_careful(self.careful)
            task.phase = Phase.RUNNING
            self._read(task)
            _log.info("task %s runs, from %s", task.id, {f"{t}[{p}]": at.offset for (t, p), at in task.resume.items()})
        self._recount()

    def _read(self, task: ActiveTask) -> None:
        task.expected = {place: at.offset for place, at in task.resume.items()}
        self.caught_up.difference_update(task.resume)
        starts = task.starts()
        if starts:
            self._consumer.incremental_assign(starts)
        task.assigned = True
        task.paused = set()
        if self._app.paused:
            self.pause(task, task.partitions)
        for place in task.partitions:
            self._by_place[place] = task

    def _unread(self, task: ActiveTask) -> None:
        if task.assigned and task.resume:
            self._consumer.incremental_unassign([TopicPartition(*place) for place in task.resume])
        task.assigned = False
        for place in task.partitions:
            self._by_place.pop(place, None)

    # --- going on ---------------------------------------------------------------------------------------------------

    def pause(self, task: ActiveTask, places: Iterable[Place]) -> None:
        """Fetch nothing more of these partitions."""
        wanted = [place for place in places if place not in task.paused]
        if wanted:
            self._consumer.pause([TopicPartition(*place) for place in wanted])
            task.paused.update(wanted)

    def resume(self, task: ActiveTask, places: Iterable[Place]) -> None:
        """Fetch these partitions again."""
        wanted = [place for place in places if place in task.paused]
        if wanted:
            self._consumer.resume([TopicPartition(*place) for place in wanted])
            task.paused.difference_update(wanted)

    def reread(self, task: ActiveTask) -> None:
        """Read a task's partitions again from where it resumes.

        Unassigning and assigning works in every state of the consumer, unlike seeking.
        """
        self._unread(task)
        self._read(task)

    def rewind(self) -> None:
        """After an abort: all running tasks go back to their last commit, in place."""
        for task in self._running:
            task.state.rollback()
            task.task.rewind()
            task.uncommitted = False
            self.reread(task)

    def set_careful(self, careful: bool) -> None:
        """Have stores serialise when they are written to, or no longer."""
        self.careful = careful
        for task in self._tasks.values():
            task.state.careful = careful
            task.task.set_careful(careful)
            task.collector.refresh()

    # --- letting go -------------------------------------------------------------------------------------------------

    def of(self, indices: Iterable[int]) -> list[ActiveTask]:
        """Return the tasks of partitions of the tasks topic."""
        return [self._tasks[index] for index in indices if index in self._tasks]

    def close(self, tasks: Iterable[ActiveTask]) -> None:
        """Close tasks; what they have not committed is dropped. The first exception is raised when all are closed."""
        first: Exception | None = None
        self._app.claims.want(self, ())
        for task in list(tasks):
            for step in (self._stop_reading, _close_processors, _close_state):
                try:
                    step(task)
                except Exception as error:
                    first = first or error
            del self._tasks[task.index]
            self._app.claims.release(task.id)
            self._app.sensor.on_task_closed(str(task.id))
        self._recount()
        if first is not None:
            raise first

    def _stop_reading(self, task: ActiveTask) -> None:
        self._restorer.remove([task])
        self._unread(task)

    def _recount(self) -> None:
        self._running = tuple(task for task in self._tasks.values() if task.running)


def _close_processors(task: ActiveTask) -> None:
    if task.running:
        task.task.close()


def _close_state(task: ActiveTask) -> None:
    task.state.close()


def _epoch(epoch: int | None) -> int | None:
    return None if epoch is None or epoch < 0 else epoch
