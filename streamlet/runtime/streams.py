"""`KafkaStreams`: an application in a process."""

from __future__ import annotations

import logging
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeAlias, TypeVar, overload

from streamlet.clients import supplier_for
from streamlet.clients.supplier import ClientSupplier
from streamlet.config import StreamsConfig
from streamlet.errors import ConfigError, InvalidStateStoreError, StreamsError, TopologyError
from streamlet.metrics import Counters, Sensor
from streamlet.runtime.global_thread import GlobalThread
from streamlet.runtime.hooks import NO_HOOKS, Hooks
from streamlet.runtime.lifecycle import Lifecycle, State, StateListener, ThreadState
from streamlet.runtime.members import MembershipReader
from streamlet.runtime.metadata import KeyQueryMetadata, StreamsMetadata, ThreadMetadata
from streamlet.runtime.prepare import Preparation
from streamlet.runtime.queries import (
    QueryableSessionStore,
    QueryableStore,
    QueryableVersionedStore,
    QueryableWindowStore,
    no_such_store,
    queryable,
)
from streamlet.runtime.reset import clean_local_state
from streamlet.runtime.restore import StateRestoreListener
from streamlet.runtime.sensors import SensorGroup
from streamlet.runtime.standby import StandbyThread
from streamlet.runtime.state_root import state_root
from streamlet.runtime.thread import StreamThread
from streamlet.runtime.watch import Watch
from streamlet.runtime.whereabouts import Whereabouts
from streamlet.serdes import Serde
from streamlet.state import (
    KeyValueStore,
    SessionStore,
    StateDirectory,
    StateMemory,
    StoreBuilder,
    VersionedKeyValueStore,
    WindowStore,
)
from streamlet.time import Clock, SystemClock
from streamlet.topology import Topology
from streamlet.topology.naming import ensure_named
from streamlet.topology.nodes import Partitioner

_log = logging.getLogger(__name__)

_MEMBERS_SECONDS = 1.0
K = TypeVar("K")
V = TypeVar("V")


class StreamThreadExceptionResponse(Enum):
    """What to do after a stream thread has ended with an exception."""

    REPLACE_THREAD = "replace the thread: another takes its tasks over"
    SHUTDOWN_CLIENT = "close this instance, with the state ERROR"
    SHUTDOWN_APPLICATION = "close all instances of the application, with the state ERROR"


UncaughtExceptionHandler: TypeAlias = Callable[[BaseException], StreamThreadExceptionResponse]
"""Called by a stream thread that has ended; it has committed nothing since its last commit, and has left the group."""


