"""The Processor API: what users write where the DSL ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Never, Protocol, overload

from typing_extensions import TypeVar

from streamlet.records import Headers, Record, RecordMetadata, TaskId

if TYPE_CHECKING:
    from streamlet.state import StoreBuilder

S = TypeVar("S")
K = TypeVar("K")
V = TypeVar("V")
K_in = TypeVar("K_in", contravariant=True)
V_in = TypeVar("V_in", contravariant=True)
KF = TypeVar("KF", contravariant=True)
VF = TypeVar("VF", contravariant=True)
KOut = TypeVar("KOut", default=Never)
VOut = TypeVar("VOut", default=Never)


class PunctuationType(Enum):
    """Which time a punctuation follows."""

    STREAM_TIME = "stream_time"
    WALL_CLOCK_TIME = "wall_clock_time"


class Cancellable(Protocol):
    """A scheduled punctuation."""

    def cancel(self) -> None:
        """Never call it again; allowed inside the callback."""


class BaseContext(Protocol):
    """What every processor may ask of its task."""

    @overload
    def get_state_store(self, store: StoreBuilder[S], /) -> S: ...
    @overload
    def get_state_store(self, store: str, /) -> Any: ...

    def schedule(self, interval: timedelta, type: PunctuationType, callback: Callable[[int], object], /) -> Cancellable:
        """Call `callback(time in ms)` every `interval`.

        Stream time: as soon as there is data, then at multiples of the interval, once even if several were passed.
        Wall-clock time: first after one interval, without catching up.

        Raises:
            ValueError: If the interval is no timedelta or shorter than a millisecond, the type is no `PunctuationType`,
                or the callback no plain function.
        """

    def commit(self) -> None:
        """Ask for a commit after the record at hand."""

    def dropped(self, reason: str, /) -> None:
        """Count a record that the processor drops, by a short reason, and log it at WARNING, throttled."""

    def record_metadata(self) -> RecordMetadata | None:
        """Return topic, partition and offset of the record at hand; None in a punctuation."""

    def headers(self) -> Headers:
        """Return the headers of the record at hand; empty in a punctuation."""

    def current_stream_time(self) -> int:
        """Return the highest timestamp the task has seen (ms), -1 before the first record."""

    def current_system_time(self) -> int:
        """Return the wall clock (ms)."""

    @property
    def task_id(self) -> TaskId:
        """The task this processor belongs to."""

    @property
    def application_id(self) -> str:
        """The application's id."""

    def app_configs(self) -> Mapping[str, Any]:
        """Return the configuration as given by the user, without the clients' secrets."""


class ProcessorContext(BaseContext, Protocol[KF, VF]):
    """The context of a `Processor`."""

    def forward(self, record: Record[KF, VF], child: str | None = None) -> None:
        """Send a record to all children, or to the named one.

        Raises:
            TopologyError: If there is no such child.
            ValueError: If the timestamp is negative.
        """


class FixedKeyProcessorContext(BaseContext, Protocol[KF, VF]):
    """The context of a `FixedKeyProcessor`."""

    def forward(self, record: Record[KF, VF], child: str | None = None) -> None:
        """Send a record on; its key must be the one of the record at hand.

        Raises:
            ValueError: If the key is another one, or the timestamp is negative.
        """


class Processor(ABC, Generic[K_in, V_in, KOut, VOut]):
    """A node written by the user; one instance per task, made by the supplier given to `process`.

    Attributes:
        stores: Stores to be added and connected with the node.
        context: Set by the library before `init`.
    """

    stores: ClassVar[Sequence[StoreBuilder[Any]]] = ()
    context: ProcessorContext[KOut, VOut]

    def init(self, context: ProcessorContext[KOut, VOut]) -> None:  # overriding it is optional
        """Called once, before the first record; stores are open."""

    @abstractmethod
    def process(self, record: Record[K_in, V_in]) -> None:
        """Called for each record."""

    def close(self) -> None:  # overriding it is optional
        """Called when the task is closed; stores are still open."""


class FixedKeyProcessor(ABC, Generic[K, V, VOut]):
    """A processor that leaves the key alone, so that no repartitioning follows it."""

    stores: ClassVar[Sequence[StoreBuilder[Any]]] = ()
    context: FixedKeyProcessorContext[K, VOut]

    def init(self, context: FixedKeyProcessorContext[K, VOut]) -> None:  # overriding it is optional
        """Called once, before the first record; stores are open."""

    @abstractmethod
    def process(self, record: Record[K, V]) -> None:
        """Called for each record."""

    def close(self) -> None:  # overriding it is optional
        """Called when the task is closed; stores are still open."""
