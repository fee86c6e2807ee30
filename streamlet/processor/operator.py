"""How a node of the graph becomes a function.

A task compiles its sub-topology once, leaves first. Each operator is given the function to call next and returns the
function to be called: closures over plain arguments, with no object per record between the nodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeAlias

from streamlet.processor.api import Cancellable, PunctuationType
from streamlet.records import Headers, RecordMetadata, TaskId
from streamlet.state.cache_budget import CacheBudget

Forward: TypeAlias = Callable[[Any, Any, int, Headers], None]
"""What flows between nodes: ``(key, value, timestamp, headers)``. Between table nodes the value is a `Change`."""


class Remembered:
    """A number of a node's own that outlives the process: see `NodeContext.remember`.

    Attributes:
        value: The number; -1 if none was remembered.
    """

    __slots__ = ("value",)

    def __init__(self, value: int = -1) -> None:
        self.value = value


class Deferring(Protocol):
    """What a node does that sends records on later: see `NodeContext.defer`. All of it on the task's thread."""

    def room(self) -> int:
        """Return how many more records it takes now."""

    def settle(self) -> int:
        """Send on what is ready; return how many records that were."""

    def begin(self) -> None:
        """Begin what the records that were taken ask for: called once after several of them."""

    def drop(self) -> None:
        """Forget all records it has taken: they will be there again, here or elsewhere."""


class InFlight(Protocol):
    """What a task does for nodes that send records on later: it keeps count, so that nothing is committed over them."""

    def enter(self) -> Any:
        """Take note that the node has the record at hand; return the record as the log's consumer gave it."""

    def at_hand(self, origin: Any, timestamp: int) -> None:
        """Make a record that `enter` returned the one at hand again, before the node sends on what came of it."""

    def leave(self, origin: Any) -> None:
        """Take note that the node is done with it: once for each `enter`."""

    def wake(self) -> None:
        """Have `Deferring.settle` called soon; from any thread."""


class NodeContext(Protocol):
    """What a node sees of its task while it is compiled, and may keep for later."""

    @property
    def node(self) -> str:
        """Name of the node."""

    @property
    def task_id(self) -> TaskId:
        """The task it is compiled for."""

    @property
    def children(self) -> tuple[str, ...]:
        """Names of the nodes behind it, in the order in which they were added."""

    def child(self, name: str) -> Forward:
        """Return the function of one child, for operators that choose among them."""

    def store(self, name: str) -> Any:
        """Return a state store that is connected to the node.

        Raises:
            TopologyError: If it is not connected.
        """

    def committed_store(self, name: str) -> Any:
        """Return a read-only view of a connected store, as the last commit left it."""

    @property
    def cache_budget(self) -> CacheBudget | None:
        """What record caches may hold; None if there are none."""

    def shared(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the object of this name that the task's nodes share; the first one to ask makes it."""

    def failed(self, error: Exception, key: Any, value: Any, timestamp: int, headers: Headers) -> None:
        """Hand an exception of the user's function to the processing exception handler.

        Returns if the handler chose to continue: the operator then drops the record at this node. Call it from an
        ``except`` around *the user's function only*, never around `forward` (`ControlError` is re-raised untouched).

        Raises:
            TaskError: If the handler chose to fail.
        """

    def dropped(self, reason: str) -> None:
        """Count a record that the semantics drop here (null key, late ...) and log it at WARNING, throttled."""

    def schedule(self, interval_ms: int, type: PunctuationType, callback: Callable[[int], object]) -> Cancellable:
        """Call `callback` every `interval_ms` of stream time or wall-clock time."""

    def request_commit(self) -> None:
        """Ask for a commit after the record at hand."""

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` at the start of every commit; it may still forward (record caches do)."""

    def on_committed(self, callback: Callable[[], None]) -> None:
        """Call `callback` when a commit has succeeded: stores and their committed views are the same then."""

    def on_rewind(self, callback: Callable[[], None]) -> None:
        """Call `callback` after an abort, when stores show committed state again, or will before the next record.

        What a node holds in memory beside its stores has to go back with them.
        """

    def remember(self, name: str) -> Remembered:
        """Return a number that is committed with the offsets, is there again after a restart and goes back on an abort.

        For times that only grow (the stream time a node has observed, how far it has emitted): of several partitions'
        metadata the highest is taken. `name` is the node's own, like ``stream-time``; each name gives one object.
        """

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the task is closed, in reverse order of registration."""

    def defer(self, node: Deferring, limit: int) -> InFlight:
        """Let a node send records on later than it takes them. Its operator says so with `Operator.defers`.

        Args:
            node: The node.
            limit: How many records it may have at a time.

        Raises:
            TopologyError: If the nodes of the task may have more records than the metadata of an offset can name.
        """

    def stream_time(self) -> int:
        """Return the highest timestamp the task has seen, -1 before the first record (ms)."""

    def wall_clock_time(self) -> int:
        """Return milliseconds since the epoch, from the application's clock."""

    def record_metadata(self) -> RecordMetadata | None:
        """Return topic, partition and offset of the record at hand; None in a punctuation."""

    @property
    def config(self) -> Any:
        """The application's `StreamsConfig`."""

    def app_configs(self) -> Mapping[str, Any]:
        """Return the configuration by its keys, without the clients' secrets."""


class Operator(ABC):
    """The behaviour of a node, as frozen data.

    Attributes:
        traceless: Whether a record leaves nothing behind in it, whenever it is sent on: no state, no punctuation. Only
            such operators may stand between a source and one that defers.
        chooses: Whether it sends each record to one of its children at most.
        expands: Whether it may make several records of one.
        defers: Whether it sends records on later than it takes them.
    """

    traceless: ClassVar[bool] = False
    chooses: ClassVar[bool] = False
    expands: ClassVar[bool] = False
    defers: ClassVar[bool] = False

    @abstractmethod
    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function that processes a record and calls `forward` (all children) with each result."""
