"""Declarations of stores: plain values, and the typed handles to the stores they declare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

from attrs import evolve, field, frozen

from streamlet.config import StreamsConfig
from streamlet.errors import TopologyError
from streamlet.serdes import Serde
from streamlet.state.assembly import Assembly
from streamlet.state.backend import Backend
from streamlet.state.buffer import WriteBuffer
from streamlet.state.kind import StoreKind
from streamlet.state.memory import StateMemory
from streamlet.state.own import BytesStoreFactory
from streamlet.topic import check_name

S_co = TypeVar("S_co", covariant=True)

_ADDITIONAL_COMPACTION_LAG_MS = 24 * 60 * 60 * 1000
"""Changelogs of versioned stores keep a day more than the store: the broker's clock is not stream time."""


def _check_name(_instance: object, _attribute: object, name: str) -> None:
    check_name(name, "store")


def _check_serde(instance: Any, attribute: Any, serde: object) -> None:
    if not isinstance(serde, Serde):
        raise TopologyError(
            f"{attribute.name} of store {instance.name!r} must be a Serde (see streamlet.serdes), not {serde!r}"
        )


@frozen(kw_only=True)
class StoreBuilder(Generic[S_co]):
    """Declares a store, and is the typed handle to it (``context.get_state_store(builder)``). Made by `Stores`.

    Attributes:
        name: Unique within the application; names the changelog topic.
        kind: What kind of store.
        key_serde: Of its keys.
        value_serde: Of its values.
        in_memory: Keep the data in memory instead of in RocksDB.
        logging: Keep a changelog, from which the store is restored elsewhere.
        source_topic: The topic that a table is read from, if that serves as its changelog (`logging` is off then).
        bytes_store: Makes a store of one's own to keep the data in, instead of RocksDB or memory; see `BytesStore`.
        immutable_values: A promise that no value is ever changed in place after it was put or got; buys speed.
        retention_ms: How long entries are kept (ms, of stream time), None for ever.
        window_size_ms: Length of the windows of a window store (ms).
        retain_duplicates: Whether a window store keeps all values of a key and time.
        changelog_overrides: Configs of the changelog topic that win over all others.
    """

    name: str = field(validator=_check_name)
    kind: StoreKind
    key_serde: Serde[Any] = field(validator=_check_serde)
    value_serde: Serde[Any] = field(validator=_check_serde)
    in_memory: bool = False
    logging: bool = True
    source_topic: str | None = None
    bytes_store: BytesStoreFactory | None = field(default=None, eq=False)
    immutable_values: bool = False
    retention_ms: int | None = None
    window_size_ms: int = 0
    retain_duplicates: bool = False
    changelog_overrides: Mapping[str, str] = field(factory=dict, hash=False)

    @property
    def persistent(self) -> bool:
        """Whether the data is in RocksDB, and outlives the process."""
        return not self.in_memory and self.bytes_store is None

    def over(self, factory: BytesStoreFactory) -> StoreBuilder[S_co]:
        """Return the same over a store of one's own: ``Stores.key_value("rates", ...).over(MyStore)``."""
        return evolve(self, bytes_store=factory)

    @property
    def windowed(self) -> bool:
        """Whether the changelog is deleted with time, and not only compacted."""
        return self.kind in (StoreKind.WINDOW, StoreKind.TIMESTAMPED_WINDOW, StoreKind.SESSION)

    def assembly(self) -> Assembly:
        """Return what makes the store over its data."""
        return Assembly(
            name=self.name,
            kind=self.kind,
            key_serde=self.key_serde,
            value_serde=self.value_serde,
            immutable=self.value_serde.immutable or self.immutable_values,
            retention_ms=self.retention_ms,
            window_size_ms=self.window_size_ms,
            retain_duplicates=self.retain_duplicates,
        )

    def build(self, buffer: WriteBuffer, memory: StateMemory, timestamp: Callable[[], int]) -> S_co:
        """Return the store over its buffer; `timestamp` returns the time of the record at hand (ms)."""
        return cast("S_co", self.assembly().store(buffer, memory, timestamp))

    def view(self, backend: Backend, observed: Callable[[], int]) -> Any:
        """Return a view of the committed data for any thread; `observed` returns the store's committed time (ms)."""
        return self.assembly().view(backend, observed)

    def changelog_config(self, config: StreamsConfig) -> dict[str, str]:
        """Return the changelog topic's configs: Kafka Streams' for the kind, then ``topic.*``, then the store's own."""
        defaults = {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}
        kept = self.retention_ms or 0
        computed: dict[str, str] = {}
        if self.windowed:
            defaults["cleanup.policy"] = "compact,delete"
            computed["retention.ms"] = str(kept + config.windowstore_changelog_additional_retention_ms)
        elif self.kind is StoreKind.VERSIONED_KEY_VALUE:
            computed["min.compaction.lag.ms"] = str(kept + _ADDITIONAL_COMPACTION_LAG_MS)
        return {**defaults, **config.topic_configs, **computed, **self.changelog_overrides}
