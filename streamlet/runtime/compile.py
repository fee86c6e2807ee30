"""A sub-topology becomes functions, leaves first: one per source, each running everything behind it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from streamlet.errors import ControlError, TopologyError
from streamlet.processor.api import Cancellable, PunctuationType
from streamlet.processor.operator import Deferring, Forward, InFlight, Remembered
from streamlet.records import Headers, RecordMetadata, TaskId
from streamlet.serdes import as_it_is
from streamlet.state.cache_budget import CacheBudget
from streamlet.topology.graph import SubTopology
from streamlet.topology.nodes import Node, ProcessorNode, SinkNode, SourceNode

if TYPE_CHECKING:
    from streamlet.runtime.task import Direct, Task


class TaskNodeContext:
    """What a node sees of its task: see `NodeContext`."""

    def __init__(self, task: Task, node: Node, children: Mapping[str, Forward]) -> None:
        self._task = task
        self._node = node
        self._children = children
        self._stores = node.stores if isinstance(node, ProcessorNode) else ()

    @property
    def node(self) -> str:
        return self._node.name

    @property
    def task_id(self) -> TaskId:
        return self._task.id

    @property
    def children(self) -> tuple[str, ...]:
        return tuple(self._children)

    def child(self, name: str) -> Forward:
        try:
            return self._children[name]
        except KeyError:
            known = ", ".join(map(repr, self._children)) or "none"
            raise TopologyError(f"node {self.node!r} has no child {name!r}; its children: {known}") from None

    def store(self, name: str) -> Any:
        if name not in self._stores and name in self._task.global_stores:
            return self._task.global_stores[name]
        if name not in self._stores:
            known = ", ".join(map(repr, self._stores)) or "none"
            raise TopologyError(
                f"store {name!r} is not connected with node {self.node!r} (connected: {known}): "
                f"name it in the processor's `stores`, in process(..., stores=[...]) "
                f"or with connect_processor_and_state_stores"
            )
        return self._task.state.store(name)

    def committed_store(self, name: str) -> Any:
        self.store(name)  # refuses one that is not connected
        return self._task.state.read_only(name)

    @property
    def cache_budget(self) -> CacheBudget | None:
        return self._task.cache_budget

    def shared(self, name: str, make: Callable[[], Any]) -> Any:
        return self._task.shared(name, make)

    def failed(self, error: Exception, key: Any, value: Any, timestamp: int, headers: Headers) -> None:
        if isinstance(error, ControlError):
            raise error
        self._task.processing_failed(self.node, error, key, value, timestamp, headers)

    def dropped(self, reason: str) -> None:
        self._task.dropped(self.node, reason)

    def schedule(self, interval_ms: int, type: PunctuationType, callback: Callable[[int], object]) -> Cancellable:
        return self._task.schedule(self, interval_ms, type, callback)

    def request_commit(self) -> None:
        self._task.commit_requested = True

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._task.on_commit(callback)

    def on_committed(self, callback: Callable[[], None]) -> None:
        self._task.on_committed(callback)

    def on_rewind(self, callback: Callable[[], None]) -> None:
        self._task.on_rewind(callback)

    def remember(self, name: str) -> Remembered:
        return self._task.remember(f"{self.node}/{name}")

    def on_close(self, callback: Callable[[], None]) -> None:
        self._task.on_close(callback)

    def defer(self, node: Deferring, limit: int) -> InFlight:
        return self._task.defer(node, limit)

    def stream_time(self) -> int:
        return self._task.stream_time

    def wall_clock_time(self) -> int:
        return self._task.clock.wall_ms()

    def record_metadata(self) -> RecordMetadata | None:
        return self._task.record_metadata()

    @property
    def config(self) -> Any:
        return self._task.config

    def app_configs(self) -> Mapping[str, Any]:
        return self._task.app_configs()


def nothing(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
    """Where a branch ends without a sink."""


def fan_out(children: Sequence[Forward]) -> Forward:
    """Return one function that calls all of them in order."""
    match tuple(children):
        case ():
            return nothing
        case (only,):
            return only
        case (first, second):

            def both(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
                first(key, value, timestamp, headers)
                second(key, value, timestamp, headers)

            return both
        case several:

            def all_of_them(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
                for child in several:
                    child(key, value, timestamp, headers)

            return all_of_them


def compile_sub_topology(sub_topology: SubTopology, task: Task) -> dict[str, Forward]:
    """Compile all nodes and return the functions of the sources, by name."""
    functions: dict[str, Forward] = {}
    sources: dict[str, Forward] = {}
    for node in reversed(sub_topology.nodes):
        children = {name: functions[name] for name in sub_topology.children(node.name)}
        match node:
            case SinkNode():
                functions[node.name] = compile_sink(node, task)
            case ProcessorNode():
                context = TaskNodeContext(task, node, children)
                function = node.operator.compile(context, fan_out(list(children.values())))
                functions[node.name] = function if task.observe is None else task.observe(node.name, function)
            case SourceNode():
                functions[node.name] = sources[node.name] = fan_out(list(children.values()))
    return sources


def _direct_sink(topic: str, node: SinkNode, direct: Direct, unserialisable: Callable[..., None]) -> Forward:
    """The sink of the record path: what it does is what the client's limit leaves room for (see Outputs.send)."""
    encode_key, encode_value, name = node.key_serde.encoder, node.value_serde.encoder, node.name
    raw_keys = node.key_serde.decoder is as_it_is

    def to_topic(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
        try:
            key_bytes = key if key is None or (raw_keys and key.__class__ is bytes) else encode_key(key)
            value_bytes = None if value is None else encode_value(value)
        except Exception as error:
            unserialisable(name, error, topic, key, value, timestamp, headers)
            return
        try:
            direct.produce(
                topic,
                value_bytes,
                key_bytes,
                -1,
                direct.report,
                None,
                timestamp or 1,
                list(headers) if headers else None,
            )
        except (BufferError, KafkaException):
            direct.otherwise(topic, key_bytes, value_bytes, timestamp, headers, None, name)

    return to_topic


def compile_sink(node: SinkNode, task: Task) -> Forward:
    """Return the function that serialises a record and hands it to the collector."""
    encode_key, encode_value = node.key_serde.encoder, node.value_serde.encoder
    name, extractor, partitioner = node.name, node.topic_extractor, node.partitioner
    send, unserialisable, failed = task.collector.send, task.production_failed, task.processing_failed

    if node.topic is not None and partitioner is None:
        fixed = task.topic_on_log(node.topic)
        if task.collector.direct is not None:
            return _direct_sink(fixed, node, task.collector.direct, unserialisable)

        def to_topic(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            try:
                key_bytes = None if key is None else encode_key(key)
                value_bytes = None if value is None else encode_value(value)
            except Exception as error:
                unserialisable(name, error, fixed, key, value, timestamp, headers)
                return
            send(fixed, key_bytes, value_bytes, timestamp, headers, None, name)

        return to_topic

    topic_of: Callable[[Any, Any], str]
    if extractor is None:
        only = task.topic_on_log(node.topic or "")
        topic_of = lambda key, value: only  # noqa: E731  # one line says it all
    else:
        given, metadata = extractor, task.record_metadata
        topic_of = lambda key, value: given(key, value, metadata())  # noqa: E731
    count = task.collector.partition_count

    def to_chosen(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
        try:
            topic = topic_of(key, value)
            if not isinstance(topic, str) or not topic:
                raise TopologyError(f"the topic extractor must return a topic's name, not {topic!r}")
            chosen = None if partitioner is None else partitioner(topic, key, value, count(topic))
            partitions: tuple[int | None, ...] = (None,) if chosen is None else _partitions(chosen)
        except ControlError:
            raise
        except Exception as error:
            failed(name, error, key, value, timestamp, headers)
            return
        try:
            key_bytes = None if key is None else encode_key(key)
            value_bytes = None if value is None else encode_value(value)
        except Exception as error:
            unserialisable(name, error, topic, key, value, timestamp, headers)
            return
        for partition in partitions:
            send(topic, key_bytes, value_bytes, timestamp, headers, partition, name)
        if not partitions:
            task.dropped(name, "the partitioner chose no partition")

    return to_chosen


def _partitions(chosen: Any) -> tuple[int, ...]:
    """Return the partitions that a partitioner chose.

    Raises:
        TopologyError: If they are none. A negative one would mean to Kafka's client that it may choose.
    """
    if type(chosen) is int:
        if chosen >= 0:
            return (chosen,)
    elif isinstance(chosen, Collection) and all(type(partition) is int and partition >= 0 for partition in chosen):
        return tuple(dict.fromkeys(chosen))
    raise TopologyError(
        f"a partitioner must return a partition from 0 on, a collection of them, or None for the client's choice, not "
        f"{chosen!r}"
    )
