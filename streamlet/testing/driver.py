"""`TopologyTestDriver`: a topology at work in the calling thread, with no log."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from attrs import frozen

from streamlet.config import StreamsConfig
from streamlet.errors import InvalidStateStoreError, StreamsError, TopologyError
from streamlet.metrics import Counters
from streamlet.records import Headers, TaskId
from streamlet.runtime.task import Task
from streamlet.state import StateMemory, StoreBuilder, TaskState, TimestampedKeyValueStore
from streamlet.state.cache_budget import CacheBudget
from streamlet.testing.messages import TestMessage
from streamlet.testing.plain import PlainKeyValueStore
from streamlet.testing.promises import PromiseChecker
from streamlet.testing.topics import TestInputTopic, TestOutputTopic
from streamlet.time import ManualClock, SystemClock
from streamlet.topic import Topic
from streamlet.topology.graph import SubTopology, Topology
from streamlet.topology.naming import ensure_named
from streamlet.topology.nodes import changelog_name

S = TypeVar("S")
K = TypeVar("K")
V = TypeVar("V")

_DEFAULTS = {
    "application.id": "topology-test-driver",
    "bootstrap.servers": "embedded:",
    "__emit.interval.ms.kstreams.windowed.aggregation__": 0,  # results must not wait for a clock that stands still
    "__emit.interval.ms.kstreams.outer.join.spurious.results.fix__": 0,
}

_LOOK_SECONDS = 0.02  # a result wakes the driver at once; this is for timeouts


@frozen
class _Unit:
    """One task with its stores."""

    task: Task
    state: TaskState
    promises: PromiseChecker | None


class TopologyTestDriver:
    """Runs all sub-topologies of a topology, one task each, in the calling thread.

    Records that are piped in are processed at once, and so is what is written to topics that the topology reads. After
    every record there is a commit. The wall clock stands still until `advance_wall_clock_time`; stream time follows the
    records.

    ::

        with TopologyTestDriver(topology) as driver:
            driver.create_input_topic(lines).pipe_input("k", "hello kafka hello", timestamp=0)
            assert driver.create_output_topic(counts).read_key_values_to_map() == {"hello": 2, "kafka": 1}

    Args:
        topology: What to run.
        config: Kafka Streams' keys; none is needed. With ``state.dir``, stores are in RocksDB there, otherwise in
            memory.
        initial_wall_clock_time: In ms since the epoch; default: the machine's time.

    Raises:
        BrokenPromiseError: (On piping) if an operator changes a value in place although its store has
            ``immutable_values``.
    """

    def __init__(
        self,
        topology: Topology,
        config: Mapping[str, Any] | None = None,
        *,
        initial_wall_clock_time: int | None = None,
    ) -> None:
        self.config = StreamsConfig.parse({**_DEFAULTS, **(config or {})})
        if self.config.ensure_explicit_internal_resource_naming:
            ensure_named(topology)
        self.topology = topology
        self.clock = ManualClock(
            SystemClock().wall_ms() if initial_wall_clock_time is None else initial_wall_clock_time
        )
        self._sensor = Counters()
        self._memory = StateMemory(self.config.state_memory_max_bytes)
        self._cache_budget = CacheBudget.of(self.config.cache_max_bytes)
        self._produced: dict[str, deque[TestMessage]] = {}
        self._offsets: dict[str, int] = {}
        self._pending: deque[TestMessage] = deque()
        self._closed = False
        self._wake = threading.Event()
        self._units: list[_Unit] = []
        self._global_parts = topology.global_parts
        try:
            for sub_topology in (*topology.global_parts, *topology.sub_topologies):
                self._units.append(self._start(sub_topology))
        except BaseException:
            self.close()
            raise
        self._run()

    def _start(self, sub_topology: SubTopology) -> _Unit:
        task_id = TaskId(sub_topology.id, 0)
        internal = {topic: self._on_log(topic) for topic in sub_topology.source_topics}
        watched = any(store.immutable_values for store in sub_topology.stores)
        checkers: list[PromiseChecker] = []
        task = Task(
            sub_topology,
            task_id,
            partitions=[(topic, 0) for topic in internal.values()],
            collector=self,
            config=self.config,
            clock=self.clock,
            sensor=self._sensor,
            wake=self._wake.set,
            observe=(lambda node, process: checkers[0].observe(node, process)) if watched else None,
            global_stores={
                store.name: unit.state.read_only(store.name)
                for unit in self._units
                if unit.task.sub_topology in self._global_parts
                for store in unit.task.sub_topology.stores
            },
            cache_budget=self._cache_budget,
        )
        directory = self.config.state_dir
        state = TaskState.open(
            sub_topology.stores,
            directory=None if directory is None else directory / self.config.application_id / str(task_id),
            memory=self._memory,
            timestamp=task.timestamp,
        )
        if watched:
            checkers.append(PromiseChecker(state))
        unit = _Unit(task, state, checkers[0] if checkers else None)
        try:
            task.initialize(state)
        except BaseException:
            state.close()
            raise
        return unit

    def _on_log(self, topic: str) -> str:
        return self.topology.name_on_log(self.config.application_id, topic)

    # --- topics -----------------------------------------------------------------------------------------------------

    def create_input_topic(
        self,
        topic: Topic[K, V],
        /,
        *,
        start_timestamp: int | None = None,
        auto_advance: timedelta = timedelta(0),
    ) -> TestInputTopic[K, V]:
        """Return a way to write to a topic that the topology reads.

        Args:
            topic: The topic.
            start_timestamp: Timestamp (ms) of the first record that is given none; default: the driver's wall clock.
            auto_advance: What to add after each record that is given none.
        """
        start = self.clock.wall_ms() if start_timestamp is None else start_timestamp
        return TestInputTopic(topic, self._pipe, start, auto_advance)

    def create_output_topic(self, topic: Topic[K, V], /) -> TestOutputTopic[K, V]:
        """Return a way to read what the topology writes to a topic; each record is read once, by whoever reads
        first."""
        return TestOutputTopic(topic, lambda: self._produced.get(topic.name, _NOTHING))

    @property
    def produced_topic_names(self) -> frozenset[str]:
        """Names of all topics that were written to, as they would be on a log, changelogs included."""
        return frozenset(self._produced)

    def _pipe(self, topic: str, key: bytes | None, value: bytes | None, timestamp: int, headers: Headers) -> None:
        self._check_open()
        if not self._readers(topic):
            known = sorted({self._on_log(name) for part in self._parts() for name in part.source_topics})
            patterns = [pattern.pattern for part in self._parts() for pattern in part.patterns]
            raise TopologyError(
                f"the topology does not read topic {topic!r}; it reads {', '.join([*known, *patterns]) or 'none'}"
            )
        self._pending.append(TestMessage(topic, key, value, timestamp, headers, 0, self._next_offset(topic)))
        self._run()

    def _parts(self) -> tuple[SubTopology, ...]:
        return (*self._global_parts, *self.topology.sub_topologies)

    def _next_offset(self, topic: str) -> int:
        offset = self._offsets.get(topic, 0)
        self._offsets[topic] = offset + 1
        return offset

    def _readers(self, topic: str) -> list[_Unit]:
        return [unit for unit in self._units if unit.task.reads(topic)]

    # --- the tasks' collector ---------------------------------------------------------------------------------------

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Headers,
        partition: int | None,
        node: str,
        /,
    ) -> None:
        """Capture a record, and feed it back if the topology reads its topic; called by the tasks."""
        message = TestMessage(topic, key, value, timestamp, headers, 0, self._next_offset(topic))
        self._produced.setdefault(topic, deque()).append(message)
        if self._readers(topic):
            self._pending.append(message)

    @property
    def direct(self) -> None:
        """There is no client."""
        return None

    def partition_count(self, topic: str, /) -> int:
        """Return 1: here every topic has one partition."""
        return 1

    # --- work -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Process everything that can be, a commit after each record; wait for what is in flight."""
        try:
            progress = True
            while progress:
                progress = False
                while self._pending:
                    message = self._pending.popleft()
                    for unit in self._readers(message.topic()):
                        unit.task.add_partition(message.topic(), 0)
                        unit.task.add_records(message.topic(), 0, [message])
                for unit in self._units:
                    if unit.task.process(1):
                        self._commit(unit)
                        progress = True
                        break
                if not progress and any(unit.task.waits for unit in self._units):
                    self._wake.wait(_LOOK_SECONDS)
                    self._wake.clear()
                    progress = True
        except BaseException:
            self._pending.clear()
            for unit in self._units:
                unit.task.rewind()
                unit.state.rollback()
            raise

    def _commit(self, unit: _Unit) -> None:
        unit.task.prepare_commit()
        if unit.promises is not None:
            unit.promises.verify()
        for store, records in unit.state.changes():
            topic = changelog_name(self.config.application_id, store)
            for record in records:
                self.send(topic, record.key, record.value, record.timestamp, (), 0, store)
        unit.state.commit({})
        unit.task.committed()

    def advance_wall_clock_time(self, by: timedelta) -> None:
        """Move the wall clock forward, and call the punctuations that are due then, each once."""
        self._check_open()
        self.clock.advance(by)
        for unit in self._units:
            if unit.task.punctuate():
                self._commit(unit)
        self._run()

    # --- looking in -------------------------------------------------------------------------------------------------

    @overload
    def get_state_store(self, store: StoreBuilder[S], /) -> S: ...
    @overload
    def get_state_store(self, store: str, /) -> Any: ...
    def get_state_store(self, store: StoreBuilder[Any] | str, /) -> Any:
        """Return a store, to be read or to be filled before the test.

        Given by its name, a table's store shows plain values, without their timestamps;
        `get_timestamped_key_value_store` shows both.

        Raises:
            InvalidStateStoreError: If there is none of that name.
        """
        if not isinstance(store, str):
            return self._store(store.name)
        found = self._store(store)
        return PlainKeyValueStore(found, self.clock.wall_ms) if isinstance(found, TimestampedKeyValueStore) else found

    def get_timestamped_key_value_store(self, name: str) -> TimestampedKeyValueStore[Any, Any]:
        """Return a table's store, whose values are ``ValueAndTimestamp``.

        Raises:
            InvalidStateStoreError: If there is none of that name, or it is of another kind.
        """
        store = self._store(name)
        if not isinstance(store, TimestampedKeyValueStore):
            raise InvalidStateStoreError(f"store {name!r} is no timestamped key-value store: use get_state_store")
        return store

    def _store(self, name: str) -> Any:
        stores = self.get_all_state_stores()
        if name not in stores:
            raise InvalidStateStoreError(
                f"there is no store {name!r}; the stores are: {', '.join(sorted(stores)) or 'none'}"
            )
        return stores[name]

    def get_all_state_stores(self) -> dict[str, Any]:
        """Return all stores by name."""
        self._check_open()
        return {
            builder.name: unit.state.store(builder.name)
            for unit in self._units
            for builder in unit.task.sub_topology.stores
        }

    def metrics(self) -> dict[str, float]:
        """Return counts of what happened: processed and dropped records and the like."""
        return self._sensor.snapshot()

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all processors and stores; allowed more than once."""
        if self._closed:
            return
        self._closed = True
        first: BaseException | None = None
        for unit in self._units:
            for close in (unit.task.close, unit.state.close):
                try:
                    close()
                except Exception as error:
                    first = first or error
        if first is not None:
            raise first

    def _check_open(self) -> None:
        if self._closed:
            raise StreamsError("the driver is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None, /) -> None:
        self.close()


_NOTHING: deque[TestMessage] = deque()
