"""A client of workflows: starts them, and waits for their ends."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from threading import RLock
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID, uuid4

import orjson
from attrs import frozen
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from spigot_topologies.errors import PlanError, WireError, WorkflowFailed
from spigot_topologies.handlers import Status
from spigot_topologies.plan import check
from spigot_topologies.topologies import ERROR_HEADER, WorkflowTopic
from spigot_topologies.topologies.topics import MAX_KEY_BYTES
from spigot_topologies.wire import create_wf_msg, encode, read_event
from spigot_topologies.workflow import DEFAULT, Registry
from streamlet import ConfigError, StreamsConfig, StreamsError, supplier_for

__all__ = ["WorkflowClient", "WorkflowEvent"]

_LOOK: Final = 0.1  # seconds: so often a waiting call lets others in, and looks at its deadline
_ANSWER: Final = 30.0  # seconds the log has for an answer about the event topic
_BATCH: Final = 500
_REMEMBERED_ENDS: Final = 10_000
_REMEMBERED_KEYS: Final = 100_000
_UNHEARD: Final = (
    "nothing has been heard of it: does a manager run, with this event topic? Is this the id that start returned, "
    "a UUID and not its text?"
)
_STARTED_AGAIN: Final = (
    "nothing has been heard of it since it was started again: its id is taken until the manager's retention has passed "
    "after its end, of which this client has told before"
)
_SECURITY: Final = (KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED)


@frozen
class WorkflowEvent:
    """What the event topic says of a workflow.

    Attributes:
        workflow_id: The workflow's id.
        run_id: Its run.
        status: `running`, `success` or `failure`.
        sequence: Counts the run's transitions.
        value: What the handler returned; without a handler, of an end the scope or the error.
        error: Of a failure, the workflow's error, cut down to its message where it is large.
        timestamp: Of the command that caused it (ms).
    """

    workflow_id: Any
    run_id: UUID
    status: Status
    sequence: int
    value: Any
    error: dict[str, Any] | None
    timestamp: int

    @property
    def is_end(self) -> bool:
        """Whether the workflow has ended with it."""
        return self.status in ("success", "failure")

    def result(self) -> Any:
        """The value of a success.

        Raises:
            WorkflowFailed: the workflow has failed.
            ValueError: it has not ended.
        """
        if self.status == "failure":
            raise WorkflowFailed(self.error, self.workflow_id)
        if self.status != "success":
            raise ValueError(f"workflow {self.workflow_id} has not ended with event {self.sequence}")
        return self.value


class WorkflowClient:
    """Starts workflows, and follows them by the event topic. Safe for use by several threads.

        with WorkflowClient({"brokers": "localhost:9092"}, workflow_topic_cfg=..., event_topic_cfg=...) as client:
            workflow_id = client.start(plan, scope={"?flight": flight})
            print(client.wait(workflow_id, timedelta(minutes=1)).result())

    Args:
        config: `brokers` (or `bootstrap.servers`), and what else the clients need: security settings, keys with the
            prefixes `producer.` and `consumer.`.
        workflow_topic_cfg: The topic for commands.
        event_topic_cfg: The event topic; without, workflows can be started but not followed.
        from_beginning: Also follow workflows whose events were there before the client.
        registry: The words plans may use, for checking them before they are sent.

    Raises:
        ConfigError: a key or value is wrong.
        StreamsError: the event topic does not exist, or the log cannot be reached.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        workflow_topic_cfg: WorkflowTopic,
        event_topic_cfg: WorkflowTopic | None = None,
        from_beginning: bool = False,
        registry: Registry = DEFAULT,
    ) -> None:
        for name, topic in (("workflow_topic_cfg", workflow_topic_cfg), ("event_topic_cfg", event_topic_cfg)):
            if not isinstance(topic, WorkflowTopic) and (topic is not None or name == "workflow_topic_cfg"):
                raise ConfigError(f"{name} must be made with topic_cfg(name), not {topic!r}")
        self._config = StreamsConfig.parse({"application.id": "spigot-client", **config})
        self._workflows = workflow_topic_cfg
        self._events = event_topic_cfg
        self._registry = registry
        self._lock = RLock()
        self._supplier = supplier_for(self._config.bootstrap_servers)
        self._failed: KafkaError | None = None
        self._ends: OrderedDict[bytes, WorkflowEvent] = OrderedDict()
        self._last: dict[bytes, Status] = {}
        self._awaited: set[bytes] = set()
        self._told: dict[bytes, UUID] = {}  # runs whose end was at hand when their id was started anew
        self._passed: dict[bytes, None] = {}  # workflows that nobody waited for when their end came by
        self._has_forgotten = False  # whether some of those are no longer known
        self._reader: _Reader | None = None
        if event_topic_cfg is not None:
            self._reader = _Reader(self._consumer(), event_topic_cfg, from_beginning=from_beginning)
        self._producer = self._supplier.producer(self._config.client("producer"))

    # --- starting -----------------------------------------------------------------------------------------------------

    def start(
        self,
        plan: Any,
        *,
        scope: Mapping[Any, Any] | None = None,
        workflow_id: Any = None,
        ctx: Any = None,
        params: Mapping[Any, Any] | None = None,
        confirm: bool = True,
    ) -> Any:
        """Starts a workflow and returns its id.

        Args:
            plan: The plan.
            scope: Its first scope.
            workflow_id: Its id, by default a random UUID. If there is a workflow with this id already, nothing
                happens to that one, and `wait` waits for its end: for one that this client has not told of yet, since
                the same id may run again once the manager's retention has passed.
            ctx: Data of your own for callbacks and tasks.
            params: Further data to be kept on the workflow, by keys of your own.
            confirm: Wait until the log has the message. Otherwise an error shows at the next call, or at `flush`.

        Raises:
            PlanError: the plan has faults.
            WireError: something inside has no form in the topic's codec, or the message or the id is too large.
            StreamsError: the log did not take it.
        """
        faults = [fault for fault in check(plan, self._registry.vocabulary) if fault.severity == "error"]
        if faults:
            raise PlanError(faults)
        given = workflow_id is not None
        if not given:
            workflow_id = uuid4()
        topic = self._workflows
        key = topic.key_serde.serialize(workflow_id)
        if len(key) > MAX_KEY_BYTES:
            raise WireError(
                "oversize", f"the workflow's id has {len(key):,} bytes; at most {MAX_KEY_BYTES:,} can be sent"
            )
        message = create_wf_msg({**(params or {}), "workflows/form": plan, "workflows/ctx": scope or {}}, ctx)
        data = encode(message, topic.codec, max_bytes=topic.room_for_value(key, []))
        with self._lock:
            self._raise_failed()
            known = self._ends.pop(key, None)
            if known is not None:
                self._told[key] = known.run_id
            if self._reader is not None:
                self._awaited.add(key)
                if given and known is None and (key in self._passed or self._has_forgotten):
                    self._passed.pop(key, None)
                    self._reader.rewind()
            while True:
                try:
                    self._producer.produce(topic.name, data, key, on_delivery=self._delivered)
                    break
                except BufferError:
                    self._producer.poll(_LOOK)
            self._producer.poll(0)
            if confirm:
                self.flush()
        return workflow_id

    def flush(self, timeout: timedelta = timedelta(seconds=60)) -> None:
        """Waits until the log has everything that was started.

        Raises:
            StreamsError: it did not take it, or not within the timeout.
        """
        with self._lock:
            left = self._producer.flush(timeout.total_seconds())
            self._raise_failed()
            if left:
                raise StreamsError(f"the log has not taken {left} messages within {timeout}")

    def _delivered(self, error: KafkaError | None, _message: Any) -> None:
        if error is not None:
            self._failed = error

    def _raise_failed(self) -> None:
        error, self._failed = self._failed, None
        if error is not None:
            raise StreamsError(f"topic {self._workflows.name} did not take a message: {error.str()}")

    # --- following ----------------------------------------------------------------------------------------------------

    def wait(self, workflow_id: Any, timeout: timedelta | None = None) -> WorkflowEvent:
        """Waits for the end of a workflow, a success or a failure.

        Args:
            workflow_id: Its id. Of a workflow that was not started by this client, the end is found if it came after
                the client was made, or with `from_beginning`.
            timeout: How long to wait at most; None: for ever.

        Raises:
            TimeoutError: it did not end within the timeout.
            ConfigError: the client has no event topic.
        """
        key = self._workflows.key_serde.serialize(workflow_id)
        self._follow(key)
        deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
        while True:
            with self._lock:
                end = self._ends.get(key)
                if end is not None:
                    return end
                left = _LOOK if deadline is None else min(_LOOK, deadline - time.monotonic())
                if left <= 0:
                    raise TimeoutError(f"workflow {workflow_id} has not ended within {timeout}; {self._heard(key)}")
                self._read(left)

    def _heard(self, key: bytes) -> str:
        known = self._last.get(key)
        if known is not None:
            return f"it is {known}"
        return _UNHEARD if key not in self._told else _STARTED_AGAIN

    def result(self, workflow_id: Any, timeout: timedelta | None = None) -> Any:
        """Waits for the end of a workflow and gives its event's value; raises as `wait` does.

        Raises:
            WorkflowFailed: the workflow has failed.
        """
        return self.wait(workflow_id, timeout).result()

    def status(self, workflow_id: Any) -> Status | None:
        """What the events so far say of a workflow; None: nothing."""
        key = self._workflows.key_serde.serialize(workflow_id)
        self._follow(key)
        with self._lock:
            while self._read(0):
                pass
            end = self._ends.get(key)
            return self._last.get(key) if end is None else end.status

    def events(self, workflow_id: Any = None, timeout: timedelta | None = None) -> Iterator[WorkflowEvent]:
        """The events of one workflow up to its end, or, without an id, those of all, from where the client began.

        Args:
            workflow_id: The workflow; None: all.
            timeout: Ends when nothing has come for so long; None: goes on for ever.
        """
        wanted = None if workflow_id is None else self._workflows.key_serde.serialize(workflow_id)
        reader = self._need_reader()
        own = _Reader(self._consumer(), reader.topic, start=reader.start)
        try:
            heard = time.monotonic()
            while timeout is None or time.monotonic() - heard <= timeout.total_seconds():
                for key, event in own.read(_LOOK):
                    heard = time.monotonic()
                    if wanted is None or key == wanted:
                        yield event
                        if wanted is not None and event.is_end:
                            return
        finally:
            own.close()

    def _need_reader(self) -> _Reader:
        if self._reader is None:
            raise ConfigError("this client has no event topic: give event_topic_cfg to follow workflows")
        return self._reader

    def _follow(self, key: bytes) -> None:
        reader = self._need_reader()
        with self._lock:
            if key not in self._awaited and key not in self._ends:
                self._awaited.add(key)
                reader.rewind()

    def _read(self, timeout: float) -> bool:
        found = self._need_reader().read(timeout)
        for key, event in found:
            if key not in self._awaited:
                if event.is_end and key not in self._ends:
                    self._pass(key)
                continue
            if event.run_id == self._told.get(key):
                continue
            if event.is_end:
                self._awaited.discard(key)
                self._told.pop(key, None)
                self._last.pop(key, None)
                self._ends[key] = event
                if len(self._ends) > _REMEMBERED_ENDS:
                    self._ends.popitem(last=False)
            else:
                self._last[key] = event.status
        return bool(found)

    def _pass(self, key: bytes) -> None:
        self._passed[key] = None
        if len(self._passed) > _REMEMBERED_KEYS:
            self._passed.clear()
            self._has_forgotten = True

    def _consumer(self) -> Any:
        return self._supplier.consumer(
            {
                **self._config.client("consumer"),
                "group.id": f"spigot-client-{uuid4()}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Waits for what was sent, and lets go of the log. Allowed more than once."""
        with self._lock:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()
            self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Reader:
    """Reads all partitions of the event topic, outside of any group."""

    def __init__(
        self,
        consumer: Any,
        topic: WorkflowTopic,
        *,
        from_beginning: bool = False,
        start: list[tuple[int, int]] | None = None,
    ) -> None:
        self.topic = topic
        self._consumer = consumer
        try:
            self.start = self._begin(from_beginning=from_beginning) if start is None else start
            self.rewind()
        except KafkaException as error:
            # a call that timed out does not say why (the password was refused, for one): the events before it do
            events = [event for message in consumer.consume(_BATCH, 0) if (event := message.error()) is not None]
            cause = next((event for event in events if event.code() in _SECURITY), error.args[0])
            consumer.close()
            raise StreamsError(f"event topic {topic.name} cannot be read: {cause.str()}") from error
        except BaseException:
            consumer.close()
            raise

    def _begin(self, *, from_beginning: bool) -> list[tuple[int, int]]:
        metadata = self._consumer.list_topics(self.topic.name, _ANSWER).topics.get(self.topic.name)
        if metadata is None or metadata.error is not None or not metadata.partitions:
            raise StreamsError(f"event topic {self.topic.name} does not exist: create it, or start the manager first")
        start = []
        for partition in sorted(metadata.partitions):
            low, high = self._consumer.get_watermark_offsets(TopicPartition(self.topic.name, partition), _ANSWER)
            start.append((partition, low if from_beginning else high))
        return start

    def rewind(self) -> None:
        """Goes back to where it began."""
        self._consumer.assign([TopicPartition(self.topic.name, partition, offset) for partition, offset in self.start])

    def read(self, timeout: float) -> list[tuple[bytes, WorkflowEvent]]:
        """The next events with their workflows' keys; waits for the first at most so many seconds."""
        events = []
        for message in self._consumer.consume(_BATCH, timeout):
            error = message.error()
            if error is not None:
                if error.fatal():
                    raise StreamsError(f"event topic {self.topic.name} cannot be read: {error.str()}")
                continue
            event = _event(message, self.topic)
            if event is not None:
                events.append(event)
        return events

    def close(self) -> None:
        self._consumer.close()


def _event(message: Any, topic: WorkflowTopic) -> tuple[bytes, WorkflowEvent] | None:
    headers = message.headers() or []
    said = read_event(headers)
    if said is None:
        return None
    error = dict(headers).get(ERROR_HEADER)
    try:
        workflow_id = topic.key_serde.deserialize(said.workflow_id)
        data = message.value()
        value = None if data is None else topic.codec.read(data)
    except WireError:
        return None  # not written by a manager with this codec
    status: Any = said.status
    return said.workflow_id, WorkflowEvent(
        workflow_id=workflow_id,
        run_id=said.run_id,
        status=status,
        sequence=said.sequence,
        value=value,
        error=None if error is None else orjson.loads(error),
        timestamp=message.timestamp()[1],
    )
