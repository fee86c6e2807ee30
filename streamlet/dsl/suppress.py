"""Suppression: changes of a table are held back, until time has passed or their window has closed (KIP-328)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from attrs import frozen

from streamlet.dsl.materialized import Materialized, PendingStore
from streamlet.dsl.plan import Plan, Step, Writer
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.suppress_buffer import BufferedSerde, Suppress
from streamlet.dsl.table_steps import Getter, TableStep, TableView
from streamlet.dsl.windowed_tables import WindowedTableStep
from streamlet.dsl.windows import duration_ms
from streamlet.errors import TopologyError
from streamlet.processor.operator import NodeContext
from streamlet.records import Windowed
from streamlet.serdes import bytes_
from streamlet.state import StoreBuilder, Stores

K_in = TypeVar("K_in", contravariant=True)

WhenFull: TypeAlias = Literal["emit_early", "shut_down"]
"""What happens when a buffer is full: the oldest changes are sent before their time, or the application fails."""

_SUPPRESS = "KTABLE-SUPPRESS-"
_ASK = Ask("the table's source a key serde", "a store= with Materialized(value_serde=...) to the table before it")


@frozen
class Suppressed(Generic[K_in]):
    """How long changes are held back, and what happens when there are too many. Given to `KTable.suppress`.

    Contravariant in the key, so that `until_window_closes` fits tables over windows only.

    Attributes:
        limit_ms: How long a change is held back, counted from the first one of its key; None: until its window closes.
        max_records: The most keys that are held back, None for any number.
        max_bytes: The most bytes that are held back, None for any number.
        when_full: What happens beyond that.
        logging: Whether what is held back has a changelog, from which it is restored elsewhere.
        idle_after_ms: How long no record has to come for time to go on by the wall clock; None: it waits for records.
    """

    limit_ms: int | None
    max_records: int | None
    max_bytes: int | None
    when_full: WhenFull
    logging: bool
    idle_after_ms: int | None = None

    @staticmethod
    def until_time_limit(
        limit: timedelta,
        *,
        max_records: int | None = None,
        max_bytes: int | None = None,
        when_full: WhenFull = "emit_early",
        logging: bool = True,
        idle_after: timedelta | None = None,
    ) -> Suppressed[object]:
        """Hold back changes for some time of the stream: of those of a key in that time only the last one is sent.

        Args:
            limit: Counted from the first change of a key, in stream time as this operator sees it; later changes of the
                key do not prolong it. 0 sends each change on at once.
            max_records: The most keys to hold back.
            max_bytes: The most bytes to hold back: of the serialised keys, values and headers.
            when_full: ``"emit_early"`` sends the oldest before their time, ``"shut_down"`` fails.
            logging: Keep a changelog, from which what is held back is restored elsewhere.
            idle_after: When this operator has received no change for so long (wall clock), its time goes on by the wall
                clock, so that the last changes are sent, too. Default: they wait for the next change.

        Raises:
            TopologyError: If a limit is negative, the time limit no whole milliseconds, or `idle_after` less than a
                millisecond or given with a limit of 0.
        """
        limit_ms = duration_ms("the time limit", limit)
        _check(max_records, max_bytes, when_full)
        idle_after_ms = _idle_after_ms(idle_after)
        if idle_after_ms is not None and not limit_ms:
            raise TopologyError("idle_after has no meaning with a time limit of 0: nothing is held back")
        return Suppressed(limit_ms, max_records, max_bytes, when_full, logging, idle_after_ms)

    @staticmethod
    def until_window_closes(
        *,
        max_records: int | None = None,
        max_bytes: int | None = None,
        when_full: Literal["shut_down"] = "shut_down",
        logging: bool = True,
        idle_after: timedelta | None = None,
    ) -> Suppressed[Windowed[object]]:
        """Send one final result per window: when stream time has passed its end and grace.

        Stream time moves with the records of the same task only: the last windows wait for the next record, unless
        `idle_after` is given. Windows without a result, since it was deleted, send nothing.

        Args:
            max_records: The most windows to hold back; beyond that the application fails, for a result that is sent
                early would not be final.
            max_bytes: The most bytes to hold back: of the serialised keys, values and headers.
            when_full: Only ``"shut_down"``.
            logging: Keep a changelog, from which what is held back is restored elsewhere.
            idle_after: When the windowed aggregation before it has received no record for so long (wall clock), stream
                time goes on by the wall clock, here and in that aggregation, so that the last windows close, too.
                Records that are behind it then are late for the aggregation: they are missing in its table as well.

        Raises:
            TopologyError: If a limit is negative, results should be sent early, or `idle_after` is less than a
                millisecond.
        """
        if when_full != "shut_down":
            raise TopologyError(
                "until_window_closes sends final results only: a full buffer can only shut down, "
                "use until_time_limit(..., when_full='emit_early') if earlier results are welcome"
            )
        _check(max_records, max_bytes, when_full)
        return Suppressed(None, max_records, max_bytes, when_full, logging, _idle_after_ms(idle_after))


def _idle_after_ms(idle_after: timedelta | None) -> int | None:
    return None if idle_after is None else duration_ms("idle_after", idle_after, least_ms=1)


def _check(max_records: int | None, max_bytes: int | None, when_full: str) -> None:
    for name, limit in (("max_records", max_records), ("max_bytes", max_bytes)):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise TopologyError(f"{name} must be a whole number from 0 on, not {limit!r}")
    if when_full not in ("emit_early", "shut_down"):
        raise TopologyError(f"when_full is 'emit_early' or 'shut_down', not {when_full!r}")


def suppressed_table(
    plan: Plan, step: TableStep, serdes: Serdes, suppressed: Suppressed[Any], name: str | None
) -> TableStep:
    """Add the step that holds back the changes of a table.

    Raises:
        TopologyError: If windows should close, but there are none; or by the wall clock, where they cannot.
    """
    if not isinstance(suppressed, Suppressed):
        raise TopologyError(f"suppress takes a Suppressed, not {suppressed!r}")
    wait_ms = find_grace(step) if suppressed.limit_ms is None else suppressed.limit_ms
    node = plan.own_name(name, _SUPPRESS)
    store_name = plan.store_name(_SUPPRESS) if name is None else f"{name}-store"
    added = SuppressStep(node, step, suppressed, wait_ms, _PendingBuffer(store_name, serdes, suppressed.logging))
    plan.add(added)
    if suppressed.limit_ms is None and suppressed.idle_after_ms is not None:
        for aggregation in _aggregations(step, node):
            aggregation.follow(node, suppressed.idle_after_ms)
    return added


def _aggregations(step: Step, node: str) -> list[WindowedTableStep]:
    """Return the windowed aggregations before the node, of whose windows it is to know by the clock that they close.

    Raises:
        TopologyError: If one is in another task, or changes are held back behind it.
    """
    if isinstance(step, WindowedTableStep):
        return [step]
    if isinstance(step, SuppressStep):
        raise TopologyError(
            f"{node}: idle_after closes windows at once, but {step.name} before it holds changes back: "
            f"they would come when their windows are closed. Suppress once"
        )
    if step.begins_task:
        raise TopologyError(
            f"{node}: idle_after has to have the windowed aggregation in its own task, but {step.name} between them "
            f"reads from a topic: suppress before that, or give it to the aggregation, "
            f"emit_strategy(EmitStrategy.ON_WINDOW_CLOSE, idle_after=...)"
        )
    return list(dict.fromkeys(found for parent in step.parents for found in _aggregations(parent, node)))


def find_grace(step: Step, behind: str = "") -> int:
    """Return how long the windows that were aggregated before a step wait for late records; the longest, if several.

    Raises:
        TopologyError: If there is a way to the source without windows.
    """
    if step.never_closes:
        raise TopologyError(
            f"until_window_closes() would hold everything back for ever: {step.name} has unlimited windows, which "
            f"never close. Use Suppressed.until_time_limit"
        )
    if step.grace_ms is not None:
        return step.grace_ms
    chain = f"{step.name} -> {behind}" if behind else step.name
    if not step.parents:
        raise TopologyError(
            f"until_window_closes() needs a table over windows, but there is none before {chain}: "
            f"aggregate with windowed_by(...), or use Suppressed.until_time_limit"
        )
    return max(find_grace(parent, chain) for parent in step.parents)


class _PendingBuffer(PendingStore):
    """The store of what is held back.

    Attributes:
        buffered: Serde of its values, once the table's is settled.
    """

    def __init__(self, name: str, serdes: Serdes, logging: bool) -> None:
        super().__init__(name, Materialized(name, logging=logging), serdes, _ASK)
        self.buffered = BufferedSerde(bytes_)

    def builder(self, writer: Writer, node: str) -> StoreBuilder[Any]:
        """Return its declaration."""
        key_serde = writer.key_serde(self.serdes.key, node, self.ask)
        value_serde = writer.value_serde(self.serdes.value, node, self.ask)
        self.buffered = BufferedSerde(value_serde)
        return Stores.key_value(self.name, key_serde, self.buffered, logging=self.options.logging)


class SuppressStep(TableStep):
    """Holds back the changes of the table before it; that has to send old values."""

    def __init__(
        self, name: str, parent: TableStep, suppressed: Suppressed[Any], wait_ms: int, store: _PendingBuffer
    ) -> None:
        super().__init__(
            name,
            [parent],
            lambda _: Suppress(
                store.name,
                store.buffered,
                wait_ms,
                suppressed.limit_ms is None,
                suppressed.max_records,
                suppressed.max_bytes,
                suppressed.when_full,
                suppressed.idle_after_ms,
            ),
        )
        self._buffer = store
        self._before = parent
        parent.send_old_values(force=True)

    def send_old_values(self, *, force: bool) -> bool:
        """Have its changes carry old values: those the table had when it last sent one."""
        self.sends_old_values = self._before.send_old_values(force=force)
        return self.sends_old_values

    def write(self, writer: Writer) -> None:
        """Add the node with its buffer."""
        writer.store_builder(self._buffer, self.name)  # settles the serde that the operator measures with
        super().write(writer)
        writer.add_store(self._buffer, self.name)

    def view(self) -> TableView:
        """Return how its values are read: as they were before what is held back."""
        before, buffer = self._before.view(), self._buffer.name

        def open(context: NodeContext) -> Getter:
            held, get = context.store(buffer).fast_get, before.open(context)

            def value(key: Any) -> tuple[Any, int] | None:
                row = held(key)
                if row is None:
                    return get(key)
                prior = row[0].prior
                return None if prior is None else (prior, -1)  # when it was sent is not known any more

            return value

        return TableView((buffer, *before.stores), open)
