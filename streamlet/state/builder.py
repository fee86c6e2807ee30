"""Declarations of stores: plain values, and the typed handles to the stores they declare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Generic, TypeVar, cast

from attrs import field, frozen

from streamlet.config import StreamsConfig
from streamlet.errors import TopologyError
from streamlet.serdes import Serde
from streamlet.state.backend import Backend
from streamlet.state.buffer import WriteBuffer
from streamlet.state.codec import KeyCodec, ValueCodec
from streamlet.state.entries import CommittedEntries
from streamlet.state.keyvalue import KeyValueReads, KeyValueStore, TimestampedKeyValueStore
from streamlet.state.memory import StateMemory
from streamlet.topic import check_name

S_co = TypeVar("S_co", covariant=True)
K = TypeVar("K")
V = TypeVar("V")


class StoreKind(Enum):
    """What a store can do, and how its data is laid out.

    Attributes:
        format: Version of the local layout. Raise it when the layout changes: existing data is then rebuilt from the
            changelog.
        changelog: What the changelog's keys and values look like; kinds that agree here can be rebuilt from each
            other's.
    """

    format: int
    changelog: str

    def __new__(cls, name: str, format: int, changelog: str) -> StoreKind:
        kind = object.__new__(cls)
        kind._value_ = name
        kind.format = format
        kind.changelog = changelog
        return kind

    KEY_VALUE = ("key-value", 1, "key-value")
    TIMESTAMPED_KEY_VALUE = ("timestamped-key-value", 1, "key-value")


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
        immutable_values: A promise that no value is ever changed in place after it was put or got; buys speed.
        changelog_overrides: Configs of the changelog topic that win over all others.
    """

    name: str = field(validator=_check_name)
    kind: StoreKind
    key_serde: Serde[Any] = field(validator=_check_serde)
    value_serde: Serde[Any] = field(validator=_check_serde)
    in_memory: bool = False
    logging: bool = True
    immutable_values: bool = False
    changelog_overrides: Mapping[str, str] = field(factory=dict, hash=False)

    @property
    def persistent(self) -> bool:
        """Whether the data outlives the process."""
        return not self.in_memory

    @property
    def timestamped(self) -> bool:
        """Whether values carry a timestamp."""
        return self.kind is not StoreKind.KEY_VALUE

    def buffer(self, backend: Backend, memory: StateMemory) -> WriteBuffer:
        """Return a write buffer over the committed data."""
        immutable = self.value_serde.immutable or self.immutable_values
        return WriteBuffer(
            self.name, backend, self.value_serde, timestamped=self.timestamped, immutable=immutable, memory=memory
        )

    def build(self, buffer: WriteBuffer, timestamp: Callable[[], int]) -> S_co:
        """Return the store over its buffer; `timestamp` returns the time of the record at hand (ms)."""
        made: Any = TimestampedKeyValueStore if self.timestamped else KeyValueStore
        values = ValueCodec(self.name, self.value_serde, objects=buffer.objects, timestamped=self.timestamped)
        return cast("S_co", made(KeyCodec(self.name, self.key_serde), values, buffer, timestamp))

    def view(self, backend: Backend) -> Any:
        """Return a view of the committed data that may be used from any thread."""
        values = ValueCodec(self.name, self.value_serde, objects=False, timestamped=self.timestamped)
        entries = CommittedEntries(backend, timestamped=self.timestamped)
        return KeyValueReads[Any, Any](KeyCodec(self.name, self.key_serde), values, entries)

    def changelog_config(self, config: StreamsConfig) -> dict[str, str]:
        """Return the changelog topic's configs: Kafka Streams' for the kind, then ``topic.*``, then the store's own."""
        return {
            "cleanup.policy": "compact",
            "message.timestamp.type": "CreateTime",
            **config.topic_configs,
            **self.changelog_overrides,
        }


class Stores:
    """Makes declarations of stores."""

    @staticmethod
    def key_value(
        name: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
        *,
        in_memory: bool = False,
        logging: bool = True,
        immutable_values: bool = False,
        changelog_config: Mapping[str, str] | None = None,
    ) -> StoreBuilder[KeyValueStore[K, V]]:
        """Declare a key-value store."""
        return StoreBuilder(
            name=name,
            kind=StoreKind.KEY_VALUE,
            key_serde=key_serde,
            value_serde=value_serde,
            in_memory=in_memory,
            logging=logging,
            immutable_values=immutable_values,
            changelog_overrides=dict(changelog_config or {}),
        )

    @staticmethod
    def timestamped_key_value(
        name: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
        *,
        in_memory: bool = False,
        logging: bool = True,
        immutable_values: bool = False,
        changelog_config: Mapping[str, str] | None = None,
    ) -> StoreBuilder[TimestampedKeyValueStore[K, V]]:
        """Declare a key-value store whose values carry a timestamp; what tables are kept in."""
        return StoreBuilder(
            name=name,
            kind=StoreKind.TIMESTAMPED_KEY_VALUE,
            key_serde=key_serde,
            value_serde=value_serde,
            in_memory=in_memory,
            logging=logging,
            immutable_values=immutable_values,
            changelog_overrides=dict(changelog_config or {}),
        )
