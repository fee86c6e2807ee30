"""How a user's `Processor` becomes a node: the contexts it sees, and the function the task calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from attrs import frozen

from streamlet.errors import ControlError, TaskError, TopologyError
from streamlet.processor.api import Cancellable, FixedKeyProcessor, Processor, PunctuationType
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers, Record, RecordMetadata, TaskId
from streamlet.time import milliseconds

if TYPE_CHECKING:
    from streamlet.state import StoreBuilder

AnyProcessor = Processor[Any, Any, Any, Any] | FixedKeyProcessor[Any, Any, Any]


def new_processor(supplier: Callable[[], AnyProcessor], node: str) -> AnyProcessor:
    """Call a supplier.

    Raises:
        TopologyError: If what it returns is no processor.
    """
    processor = supplier()
    if not isinstance(processor, Processor | FixedKeyProcessor):
        raise TopologyError(
            f"node {node!r}: the supplier returned {processor!r}: "
            f"give a subclass of Processor or FixedKeyProcessor, or a function that returns a new instance of one"
        )
    return processor


def stores_of(
    supplier: Callable[[], AnyProcessor], node: str, *, keeps_keys: bool = False
) -> Sequence[StoreBuilder[Any]]:
    """Return the stores that the supplier's processors bring along.

    Args:
        supplier: The processor's class, or a function that returns a new one.
        node: Name of the node, for errors.
        keeps_keys: Whether only a `FixedKeyProcessor` will do: keys that changed would not be repartitioned.

    Raises:
        TopologyError: If it returns no processor, one that may change keys though it must not, one whose `process`
            would have to be awaited, or the same one twice: each task needs its own.
    """
    if not callable(supplier):
        raise TopologyError(
            f"node {node!r} needs a processor's class or a function that returns a new processor, not {supplier!r}"
        )
    kind: Any = supplier
    if isinstance(kind, type) and issubclass(kind, Processor | FixedKeyProcessor):
        _check_kind(kind, node, keeps_keys)
        return tuple(kind.stores)
    first, second = new_processor(supplier, node), new_processor(supplier, node)
    if first is second:
        raise TopologyError(
            f"node {node!r}: the supplier returned the same processor twice; return a new one each time, "
            f"tasks do not share them"
        )
    _check_kind(type(first), node, keeps_keys)
    return tuple(first.stores)


def _check_kind(kind: type[AnyProcessor], node: str, keeps_keys: bool) -> None:
    if keeps_keys and not issubclass(kind, FixedKeyProcessor):
        raise TopologyError(
            f"node {node!r} leaves keys as they are, and {kind.__name__} is a Processor, which may change them: make "
            f"it a FixedKeyProcessor, or call process()"
        )
    for method in (kind.init, kind.process, kind.close):
        if iscoroutinefunction(method):
            raise TopologyError(
                f"node {node!r}: {kind.__name__}.{method.__name__} is a coroutine function, and nothing awaits it: "
                f"make it a plain one; map_values_async is for functions that wait"
            )


def checked_interval(interval: timedelta, type: PunctuationType, callback: Callable[[int], object], who: str) -> int:
    """Return the interval of a punctuation in ms; `who` begins the errors.

    Raises:
        ValueError: If it is no timedelta or shorter than a millisecond, the type is none, or the callback is no plain
            function.
    """
    if not isinstance(interval, timedelta) or milliseconds(interval) < 1:
        raise ValueError(f"{who}a punctuation's interval must be a timedelta of at least 1 ms, not {interval!r}")
    if not isinstance(type, PunctuationType):
        raise ValueError(f"{who}a punctuation follows a PunctuationType, STREAM_TIME or WALL_CLOCK_TIME, not {type!r}")
    if not callable(callback) or iscoroutinefunction(callback):
        raise ValueError(f"{who}a punctuation calls a plain function of the time, not {callback!r}")
    return milliseconds(interval)


class _Context:
    """What both kinds of processors may ask of their task: see `BaseContext`."""

    __slots__ = ("_forward", "_headers", "_node")

    def __init__(self, node: NodeContext, forward: Forward) -> None:
        self._node = node
        self._forward = forward
        self._headers: Headers = ()

    def get_state_store(self, store: StoreBuilder[Any] | str, /) -> Any:
        return self._node.store(store if isinstance(store, str) else store.name)

    def schedule(self, interval: timedelta, type: PunctuationType, callback: Callable[[int], object], /) -> Cancellable:
        interval_ms = checked_interval(interval, type, callback, f"node {self._node.node!r}: ")
        return self._node.schedule(interval_ms, type, callback)

    def commit(self) -> None:
        self._node.request_commit()

    def dropped(self, reason: str, /) -> None:
        self._node.dropped(reason)

    def record_metadata(self) -> RecordMetadata | None:
        return self._node.record_metadata()

    def headers(self) -> Headers:
        return self._headers if self._node.record_metadata() is not None else ()

    def current_stream_time(self) -> int:
        return self._node.stream_time()

    def current_system_time(self) -> int:
        return self._node.wall_clock_time()

    @property
    def task_id(self) -> TaskId:
        return self._node.task_id

    @property
    def application_id(self) -> str:
        return str(self._node.config.application_id)

    def app_configs(self) -> Mapping[str, Any]:
        return self._node.app_configs()

    def _send(self, record: Record[Any, Any], child: str | None) -> None:
        if record.timestamp < 0:
            raise ValueError(
                f"node {self._node.node!r} forwards a record with the negative timestamp {record.timestamp}"
            )
        forward = self._forward if child is None else self._node.child(child)
        try:
            forward(record.key, record.value, record.timestamp, record.headers)
        except ControlError:
            raise
        except Exception as error:  # a node further down, outside of user code: this node's handler must not hide it
            raise TaskError(
                f"a node behind {self._node.node!r} (task {self._node.task_id}) failed: "
                f"{type(error).__name__}: {error}",
                task=str(self._node.task_id),
            ) from error


class _ProcessorContext(_Context):
    """The context of a `Processor`."""

    __slots__ = ()

    def forward(self, record: Record[Any, Any], child: str | None = None) -> None:
        self._send(record, child)


_NO_KEY = object()


class _FixedKeyContext(_Context):
    """The context of a `FixedKeyProcessor`; it knows the key of the record at hand."""

    __slots__ = ("_key",)

    def __init__(self, node: NodeContext, forward: Forward) -> None:
        super().__init__(node, forward)
        self._key: Any = _NO_KEY

    def forward(self, record: Record[Any, Any], child: str | None = None) -> None:
        if record.key is not self._key and (self._key is _NO_KEY or record.key != self._key):
            at_hand = "there is no record at hand" if self._key is _NO_KEY else f"the record at hand has {self._key!r}"
            raise ValueError(
                f"node {self._node.node!r} keeps keys as they are, but forwards key {record.key!r}, while {at_hand}: "
                f"use Processor and process() to change keys"
            )
        self._send(record, child)


@frozen
class ProcessorOperator(Operator):
    """Runs a user's processor; each task gets its own."""

    supplier: Callable[[], AnyProcessor]

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Make the processor and initialise it: its stores are open by now."""
        processor: Any = new_processor(self.supplier, context.node)
        failed = context.failed
        process = processor.process
        if isinstance(processor, FixedKeyProcessor):
            fixed = _FixedKeyContext(context, forward)
            processor.context = fixed
            context.on_close(processor.close)
            processor.init(fixed)

            def run_fixed(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
                outer = fixed._key, fixed._headers
                fixed._key, fixed._headers = key, headers
                try:
                    process(Record(key, value, timestamp, headers))
                except Exception as error:
                    failed(error, key, value, timestamp, headers)
                finally:
                    fixed._key, fixed._headers = outer

            return run_fixed

        free = _ProcessorContext(context, forward)
        processor.context = free
        context.on_close(processor.close)
        processor.init(free)

        def run(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            free._headers = headers
            try:
                process(Record(key, value, timestamp, headers))
            except Exception as error:
                failed(error, key, value, timestamp, headers)

        return run
