"""Standby replicas: copies of tasks that other instances run, kept warm in case they come here.

The copies are in the state directory, where the tasks themselves would be. A stream thread that is given such a task
waits until the copy is closed, and then opens it as its own: it goes on from the position that is stored in it. A
standby writes nothing to the log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from streamlet.errors import InvalidStateStoreError, StreamsError
from streamlet.records import TaskId
from streamlet.runtime import settings
from streamlet.runtime.context import AppContext
from streamlet.runtime.follow import Follower, StandbyTask
from streamlet.runtime.members import Membership, MembershipReader
from streamlet.state import StoreBuilder, TaskState
from streamlet.topology import SubTopology

_log = logging.getLogger(__name__)

_IDLE_SECONDS = 0.05
_LOOK_SECONDS = 1.0
_REFRESH_SECONDS = 600.0
_AGAIN_SECONDS = 5.0


def kept_stores(sub_topology: SubTopology) -> tuple[StoreBuilder[Any], ...]:
    """Return the stores of which copies are kept: on disk, with a changelog.

    Others would be empty when their task comes: it is opened anew.
    """
    return tuple(store for store in sub_topology.stores if store.persistent and store.logging)


def tasks_with_copies(sub_topologies: Mapping[int, SubTopology], tasks: Iterable[TaskId]) -> list[TaskId]:
    """Return those of the tasks that have such stores."""
    kept = {number for number, sub_topology in sub_topologies.items() if kept_stores(sub_topology)}
    return [task for task in tasks if task.sub_topology in kept]


class StandbyThread:
    """Keeps the copies that this instance has to keep, with a consumer of its own.

    An error never ends the instance: the copies are closed, and begun again a few seconds later from where they are.

    Args:
        app: The application.
        members: Tells who is in the group.

    Attributes:
        name: Of the thread.
    """

    def __init__(self, app: AppContext, members: MembershipReader) -> None:
        self.name = f"{app.client_id}-standby"
        self._app = app
        self._members = members
        self._stop = threading.Event()
        self._tasks: dict[TaskId, StandbyTask] = {}
        self._follower: Follower | None = None
        self._look_at = self._refresh_at = 0.0
        # Not a daemon: one that is inside RocksDB when the interpreter exits would abort the process.
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=False)

    def start(self) -> None:
        """Start."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, wait for it, and close the copies."""
        self._stop.set()
        self._app.claims.called.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def task_ids(self) -> tuple[TaskId, ...]:
        """The tasks of which this instance has copies now."""
        return tuple(sorted(self._tasks))

    def views(self, sub_topology: int, store: str) -> dict[TaskId, Any]:
        """Return read-only views of the copies of a store that are open now."""
        found: dict[TaskId, Any] = {}
        for task in list(self._tasks.values()):
            if task.id.sub_topology == sub_topology and any(kept.name == store for kept in task.changelogged):
                try:
                    found[task.id] = task.state.read_only(store)
                except InvalidStateStoreError:  # it has just been closed
                    continue
        return found

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._open()
                while not self._stop.is_set():
                    self._turn()
            except Exception as error:
                _log.warning(
                    "%s: standby copies are closed, and begun again in %g s: %s: %s",
                    self.name, _AGAIN_SECONDS, type(error).__name__, error, exc_info=error,
                )  # fmt: skip
            finally:
                self._close()
            self._stop.wait(_AGAIN_SECONDS)

    def _open(self) -> None:
        app, config = self._app, self._app.config
        consumer = app.supplier.consumer(settings.standby(config, f"{self.name}-consumer"))
        self._follower = Follower(
            consumer,
            app.admin,
            application_id=config.application_id,
            configs=app.changelog_configs,
            clock=app.clock,
            sensor=app.sensor,
        )
        now = app.clock.monotonic()
        self._look_at, self._refresh_at = now, now + _REFRESH_SECONDS

    def _turn(self) -> None:
        assert self._follower is not None
        self._drop(self._tasks.keys() & self._app.claims.wanted())
        now = self._app.clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._follow_members()
        taken = self._follower.taken
        if self._tasks and not self._app.paused:
            self._follower.step(0)
            if now >= self._refresh_at:
                self._refresh_at = now + _REFRESH_SECONDS
                self._follower.refresh()
        if self._follower.taken == taken:
            self._app.claims.called.wait(_IDLE_SECONDS)
            self._app.claims.called.clear()

    def _follow_members(self) -> None:
        """Keep what the members of now have this instance keep; while they rebalance, what they had it keep before."""
        app = self._app
        try:
            instances = self._members.read()
        except StreamsError as error:
            _log.info("%s: copies stay as they are: %s", self.name, error)
            return
        if instances is None:
            return
        plan = app.plan
        placed = Membership.of(instances, plan).standbys(
            tasks_with_copies(app.sub_topologies, plan.tasks), app.config.num_standby_replicas
        )
        wanted = {task for task, keepers in placed.items() if app.client_id in keepers}
        self._drop(self._tasks.keys() - wanted)
        new = [self._take(task) for task in sorted(wanted - self._tasks.keys()) if app.claims.claim_copy(task)]
        if new:
            assert self._follower is not None
            self._follower.start(new)
            _log.info("%s keeps copies of tasks %s", self.name, ", ".join(map(str, self.task_ids)))

    def _take(self, id: TaskId) -> StandbyTask:
        app = self._app
        sub_topology = app.sub_topologies[id.sub_topology]
        try:
            state = TaskState.open(
                [store for store in sub_topology.stores if store.persistent],
                directory=app.state_directory.task_directory(id),
                memory=app.memory,
                timestamp=_no_time,
            )
        except BaseException:
            app.claims.release(id)
            raise
        task = self._tasks[id] = StandbyTask(id, state, kept_stores(sub_topology))
        return task

    def _drop(self, ids: Iterable[TaskId]) -> None:
        assert self._follower is not None
        for task in [self._tasks[id] for id in sorted(ids)]:
            try:
                self._follower.remove([task])
            finally:
                del self._tasks[task.id]
                task.state.close()
                self._app.claims.release(task.id)
            _log.info("%s no longer keeps a copy of task %s", self.name, task.id)

    def _close(self) -> None:
        follower = self._follower
        if follower is None:
            return
        for id in list(self._tasks):
            try:
                self._drop([id])
            except Exception as error:
                _log.warning("%s: task %s: %s", self.name, id, error)
        self._follower = None
        follower.close()


def _no_time() -> int:
    """Return the time of the record at hand: there is none, a copy only takes in what has a time."""
    return -1
