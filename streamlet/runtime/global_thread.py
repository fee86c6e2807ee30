"""Global stores: each instance reads their topics as a whole, before it runs and for as long as it does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from streamlet import serdes
from streamlet.clients.supplier import Consumer, Message
from streamlet.errors import MissingSourceTopicError, StreamsError
from streamlet.records import Headers, TaskId
from streamlet.runtime import settings
from streamlet.runtime.context import AppContext
from streamlet.runtime.failures import is_busy
from streamlet.runtime.places import Place
from streamlet.runtime.restore import delete_retention_ms
from streamlet.runtime.task import Task
from streamlet.state import Stores, TaskState
from streamlet.topology import SubTopology

_log = logging.getLogger(__name__)

_BATCH = 2_000
_POLL_SECONDS = 0.1
_POSITIONS = "streamlet-global-positions"
_READ_AT = " read at"  # behind a topic's name; no topic has such a name


class GlobalThread:
    """Fills the global stores of an instance with a consumer of its own, outside of the group.

    `bootstrap` reads the topics to their ends; `start` goes on in a thread. What was taken in is committed after each
    batch together with its positions, from which the next start goes on; other threads see committed state only.

    Args:
        app: What the threads share.
        parts: The parts of the topology that fill global stores.
        died: Called by the thread if it ends with an error.

    Attributes:
        name: Of the thread.
    """

    def __init__(
        self, app: AppContext, parts: Sequence[SubTopology], *, died: Callable[[BaseException], object]
    ) -> None:
        self.name = f"{app.client_id}-global"
        self._app = app
        self._died = died
        self._stop = threading.Event()
        self._consumer: Consumer | None = None
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=False)
        self._parts: list[_Part] = []
        try:
            for part in parts:
                self._parts.append(_Part(app, part))
        except BaseException:
            self._close()
            raise
        app.global_stores = {name: view for part in self._parts for name, view in part.views().items()}

    def bootstrap(self) -> None:
        """Read all topics to their ends of now; returns early after `stop`.

        Raises:
            MissingSourceTopicError: A topic does not exist.
            StreamsError: The log did not answer, or a record could not be processed.
        """
        try:
            starts = [start for part in self._parts for start in part.starts()]
            config = settings.reader(
                self._app.config,
                f"{self.name}-consumer",
                "global.consumer",
                isolation_level=settings.isolation(self._app.config),
            )
            self._consumer = self._app.supplier.consumer(config)
            self._consumer.assign(starts)
            while any(part.behind for part in self._parts) and not self._stop.is_set():
                self._step()
        except BaseException:
            self._close()
            raise
        for part in self._parts:
            _log.info("global store %s has been read: %s", ", ".join(part.views()), part.progress())

    def start(self) -> None:
        """Go on in a thread."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Have it end soon."""
        self._stop.set()

    def stop(self) -> None:
        """End the thread, wait for it unless it is the caller, and close the stores."""
        self._stop.set()
        if self._thread.ident is None:
            self._close()
        elif self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._step()
        except BaseException as error:
            _log.error("%s has ended: %s: %s", self.name, type(error).__name__, error, exc_info=error)
            self._died(error)
        finally:
            self._close()

    def _step(self) -> None:
        assert self._consumer is not None
        messages = self._consumer.consume(_BATCH, 0) or self._consumer.consume(1, _POLL_SECONDS)
        for place, run in groupby(messages, key=lambda message: (message.topic(), message.partition())):
            part = next((part for part in self._parts if place in part.places), None)
            if part is not None:
                part.take(place, list(run))
            else:
                for message in run:
                    _check(message, "a broker")
        for part in self._parts:
            part.process()

    def _close(self) -> None:
        """Close everything; what fails in it is logged, as the rest has to be closed nevertheless."""
        consumer, self._consumer = self._consumer, None
        parts, self._parts = self._parts, []
        for opened in (consumer, *parts):
            try:
                if opened is not None:
                    opened.close()
            except Exception:
                _log.exception("%s: closing failed", self.name)


