"""Declarations of stores: plain values, and the typed handles to the stores they declare."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from streamlet.config import StreamsConfig
from streamlet.errors import TopologyError
from streamlet.serdes import Serde
from streamlet.state.keyvalue import KeyValueStore, TimestampedKeyValueStore
from streamlet.topic import check_name

S_co = TypeVar("S_co", covariant=True)
K = TypeVar("K")
V = TypeVar("V")


class StoreKind(Enum):
    """What a store can do, and how its data is laid out."""

    KEY_VALUE = "key-value"
    TIMESTAMPED_KEY_VALUE = "timestamped-key-value"


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

    def changelog_config(self, config: StreamsConfig) -> dict[str, str]:
        """Return the configs of the changelog topic: Kafka Streams' for this kind, then ``topic.*``, then the store's own."""
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
