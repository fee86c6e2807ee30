"""How joins of streams become steps: names and their order, repartitioning, stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attrs import evolve

from streamlet.dsl.given import check_serde, check_with_key
from streamlet.dsl.materialized import Materialized, PendingStore
from streamlet.dsl.plan import Plan, ProcessorStep, Step, Writer
from streamlet.dsl.repartition import insert_repartition
from streamlet.dsl.serde_flow import Ask, Lost, Serdes
from streamlet.dsl.stateless import PassThrough
from streamlet.dsl.stream_join_operators import (
    JoinSide,
    KeepWindow,
    Reach,
    SelfJoin,
    Unmatched,
    joiner_of,
    swapped,
)
from streamlet.dsl.windows import JoinWindows
from streamlet.errors import TopologyError
from streamlet.serdes import Serde
from streamlet.state import StoreBuilder, Stores
from streamlet.state.suppliers import WindowStoreSupplier
from streamlet.topic import check_name
from streamlet.topology.nodes import ProcessorNode

if TYPE_CHECKING:
    from streamlet.dsl.stream import KStream

Kind: TypeAlias = Literal["inner", "left", "outer"]

_ASK_LEFT = Ask("join(key_serde=...)", "join(value_serde=...)")
_ASK_RIGHT = Ask("join(key_serde=...)", "join(other_value_serde=...)")


def repartitioned(stream: KStream[Any, Any], prefix: str, serdes: Serdes, ask: Ask) -> tuple[Step, frozenset[Step]]:
    """Return the step whose records are to be joined, and its sources: behind a repartition topic if one is needed.

    A stream that is joined several times goes through one topic of a name.
    """
    if not stream.repartition_required:
        return stream.step, stream.sources
    known = stream.plan.repartitioned.get((stream.step, prefix))
    if known is not None:
        for kind in ("SINK", "FILTER", "SOURCE"):  # Kafka Streams uses the numbers up all the same
            stream.plan.number(f"KSTREAM-{kind}-")
        return known, frozenset({known})
    step = insert_repartition(stream.plan, prefix, stream.step, serdes, ask)
    stream.plan.repartitioned[stream.step, prefix] = step
    return step, frozenset({step})


class _WindowStore(PendingStore):
    """A side's records."""

    def __init__(self, name: str, options: Materialized[Any], serdes: Serdes, ask: Ask, windows: JoinWindows) -> None:
        super().__init__(name, options, serdes, ask)
        self._windows = windows

    def builder(self, writer: Writer, node: str) -> StoreBuilder[Any]:
        """Return its declaration: both ends of the window are within the retention."""
        windows, options = self._windows, self.options
        return Stores.window(
            self.name,
            writer.key_serde(self.serdes.key, node, self.ask),
            writer.value_serde(self.serdes.value, node, self.ask),
            retention=timedelta(milliseconds=windows.size_ms + windows.grace_ms + 1),
            window_size=timedelta(milliseconds=windows.size_ms),
            retain_duplicates=True,
            in_memory=options.in_memory,
            logging=options.logging,
            immutable_values=options.immutable_values,
            changelog_config=options.changelog_config,
        )


class _UnmatchedStore(PendingStore):
    """The rows of both sides that have no partner yet."""

    def __init__(self, name: str, options: Materialized[Any], left: Serdes, right: Serdes) -> None:
        super().__init__(name, options, left, _ASK_LEFT)
        self._right = right

    def builder(self, writer: Writer, node: str) -> StoreBuilder[Any]:
        """Return its declaration."""
        options = self.options
        return Stores.outer_join(
            self.name,
            writer.key_serde(self.serdes.key, node, self.ask),
            writer.value_serde(self.serdes.value, node, self.ask),
            writer.value_serde(self._right.value, node, _ASK_RIGHT),
            in_memory=options.in_memory,
            logging=options.logging,
            immutable_values=options.immutable_values,
            changelog_config=options.changelog_config,
        )


