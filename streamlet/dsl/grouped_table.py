"""`KGroupedTable`: the rows of a table, grouped anew, and aggregated."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streamlet import serdes as built_in
from streamlet.dsl.change_serde import ChangeSerde
from streamlet.dsl.given import FOLD, check_function
from streamlet.dsl.materialized import Store, materialized, pending_store
from streamlet.dsl.plan import Plan, ProcessorStep, Step, Writer
from streamlet.dsl.regroup_operators import AggregateTable, Regroup
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.table_steps import TableStep
from streamlet.serdes import Serde
from streamlet.topology.nodes import REPARTITION, InternalTopic, SinkNode, SourceNode

if TYPE_CHECKING:
    from streamlet.dsl.table import KTable

K_co = TypeVar("K_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)
VA = TypeVar("VA")

_ASK = Ask("group_by(key_serde=...)", "group_by(value_serde=...)")
_ASK_STORE = Ask(_ASK.key, "store=Materialized(value_serde=...)")
_AGGREGATE = "KTABLE-AGGREGATE-"
_REDUCE = "KTABLE-REDUCE-"


class _ChangesTopic(Step):
    """Becomes a sink and a source of the topic through which changes reach their groups."""

    begins_task = True

    def __init__(self, topic: str, sink: str, source: str, parent: Step, serdes: Serdes) -> None:
        super().__init__(source, [parent])
        self._topic = topic
        self._sink = sink
        self._serdes = serdes

    def write(self, writer: Writer) -> None:
        """Add the topic and the nodes around it."""
        topology = writer.topology
        key_serde = writer.key_serde(self._serdes.key, self._sink, _ASK)
        changes = ChangeSerde(writer.value_serde(self._serdes.value, self._sink, _ASK))
        topology.add_internal_topic(InternalTopic(self._topic))
        topology.add_node(SinkNode(self._sink, writer.inputs(self), self._topic, None, key_serde, changes))
        topology.add_node(SourceNode(self.name, (self._topic,), None, key_serde, changes))


class KGroupedTable(Generic[K_co, V_co]):
    """A table whose rows are grouped by another key, to be aggregated. Made by `KTable.group_by`.

    When a row changes, its old value is subtracted from its old group and the new one added to its new group, so
    aggregates are always those of the rows as they are now. Every result carries the highest timestamp of what it was
    made of.
    """

    def __init__(self, plan: Plan, step: Step, serdes: Serdes, name: str | None) -> None:
        self.plan = plan
        self.step = step
        self.serdes = serdes
        self._name = name
        self._topic: _ChangesTopic | None = None

    def count(self, *, store: Store[int] = None, name: str | None = None) -> KTable[K_co, int]:
        """Count the rows of each group; a group that lost its last row has 0.

        Args:
            store: Name or options of the store; its values are int64 unless another serde is given.
            name: Name of the node.
        """

        def serdes(_node: str) -> Serdes:
            return Serdes(self.serdes.key, materialized(store).value_serde or built_in.int64)

        return self._aggregated(_AGGREGATE, serdes, store, name, int, _increment, _decrement)

    def reduce(
        self,
        adder: Callable[[V_co, V_co], V_co],
        subtractor: Callable[[V_co, V_co], V_co],
        *,
        store: Store[Any] = None,
        name: str | None = None,
    ) -> KTable[K_co, V_co]:
        """Combine the values of each group.

        Args:
            adder: From the value so far and that of a row to the new one; the first row's value is taken as it is.
            subtractor: From the value so far and that of a row that changed or left to the new one; None deletes.
            store: Name or options of the store.
            name: Name of the node.
        """

        check_function(adder, "reduce(), as adder,", ("value so far", "value"))
        check_function(subtractor, "reduce(), as subtractor,", ("value so far", "value"))

        def add(_key: Any, value: Any, aggregate: Any) -> Any:
            return adder(aggregate, value)

        def subtract(_key: Any, value: Any, aggregate: Any) -> Any:
            return subtractor(aggregate, value)

        def serdes(_node: str) -> Serdes:
            return self.serdes.given(value=materialized(store).value_serde)

        return self._aggregated(_REDUCE, serdes, store, name, None, add, subtract)

    def aggregate(
        self,
        initializer: Callable[[], VA],
        adder: Callable[[K_co, V_co, VA], VA | None],
        subtractor: Callable[[K_co, V_co, VA], VA | None],
        *,
        store: Store[VA] = None,
        name: str | None = None,
    ) -> KTable[K_co, VA]:
        """Fold the values of each group into an aggregate.

        Args:
            initializer: Returns the aggregate before the first row.
            adder: From key, value of a row and the aggregate so far to the new one; None deletes it.
            subtractor: The same for a value that changed or left.
            store: Name or options of the store; the aggregate needs a value_serde.
            name: Name of the node.
        """

        check_function(initializer, "aggregate(), as initializer,", ())
        check_function(adder, "aggregate(), as adder,", FOLD)
        check_function(subtractor, "aggregate(), as subtractor,", FOLD)

        def serdes(node: str) -> Serdes:
            return self.serdes.losing_value(node, "aggregates").given(value=materialized(store).value_serde)

        return self._aggregated(_AGGREGATE, serdes, store, name, initializer, adder, subtractor)

    def _aggregated(
        self,
        prefix: str,
        serdes: Callable[[str], Serdes],
        store: Store[Any],
        name: str | None,
        initializer: Callable[[], Any] | None,
        adder: Callable[[Any, Any, Any], Any],
        subtractor: Callable[[Any, Any, Any], Any],
    ) -> KTable[Any, Any]:
        from streamlet.dsl.table import KTable  # it makes this class

        plan, options = self.plan, materialized(store)
        pending = pending_store(plan, options, _AGGREGATE, self.serdes, _ASK_STORE)
        sink = plan.suffixed_name(name, "-sink", "KSTREAM-SINK-")
        source = plan.suffixed_name(name, "-source", "KSTREAM-SOURCE-")
        node = plan.name(name, prefix)
        known = pending.serdes = serdes(node)
        if self._topic is None or self._name is None:  # a topic that the user named is one, however many aggregations
            topic = (self._name or pending.name) + REPARTITION
            self._topic = _ChangesTopic(topic, sink, source, self.step, self.serdes)
            plan.add(self._topic)

        def operator(step: TableStep) -> AggregateTable:
            return AggregateTable(initializer, adder, subtractor, step.store_in_use or "", step.sends_old_values)

        step = TableStep(node, [self._topic], operator, store=pending, materialized=True)
        plan.add(step)
        return KTable(plan, step, known, frozenset({self._topic}), options.name)


def _increment(_key: Any, _value: Any, count: int) -> int:
    return count + 1


def _decrement(_key: Any, _value: Any, count: int) -> int:
    return count - 1


def grouped_table(
    plan: Plan,
    table: TableStep,
    serdes: Serdes,
    selector: Callable[[Any, Any], tuple[Any, Any] | None],
    key_serde: Serde[Any] | None,
    value_serde: Serde[Any] | None,
    name: str | None,
) -> KGroupedTable[Any, Any]:
    """Add the step that chooses the groups; the table has to send old values to be subtracted."""
    node = plan.name(name, "KTABLE-SELECT-")
    table.send_old_values(force=True)
    step = ProcessorStep(node, [table], Regroup(selector), changes_key=True)
    plan.add(step)
    known = serdes.losing_both(node, "groups rows by another key").given(key_serde, value_serde)
    return KGroupedTable(plan, step, known, name)