class KafkaStreams:
    """An instance of an application: it runs the tasks that the group assigns to it.

    Instances with the same ``application.id`` share the work. `start` begins, `close` ends; as a context manager it is
    closed at the end of the block. Methods may be called from any thread.

    Args:
        topology: What to run.
        config: Kafka Streams' keys, or a `StreamsConfig`.
        clock: Another clock, for tests.
        sensor: Told what happens, beside the counters that `metrics` returns.
        supplier: Another source of clients than ``bootstrap.servers``, for tests.
        hooks: Fault points, for tests.

    Raises:
        ConfigError: The configuration is wrong.
        TopologyError: There is nothing to run, or names are missing (``ensure.explicit.internal.resource.naming``).
    """

    def __init__(
        self,
        topology: Topology,
        config: Mapping[str, Any] | StreamsConfig,
        *,
        clock: Clock | None = None,
        sensor: Sensor | None = None,
        supplier: ClientSupplier | None = None,
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        if not isinstance(topology, Topology):
            raise TopologyError(f"a Topology is needed (StreamsBuilder.build() returns one), not {topology!r}")
        if not topology.sub_topologies:
            raise TopologyError("the topology is empty: it reads no topic")
        self.config = config if isinstance(config, StreamsConfig) else StreamsConfig.parse(config)
        missing = self.config.topology_optimization - topology.optimizations
        if missing:
            raise ConfigError(
                f"topology.optimization asks for {', '.join(sorted(missing))}, but the topology was built without: "
                f"give the configuration to builder.build(config) as well"
            )
        if self.config.ensure_explicit_internal_resource_naming:
            ensure_named(topology)
        self.topology = topology
        self._clock = clock or SystemClock()
        self._counters = Counters()
        self._sensor: Sensor = self._counters if sensor is None else SensorGroup((self._counters, sensor))
        self._supplier = supplier
        self._hooks = hooks
        self._lifecycle = Lifecycle(self._state_changed)
        self._lock = threading.RLock()
        self._threads: dict[int, StreamThread] = {}
        self._state_listener: StateListener | None = None
        self._restore_listener: StateRestoreListener | None = None
        self._uncaught: UncaughtExceptionHandler | None = None
        self._error: BaseException | None = None
        self._preparation: Preparation | None = None
        self._directory: StateDirectory | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._watch: Watch | None = None
        self._global: GlobalThread | None = None
        self._standby: StandbyThread | None = None
        self._whereabouts: Whereabouts | None = None
        self._closing: threading.Thread | None = None
        self._starter: threading.Thread | None = None  # inside `start`, before there are threads

    # --- listeners --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The state of now."""
        return self._lifecycle.state

    def set_state_listener(self, listener: StateListener) -> None:
        """Have `listener(new, old)` called at every change of the state, by the thread that changes it; before `start`.

        Raises:
            StreamsError: The application was started already.
        """
        self._before_start("set_state_listener")
        self._state_listener = listener

    def set_uncaught_exception_handler(self, handler: UncaughtExceptionHandler) -> None:
        """Have `handler(error)` decide what to do after a thread has died; before `start`. Default: SHUTDOWN_CLIENT.

        Raises:
            StreamsError: The application was started already.
        """
        self._before_start("set_uncaught_exception_handler")
        self._uncaught = handler

    def set_global_state_restore_listener(self, listener: StateRestoreListener) -> None:
        """Be told how restoring of any store of this instance goes; before `start`.

        Raises:
            StreamsError: The application was started already.
        """
        self._before_start("set_global_state_restore_listener")
        self._restore_listener = listener

    def _before_start(self, what: str) -> None:
        if self.state is not State.CREATED:
            raise StreamsError(f"{what} must be called before start; the state is {self.state.value}")

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self, timeout: timedelta | None = None) -> None:
        """Begin: check topics, make the internal ones, start the threads. For the rest see `wait_until_running`.

        Args:
            timeout: How long the log may take to answer; default and at most 30 s.

        Raises:
            LogUnreachableError: No broker answers.
            StreamsError: It was started before; the log does not answer; another instance runs another topology.
            MissingSourceTopicError: Source topics do not exist.
            InvalidTopicError: Internal topics are not as the topology needs them.
            LockError: Another process uses the state directory.
            StateMismatchError: The local state belongs to another log.
        """
        with self._lock:
            if self.state is not State.CREATED:
                raise StreamsError(f"an application can be started once; the state is {self.state.value}")
            self._starter = threading.current_thread()
            self._lifecycle.move(State.REBALANCING)
        try:
            app = self._prepare(None if timeout is None else timeout.total_seconds())
        except BaseException as error:
            self._fail(error)
            self._lifecycle.move(State.PENDING_ERROR)
            self._end_start()
            raise
        with self._lock:
            if not self.state.is_running_or_rebalancing:  # closed meanwhile
                self._end_start()
                return
            self._starter = None
            for index in range(1, self.config.num_stream_threads + 1):
                self._threads[index] = StreamThread(app, index, changed=self._thread_changed, died=self._thread_died)
            watch = self._watch = Watch(f"{app.client_id}-watch", self.close)
            watch.every(self._preparation_interval(), self._look_for_topics)
            watch.every(max(self.config.state_cleanup_delay_ms / 1000, 1.0), self._clean_old_state)
            watch.start()
            if self._global is not None:
                self._global.start()
            if self._standby is not None:
                self._standby.start()
            for thread in list(self._threads.values()):
                thread.start()

    def _end_start(self) -> None:
        """End without having run."""
        self._starter = None
        final = State.NOT_RUNNING if self.state is State.PENDING_SHUTDOWN else State.ERROR
        self._release()
        self._lifecycle.move(final)

    def _prepare(self, patience: float | None) -> Any:
        directory = self._directory = StateDirectory(self._state_root(), self.config.application_id, clock=self._clock)
        supplier = self._supplier or supplier_for(self.config.bootstrap_servers)
        self._preparation = Preparation(
            self.topology,
            self.config,
            supplier=supplier,
            clock=self._clock,
            sensor=self._sensor,
            hooks=self._hooks,
            directory=directory,
            memory=shared_memory(self.config.state_memory_max_bytes),
            on_shutdown_request=self._shutdown_requested,
            on_plan_changed=self._hurry,
        )
        app = self._preparation.run(patience)
        app.restore_listener = self._restore_listener
        members = MembershipReader(app.admin, app.tasks_topic, self._clock, max_age=_MEMBERS_SECONDS)
        self._whereabouts = Whereabouts(app, self.topology, members)
        if self.config.num_standby_replicas:
            self._standby = StandbyThread(app, members)
        if self.topology.global_parts:
            self._global = GlobalThread(app, self.topology.global_parts, died=self._stop_with)
            if not self.state.is_running_or_rebalancing:  # `close` may have come before there was something to stop
                self._global.ask_to_stop()
            self._global.bootstrap()
        return app

    def _state_root(self) -> Path:
        root = state_root(self.config)
        if root is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="streamlet-state-")
            root = Path(self._temporary.name)
        return root

    def wait_until_running(self, timeout: timedelta | None = None) -> bool:
        """Wait until the application runs; False after the timeout.

        Raises:
            BaseException: What stopped it instead.
        """
        seconds = None if timeout is None else timeout.total_seconds()
        reached = self._lifecycle.wait_for(
            lambda state: state in (State.RUNNING, State.PENDING_ERROR, State.PENDING_SHUTDOWN) or state.has_ended,
            seconds,
        )
        if self.state is not State.RUNNING and self._error is not None:
            self._lifecycle.wait_for(lambda state: state.has_ended, seconds)
            raise self._error
        return reached and self.state is State.RUNNING

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Wait until the application has ended: by `close`, by an error, by Ctrl-C or by SIGTERM.

        In the main thread, and only while it waits, it handles the two signals: the first one closes the application.

        Returns:
            Whether it has ended; False after the timeout.

        Raises:
            BaseException: What stopped the application, if it was an error.
        """
        seconds = None if timeout is None else timeout.total_seconds()
        if threading.current_thread() is threading.main_thread():
            with _Signals() as signalled:
                ended = self._lifecycle.wait_for(lambda state: state.has_ended or signalled.is_set(), seconds, 0.2)
                if signalled.is_set():
                    _log.info("%s received: closing", signalled.name)
                    ended = self.close()
        else:
            ended = self._lifecycle.wait_for(lambda state: state.has_ended, seconds)
        if ended and self._error is not None:
            raise self._error
        return ended

    def close(self, timeout: timedelta | None = None) -> bool:
        """Commit, leave the group at once and end. May be called again.

        From a thread of the application, and from a state listener, it does not wait: what they are at ends first.

        Args:
            timeout: How long to wait for the threads; default: until they have ended.

        Returns:
            Whether everything has ended.
        """
        with self._lock:
            if self._lifecycle.move(State.PENDING_SHUTDOWN):
                self._shut_down(State.NOT_RUNNING)
        if self._lifecycle.tells or self._within_own_thread():
            return self.state.has_ended
        return self._lifecycle.wait_for(
            lambda state: state.has_ended, None if timeout is None else timeout.total_seconds()
        )

    def _shut_down(self, final: State) -> None:
        """Stop the threads; a thread of its own waits for them, so that also a stream thread may ask for it."""
        if self._starter is not None:  # it ends what it has begun
            if self._global is not None:
                self._global.ask_to_stop()
            return
        threads = list(self._threads.values())
        for thread in threads:
            thread.stop()

        def finish() -> None:
            try:
                for thread in threads:
                    thread.join(None)
                self._release()
            except Exception:
                _log.exception("closing failed")
            finally:
                self._lifecycle.move(final)

        if not threads:
            finish()
            return
        self._closing = threading.Thread(target=finish, name=f"{self.config.application_id}-close", daemon=False)
        self._closing.start()

    def _release(self) -> None:
        if self._standby is not None:
            self._standby.stop()
        if self._global is not None:
            self._global.stop()
        if self._watch is not None:
            self._watch.stop()
        if self._directory is not None:
            self._directory.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _within_own_thread(self) -> bool:
        current = threading.current_thread()
        others = (thread.name for thread in (self._watch, self._global, self._standby) if thread is not None)
        return current is self._starter or current.name in {*(t.name for t in self._threads.values()), *others}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def clean_up(self) -> None:
        """Delete the local state of this application; it is restored from the changelogs. Not while it runs.

        Raises:
            StreamsError: The application is running.
            LockError: Another instance uses the state directory.
        """
        if self.state is not State.CREATED and not self.state.has_ended:
            raise StreamsError(f"clean_up must be called before start or after close; the state is {self.state.value}")
        root = self._state_root()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None
            return
        directory = StateDirectory(root, self.config.application_id, clock=self._clock)
        try:
            clean_local_state(directory)
        finally:
            directory.close()

    def pause(self) -> None:
        """Stop processing and punctuation, but stay in the group; restoring goes on."""
        self._app().paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._app().paused = False

    @property
    def is_paused(self) -> bool:
        """Whether it is paused."""
        return self._preparation is not None and self._preparation.app is not None and self._preparation.app.paused

    # --- questions --------------------------------------------------------------------------------------------------

    @overload
    def store(
        self, store: StoreBuilder[KeyValueStore[K, V]], /, *, partition: int | None = ..., stale_stores: bool = ...
    ) -> QueryableStore[K, V]: ...
    @overload
    def store(
        self, store: StoreBuilder[WindowStore[K, V]], /, *, partition: int | None = ..., stale_stores: bool = ...
    ) -> QueryableWindowStore[K, V]: ...
    @overload
    def store(
        self, store: StoreBuilder[SessionStore[K, V]], /, *, partition: int | None = ..., stale_stores: bool = ...
    ) -> QueryableSessionStore[K, V]: ...
    @overload
    def store(
        self,
        store: StoreBuilder[VersionedKeyValueStore[K, V]],
        /,
        *,
        partition: int | None = ...,
        stale_stores: bool = ...,
    ) -> QueryableVersionedStore[K, V]: ...
    @overload
    def store(self, store: str, /, *, partition: int | None = ..., stale_stores: bool = ...) -> Any: ...
    def store(
        self, store: StoreBuilder[Any] | str, /, *, partition: int | None = None, stale_stores: bool = False
    ) -> Any:
        """Return a read-only view of a store's committed state, over the tasks of this instance.

        It has the methods of the kind of store: see `QueryableStore`, `QueryableWindowStore`, `QueryableSessionStore`
        and `QueryableVersionedStore`.

        Args:
            store: Its name (a table's store then shows plain values), or the builder it was declared with, which also
                gives the types (and values with timestamps where the store has them).
            partition: Look into this partition only, for example that of `query_metadata_for_key`.
            stale_stores: Look also into tasks that are being restored and into standby copies: they show a state that
                was committed, but may be behind.

        Raises:
            InvalidStateStoreError: There is no such store.
        """
        name = store if isinstance(store, str) else store.name
        parts = (*self.topology.sub_topologies, *self.topology.global_parts)
        declared = {part_store.name: (part.id, part_store.kind) for part in parts for part_store in part.stores}
        if name not in declared:
            raise no_such_store(name, list(declared))
        sub_topology, kind = declared[name]

        def views() -> list[Any]:
            return self._views(name, sub_topology, partition, stale=stale_stores)

        return queryable(kind, views, plain=isinstance(store, str))

    def _views(self, name: str, sub_topology: int, partition: int | None, *, stale: bool) -> list[Any]:
        if not self.state.is_running_or_rebalancing:
            raise InvalidStateStoreError(
                f"store {name!r} cannot be queried: the application is {self.state.value}, not RUNNING"
            )
        if name in self._app().global_stores:
            return [self._app().global_stores[name]]
        tasks = [
            task
            for thread in list(self._threads.values())
            for task in thread.tasks
            if task.id.sub_topology == sub_topology and partition in (None, task.id.partition)
        ]
        if not stale and any(not task.running for task in tasks):
            raise InvalidStateStoreError(f"store {name!r} is being restored: try again later")
        found = {} if self._standby is None or not stale else self._standby.views(sub_topology, name)
        if partition is not None:
            found = {id: view for id, view in found.items() if id.partition == partition}
        found.update({task.id: task.state.read_only(name) for task in tasks})
        if partition is not None and not found:
            raise InvalidStateStoreError(
                f"partition {partition} of store {name!r} is not on this instance now: query_metadata_for_key tells "
                f"which one has it"
            )
        return [found[id] for id in sorted(found)]

    def query_metadata_for_key(
        self,
        store: str,
        key: Any,
        key_serde: Serde[Any] | None = None,
        *,
        partitioner: Partitioner | None = None,
    ) -> KeyQueryMetadata:
        """Return which instance has a key of a store, and which keep a copy of it.

        What the group says about its members is remembered for a second: ask again if the instance does not have the
        partition (any longer). For a window or session store the key is that of the record, without the window.

        Args:
            store: Name of the store.
            key: The key.
            key_serde: Serde of the keys of the topic that the store's task reads; default: that of the store.
            partitioner: What chooses the partitions of that topic; default: the hash that the producers use. It gets
                the value None.

        Returns:
            Where it is; `KeyQueryMetadata.NOT_AVAILABLE` while the group rebalances.

        Raises:
            ConfigError: ``application.server`` is not set.
            InvalidStateStoreError: There is no such store, or the application does not run.
            SerializationError: The key has no bytes.
            StreamsError: The log did not answer.
        """
        return self._knowing(store).of_key(store, key, key_serde, partitioner)

    def streams_metadata_for_store(self, store: str) -> tuple[StreamsMetadata, ...]:
        """Return what those instances have that have a store, or copies of it; empty while the group rebalances.

        Raises:
            InvalidStateStoreError: There is no such store, or the application does not run.
            StreamsError: The log did not answer.
        """
        return self._knowing(store).of_store(store)

    def metadata_for_all_streams_clients(self) -> tuple[StreamsMetadata, ...]:
        """Return what every instance of the application has; empty while the group rebalances.

        Raises:
            InvalidStateStoreError: The application does not run.
            StreamsError: The log did not answer.
        """
        return self._knowing(None).of_all()

    def _knowing(self, store: str | None) -> Whereabouts:
        if self._whereabouts is None or not self.state.is_running_or_rebalancing:
            what = "the instances" if store is None else f"the instances with store {store!r}"
            raise InvalidStateStoreError(f"{what} cannot be found: the application is {self.state.value}, not RUNNING")
        return self._whereabouts

    def metadata_for_local_threads(self) -> tuple[ThreadMetadata, ...]:
        """Return the stream threads, with their tasks."""
        return tuple(
            ThreadMetadata(thread.name, thread.state, thread.task_ids) for thread in list(self._threads.values())
        )

    def restore_progress(self) -> dict[str, tuple[int, int, int]]:
        """Return for each changelog being restored (``topic[partition]``) where it began, where it is, its target."""
        progress: dict[str, tuple[int, int, int]] = {}
        for thread in list(self._threads.values()):
            progress.update(thread.restore_progress())
        return progress

    def metrics(self) -> dict[str, float]:
        """Return what was counted since the start."""
        alive = sum(thread.state is not ThreadState.DEAD for thread in list(self._threads.values()))
        standbys = 0 if self._standby is None else len(self._standby.task_ids)
        return {**self._counters.snapshot(), "alive-stream-threads": alive, "standby-tasks": standbys}

    # --- from the threads -------------------------------------------------------------------------------------------

    def _state_changed(self, new: State, old: State) -> None:
        self._sensor.on_state(new.value)
        if self._state_listener is not None:
            try:
                self._state_listener(new, old)
            except Exception:
                _log.exception("the state listener failed")

    def _thread_changed(self, thread: StreamThread) -> None:
        _log.debug("%s: %s", thread.name, thread.state.value)
        with self._lock:
            if not self.state.is_running_or_rebalancing or thread.state in (
                ThreadState.PENDING_SHUTDOWN,
                ThreadState.DEAD,
            ):
                return
            running = all(thread.state is ThreadState.RUNNING for thread in self._threads.values())
            self._lifecycle.move(State.RUNNING if running else State.REBALANCING)

    def _thread_died(self, thread: StreamThread, error: BaseException) -> None:
        _log.error("%s has ended: %s: %s", thread.name, type(error).__name__, error, exc_info=error)
        response = StreamThreadExceptionResponse.SHUTDOWN_CLIENT
        if self._uncaught is not None:
            try:
                response = self._uncaught(error)
            except BaseException:  # sys.exit() too: in a thread it would end nothing but the thread
                _log.exception("the uncaught exception handler failed: the application is closed")
        if response is StreamThreadExceptionResponse.REPLACE_THREAD:
            with self._lock:
                if self.state.is_running_or_rebalancing:
                    self._replace(thread)
            return
        if response is StreamThreadExceptionResponse.SHUTDOWN_APPLICATION and self._preparation is not None:
            try:
                self._preparation.ask_all_to_shut_down(f"{type(error).__name__}: {error}")
            except StreamsError:
                _log.exception("the other instances could not be asked to shut down")
        self._fail(error)
        with self._lock:
            if self._lifecycle.move(State.PENDING_ERROR):
                self._shut_down(State.ERROR)

    def _replace(self, thread: StreamThread) -> None:
        replacement = StreamThread(self._app(), thread.index, changed=self._thread_changed, died=self._thread_died)
        self._threads[thread.index] = replacement
        replacement.start()

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error

    def _shutdown_requested(self, reason: str) -> None:
        self._fail(StreamsError(f"another instance of the application asked all to shut down: {reason}"))
        with self._lock:
            if self._lifecycle.move(State.PENDING_ERROR):
                _log.error("%s", self._error)
                self._shut_down(State.ERROR)

    # --- beside the threads -----------------------------------------------------------------------------------------

    def _app(self) -> Any:
        if self._preparation is None or self._preparation.app is None:
            raise StreamsError("the application was not started")
        return self._preparation.app

    def _preparation_interval(self) -> float:
        assert self._preparation is not None
        return self._preparation.interval

    def _hurry(self) -> None:
        if self._watch is not None:
            self._watch.hurry()

    def _look_for_topics(self) -> None:
        assert self._preparation is not None
        try:
            self._preparation.look_again()
        except (TopologyError, ConfigError) as error:
            self._stop_with(error)
        except StreamsError as error:
            if Preparation.is_final(error):
                self._stop_with(error)
            else:
                raise

    def _stop_with(self, error: BaseException) -> None:
        self._fail(error)
        with self._lock:
            if self._lifecycle.move(State.PENDING_ERROR):
                _log.error("the application ends: %s", error)
                self._shut_down(State.ERROR)

    def _clean_old_state(self) -> None:
        assert self._directory is not None
        claims = self._app().claims
        removed = self._directory.clean_up(self.config.state_cleanup_delay_ms, claims.claim, claims.release)
        if removed:
            _log.info("deleted the state of tasks that moved away: %s", ", ".join(map(str, removed)))


class _Signals:
    """Takes SIGINT and SIGTERM while it is entered; the main thread only."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def is_set(self) -> bool:
        """Whether one came."""
        return self.name is not None

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None: it was not set from Python, and cannot be set back to what it was
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


_memory_lock = threading.Lock()
_memory: StateMemory | None = None


def shared_memory(max_bytes: int) -> StateMemory:
    """Return the process's budget for state: all applications share it, the first one decides its size."""
    global _memory
    with _memory_lock:
        if _memory is None:
            _memory = StateMemory(max_bytes)
        elif _memory.max_bytes != max_bytes:
            _log.warning(
                "state.memory.max.bytes is %d: set by the first application of this process, %d is not used",
                _memory.max_bytes, max_bytes,
            )  # fmt: skip
        return _memory