class _JoinStep(ProcessorStep):
    """A node of a join that is left out if the join is written over one store."""

    def __init__(self, name: str, parents: list[Step], operator: Any, alone: Callable[[Writer], bool], **more: Any):
        super().__init__(name, parents, operator, **more)
        self._alone = alone

    def write(self, writer: Writer) -> None:
        """Add the node, unless the stream is joined with itself."""
        if not self._alone(writer):
            super().write(writer)


class _MergeStep(Step):
    """Brings both sides' results together; or makes them all, where a stream is joined with itself."""

    def __init__(
        self, name: str, sides: list[Step], kept: Step, store: str, join: SelfJoin, alone: Callable[[Writer], bool]
    ) -> None:
        super().__init__(name, sides)
        self._kept, self._store, self._join, self._alone = kept, store, join, alone

    def write(self, writer: Writer) -> None:
        """Add the node."""
        if self._alone(writer):
            writer.topology.add_node(ProcessorNode(self.name, self._join, writer.outputs([self._kept])))
            writer.connect(self.name, self._store)
        else:
            writer.topology.add_node(ProcessorNode(self.name, PassThrough(), writer.inputs(self)))


def join_streams(
    kind: Kind,
    left: KStream[Any, Any],
    right: KStream[Any, Any],
    joiner: Callable[..., Any],
    windows: JoinWindows,
    *,
    with_key: bool = False,
    name: str | None = None,
    store_name: str | None = None,
    this_store: WindowStoreSupplier | None = None,
    other_store: WindowStoreSupplier | None = None,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    other_value_serde: Serde[Any] | None = None,
    in_memory: bool = False,
    logging: bool = True,
    immutable_values: bool = False,
    changelog_config: Mapping[str, str] | None = None,
) -> KStream[Any, Any]:
    """Join two streams; see `KStream.join`."""
    from streamlet.dsl.stream import KStream  # it needs this module

    if not isinstance(windows, JoinWindows):
        raise TopologyError(f"a join of streams takes JoinWindows behind the joiner, not {windows!r}")
    check_with_key(joiner, "a join of streams", ("left value", "right value"), with_key=with_key)
    if store_name is not None:
        check_name(store_name, "store")
    for given, what in ((key_serde, "key"), (value_serde, "value"), (other_value_serde, "other_value")):
        check_serde(given, f"{what}_serde")
    plan = left.plan
    options: Materialized[Any] = Materialized(
        in_memory=in_memory,
        logging=logging,
        immutable_values=immutable_values,
        changelog_config=dict(changelog_config or {}),
    )
    key = key_serde or (right.serdes.key if isinstance(left.serdes.key, Lost) else left.serdes.key)
    left_serdes = Serdes(key, value_serde or left.serdes.value)
    right_serdes = Serdes(key, other_value_serde or right.serdes.value)
    one, left_sources = repartitioned(left, left.step.name if name is None else f"{name}-left", left_serdes, _ASK_LEFT)
    two, right_sources = repartitioned(
        right, right.step.name if name is None else f"{name}-right", right_serdes, _ASK_RIGHT
    )
    sources = left_sources | right_sources
    plan.copartition(sorted(sources, key=lambda step: step.name))
    names = _Names(plan, kind, name, store_name)
    _check_suppliers(this_store, other_store, windows)
    left_options, right_options = evolve(options, supplier=this_store), evolve(options, supplier=other_store)
    if this_store is not None:
        names.left_store, names.shared_store = this_store.name, f"{this_store.name}-{names.shared}-store"
        options = evolve(options, in_memory=this_store.in_memory)
    if other_store is not None:
        names.right_store = other_store.name

    def alone(writer: Writer) -> bool:
        return writer.optimizes("single.store.self.join") and kind == "inner" and _same(writer, one, two)

    join = joiner_of(joiner, with_key=with_key)
    forwards, backwards = Reach(windows.before_ms, windows.after_ms), Reach(windows.after_ms, windows.before_ms)
    unmatched = None
    stores: list[PendingStore] = []
    if kind != "inner":
        stores.append(_UnmatchedStore(names.shared_store, options, left_serdes, right_serdes))
        unmatched = Unmatched(names.shared_store, windows.after_ms, windows.before_ms, windows.grace_ms, join)
    left_store = _WindowStore(names.left_store, left_options, left_serdes, _ASK_LEFT, windows)
    right_store = _WindowStore(names.right_store, right_options, right_serdes, _ASK_RIGHT, windows)
    left_kept = ProcessorStep(names.left_kept, [one], KeepWindow(left_store.name), stores=[left_store])
    right_kept = _JoinStep(names.right_kept, [two], KeepWindow(right_store.name), alone, stores=[right_store])
    left_join = _JoinStep(
        names.left_join,
        [left_kept],
        JoinSide(right_store.name, forwards, join, True, kind != "inner", unmatched),
        alone,
        stores=stores,
        store_names=[right_store.name],
    )
    right_join = _JoinStep(
        names.right_join,
        [right_kept],
        JoinSide(left_store.name, backwards, swapped(joiner, with_key=with_key), False, kind == "outer", unmatched),
        alone,
        store_names=[left_store.name, *(store.name for store in stores)],
    )
    left_join.accepts_null_keys = right_join.accepts_null_keys = kind != "inner"
    merge = _MergeStep(
        names.merge,
        [left_join, right_join],
        left_kept,
        left_store.name,
        SelfJoin(left_store.name, forwards, backwards, join),
        alone,
    )
    for step in (left_kept, right_kept, left_join, right_join, merge):
        plan.add(step)
    return KStream(plan, merge, Serdes(key, Lost(names.merge, "joins values")), sources)


