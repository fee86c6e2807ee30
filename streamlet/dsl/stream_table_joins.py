"""How joins of a stream with a table or a global table become steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from streamlet.dsl.given import KEY_AND_VALUE, check_function, check_with_key
from streamlet.dsl.materialized import Materialized, PendingStore
from streamlet.dsl.plan import ProcessorStep, Step, Writer
from streamlet.dsl.record_cache import Uncached
from streamlet.dsl.serde_flow import Ask, Lost, Serdes
from streamlet.dsl.stream_join_operators import joiner_of
from streamlet.dsl.stream_joins import Kind, repartitioned
from streamlet.dsl.table_lookup import (
    JoinTable,
    KeySelector,
    Lookup,
    Patience,
    WaitingKeySerde,
    WaitingValueSerde,
)
from streamlet.dsl.table_steps import DerivedTableStep, TableStep
from streamlet.dsl.windows import duration_ms
from streamlet.errors import TopologyError
from streamlet.processor.operator import NodeContext
from streamlet.serdes import Serde
from streamlet.state import StoreBuilder, Stores

if TYPE_CHECKING:
    from streamlet.dsl.global_table import GlobalKTable
    from streamlet.dsl.stream import KStream
    from streamlet.dsl.table import KTable

_ASK = Ask("join(key_serde=...)", "join(value_serde=...)")


class _WaitingStore(PendingStore):
    """The records that wait for the table."""

    def builder(self, writer: Writer, node: str) -> StoreBuilder[Any]:
        """Return its declaration."""
        return Stores.timestamped_key_value(
            self.name,
            WaitingKeySerde(writer.key_serde(self.serdes.key, node, self.ask)),
            WaitingValueSerde(writer.value_serde(self.serdes.value, node, self.ask)),
            in_memory=self.options.in_memory,
            logging=self.options.logging,
            immutable_values=self.options.immutable_values,
            changelog_config=self.options.changelog_config,
        )


class _TableJoinStep(ProcessorStep):
    """A join with a table, connected with its store first, as in Kafka Streams."""

    def __init__(
        self,
        name: str,
        parents: list[Step],
        operator: Callable[[], JoinTable],
        waiting: PendingStore | None,
        *,
        store_names: Sequence[str],
    ) -> None:
        super().__init__(name, parents, operator, store_names=store_names)
        self._waiting = waiting

    def write(self, writer: Writer) -> None:
        """Add the node."""
        super().write(writer)
        if self._waiting is not None:
            writer.topology.add_state_store(writer.store_builder(self._waiting, self.name))
            writer.connect(self.name, self._waiting.name)


def join_table(
    kind: Kind,
    stream: KStream[Any, Any],
    table: KTable[Any, Any],
    joiner: Callable[..., Any],
    *,
    with_key: bool = False,
    grace: timedelta | None = None,
    name: str | None = None,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    in_memory: bool = False,
    logging: bool = True,
    immutable_values: bool = False,
    changelog_config: Mapping[str, str] | None = None,
) -> KStream[Any, Any]:
    """Join a stream with a table; see `KStream.join`."""
    from streamlet.dsl.stream import KStream  # it needs this module

    check_with_key(joiner, "a join with a table", ("value", "row"), with_key=with_key)
    grace_ms = None if grace is None else duration_ms("grace", grace)
    if grace_ms is None and (in_memory or not logging or immutable_values or changelog_config):
        raise TopologyError(
            "in_memory, logging, immutable_values and changelog_config are for the store of the records that wait for "
            "the table: they need grace=; the table's own store is described where the table is made"
        )
    plan = stream.plan
    key = table.serdes.key if isinstance(stream.serdes.key, Lost) else stream.serdes.key
    serdes = Serdes(key, stream.serdes.value).given(key_serde, value_serde)
    parent, sources = repartitioned(stream, name or stream.step.name, serdes, _ASK)
    sources |= table.sources
    plan.copartition(sorted(sources, key=lambda step: step.name))
    node = plan.name(name, "KSTREAM-JOIN-" if kind == "inner" else "KSTREAM-LEFTJOIN-")
    view, step = table.step.view(), table.step
    waiting: PendingStore | None = None
    patience: Patience | None = None
    if grace_ms is not None:
        options: Materialized[Any] = Materialized(
            in_memory=in_memory,
            logging=logging,
            immutable_values=immutable_values,
            changelog_config=dict(changelog_config or {}),
        )
        waiting = _WaitingStore(f"{node}-Buffer", options, serdes, _ASK)
        patience = Patience(waiting.name, grace_ms)

    def operator() -> JoinTable:
        if patience is not None and not step.versioned:
            raise TopologyError(
                f"{node}: a join with grace reads the table as it was at the record's time, so the table must be "
                f"versioned: give it store=Materialized(..., history_retention=...)"
            )
        join = joiner_of(joiner, with_key=with_key)
        return JoinTable(_lookup(step), join, kind == "left", buffer=patience)

    joined = _TableJoinStep(node, [parent], operator, waiting, store_names=view.stores)
    joined.accepts_null_keys = kind == "left"
    plan.add(joined)
    return KStream(plan, joined, serdes.losing_value(node, "joins values"), sources)


def _lookup(step: TableStep) -> Callable[[NodeContext], Lookup]:
    if step.versioned:
        return lambda context: _as_of(step, context)
    view = step.view()

    def open(context: NodeContext) -> Lookup:
        get = view.open(cast("NodeContext", Uncached(context)))

        def latest(key: Any, _timestamp: int) -> Any:
            row = get(key)
            return None if row is None else row[0]

        return latest

    return open


def _as_of(step: TableStep, context: NodeContext) -> Lookup:
    """Return the lookup of a versioned table as it was at a time."""
    if step.store_in_use is None:
        assert isinstance(step, DerivedTableStep)
        before, derive = _as_of(step.parent, context), step.derive

        def derived(key: Any, timestamp: int) -> Any:
            value = before(key, timestamp)
            return None if value is None else derive(key, value)

        return derived
    get = context.store(step.store_in_use).get

    def as_of(key: Any, timestamp: int) -> Any:
        version = get(key, timestamp)
        return None if version is None else version.value

    return as_of


def join_global(
    kind: Kind,
    stream: KStream[Any, Any],
    table: GlobalKTable[Any, Any],
    key_selector: KeySelector,
    joiner: Callable[..., Any],
    *,
    with_key: bool = False,
    name: str | None = None,
) -> KStream[Any, Any]:
    """Join a stream with a global table; see `KStream.join`."""
    check_function(key_selector, "the key selector of a join with a global table", KEY_AND_VALUE)
    check_with_key(joiner, "a join with a global table", ("value", "row"), with_key=with_key)
    node = stream.plan.name(name, "KSTREAM-LEFTJOIN-")  # that of the left join for both, as in Kafka Streams
    join, store = joiner_of(joiner, with_key=with_key), table.store_name

    def open(context: NodeContext) -> Lookup:
        get = context.store(store).get

        def latest(key: Any, _timestamp: int) -> Any:
            row = get(key)
            return None if row is None else row[0]

        return latest

    operator = JoinTable(open, join, kind == "left", key_selector)
    joined = stream.then(node, operator, stream.serdes.losing_value(node, "joins values"))
    joined.step.accepts_null_keys = True
    return joined
