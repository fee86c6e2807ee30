"""Suppliers: what a store is to be, without the serdes, which come with the operator that uses it.

Given to ``Materialized.as_(...)`` and to joins (``this_store=``, ``other_store=``); made by `Stores`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from attrs import evolve, field, frozen

from streamlet.errors import TopologyError
from streamlet.state.builder import StoreBuilder
from streamlet.state.kind import StoreKind
from streamlet.state.own import BytesStoreFactory
from streamlet.topic import check_name


@frozen(kw_only=True)
class StoreSupplier:
    """What a store is to be.

    Attributes:
        name: Name of the store.
        in_memory: Keep the data in memory instead of in RocksDB.
        bytes_store: Makes a store of one's own to keep the data in; see `BytesStore`.
    """

    name: str = field(validator=lambda _instance, _attribute, name: check_name(name, "store"))
    in_memory: bool = False
    bytes_store: BytesStoreFactory | None = None

    _kinds: ClassVar[tuple[StoreKind, ...]] = (StoreKind.KEY_VALUE, StoreKind.TIMESTAMPED_KEY_VALUE)
    _what: ClassVar[str] = "a key-value store"

    def over(self, factory: BytesStoreFactory) -> Self:
        """Return the same over a store of one's own."""
        return evolve(self, bytes_store=factory)

    def applied_to(self, builder: StoreBuilder[Any]) -> StoreBuilder[Any]:
        """Return a declaration as this supplier wants it.

        Raises:
            TopologyError: If the operator needs another kind of store.
        """
        if builder.kind not in self._kinds:
            raise TopologyError(
                f"store {self.name!r}: the operator needs a {builder.kind.value} store, but the supplier is of "
                f"{self._what}: give it one of those that Stores makes for it"
            )
        return evolve(builder, in_memory=self.in_memory, bytes_store=self.bytes_store)


class KeyValueStoreSupplier(StoreSupplier):
    """Supplies a key-value store."""


@frozen(kw_only=True)
class VersionedStoreSupplier(StoreSupplier):
    """Supplies a versioned store that remembers versions for `history_retention_ms`."""

    history_retention_ms: int
    _kinds = (StoreKind.VERSIONED_KEY_VALUE,)
    _what = "a versioned store"


@frozen(kw_only=True)
class SessionStoreSupplier(StoreSupplier):
    """Supplies a session store that keeps sessions for `retention_ms`."""

    retention_ms: int
    _kinds = (StoreKind.SESSION,)
    _what = "a session store"


@frozen(kw_only=True)
class WindowStoreSupplier(StoreSupplier):
    """Supplies a window store.

    Attributes:
        retention_ms: How long windows are kept.
        window_size_ms: Their length.
        retain_duplicates: Whether all values of a key and time are kept, as joins need it.
    """

    retention_ms: int
    window_size_ms: int
    retain_duplicates: bool = False
    _kinds = (StoreKind.WINDOW, StoreKind.TIMESTAMPED_WINDOW)
    _what = "a window store"

    def applied_to(self, builder: StoreBuilder[Any]) -> StoreBuilder[Any]:
        """Return a declaration as this supplier wants it; see `StoreSupplier`."""
        applied = super().applied_to(builder)
        if self.retain_duplicates is not builder.retain_duplicates:
            raise TopologyError(
                f"store {self.name!r}: the supplier needs retain_duplicates={builder.retain_duplicates} here: joins "
                f"keep all records of a key and time, aggregations one value"
            )
        if self.window_size_ms != builder.window_size_ms:
            raise TopologyError(
                f"store {self.name!r}: the supplier has windows of {self.window_size_ms} ms, the operator "
                f"windows of {builder.window_size_ms} ms: give the supplier that window_size"
            )
        return applied
