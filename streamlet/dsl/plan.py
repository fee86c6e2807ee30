"""The program as it was written: steps in the order of the calls, which become nodes of a topology on `build()`.

How to add an operator:

1. Write its behaviour as a frozen `Operator` in the file of its family (one file a family): `compile(context,
   forward)` returns the closure; a ``try`` goes around the user's function only, ``context.failed`` in its ``except``,
   `forward` outside.
2. Add a thin method to `KStream`, `KTable` or the grouped class that names the step (`Plan.name`, in the order in
   which Kafka Streams counts), adds it (`Plan.add`) and returns the next stream or table with its serdes (`Serdes`),
   sources and repartition flag.
3. A stateful one gives the step a `PendingStore` (`materialized.py`); one that needs records of a key together calls
   `repartition.insert_repartition`; one that reads a table's values asks `TableStep.view()` for a getter, one that
   needs old values calls `TableStep.send_old_values(force=True)`; one whose inputs must have equally many partitions
   calls `Plan.copartition`.

Between tables a record's value is a `Change` (`change.py`). What is only known once the whole program is written (who
needs old values, which tables are materialised, which serdes are missing) is decided when a step is written to the
topology.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import evolve

from streamlet import serdes
from streamlet.dsl.serde_flow import Ask, Lost, Slot, explain
from streamlet.errors import TopologyError
from streamlet.processor.operator import Operator
from streamlet.serdes import Serde
from streamlet.topic import check_name
from streamlet.topology.deferral import check_deferral
from streamlet.topology.graph import Topology
from streamlet.topology.nodes import ProcessorNode

if TYPE_CHECKING:
    from streamlet.dsl.materialized import PendingStore
    from streamlet.dsl.merge_repartitions import MergedRepartition
    from streamlet.state import StoreBuilder


class Step(ABC):
    """One step of the program.

    Attributes:
        name: Name of the node it becomes.
        parents: Steps whose records it receives.
        changes_key: Whether records behind it may have other keys than before it.
        grace_ms: How long the windows it aggregates over wait for late records after their end; None if there are none.
        never_closes: Whether those windows have no end.
        begins_task: Whether records reach it by way of a topic only: what is before it runs in other tasks.
        accepts_null_keys: Whether it makes something of records without a key, so that no repartitioning before it may
            drop them (left and outer joins, KIP-962).
    """

    changes_key = False
    begins_task = False
    accepts_null_keys = False
    grace_ms: int | None = None
    never_closes = False

    def __init__(self, name: str, parents: Iterable[Step] = ()) -> None:
        self.name = name
        self.parents: tuple[Step, ...] = tuple(parents)

    @abstractmethod
    def write(self, writer: Writer) -> None:
        """Add what it is to the topology."""


OperatorMaker: TypeAlias = Callable[[], Operator]


class ProcessorStep(Step):
    """A step that becomes one processor node.

    Args:
        name: Name of the node.
        parents: Steps whose records it receives.
        operator: Its behaviour, or a function that returns it when the whole program is known.
        stores: Stores it brings along.
        store_names: Names of stores it uses that are declared elsewhere; a function is asked when the program is known.
        changes_key: Whether records behind it may have other keys than before it.

    Attributes:
        operator: Its behaviour, as given.
    """

    def __init__(
        self,
        name: str,
        parents: Iterable[Step],
        operator: Operator | OperatorMaker,
        *,
        stores: Sequence[PendingStore | StoreBuilder[Any]] = (),
        store_names: Sequence[str] | Callable[[], Sequence[str]] = (),
        changes_key: bool = False,
    ) -> None:
        super().__init__(name, parents)
        self.operator = operator
        self._stores = stores
        self._store_names = store_names
        self.changes_key = changes_key

    def write(self, writer: Writer) -> None:
        """Add the node with its stores."""
        operator = self.operator if isinstance(self.operator, Operator) else self.operator()
        writer.topology.add_node(ProcessorNode(self.name, operator, writer.inputs(self)))
        for store in self._stores:
            writer.add_store(store, self.name)
        names = self._store_names() if callable(self._store_names) else self._store_names
        for name in names:
            writer.connect(self.name, name)


class Plan:
    """All steps of a program, and the one counter from which Kafka Streams numbers nodes and stores.

    Attributes:
        repartitioned: Repartitions made for joins, by the step before them and their names.
        generated: All names with numbers so far.
    """

    def __init__(self, default_key_serde: Serde[Any] | None, default_value_serde: Serde[Any] | None) -> None:
        self.default_key_serde = default_key_serde
        self.default_value_serde = default_value_serde
        self._index = 0
        self._steps: list[Step] = []
        self._stores: list[StoreBuilder[Any]] = []
        self._copartitioned: list[tuple[Step, ...]] = []
        self.repartitioned: dict[tuple[Step, str], Step] = {}
        self.generated: set[str] = set()

    def number(self, prefix: str) -> str:
        """Return the next generated name, like ``KSTREAM-MAP-0000000003``, and use up its number."""
        name = f"{prefix}{self._index:010d}"
        self._index += 1
        self.generated.add(name)
        return name

    def name(self, given: str | None, prefix: str) -> str:
        """Return the name that the user gave, or the next generated one. A number is used up either way, as in Kafka
        Streams."""
        generated = self.number(prefix)
        return check_name(given, "node") if given is not None else generated

    def own_name(self, given: str | None, prefix: str) -> str:
        """Return the name that the user gave, or the next generated one; for the operators where a given name uses up
        no number.

        In Kafka Streams these are `process`, `process_values`, `repartition` and `suppress`.
        """
        return check_name(given, "node") if given is not None else self.number(prefix)

    def suffixed_name(self, given: str | None, suffix: str, prefix: str) -> str:
        """Return the user's name with a suffix, or the next generated one. A number is used up either way, as in Kafka
        Streams."""
        generated = self.number(prefix)
        return check_name(given + suffix, "node") if given is not None else generated

    def store_name(self, prefix: str) -> str:
        """Return the next generated name of a store; stores are numbered with the nodes."""
        return self.number(prefix + "STATE-STORE-")

    def add(self, step: Step) -> None:
        """Append a step."""
        self._steps.append(step)

    def add_store(self, store: StoreBuilder[Any]) -> None:
        """Declare a store that processors connect with by name."""
        self._stores.append(store)

    def copartition(self, sources: Iterable[Step]) -> None:
        """Demand that the topics of these source steps have equal numbers of partitions."""
        self._copartitioned.append(tuple(sources))

    def accepts_null_keys_behind(self, step: Step) -> bool:
        """Tell whether any step behind this one, however far, accepts records without a key."""
        behind = {step}
        for other in self._steps:  # parents come before children
            if behind.intersection(other.parents):
                if other.accepts_null_keys:
                    return True
                behind.add(other)
        return False

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order of the calls."""
        return tuple(self._steps)

    def build(self, optimizations: frozenset[str] = frozenset()) -> Topology:
        """Write all steps to a new topology.

        Args:
            optimizations: Those of ``topology.optimization`` to be made.

        Raises:
            TopologyError: If the program is not valid; missing serdes are listed all at once.
        """
        writer = Writer(self, optimizations)
        for store in self._stores:
            writer.topology.add_state_store(writer.store_builder(store, "add_state_store()"))
        for step in self._steps:
            writer.write(step)
        writer.finish()
        for sources in self._copartitioned:
            writer.topology.copartition(writer.sources(sources))
        writer.topology.optimizations = optimizations
        writer.topology.generated = frozenset(self.generated)
        for part in writer.topology.sub_topologies:
            check_deferral(part)
        return writer.topology


