"""Steps whose result is a table: materialised or not, sending old values or not, and how its values are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

from streamlet.dsl.plan import Step, Writer
from streamlet.dsl.record_cache import Cached, sent_getter
from streamlet.processor.operator import NodeContext, Operator
from streamlet.topology.nodes import ProcessorNode

if TYPE_CHECKING:
    from streamlet.dsl.materialized import PendingStore

Getter: TypeAlias = Callable[[Any], tuple[Any, int] | None]
"""Reads a table: key to value and timestamp (ms), or None."""


@frozen
class TableView:
    """How another node reads a table's values.

    Attributes:
        stores: Names of the stores that the reading node must be connected with.
        open: Returns the getter, given the reading node's context.
    """

    stores: tuple[str, ...]
    open: Callable[[NodeContext], Getter]


class TableStep(Step):
    """A step that sends `Change`s.

    Args:
        name: Name of the node.
        parents: Steps whose records it receives.
        operator: Makes its behaviour once the whole program is known; asks the step for `store_in_use` and
            `sends_old_values`.
        store: Its store, or the one it could have.
        materialized: Whether it has that store in any case.
        topic: Of a table that is read from a topic as it is: the topic, which may serve as the store's changelog.

    Attributes:
        sends_old_values: Whether its changes carry the old value.
    """

    def __init__(
        self,
        name: str,
        parents: Iterable[Step],
        operator: Callable[[TableStep], Operator],
        *,
        store: PendingStore | None = None,
        materialized: bool = False,
        topic: str | None = None,
    ) -> None:
        super().__init__(name, parents)
        self.sends_old_values = False
        self._topic = topic
        self._operator = operator
        self._store = store
        self._materialized = materialized and store is not None

    @property
    def store_in_use(self) -> str | None:
        """Name of its store if it has one."""
        return self._store.name if self._materialized and self._store is not None else None

    @property
    def versioned(self) -> bool:
        """Whether its changes may be out of order, which those behind it then ignore."""
        return self._materialized and self._store is not None and self._store.options.history_retention is not None

    def materialize(self) -> None:
        """Keep the values in the store that was prepared for it."""
        self._materialized = self._store is not None

    def send_old_values(self, *, force: bool) -> bool:
        """Have its changes carry old values.

        Args:
            force: Materialise what is not yet, if there is no other way.

        Returns:
            Whether they will.
        """
        if not self.sends_old_values:
            if self.store_in_use is None and force:
                self.materialize()
            self.sends_old_values = self.store_in_use is not None
        return self.sends_old_values

    def view(self) -> TableView:
        """Return how its values are read; a source table is materialised for it."""
        self.materialize()
        name = self.store_in_use
        assert name is not None, f"{self.name} has no store to be read from"

        def open(context: NodeContext) -> Getter:
            return self.as_sent(context, context.store(name).fast_get)

        return TableView((name,), open)

    def as_sent(self, context: NodeContext, get: Getter) -> Getter:
        """Return how rows are read as they were last sent, given how they are read as they are."""
        return sent_getter(context, self._store.name, get) if self.caches and self._store is not None else get

    @property
    def caches(self) -> bool:
        """Whether its changes are held back where record caches are on."""
        return self._store is not None and self._materialized and self._store.caching

    def reads(self) -> Sequence[str]:
        """Return the names of other tables' stores that its operator reads."""
        return ()

    def write(self, writer: Writer) -> None:
        """Add the node, with its store if it has one."""
        operator = self.cached(self._operator(self), writer)
        writer.topology.add_node(ProcessorNode(self.name, operator, writer.inputs(self)))
        if self._materialized and self._store is not None:
            if self._topic is not None:
                writer.reuse_topic(self._store, self._topic, self.name)
            writer.add_store(self._store, self.name)
        for store in self.reads():
            writer.connect(self.name, store)

    def cached(self, operator: Operator, writer: Writer) -> Operator:
        """Return its operator with the cache behind it, if it may have one."""
        if not self.caches or self._store is None:
            return operator
        serde = writer.store_builder(self._store, self.name).value_serde
        return Cached(operator, self._store.name, serde, self.sends_old_values)


Derive: TypeAlias = "Callable[[Any, Any], Any]"
"""From key and (not None) value of the table before to the value of the table derived from it, None for no row."""


class DerivedTableStep(TableStep):
    """A table made from another row by row; without a store of its own it is computed from that one when read.

    Attributes:
        parent: The other table.
        derive: Makes a row's value.
    """

    def __init__(
        self,
        name: str,
        parent: TableStep,
        operator: Callable[[TableStep], Operator],
        derive: Derive,
        *,
        store: PendingStore | None = None,
    ) -> None:
        super().__init__(name, [parent], operator, store=store, materialized=store is not None)
        self.parent = parent
        self.derive = derive

    def send_old_values(self, *, force: bool) -> bool:
        """Have its changes carry old values: from its own store, or computed from the table before it."""
        if not self.sends_old_values:
            self.sends_old_values = self.store_in_use is not None or self.parent.send_old_values(force=force)
        return self.sends_old_values

    @property
    def versioned(self) -> bool:
        """Whether its changes may be out of order: as its store says, or the table before it."""
        return super().versioned if self.store_in_use is not None else self.parent.versioned

    def view(self) -> TableView:
        """Return how its values are read."""
        if self.store_in_use is not None:
            return super().view()
        before, derive = self.parent.view(), self.derive

        def open(context: NodeContext) -> Getter:
            get = before.open(context)

            def derived(key: Any) -> tuple[Any, int] | None:
                row = get(key)
                if row is None:
                    return None
                value = derive(key, row[0])
                return None if value is None else (value, row[1])

            return derived

        return TableView(before.stores, open)