class _Part:
    """One global store with the nodes that fill it.

    Attributes:
        places: The partitions of its topic.
    """

    def __init__(self, app: AppContext, part: SubTopology) -> None:
        self._app = app
        self._stores = part.stores
        (self._topic,) = part.source_topics
        count = app.admin.topics().get(self._topic)
        if count is None:
            raise MissingSourceTopicError(
                f"topic {self._topic!r}, read by {part.sources[0].name}, does not exist: make it, or correct its name"
            )
        self.places: list[Place] = [(self._topic, partition) for partition in range(count)]
        self._ends: dict[Place, int] = {}
        self._id = TaskId(part.id, 0)
        self._topic_id = app.admin.topic_ids([self._topic]).get(self._topic, "")
        persistent = all(store.persistent for store in part.stores)
        self._task = Task(
            part,
            self._id,
            partitions=self.places,
            collector=_NoOutput(),
            config=app.config,
            clock=app.clock,
            sensor=app.sensor,
        )
        positions = Stores.key_value(_POSITIONS, serdes.string, serdes.string, in_memory=not persistent, logging=False)
        app.claims.claim(self._id)
        self._state = TaskState.open(
            [*part.stores, positions],
            directory=app.state_directory.task_directory(self._id) if persistent else None,
            memory=app.memory,
            timestamp=self._task.timestamp,
        )
        self._positions = self._state.store(_POSITIONS)
        try:
            self._task.initialize(self._state)
        except BaseException:
            self._state.close()
            raise

    def views(self) -> dict[str, Any]:
        """Return read-only views of its stores, by name."""
        return {store.name: self._state.read_only(store.name) for store in self._stores}

    @property
    def behind(self) -> bool:
        """Whether it has not been read to the end."""
        return bool(self._ends)

    def progress(self) -> str:
        """Return how far it is, for people."""
        return ", ".join(
            f"{topic}[{partition}] at {self._position(topic, partition)}" for topic, partition in self.places
        )

    def starts(self) -> list[TopicPartition]:
        """Return where to begin reading: after what was committed, or at the beginning if that is no longer there."""
        begins = self._app.admin.offsets(self.places, end=False)
        ends = self._app.admin.offsets(self.places, end=True)
        found = {place: self._position(*place) for place in self.places}
        known = {place: position for place, position in found.items() if position is not None}
        why = None
        if any(not begins[place] <= position <= ends[place] for place, position in known.items()) or (
            known and self._positions.get(self._topic) != self._topic_id
        ):
            why = "the topic no longer has what was read last"
        elif any(position < ends[place] for place, position in known.items()) and self._deletions_may_be_gone():
            why = "it was read longer ago than the topic's delete.retention.ms: deletions may be gone"
        if why is not None:
            _log.warning("global store of %s is rebuilt: %s", self._topic, why)
            for name in (*(store.name for store in self._stores), _POSITIONS):
                self._state.wipe(name)
            known = {}
        self._positions.put(self._topic, self._topic_id)
        starts = {place: known.get(place, begins[place]) for place in self.places}
        self._ends = {place: ends[place] for place in self.places if starts[place] < ends[place]}
        return [TopicPartition(*place, offset) for place, offset in starts.items()]

    def _deletions_may_be_gone(self) -> bool:
        """Whether compaction may have removed tombstones that were not read: what they deleted would stay for ever."""
        try:
            configs = self._app.admin.configs([self._topic]).get(self._topic, {})
        except StreamsError as error:  # whoever may read a topic may not always look at its configs
            _log.info("the configs of topic %s are not known, it counts as compacted: %s", self._topic, error)
            configs = {}
        if "compact" not in configs.get("cleanup.policy", "compact"):
            return False
        read_at = self._positions.get(self._topic + _READ_AT)
        return read_at is None or self._app.clock.wall_ms() - int(read_at) > delete_retention_ms(configs)

    def _position(self, topic: str, partition: int) -> int | None:
        text = self._positions.get(f"{topic}-{partition}")
        return None if text is None else int(text)

    def take(self, place: Place, messages: Sequence[Message]) -> None:
        """Take records of one partition, or word of its end."""
        for message in messages:
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                self._ends.pop(place, None)
            elif error is not None:
                _check(message, f"{place[0]}[{place[1]}]")
        records = [message for message in messages if message.error() is None]
        if records:
            self._task.add_records(*place, records)
            if (records[-1].offset() or 0) + 1 >= self._ends.get(place, 0):
                self._ends.pop(place, None)

    def process(self) -> None:
        """Process what was taken, and commit it."""
        taken = False
        while self._task.process(_BATCH):
            taken = True
        if not taken:
            return
        for (topic, partition), offset in self._task.consumed().items():
            self._positions.put(f"{topic}-{partition}", str(offset.offset))
        self._positions.put(self._topic + _READ_AT, str(self._app.clock.wall_ms()))
        self._task.prepare_commit()
        for _ in self._state.changes():  # seals what `commit` writes; the topic is the changelog
            pass
        self._state.commit({})
        self._task.committed()

    def close(self) -> None:
        """Close processors and stores."""
        try:
            self._task.close()
        finally:
            self._state.close()
            self._app.claims.release(self._id)


def _check(message: Message, where: str) -> None:
    error = message.error()
    if error is None or error.code() == KafkaError._PARTITION_EOF:
        return
    if not is_busy(error):
        raise StreamsError(f"a global store cannot be read from {where}: {error.name()}: {error.str()}")
    _log.info("reading a global store waits: %s: %s", error.name(), error.str())


class _NoOutput:
    """Where dead letters of global stores would go: nowhere, as in Kafka Streams; they are logged."""

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
        """Tell that a record is not written."""
        _log.warning("node %s fills a global store: nothing is written to %s", node, topic)

    @property
    def direct(self) -> None:
        """There is no client."""
        return None

    def partition_count(self, topic: str, /) -> int:
        """Return 1."""
        return 1
