"""Joins of two tables by their keys: inner, left and outer; either side updates the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve, frozen

from streamlet.dsl.change import Change
from streamlet.dsl.materialized import Materialized, PendingStore
from streamlet.dsl.plan import Plan, ProcessorStep
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.table_operators import is_latest
from streamlet.dsl.table_steps import Getter, TableStep, TableView
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers
from streamlet.state.versioned import NOT_PUT

_ASK = Ask("the tables' sources a key serde", "store=Materialized(value_serde=...)")


@frozen
class JoinRule:
    """What a join makes of the rows of both sides.

    Attributes:
        joiner: From key, this side's and the other side's value to the result's.
        keeps_this: Whether a row of this side without one of the other makes a result.
        keeps_other: The same for rows of the other side.
    """

    joiner: Callable[[Any, Any, Any], Any]
    keeps_this: bool
    keeps_other: bool

    def result(self, key: Any, this: Any, other: Any) -> Any:
        """Return the result's value, None for no row."""
        if this is None:
            return self.joiner(key, None, other) if self.keeps_other and other is not None else None
        return self.joiner(key, this, other) if other is not None or self.keeps_this else None

    def reversed(self) -> JoinRule:
        """Return the same, seen from the other side."""
        joiner = self.joiner
        return JoinRule(lambda key, other, this: joiner(key, this, other), self.keeps_other, self.keeps_this)


@frozen
class JoinChanges(Operator):
    """Joins the changes of one side with the row of the other; the later of both timestamps is the result's.

    Without a row on the other side, nothing is sent unless this side's rows are kept, and also then not for the
    deletion of a row that was not there. Updates out of order are dropped.
    """

    rule: JoinRule
    other: TableView
    sends_old: bool

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        result, joiner, sends_old = self.rule.result, self.rule.joiner, self.sends_old
        keeps_this = self.rule.keeps_this
        get, dropped, failed = self.other.open(context), context.dropped, context.failed

        def join(key: Any, change: Change, timestamp: int, headers: Headers) -> None:
            new, old, latest = change
            if key is None or not latest:
                dropped("null key" if key is None else "out-of-order update of a versioned table")
                return
            try:
                row = get(key)
                if row is None:
                    if not keeps_this or (new is None and old is None):
                        return
                    other, time = None, timestamp
                else:
                    other, time = row[0], row[1]
                    if timestamp > time:
                        time = timestamp
                # two rows make a result in every kind of join; the rule is asked about the rest
                joined = result(key, new, other) if new is None or other is None else joiner(key, new, other)
                before = result(key, old, other) if sends_old else None
            except Exception as error:
                failed(error, key, new, timestamp, headers)
                return
            forward(key, (joined, before, True), time, headers)

        return join


@frozen
class MergeJoined(Operator):
    """Brings the results of both sides together, and keeps them if there is a store."""

    store: str | None
    sends_old: bool

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        if self.store is None:
            return forward
        store, sends_old, failed, dropped = context.store(self.store), self.sends_old, context.failed, context.dropped
        get, put = store.fast_get, store.fast_put

        def keep(key: Any, change: Change, timestamp: int, headers: Headers) -> None:
            new = change[0]
            try:
                row = get(key) if sends_old else None
                valid_to = put(key, new, timestamp)
            except Exception as error:
                failed(error, key, new, timestamp, headers)
                return
            if valid_to == NOT_PUT:
                dropped("older than the history")
                return
            forward(key, (new, None if row is None else row[0], is_latest(valid_to)), timestamp, headers)

        return keep


class JoinedTableStep(TableStep):
    """The result of a join; without a store of its own it is computed from both sides when read."""

    def __init__(
        self,
        name: str,
        sides: tuple[ProcessorStep, ProcessorStep],
        tables: tuple[TableStep, TableStep],
        rule: JoinRule,
        store: PendingStore | None,
    ) -> None:
        super().__init__(
            name,
            sides,
            lambda step: MergeJoined(step.store_in_use, step.sends_old_values),
            store=store,
            materialized=store is not None,
        )
        self._tables = tables
        self._rule = rule

    def send_old_values(self, *, force: bool) -> bool:
        """Have its changes carry old values: from its store, or joined from those of both sides."""
        if not self.sends_old_values:
            sides = [table.send_old_values(force=force) for table in self._tables if self.store_in_use is None]
            self.sends_old_values = all(sides)
        return self.sends_old_values

    def view(self) -> TableView:
        """Return how its values are read."""
        if self.store_in_use is not None:
            return super().view()
        left, right = (table.view() for table in self._tables)
        result = self._rule.result

        def open(context: NodeContext) -> Getter:
            get_left, get_right = left.open(context), right.open(context)

            def joined(key: Any) -> tuple[Any, int] | None:
                this, other = get_left(key), get_right(key)
                value = result(key, None if this is None else this[0], None if other is None else other[0])
                if value is None:
                    return None
                return value, max(row[1] for row in (this, other) if row is not None)

            return joined

        return TableView(tuple(dict.fromkeys((*left.stores, *right.stores))), open)


def join_tables(
    plan: Plan,
    tables: tuple[TableStep, TableStep],
    rule: JoinRule,
    serdes: Callable[[str], Serdes],
    options: Materialized[Any] | None,
    name: str | None,
) -> tuple[JoinedTableStep, Serdes]:
    """Add the steps of a join; return the one of the result, and its serdes.

    Args:
        plan: The program.
        tables: The left and the right one.
        rule: What it makes of their rows, seen from the left.
        serdes: From the name of its node to those of the result.
        options: Of its store; None for none.
        name: Name of the result's node; those of the sides are made of it.
    """
    store_name = None
    if options is not None:
        store_name = options.name or plan.store_name("KTABLE-MERGE-")
    node = plan.name(name, "KTABLE-MERGE-")
    known = serdes(node)
    left, right = tables
    if rule.keeps_this:
        left.send_old_values(force=True)
    if rule.keeps_other:
        right.send_old_values(force=True)
    this = plan.suffixed_name(name, "-join-this", "KTABLE-JOINTHIS-")
    other = plan.suffixed_name(name, "-join-other", "KTABLE-JOINOTHER-")
    store = None
    if options is not None and store_name is not None:
        known = known.given(value=options.value_serde)
        store = PendingStore(store_name, evolve(options, name=store_name), known, _ASK)
    left_view, right_view = left.view(), right.view()

    def sends_old() -> bool:
        return result.sends_old_values and result.store_in_use is None

    def from_left() -> JoinChanges:
        return JoinChanges(rule, right_view, sends_old())

    def from_right() -> JoinChanges:
        return JoinChanges(rule.reversed(), left_view, sends_old())

    steps = (
        ProcessorStep(this, [left], from_left, store_names=right_view.stores),
        ProcessorStep(other, [right], from_right, store_names=left_view.stores),
    )
    result = JoinedTableStep(node, steps, tables, rule, store)
    for step in (*steps, result):
        plan.add(step)
    return result, known
