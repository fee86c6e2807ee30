"""`Materialized`: name and options of a table's store, and the store while its serdes are not known yet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from attrs import field, frozen
from typing_extensions import TypeVar as DefaultTypeVar

from streamlet.dsl.given import check_serde
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.windows import duration_ms
from streamlet.errors import TopologyError
from streamlet.serdes import Serde
from streamlet.state import StoreBuilder, Stores
from streamlet.state.suppliers import (
    SessionStoreSupplier,
    StoreSupplier,
    VersionedStoreSupplier,
    WindowStoreSupplier,
)
from streamlet.topic import check_name

if TYPE_CHECKING:
    from streamlet.dsl.plan import Plan, Writer

VM = DefaultTypeVar("VM", default=Any)
VA = TypeVar("VA")


def _check_name(_instance: object, _attribute: object, name: str | None) -> None:
    if name is not None:
        check_name(name, "store")


def _check_history(instance: Any, _attribute: object, duration: timedelta | None) -> None:
    if duration is None:
        return
    duration_ms("history_retention", duration)
    if instance.name is None:
        raise TopologyError("a versioned table needs a name for its store: Materialized('name', history_retention=...)")


def _check_retention(instance: Any, _attribute: object, duration: timedelta | None) -> None:
    if duration is not None:
        duration_ms(f"retention of store {instance.name!r}", duration)


def _check_serde(instance: Any, _attribute: object, serde: object) -> None:
    check_serde(serde, f"value_serde of store {instance.name!r}" if instance.name else "value_serde of Materialized")


def _check_changelog(instance: Any, _attribute: object, configs: object) -> None:
    what = f"changelog_config of store {instance.name!r}"
    if not isinstance(configs, Mapping) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in configs.items()
    ):
        raise TopologyError(f"{what} maps names to text, like {{'segment.bytes': '1048576'}}, and is not {configs!r}")
    if configs and not instance.logging:
        raise TopologyError(f"{what} would configure nothing: with logging=False there is no changelog")


@frozen
class Materialized(Generic[VM]):
    """Name and options of a table's store. Generic in the value only: the key's serde comes with the grouping.

    Attributes:
        name: Name of the store, by which it can be queried; default: a generated one, not to be queried.
        value_serde: Serde of its values; default: inherited.
        retention: Of windowed stores: how long rows are kept.
        history_retention: Of tables: keep the versions of each row for this long, by their timestamps (KIP-889).
            Updates out of order then change the history only; joins and aggregations behind the table ignore them.
        in_memory: Keep the data in memory instead of in RocksDB.
        logging: Keep a changelog, from which the store is restored elsewhere.
        caching: Hold changes back for one per row and commit, if ``statestore.cache.max.bytes`` says so; False sends
            every change of this table. Tables with versions and final results of windows are never held back.
        immutable_values: A promise that no value is ever changed in place, so that the store may keep the objects
            instead of bytes; `TopologyTestDriver` checks it. Frozen classes, numbers and strings need no promise.
        changelog_config: Configs of the changelog topic.
        supplier: What the store is to be kept in; see `as_`.
    """

    name: str | None = field(default=None, validator=_check_name)
    value_serde: Serde[VM] | None = field(default=None, kw_only=True, validator=_check_serde)
    retention: timedelta | None = field(default=None, kw_only=True, validator=_check_retention)
    history_retention: timedelta | None = field(default=None, kw_only=True, validator=_check_history)
    in_memory: bool = field(default=False, kw_only=True)
    logging: bool = field(default=True, kw_only=True)
    caching: bool = field(default=True, kw_only=True)
    immutable_values: bool = field(default=False, kw_only=True)
    changelog_config: Mapping[str, str] = field(factory=dict, kw_only=True, validator=_check_changelog)
    supplier: StoreSupplier | None = field(default=None, kw_only=True)

    @classmethod
    def as_(
        cls,
        supplier: StoreSupplier,
        *,
        value_serde: Serde[VM] | None = None,
        logging: bool = True,
        immutable_values: bool = False,
        changelog_config: Mapping[str, str] | None = None,
    ) -> Materialized[VM]:
        """Return the options of a store that a supplier describes: ``Materialized.as_(Stores.in_memory_...("name"))``.

        Args:
            supplier: Made by `Stores`; it names the store and says how long it keeps what.
            value_serde: See `Materialized`, as the rest.
            logging: See there.
            immutable_values: See there.
            changelog_config: See there.
        """
        if not isinstance(supplier, StoreSupplier):
            raise TopologyError(f"Materialized.as_ takes a supplier that Stores makes, not {supplier!r}")
        retention = history = None
        if isinstance(supplier, VersionedStoreSupplier):
            history = timedelta(milliseconds=supplier.history_retention_ms)
        elif isinstance(supplier, WindowStoreSupplier | SessionStoreSupplier):
            retention = timedelta(milliseconds=supplier.retention_ms)
        return cls(
            supplier.name,
            value_serde=value_serde,
            retention=retention,
            history_retention=history,
            in_memory=supplier.in_memory,
            logging=logging,
            immutable_values=immutable_values,
            changelog_config=dict(changelog_config or {}),
            supplier=supplier,
        )


Store: TypeAlias = Materialized[VA] | str | None
"""How methods take a store: options, just a name, or nothing."""


def materialized(store: Store[Any], *, windowed: bool = False) -> Materialized[Any]:
    """Return the options that a method was given.

    Raises:
        TopologyError: If it is something else, or a retention is given for a store without windows.
    """
    options = Materialized(store) if store is None or isinstance(store, str) else store
    if not isinstance(options, Materialized):
        raise TopologyError(f"store= takes a name or Materialized(...), not {options!r}")
    if options.retention is not None and not windowed:
        raise TopologyError(
            f"store {options.name or '(unnamed)'}: retention is for windowed stores, this one keeps all keys"
        )
    if options.history_retention is not None and windowed:
        raise TopologyError(f"store {options.name}: history_retention is for tables, a windowed store has no versions")
    return options


class PendingStore:
    """A store whose serdes are settled on `build()`.

    Attributes:
        name: Its name.
        options: As given by the user.
        serdes: Inherited ones.
        ask: Where the user can give those that are missing.
        caching: Whether changes of its rows may be held back.
    """

    def __init__(self, name: str, options: Materialized[Any], serdes: Serdes, ask: Ask) -> None:
        self.name = name
        self.ask = ask
        self.options = options
        self.serdes = serdes.given(value=options.value_serde)
        self.caching = options.caching and options.history_retention is None

    def builder(self, writer: Writer, node: str) -> StoreBuilder[Any]:
        """Return its declaration; families with other stores than key-value override this."""
        key_serde = writer.key_serde(self.serdes.key, node, self.ask)
        value_serde = writer.value_serde(self.serdes.value, node, self.ask)
        if self.options.history_retention is not None:
            return Stores.versioned_key_value(
                self.name,
                key_serde,
                value_serde,
                history_retention=self.options.history_retention,
                in_memory=self.options.in_memory,
                logging=self.options.logging,
                immutable_values=self.options.immutable_values,
                changelog_config=self.options.changelog_config,
            )
        return Stores.timestamped_key_value(
            self.name,
            key_serde,
            value_serde,
            in_memory=self.options.in_memory,
            logging=self.options.logging,
            immutable_values=self.options.immutable_values,
            changelog_config=self.options.changelog_config,
        )


def pending_store(plan: Plan, options: Materialized[Any], prefix: str, serdes: Serdes, ask: Ask) -> PendingStore:
    """Return the store of a step that always has one; an unnamed one is numbered with the nodes."""
    return PendingStore(options.name or plan.store_name(prefix), options, serdes, ask)