def _check_suppliers(this: WindowStoreSupplier | None, other: WindowStoreSupplier | None, windows: JoinWindows) -> None:
    for supplier in (this, other):
        if supplier is None:
            continue
        if not isinstance(supplier, WindowStoreSupplier):
            raise TopologyError(
                f"this_store= and other_store= take what Stores.persistent_window_store or in_memory_window_store "
                f"returns, not {supplier!r}"
            )
        least = windows.size_ms + windows.grace_ms
        if supplier.retention_ms != least:
            raise TopologyError(
                f"store {supplier.name!r} of a join must keep records for the length of the windows and their grace, "
                f"{least} ms: give the supplier that retention, not {supplier.retention_ms} ms"
            )
    if this is not None and other is not None and this.name == other.name:
        raise TopologyError(f"the stores of a join are two: {this.name!r} cannot be the name of both")


def _same(writer: Writer, one: Step, two: Step) -> bool:
    return writer.outputs([one]) == writer.outputs([two])


class _Names:
    """Names of a join's nodes and stores; numbers are used up in the order in which Kafka Streams counts."""

    def __init__(self, plan: Plan, kind: Kind, name: str | None, store_name: str | None) -> None:
        left, right = "-this-join", "-other-join"
        left_prefix, right_prefix = "KSTREAM-JOINTHIS-", "KSTREAM-JOINOTHER-"
        self.shared = "left-shared-join"
        if kind == "outer":
            left, left_prefix, self.shared = "-outer-this-join", "KSTREAM-OUTERTHIS-", "outer-shared-join"
        if kind != "inner":
            right, right_prefix = "-outer-other-join", "KSTREAM-OUTEROTHER-"
        self.left_kept = plan.suffixed_name(name, "-this-windowed", "KSTREAM-WINDOWED-")
        self.right_kept = plan.suffixed_name(name, "-other-windowed", "KSTREAM-WINDOWED-")
        numbered_left, numbered_right = plan.number(left_prefix), plan.number(right_prefix)
        self.left_join = numbered_left if name is None else check_name(name + left, "node")
        self.right_join = numbered_right if name is None else check_name(name + right, "node")
        self.merge = plan.suffixed_name(name, "-merge", "KSTREAM-MERGE-")
        if store_name is None:
            self.left_store, self.right_store = f"{numbered_left}-store", f"{numbered_right}-store"
            shared_name = f"KSTREAM-OUTERSHARED-{numbered_left.removeprefix(left_prefix)}"
            plan.generated.add(shared_name)
            self.shared_store = f"{shared_name}-store"
        else:
            self.left_store, self.right_store = f"{store_name}{left}-store", f"{store_name}{right}-store"
            self.shared_store = f"{store_name}-{self.shared}-store"