class Writer:
    """The topology in the making, and what is wrong so far.

    Attributes:
        topology: What steps add their nodes to.
    """

    def __init__(self, plan: Plan, optimizations: frozenset[str] = frozenset()) -> None:
        self.topology = Topology()
        self.plan = plan
        self._optimizations = optimizations
        self._outputs: dict[Step, str] = {}
        self._faults: list[str] = []
        self._connections: list[tuple[str, str]] = []
        self._written: dict[PendingStore, StoreBuilder[Any]] = {}
        self._owners: dict[str, tuple[str, PendingStore | StoreBuilder[Any]]] = {}
        self._reused: set[str] = set()
        self._merged: list[MergedRepartition] = []
        if self.optimizes("merge.repartition.topics"):
            from streamlet.dsl.merge_repartitions import merge_repartitions  # it needs this module

            self._merged = merge_repartitions(plan.steps)
        self._replaced_by = {step: merged for merged in self._merged for step in merged.replaced}

    def write(self, step: Step) -> None:
        """Write a step, and behind it the repartition topic that stands there in place of others."""
        if step not in self._replaced_by:
            step.write(self)
        for merged in self._merged:
            if merged.anchor is step:
                merged.step.write(self)

    def optimizes(self, optimization: str) -> bool:
        """Tell whether an optimisation was asked for, by its name in ``topology.optimization``."""
        return optimization in self._optimizations

    def redirect(self, step: Step, node: str) -> None:
        """Say which node sends on a step's records, if it is not called like the step."""
        self._outputs[step] = node

    def outputs(self, steps: Iterable[Step]) -> tuple[str, ...]:
        """Return the names of the nodes that send on the records of these steps."""
        if not self._merged:
            return tuple(dict.fromkeys(self._outputs.get(step, step.name) for step in steps))
        names: list[str] = []
        for step in steps:
            names += self.inputs(step) if step in self._replaced_by else (self._outputs.get(step, step.name),)
        return tuple(dict.fromkeys(names))

    def inputs(self, step: Step) -> tuple[str, ...]:
        """Return the names of the nodes whose records a step receives."""
        return self.outputs(
            next((merged.step for merged in self._merged if merged.anchor is parent and step in merged.moved), parent)
            for parent in step.parents
        )

    def sources(self, steps: Iterable[Step]) -> tuple[str, ...]:
        """Return the names of the source nodes that these steps have become."""
        return self.outputs(self._replaced_by[step].step if step in self._replaced_by else step for step in steps)

    def key_serde(self, slot: Slot, node: str, ask: Ask) -> Serde[Any]:
        """Return a stream's serde of keys; if it is missing, note it and go on with another."""
        return self._serde(slot, self.plan.default_key_serde, node, "key", ask.key)

    def value_serde(self, slot: Slot, node: str, ask: Ask) -> Serde[Any]:
        """Return a stream's serde of values; if it is missing, note it and go on with another."""
        return self._serde(slot, self.plan.default_value_serde, node, "value", ask.value)

    def _serde(self, slot: Slot, default: Serde[Any] | None, node: str, side: str, ask: str) -> Serde[Any]:
        if not isinstance(slot, Lost):
            return slot
        if default is not None:
            return default if slot.wrap is None else slot.wrap(default)
        fault = explain(slot, node, side, ask)
        if fault not in self._faults:
            self._faults.append(fault)
        return serdes.bytes_

    def add_store(self, store: PendingStore | StoreBuilder[Any], node: str) -> None:
        """Declare a store and connect it with a node."""
        self.topology.add_state_store(self.store_builder(store, node), node)

    def store_builder(self, store: PendingStore | StoreBuilder[Any], node: str) -> StoreBuilder[Any]:
        """Return the declaration of a store, the same one each time."""
        from streamlet.dsl.materialized import PendingStore  # it needs this module

        if not isinstance(store, PendingStore):
            self._own(store.name, node, store)
            return store
        if store not in self._written:
            self._own(store.name, node, store)
            builder, supplier = store.builder(self, node), store.options.supplier
            self._written[store] = builder if supplier is None else supplier.applied_to(builder)
        return self._written[store]

    def _own(self, name: str, node: str, store: PendingStore | StoreBuilder[Any]) -> None:
        """Note whose store a name is: processors may share a declaration, tables and joins have stores of their own."""
        from streamlet.dsl.materialized import PendingStore  # it needs this module

        owner, known = self._owners.setdefault(name, (node, store))
        if known is not store and (isinstance(known, PendingStore) or isinstance(store, PendingStore)):
            raise TopologyError(
                f"{owner} and {node} would both keep their state in the store {name!r}: give one of them another name; "
                f"a processor that is to use a table's store names it, stores=[{name!r}]"
            )

    def reuse_topic(self, store: PendingStore, topic: str, node: str) -> None:
        """Have a store's table be restored from the topic it is read from; only one store of a topic can be."""
        builder = self.store_builder(store, node)
        if self.optimizes("reuse.ktable.source.topics") and builder.logging and topic not in self._reused:
            self._reused.add(topic)
            self._written[store] = evolve(builder, logging=False, source_topic=topic)

    def connect(self, node: str, store: str) -> None:
        """Connect a node with a store that is declared elsewhere, perhaps later."""
        self._connections.append((node, store))

    def finish(self) -> None:
        """Connect stores.

        Raises:
            TopologyError: If serdes are missing.
        """
        if self._faults:
            raise TopologyError("serdes are missing:\n" + "\n".join(f"- {fault}" for fault in self._faults))
        for node, store in self._connections:
            self.topology.connect_processor_and_state_stores(node, store)
