"""What declares stores."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar

from attrs import evolve

from streamlet.errors import TopologyError
from streamlet.serdes import Serde
from streamlet.state.builder import StoreBuilder
from streamlet.state.keyvalue import KeyValueStore, TimestampedKeyValueStore
from streamlet.state.kind import StoreKind
from streamlet.state.outer_join import OuterJoinStore, rows_serde
from streamlet.state.session import SessionStore
from streamlet.state.suppliers import (
    KeyValueStoreSupplier,
    SessionStoreSupplier,
    VersionedStoreSupplier,
    WindowStoreSupplier,
)
from streamlet.state.versioned import VersionedKeyValueStore
from streamlet.state.window import TimestampedWindowStore, WindowStore
from streamlet.time import milliseconds

K = TypeVar("K")
V = TypeVar("V")


class Stores:
    """Makes declarations of stores.

    All take `in_memory` (instead of RocksDB), `logging` (keep a changelog), `immutable_values` (a promise that no value
    is ever changed in place after it was put or got; buys speed where the serde does not promise it) and
    `changelog_config` (configs of the changelog topic that win over all others).
    """

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

    @staticmethod
    def window(
        name: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
        *,
        retention: timedelta,
        window_size: timedelta,
        retain_duplicates: bool = False,
        in_memory: bool = False,
        logging: bool = True,
        immutable_values: bool = False,
        changelog_config: Mapping[str, str] | None = None,
    ) -> StoreBuilder[WindowStore[K, V]]:
        """Declare a window store.

        Args:
            name: Name of the store.
            key_serde: Serde of the keys.
            value_serde: Serde of the values.
            retention: How long a window is kept after it started, of stream time.
            window_size: Length of the windows.
            retain_duplicates: Keep all values of a key and time; for joins of streams.
            in_memory: See the class.
            logging: See the class.
            immutable_values: See the class.
            changelog_config: See the class.

        Raises:
            TopologyError: If a duration is negative, or windows are longer than the retention.
        """
        retention_ms, size_ms = _durations(name, retention, window_size)
        return StoreBuilder(
            name=name,
            kind=StoreKind.WINDOW,
            key_serde=key_serde,
            value_serde=value_serde,
            in_memory=in_memory,
            logging=logging,
            immutable_values=immutable_values,
            retention_ms=retention_ms,
            window_size_ms=size_ms,
            retain_duplicates=retain_duplicates,
            changelog_overrides=dict(changelog_config or {}),
        )

    @staticmethod
    def timestamped_window(
        name: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
        *,
        retention: timedelta,
        window_size: timedelta,
        in_memory: bool = False,
        logging: bool = True,
        immutable_values: bool = False,
        changelog_config: Mapping[str, str] | None = None,
    ) -> StoreBuilder[TimestampedWindowStore[K, V]]:
        """Declare a window store with timestamped values; what windowed aggregations are kept in. See `window`."""
        retention_ms, size_ms = _durations(name, retention, window_size)
        return StoreBuilder(
            name=name,
            kind=StoreKind.TIMESTAMPED_WINDOW,
            key_serde=key_serde,
            value_serde=value_serde,
            in_memory=in_memory,
            logging=logging,
            immutable_values=immutable_values,
            retention_ms=retention_ms,
            window_size_ms=size_ms,
            changelog_overrides=dict(changelog_config or {}),
        )

    @staticmethod
    def session(
        name: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
        *,
        retention: timedelta,
        in_memory: bool = False,
        logging: bool = True,
        immutable_values: bool = False,
        changelog_config: Mapping[str, str] | None = None,
    ) -> StoreBuilder[SessionStore[K, V]]:
        """Declare a session store; a session is kept for `retention` after its end, of stream time."""
        retention_ms, _ = _durations(name, retention, timedelta(0))
        return StoreBuilder(
            name=name,
            kind=StoreKind.SESSION,
            key_serde=key_serde,
            value_serde=value_serde,
            in_memory=in_memory,
            logging=logging,
            immutable_values=immutable_values,
            retention_ms=retention_ms,
            changelog_overrides=dict(changelog_config or {}),
        )

    @staticmethod
    def versioned_key_value(
        name: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
        *,
        history_retention: timedelta,
        in_memory: bool = False,
        logging: bool = True,
        immutable_values: bool = False,
        changelog_config: Mapping[str, str] | None = None,
    ) -> StoreBuilder[VersionedKeyValueStore[K, V]]:
        """Declare a versioned store (KIP-889) that remembers versions for `history_retention` of stream time."""
        retention_ms, _ = _durations(name, history_retention, timedelta(0))
        return StoreBuilder(
            name=name,
            kind=StoreKind.VERSIONED_KEY_VALUE,
            key_serde=key_serde,
            value_serde=value_serde,
            in_memory=in_memory,
            logging=logging,
            immutable_values=immutable_values,
            retention_ms=retention_ms,
            changelog_overrides=dict(changelog_config or {}),
        )

    @staticmethod
    def outer_join(
        name: str,
        key_serde: Serde[K],
        left_serde: Serde[Any],
        right_serde: Serde[Any],
        *,
        in_memory: bool = False,
        logging: bool = True,
        immutable_values: bool = False,
        changelog_config: Mapping[str, str] | None = None,
    ) -> StoreBuilder[OuterJoinStore[K]]:
        """Declare the store of a join's unmatched rows; values of the two sides have their own serdes."""
        return StoreBuilder(
            name=name,
            kind=StoreKind.OUTER_JOIN,
            key_serde=key_serde,
            value_serde=rows_serde(left_serde, right_serde),
            in_memory=in_memory,
            logging=logging,
            immutable_values=immutable_values,
            changelog_overrides=dict(changelog_config or {}),
        )

    # --- suppliers: the serdes come with the operator that uses the store -------------------------------------------

    @staticmethod
    def persistent_key_value_store(name: str) -> KeyValueStoreSupplier:
        """Describe a key-value store in RocksDB, for `Materialized.as_`."""
        return KeyValueStoreSupplier(name=name)

    @staticmethod
    def in_memory_key_value_store(name: str) -> KeyValueStoreSupplier:
        """Describe a key-value store in memory, for `Materialized.as_`."""
        return KeyValueStoreSupplier(name=name, in_memory=True)

    @staticmethod
    def persistent_versioned_key_value_store(name: str, *, history_retention: timedelta) -> VersionedStoreSupplier:
        """Describe a versioned store in RocksDB (KIP-889), for `Materialized.as_`."""
        return VersionedStoreSupplier(
            name=name, history_retention_ms=_durations(name, history_retention, timedelta(0))[0]
        )

    @staticmethod
    def in_memory_versioned_key_value_store(name: str, *, history_retention: timedelta) -> VersionedStoreSupplier:
        """Describe a versioned store in memory, for `Materialized.as_`."""
        return evolve(
            Stores.persistent_versioned_key_value_store(name, history_retention=history_retention), in_memory=True
        )

    @staticmethod
    def persistent_window_store(
        name: str, *, retention: timedelta, window_size: timedelta, retain_duplicates: bool = False
    ) -> WindowStoreSupplier:
        """Describe a window store in RocksDB, for `Materialized.as_` and, with `retain_duplicates`, for joins."""
        retention_ms, size_ms = _durations(name, retention, window_size)
        return WindowStoreSupplier(
            name=name, retention_ms=retention_ms, window_size_ms=size_ms, retain_duplicates=retain_duplicates
        )

    @staticmethod
    def in_memory_window_store(
        name: str, *, retention: timedelta, window_size: timedelta, retain_duplicates: bool = False
    ) -> WindowStoreSupplier:
        """Describe a window store in memory; see `persistent_window_store`."""
        supplier = Stores.persistent_window_store(
            name, retention=retention, window_size=window_size, retain_duplicates=retain_duplicates
        )
        return evolve(supplier, in_memory=True)

    @staticmethod
    def persistent_session_store(name: str, *, retention: timedelta) -> SessionStoreSupplier:
        """Describe a session store in RocksDB, for `Materialized.as_`."""
        return SessionStoreSupplier(name=name, retention_ms=_durations(name, retention, timedelta(0))[0])

    @staticmethod
    def in_memory_session_store(name: str, *, retention: timedelta) -> SessionStoreSupplier:
        """Describe a session store in memory, for `Materialized.as_`."""
        return evolve(Stores.persistent_session_store(name, retention=retention), in_memory=True)


def _durations(name: str, retention: timedelta, size: timedelta) -> tuple[int, int]:
    for what, duration in (("retention", retention), ("size of the windows", size)):
        if not isinstance(duration, timedelta) or duration < timedelta(0):
            raise TopologyError(f"store {name!r}: the {what} must be a timedelta from 0 on, not {duration!r}")
    if retention < size:
        raise TopologyError(f"store {name!r}: the retention, {retention}, must not be shorter than the windows, {size}")
    return milliseconds(retention), milliseconds(size)
