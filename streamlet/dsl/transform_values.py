"""`transform_values`: a processor makes the values of a table, with stores and punctuations if it likes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from streamlet.dsl.change import Change
from streamlet.dsl.materialized import PendingStore
from streamlet.dsl.plan import Writer
from streamlet.dsl.table_operators import is_latest
from streamlet.dsl.table_steps import Getter, TableStep, TableView
from streamlet.errors import TopologyError
from streamlet.processor.adapter import ProcessorOperator, stores_of
from streamlet.processor.api import FixedKeyProcessor
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers
from streamlet.state.versioned import NOT_PUT
from streamlet.topology.nodes import ProcessorNode

Supplier = Callable[[], FixedKeyProcessor[Any, Any, Any]]
_Transform = Callable[[Any, Any, int, Headers], Any]


class _Failed(Exception):  # noqa: N818  # no error: it says that the handler chose to go on without the record
    """The transformer failed on a record, and the handler dropped it."""


class _TransformerContext:
    """The context of the node, with failures made visible to it."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def failed(self, error: Exception, key: Any, value: Any, timestamp: int, headers: Headers) -> None:
        """Ask the handler; what it lets pass is dropped."""
        self._node.failed(error, key, value, timestamp, headers)
        raise _Failed


def _transformer(supplier: Supplier, context: NodeContext) -> _Transform:
    """Return a function that calls a new processor for a value, and returns the value that it forwarded."""
    forwarded: list[Any] = []
    at_work = False

    def catch(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
        if not at_work:
            raise TopologyError(
                f"node {context.node}: a table's transformer forwards only in process(); "
                f"use to_stream().process_values(...) to forward at other times"
            )
        forwarded.append(value)

    run = ProcessorOperator(supplier).compile(_TransformerContext(context), catch)

    def transform(key: Any, value: Any, timestamp: int, headers: Headers) -> Any:
        nonlocal at_work
        forwarded.clear()
        at_work = True
        try:
            run(key, value, timestamp, headers)
        finally:
            at_work = False
        if len(forwarded) > 1:
            raise TopologyError(
                f"node {context.node}: a table's transformer forwards one value for each, not {len(forwarded)}: "
                f"a row has one value"
            )
        return forwarded[0] if forwarded else None

    return transform


@frozen
class TransformTable(Operator):
    """Makes changes of the transformed table.

    Attributes:
        supplier: Makes the transformer.
        store: Its store, if it has one; old values are then read from it, else they are transformed again.
        sends_old: Whether its changes carry old values.
    """

    supplier: Supplier
    store: str | None
    sends_old: bool

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        transform, sends_old, dropped = _transformer(self.supplier, context), self.sends_old, context.dropped
        failed = context.failed
        store = None if self.store is None else context.store(self.store)

        def transform_table(key: Any, change: Change, timestamp: int, headers: Headers) -> None:
            new, old, latest = change
            try:
                value = transform(key, new, timestamp, headers)
                before = transform(key, old, timestamp, headers) if sends_old and store is None else None
            except _Failed:
                return
            if store is not None:
                try:
                    row = store.fast_get(key) if sends_old else None
                    valid_to = store.fast_put(key, value, timestamp)
                except Exception as error:
                    failed(error, key, new, timestamp, headers)
                    return
                if valid_to == NOT_PUT:
                    dropped("older than the history")
                    return
                before, latest = None if row is None else row[0], is_latest(valid_to)
            forward(key, (value, before, latest), timestamp, headers)

        return transform_table


class TransformedTableStep(TableStep):
    """A table whose values a processor makes; without a store they are made again when read."""

    def __init__(self, name: str, parent: TableStep, supplier: Supplier, store: PendingStore | None) -> None:
        super().__init__(
            name,
            [parent],
            lambda step: TransformTable(supplier, step.store_in_use, step.sends_old_values),
            store=store,
            materialized=store is not None,
        )
        self._parent = parent
        self._supplier = supplier
        self._own = tuple(stores_of(supplier, name, keeps_keys=True))

    @property
    def versioned(self) -> bool:
        """Whether its changes may be out of order: as its store says, or the table before it."""
        return super().versioned if self.store_in_use is not None else self._parent.versioned

    def send_old_values(self, *, force: bool) -> bool:
        """Have its changes carry old values: from its store, or transformed from those of the table before it."""
        if not self.sends_old_values:
            self.sends_old_values = self.store_in_use is not None or self._parent.send_old_values(force=force)
        return self.sends_old_values

    def view(self) -> TableView:
        """Return how its values are read."""
        if self.store_in_use is not None:
            return super().view()
        before, supplier = self._parent.view(), self._supplier

        def open(context: NodeContext) -> Getter:
            get, transform = before.open(context), _transformer(supplier, context)

            def transformed(key: Any) -> tuple[Any, int] | None:
                row = get(key)
                value, time = (None, -1) if row is None else row
                try:
                    made = transform(key, value, time, ())
                except _Failed:
                    return None
                return None if made is None else (made, time)

            return transformed

        return TableView((*before.stores, *(store.name for store in self._own)), open)

    def write(self, writer: Writer) -> None:
        """Add the node, with the transformer's stores, and its own if it has one."""
        operator = self.cached(TransformTable(self._supplier, self.store_in_use, self.sends_old_values), writer)
        writer.topology.add_node(ProcessorNode(self.name, operator, writer.inputs(self)))
        for store in self._own:
            writer.add_store(store, self.name)
        if self._store is not None and self.store_in_use is not None:
            writer.add_store(self._store, self.name)
