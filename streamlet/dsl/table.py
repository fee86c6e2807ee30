"""`KTable`: the latest value of each key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from streamlet.dsl.given import KEY_AND_VALUE, check_function, check_with_key
from streamlet.dsl.materialized import PendingStore, Store, materialized
from streamlet.dsl.plan import Plan, ProcessorStep, Step
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.table_operators import DeriveTable, ToStream
from streamlet.dsl.table_steps import DerivedTableStep, TableStep
from streamlet.errors import TopologyError

if TYPE_CHECKING:
    from streamlet.dsl.grouped_table import KGroupedTable
    from streamlet.dsl.stream import KStream
    from streamlet.dsl.suppress import Suppressed
    from streamlet.processor.api import FixedKeyProcessor
    from streamlet.serdes import Serde

K_co = TypeVar("K_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)
KR = TypeVar("KR")
VR = TypeVar("VR")
K = TypeVar("K")
V = TypeVar("V")
KO = TypeVar("KO")
VO = TypeVar("VO")


_ASK = Ask("the table's source a key serde", "store=Materialized(value_serde=...)")


class KTable(Generic[K_co, V_co]):
    """A table: for each key its latest value, updated record by record.

    Made by `StreamsBuilder.table`, `KStream.to_table` and aggregations. It has a store if it was given one, or if
    something behind it needs one.

    Attributes:
        step: The step that sends its changes; for operators.
        serdes: The serdes of its keys and values, as far as they are known; for operators.
        sources: The source steps its records come from; for operators that need equal partitioning.
        plan: The program; for operators.
        queryable_name: Name of its store if it was given one.
    """

    def __init__(
        self, plan: Plan, step: TableStep, serdes: Serdes, sources: frozenset[Step], queryable_name: str | None
    ) -> None:
        self.plan = plan
        self.step = step
        self.serdes = serdes
        self.sources = sources
        self.queryable_name = queryable_name

    def filter(
        self, predicate: Callable[[K_co, V_co], object], *, store: Store[Any] = None, name: str | None = None
    ) -> KTable[K_co, V_co]:
        """Keep the rows for which the predicate holds.

        An update of a row that does not match goes on as a deletion, also if there was nothing to delete.

        Args:
            predicate: Of key and value; not called for deletions.
            store: Keep the result in a store.
            name: Name of the node.
        """
        check_function(predicate, "filter()", KEY_AND_VALUE)
        return self._filter(predicate, True, store, name)

    def filter_not(
        self, predicate: Callable[[K_co, V_co], object], *, store: Store[Any] = None, name: str | None = None
    ) -> KTable[K_co, V_co]:
        """Keep the rows for which the predicate does not hold; see `filter`."""
        check_function(predicate, "filter_not()", KEY_AND_VALUE)
        return self._filter(predicate, False, store, name)

    def _filter(
        self, predicate: Callable[[Any, Any], object], keep: bool, store: Store[Any], name: str | None
    ) -> KTable[K_co, V_co]:
        def derive(key: Any, value: Any) -> Any:
            return value if bool(predicate(key, value)) is keep else None

        return self._derived("KTABLE-FILTER-", derive, store, name, drops_unseen=True, serdes=lambda _: self.serdes)

    @overload
    def map_values(
        self,
        mapper: Callable[[V_co], VR],
        *,
        with_key: Literal[False] = False,
        store: Store[VR] = None,
        name: str | None = None,
    ) -> KTable[K_co, VR]: ...
    @overload
    def map_values(
        self,
        mapper: Callable[[K_co, V_co], VR],
        *,
        with_key: Literal[True],
        store: Store[VR] = None,
        name: str | None = None,
    ) -> KTable[K_co, VR]: ...
    def map_values(
        self, mapper: Callable[..., Any], *, with_key: bool = False, store: Store[Any] = None, name: str | None = None
    ) -> KTable[K_co, Any]:
        """Make another value of each row.

        The mapper must be pure: it may be called again to compute an old value. It is not called for deletions.

        Args:
            mapper: Of the value; of key and value if `with_key`.
            with_key: Whether the mapper gets the key too.
            store: Keep the result in a store.
            name: Name of the node.
        """

        def derive(key: Any, value: Any) -> Any:
            return mapper(key, value) if with_key else mapper(value)

        check_with_key(mapper, "map_values()", ("value",), with_key=with_key)

        return self._derived(
            "KTABLE-MAPVALUES-",
            derive,
            store,
            name,
            drops_unseen=False,
            serdes=lambda node: self.serdes.losing_value(node, "maps values"),
        )

    def transform_values(
        self,
        supplier: Callable[[], FixedKeyProcessor[K_co, V_co | None, VR]],
        *,
        store: Store[VR] = None,
        name: str | None = None,
    ) -> KTable[K_co, VR]:
        """Make another value of each row by a processor, which may have stores and punctuations.

        The processor is called for deletions too, with None, and may make a row of them. What it forwards becomes the
        row; if it forwards nothing, the row is deleted. Without a store its values may be made again, to compute old
        values or to be read by a join: a processor with a memory needs a named store here.

        Args:
            supplier: The processor's class, or a function that returns a new one; it forwards in `process` only, once.
            store: Keep the result in a store.
            name: Name of the node.
        """
        from streamlet.dsl.transform_values import TransformedTableStep

        options = materialized(store)
        if store is not None and options.name is None:
            self.plan.store_name("KTABLE-TRANSFORMVALUES-")
        node = self.plan.name(name, "KTABLE-TRANSFORMVALUES-")
        known = self.serdes.losing_value(node, "transforms values").given(value=options.value_serde)
        pending = None if options.name is None else PendingStore(options.name, options, known, _ASK)
        step = TransformedTableStep(node, self.step, supplier, pending)
        self.plan.add(step)
        return KTable(self.plan, step, known, self.sources, options.name)

    def _derived(
        self,
        prefix: str,
        derive: Callable[[Any, Any], Any],
        store: Store[Any],
        name: str | None,
        *,
        drops_unseen: bool,
        serdes: Callable[[str], Serdes],
    ) -> KTable[Any, Any]:
        options = materialized(store)
        if store is not None and options.name is None:
            self.plan.store_name(prefix)  # a number that Kafka Streams uses up, though an unnamed store is never made
        node = self.plan.name(name, prefix)
        known = serdes(node).given(value=options.value_serde)
        pending = None if options.name is None else PendingStore(options.name, options, known, _ASK)

        def operator(step: TableStep) -> DeriveTable:
            # an out-of-order update to no row is news to what is behind a versioned table
            drops = drops_unseen and not before.versioned
            return DeriveTable(derive, step.store_in_use, step.sends_old_values, drops)

        before = self.step

        step = DerivedTableStep(node, self.step, operator, derive, store=pending)
        self.plan.add(step)
        return KTable(self.plan, step, known, self.sources, options.name)

    def suppress(self: KTable[K, V], suppressed: Suppressed[K], *, name: str | None = None) -> KTable[K, V]:
        """Hold back changes: for some time of the stream, or until their window has closed.

        Args:
            suppressed: How long, and what happens when too many are held back.
            name: Name of the node; its buffer is then called ``<name>-store``.

        Raises:
            TopologyError: For `Suppressed.until_window_closes` behind a table that no windowed aggregation made.
        """
        from streamlet.dsl.suppress import suppressed_table  # it needs this module

        if self.step.versioned:
            raise TopologyError(
                f"{self.step.name} is a versioned table: suppress cannot hold back updates that may be out of order"
            )
        step = suppressed_table(self.plan, self.step, self.serdes, suppressed, name)
        return KTable(self.plan, step, self.serdes, self.sources, None)

    def group_by(
        self,
        selector: Callable[[K_co, V_co], tuple[KR | None, VR | None] | None],
        *,
        key_serde: Serde[KR] | None = None,
        value_serde: Serde[VR] | None = None,
        name: str | None = None,
    ) -> KGroupedTable[KR, VR]:
        """Group the rows by another key, to aggregate them.

        Always goes through a repartition topic. The selector must be pure: it is also called for old values, to take
        rows out of the groups they were in.

        Args:
            selector: From key and value of a row to key and value in the group. None, or None as key or value, leaves
                the row out.
            key_serde: Serde of the groups' keys.
            value_serde: Serde of the values in the groups.
            name: Name of the node and of the repartition topic.
        """
        from streamlet.dsl.grouped_table import grouped_table  # it makes tables

        check_function(selector, "group_by()", KEY_AND_VALUE)
        return grouped_table(self.plan, self.step, self.serdes, selector, key_serde, value_serde, name)

    @overload
    def join(
        self,
        other: KTable[K_co, VO],
        joiner: Callable[[V_co, VO], VR],
        /,
        *,
        store: Store[VR] = None,
        name: str | None = None,
    ) -> KTable[K_co, VR]: ...
    @overload
    def join(
        self,
        other: KTable[KO, VO],
        foreign_key_extractor: Callable[[V_co], KO | None],
        joiner: Callable[[V_co, VO], VR],
        /,
        *,
        store: Store[VR] = None,
        name: str | None = None,
    ) -> KTable[K_co, VR]: ...
    def join(
        self,
        other: KTable[Any, Any],
        *functions: Callable[..., Any],
        store: Store[Any] = None,
        name: str | None = None,
    ) -> KTable[K_co, Any]:
        """Join with another table: there is a row while both sides have one.

        ``join(other, joiner)`` joins rows of the same key; both tables must have equally many partitions.
        ``join(other, foreign_key_extractor, joiner)`` joins each row with the row of the other table that it refers to
        (KIP-213).

        Args:
            other: The other table.
            functions: From a value to the key of the other table it refers to (None: to none), only for a join by
                foreign key; and the joiner: from both values to the result's.
            store: Keep the result in a store.
            name: Name of the result's node; those of the others are made of it.
        """
        return self._joined(other, functions, store, name, keeps_this=False, keeps_other=False)

    @overload
    def left_join(
        self,
        other: KTable[K_co, VO],
        joiner: Callable[[V_co, VO | None], VR],
        /,
        *,
        store: Store[VR] = None,
        name: str | None = None,
    ) -> KTable[K_co, VR]: ...
    @overload
    def left_join(
        self,
        other: KTable[KO, VO],
        foreign_key_extractor: Callable[[V_co], KO | None],
        joiner: Callable[[V_co, VO | None], VR],
        /,
        *,
        store: Store[VR] = None,
        name: str | None = None,
    ) -> KTable[K_co, VR]: ...
    def left_join(
        self,
        other: KTable[Any, Any],
        *functions: Callable[..., Any],
        store: Store[Any] = None,
        name: str | None = None,
    ) -> KTable[K_co, Any]:
        """Join with another table: there is a row while this side has one.

        Args:
            other: The other table.
            functions: As for `join`; the joiner gets None for the other side's value if there is none.
            store: Keep the result in a store.
            name: Name of the result's node; those of the others are made of it.
        """
        return self._joined(other, functions, store, name, keeps_this=True, keeps_other=False)

    def outer_join(
        self,
        other: KTable[K_co, VO],
        joiner: Callable[[V_co | None, VO | None], VR],
        *,
        store: Store[VR] = None,
        name: str | None = None,
    ) -> KTable[K_co, VR]:
        """Join with another table by key: there is a row while either side has one.

        Args:
            other: The other table; it must have equally many partitions.
            joiner: From both values to the result's; one of them may be None.
            store: Keep the result in a store.
            name: Name of the result's node; those of the others are made of it.
        """
        return self._joined(other, (joiner,), store, name, keeps_this=True, keeps_other=True)

    def _joined(
        self,
        other: KTable[Any, Any],
        functions: tuple[Callable[..., Any], ...],
        store: Store[Any],
        name: str | None,
        *,
        keeps_this: bool,
        keeps_other: bool,
    ) -> KTable[Any, Any]:
        from streamlet.dsl.table_table_joins import JoinRule, join_tables

        if not isinstance(other, KTable) or other.plan is not self.plan:
            raise TopologyError(f"a table joins with another table of the same StreamsBuilder, not {other!r}")
        if not 1 <= len(functions) <= 2 or not all(callable(function) for function in functions):
            raise TopologyError(
                f"a table's join takes a joiner, or a foreign key extractor and a joiner; it was given {functions!r}"
            )
        joiner = functions[-1]
        check_function(joiner, "a table's join", ("left value", "right value"))
        if len(functions) == 2:
            check_function(functions[0], "the foreign key extractor of a table's join", ("left value",))
            from streamlet.dsl.foreign_key_join import join_by_foreign_key  # it makes tables

            return join_by_foreign_key(self, other, functions[0], joiner, store, name, keeps_left=keeps_this)

        def serdes(node: str) -> Serdes:
            return self.serdes.losing_value(node, "joins tables")

        sources = self.sources | other.sources
        self.plan.copartition(sources)
        rule = JoinRule(lambda _key, this, that: joiner(this, that), keeps_this, keeps_other)
        options = None if store is None else materialized(store)
        step, known = join_tables(self.plan, (self.step, other.step), rule, serdes, options, name)
        return KTable(self.plan, step, known, sources, None if options is None else options.name)

    @overload
    def to_stream(self, *, name: str | None = None) -> KStream[K_co, V_co | None]: ...
    @overload
    def to_stream(
        self, key_mapper: Callable[[K_co, V_co | None], KR], *, name: str | None = None
    ) -> KStream[KR, V_co | None]: ...
    def to_stream(
        self, key_mapper: Callable[[Any, Any], Any] | None = None, *, name: str | None = None
    ) -> KStream[Any, Any]:
        """Turn the table into the stream of its updates; a deletion is a record without a value.

        Args:
            key_mapper: From key and value (None for a deletion) to the stream's key; default: the table's.
            name: Name of the node.
        """
        from streamlet.dsl.stream import KStream  # each makes the other

        if key_mapper is not None:
            check_function(key_mapper, "to_stream()", KEY_AND_VALUE)
        node = self.plan.name(name, "KTABLE-TOSTREAM-")
        step = ProcessorStep(node, [self.step], ToStream())
        self.plan.add(step)
        stream: KStream[Any, Any] = KStream(self.plan, step, self.serdes, self.sources)
        return stream if key_mapper is None else stream.select_key(key_mapper)
