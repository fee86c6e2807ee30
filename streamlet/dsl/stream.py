"""`KStream`: records, one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Never, TypeVar, overload

from streamlet.dsl.async_values import MapValuesAsync, Ordering, Takes
from streamlet.dsl.given import KEY_AND_VALUE, PARTITION, check_function, check_with_key
from streamlet.dsl.grouped import KGroupedStream
from streamlet.dsl.joins import Joins
from streamlet.dsl.materialized import Store, materialized, pending_store
from streamlet.dsl.plan import Plan, ProcessorStep, Step, Writer
from streamlet.dsl.repartition import insert_repartition
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.stateless import (
    DropNulls,
    Filter,
    FlatMap,
    FlatMapValues,
    Map,
    MapValues,
    PassThrough,
    Peek,
    SelectKey,
)
from streamlet.dsl.table import KTable
from streamlet.dsl.table_operators import ReadTable
from streamlet.dsl.table_steps import TableStep
from streamlet.errors import TopologyError
from streamlet.processor.adapter import ProcessorOperator, stores_of
from streamlet.processor.api import FixedKeyProcessor, Processor
from streamlet.processor.operator import Operator
from streamlet.records import Record, RecordMetadata
from streamlet.serdes import Serde
from streamlet.topic import Topic
from streamlet.topology.nodes import Partitioner, SinkNode

if TYPE_CHECKING:
    from streamlet.dsl.branched import BranchedKStream
    from streamlet.state import StoreBuilder

K = TypeVar("K")
V = TypeVar("V")
K_co = TypeVar("K_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)
KR = TypeVar("KR")
VR = TypeVar("VR")


_ASK_SINK = Ask("to(key_serde=...)", "to(value_serde=...)")
_ASK_REPARTITION = Ask("repartition(key_serde=...)", "repartition(value_serde=...)")
_ASK_TABLE = Ask("repartition(key_serde=...) before to_table", "store=Materialized(value_serde=...)")


class KStream(Joins[K_co, V_co]):
    """A stream of records.

    Covariant, so that `to(Topic[K, V])` may take a stream that also carries tombstones (``V | None``).

    Attributes:
        step: The step that sends its records; for operators.
        serdes: The serdes of its keys and values, as far as they are known; for operators.
        sources: The source steps its records come from; for operators that need equal partitioning.
        repartition_required: Whether keys may have changed, so that records of a key may be in several tasks.
        plan: The program; for operators.
    """

    def __init__(
        self, plan: Plan, step: Step, serdes: Serdes, sources: frozenset[Step], *, repartition_required: bool = False
    ) -> None:
        self.plan = plan
        self.step = step
        self.serdes = serdes
        self.sources = sources
        self.repartition_required = repartition_required

    def then(
        self, node: str, operator: Operator, serdes: Serdes | None = None, *, changes_key: bool = False
    ) -> KStream[Any, Any]:
        """Return the stream behind one more processor node; most operators end here.

        Args:
            node: Name of the node, from `Plan.name`.
            operator: Its behaviour.
            serdes: What is left of them; default: they stay.
            changes_key: Whether keys may be others behind it.
        """
        step = ProcessorStep(node, [self.step], operator, changes_key=changes_key)
        self.plan.add(step)
        return KStream(
            self.plan,
            step,
            serdes or self.serdes,
            self.sources,
            repartition_required=self.repartition_required or changes_key,
        )

    # --- without state ----------------------------------------------------------------------------------------------

    def filter(self, predicate: Callable[[K_co, V_co], object], *, name: str | None = None) -> KStream[K_co, V_co]:
        """Keep the records for which the predicate holds."""
        check_function(predicate, "filter()", KEY_AND_VALUE)
        return self.then(self.plan.name(name, "KSTREAM-FILTER-"), Filter(predicate))

    def filter_not(self, predicate: Callable[[K_co, V_co], object], *, name: str | None = None) -> KStream[K_co, V_co]:
        """Keep the records for which the predicate does not hold."""
        check_function(predicate, "filter_not()", KEY_AND_VALUE)
        return self.then(self.plan.name(name, "KSTREAM-FILTER-"), Filter(predicate, keep=False))

    def drop_nulls(self: KStream[K, VR | None], *, name: str | None = None) -> KStream[K, VR]:
        """Drop records without a value; a short form of `filter` that the type checker understands."""
        return self.then(self.plan.name(name, "KSTREAM-FILTER-"), DropNulls())

    def map(self, mapper: Callable[[K_co, V_co], tuple[KR, VR]], *, name: str | None = None) -> KStream[KR, VR]:
        """Make another key and value of each record."""
        check_function(mapper, "map()", KEY_AND_VALUE)
        node = self.plan.name(name, "KSTREAM-MAP-")
        return self.then(node, Map(mapper), self.serdes.losing_both(node, "maps keys and values"), changes_key=True)

    def flat_map(
        self, mapper: Callable[[K_co, V_co], Iterable[tuple[KR, VR]]], *, name: str | None = None
    ) -> KStream[KR, VR]:
        """Make any number of records of each."""
        check_function(mapper, "flat_map()", KEY_AND_VALUE)
        node = self.plan.name(name, "KSTREAM-FLATMAP-")
        return self.then(node, FlatMap(mapper), self.serdes.losing_both(node, "maps keys and values"), changes_key=True)

    @overload
    def map_values(
        self, mapper: Callable[[V_co], VR], *, with_key: Literal[False] = False, name: str | None = None
    ) -> KStream[K_co, VR]: ...
    @overload
    def map_values(
        self, mapper: Callable[[K_co, V_co], VR], *, with_key: Literal[True], name: str | None = None
    ) -> KStream[K_co, VR]: ...
    def map_values(
        self, mapper: Callable[..., Any], *, with_key: bool = False, name: str | None = None
    ) -> KStream[K_co, Any]:
        """Make another value of each record.

        Args:
            mapper: Of the value; of key and value if `with_key`.
            with_key: Whether the mapper gets the key too; it cannot change it.
            name: Name of the node.
        """
        check_with_key(mapper, "map_values()", ("value",), with_key=with_key)
        node = self.plan.name(name, "KSTREAM-MAPVALUES-")
        return self.then(node, MapValues(mapper, with_key), self.serdes.losing_value(node, "maps values"))

    @overload
    def flat_map_values(
        self, mapper: Callable[[V_co], Iterable[VR]], *, with_key: Literal[False] = False, name: str | None = None
    ) -> KStream[K_co, VR]: ...
    @overload
    def flat_map_values(
        self, mapper: Callable[[K_co, V_co], Iterable[VR]], *, with_key: Literal[True], name: str | None = None
    ) -> KStream[K_co, VR]: ...
    def flat_map_values(
        self, mapper: Callable[..., Iterable[Any]], *, with_key: bool = False, name: str | None = None
    ) -> KStream[K_co, Any]:
        """Make any number of values of each record, under the same key; see `map_values`."""
        check_with_key(mapper, "flat_map_values()", ("value",), with_key=with_key)
        node = self.plan.name(name, "KSTREAM-FLATMAPVALUES-")
        return self.then(node, FlatMapValues(mapper, with_key), self.serdes.losing_value(node, "maps values"))

    @overload
    def map_values_async(
        self,
        function: Callable[[V_co], Awaitable[VR]],
        *,
        with_key: Literal[False] = False,
        with_record: Literal[False] = False,
        max_in_flight: int = 64,
        ordering: Ordering = "partition",
        timeout: timedelta | None = None,
        recover: Callable[[V_co, Exception], VR] | None = None,
        name: str | None = None,
    ) -> KStream[K_co, VR]: ...
    @overload
    def map_values_async(
        self,
        function: Callable[[V_co], VR],
        *,
        with_key: Literal[False] = False,
        with_record: Literal[False] = False,
        max_in_flight: int = 64,
        ordering: Ordering = "partition",
        timeout: timedelta | None = None,
        recover: Callable[[V_co, Exception], VR] | None = None,
        name: str | None = None,
    ) -> KStream[K_co, VR]: ...
    @overload
    def map_values_async(
        self,
        function: Callable[[K_co, V_co], Awaitable[VR]],
        *,
        with_key: Literal[True],
        with_record: Literal[False] = False,
        max_in_flight: int = 64,
        ordering: Ordering = "partition",
        timeout: timedelta | None = None,
        recover: Callable[[K_co, V_co, Exception], VR] | None = None,
        name: str | None = None,
    ) -> KStream[K_co, VR]: ...
    @overload
    def map_values_async(
        self,
        function: Callable[[K_co, V_co], VR],
        *,
        with_key: Literal[True],
        with_record: Literal[False] = False,
        max_in_flight: int = 64,
        ordering: Ordering = "partition",
        timeout: timedelta | None = None,
        recover: Callable[[K_co, V_co, Exception], VR] | None = None,
        name: str | None = None,
    ) -> KStream[K_co, VR]: ...
    @overload
    def map_values_async(
        self,
        function: Callable[[Record[K_co, V_co]], Awaitable[VR]],
        *,
        with_key: Literal[False] = False,
        with_record: Literal[True],
        max_in_flight: int = 64,
        ordering: Ordering = "partition",
        timeout: timedelta | None = None,
        recover: Callable[[Record[K_co, V_co], Exception], VR] | None = None,
        name: str | None = None,
    ) -> KStream[K_co, VR]: ...
    @overload
    def map_values_async(
        self,
        function: Callable[[Record[K_co, V_co]], VR],
        *,
        with_key: Literal[False] = False,
        with_record: Literal[True],
        max_in_flight: int = 64,
        ordering: Ordering = "partition",
        timeout: timedelta | None = None,
        recover: Callable[[Record[K_co, V_co], Exception], VR] | None = None,
        name: str | None = None,
    ) -> KStream[K_co, VR]: ...
    def map_values_async(
        self,
        function: Callable[..., Any],
        *,
        with_key: bool = False,
        with_record: bool = False,
        max_in_flight: int = 64,
        ordering: Ordering = "partition",
        timeout: timedelta | None = None,
        recover: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> KStream[K_co, Any]:
        """Make another value of each record by user code that waits (for a service, a database), for many records at a
        time, while the stream goes on.

        Coroutine functions run on one event loop, which all of the process share; other functions run in threads, and
        so must be thread-safe, and may return an awaitable too. Each record is sent on once its result is there, by
        the stream's own thread, with its key, timestamp and headers.

        Nothing waits for a call: commits cover what is done, in whichever order it was done, and what a closed or
        crashed task was at is read again. So a call may be repeated after a crash or a rebalance; its result, under
        ``exactly_once_v2``, is not. Between the topic and this operator there may only be operators without state, and
        no other branch may take the same records; put `repartition` in front of it otherwise.

        Args:
            function: Of the value.
            with_key: Whether the function gets key and value.
            with_record: Whether the function gets the `Record`, with timestamp and headers.
            max_in_flight: How many records a task may have here at a time, also those that only wait for their turn;
                400 at most for all such operators of a sub-topology.
            ordering: ``"partition"``: results keep the order of the records; ``"key"``: they do among records of a key,
                of which one call runs at a time; ``"none"``: results are sent on as calls end.
            timeout: How long a call may take. One that takes longer fails with `TimeoutError`; a coroutine is
                cancelled, a thread is left to itself.
            recover: The value for a record whose call failed, of what the function was given and the exception; by
                default the processing exception handler is asked.
            name: Name of the node.

        Raises:
            TopologyError: If an argument is wrong; by `build`, if something with state stands before it.
        """
        node = self.plan.name(name, "KSTREAM-MAPVALUESASYNC-")
        if with_key and with_record:
            raise TopologyError(f"node {node!r}: with_record gives the key too; pass one of with_key and with_record")
        takes: Takes = "record" if with_record else "key and value" if with_key else "value"
        operator = MapValuesAsync(function, max_in_flight, ordering, timeout, takes, recover)
        return self.then(node, operator, self.serdes.losing_value(node, "maps values"))

    def select_key(self, selector: Callable[[K_co, V_co], KR], *, name: str | None = None) -> KStream[KR, V_co]:
        """Make another key of each record."""
        check_function(selector, "select_key()", KEY_AND_VALUE)
        node = self.plan.name(name, "KSTREAM-KEY-SELECT-")
        return self.then(node, SelectKey(selector), self.serdes.losing_key(node, "selects new keys"), changes_key=True)

    def peek(self, action: Callable[[K_co, V_co], object], *, name: str | None = None) -> KStream[K_co, V_co]:
        """Call a function with each record, and send the record on."""
        check_function(action, "peek()", KEY_AND_VALUE)
        return self.then(self.plan.name(name, "KSTREAM-PEEK-"), Peek(action))

    def foreach(self, action: Callable[[K_co, V_co], object], *, name: str | None = None) -> None:
        """Call a function with each record; nothing comes after it."""
        check_function(action, "foreach()", KEY_AND_VALUE)
        self.then(self.plan.name(name, "KSTREAM-FOREACH-"), Peek(action))

    def split(self, *, name: str | None = None) -> BranchedKStream[K_co, V_co, Never]:
        """Begin to split the stream; see `BranchedKStream`.

        Args:
            name: Prefix of the branches' names.
        """
        from streamlet.dsl.branched import BranchedKStream  # it needs this module

        return BranchedKStream(self, name)

    def merge(self, other: KStream[KR, VR], *, name: str | None = None) -> KStream[K_co | KR, V_co | VR]:
        """Put two streams together; there is no order between their records.

        Serdes that both have in common are kept.
        """
        if not isinstance(other, KStream):
            raise TopologyError(f"merge() takes a KStream, not {other!r}; to_stream() makes one of a table")
        if other.plan is not self.plan:
            raise TopologyError("the two streams come from different StreamsBuilders")
        node = self.plan.name(name, "KSTREAM-MERGE-")
        step = ProcessorStep(node, [self.step, other.step], PassThrough())
        self.plan.add(step)
        return KStream(
            self.plan,
            step,
            self.serdes.merged(other.serdes, node),
            self.sources | other.sources,
            repartition_required=self.repartition_required or other.repartition_required,
        )

    # --- repartitioning, grouping -----------------------------------------------------------------------------------

    def repartition(
        self,
        *,
        key_serde: Serde[K_co] | None = None,
        value_serde: Serde[V_co] | None = None,
        partitions: int | None = None,
        partitioner: Partitioner | None = None,
        name: str | None = None,
    ) -> KStream[K_co, V_co]:
        """Send the stream through a topic of the application's own, ``<application.id>-<name>-repartition``.

        Records without a key are dropped.

        Args:
            key_serde: Default: inherited.
            value_serde: Default: inherited.
            partitions: Number of the topic's partitions; default: as many as the topics before it.
            partitioner: Chooses the partition, see `to`; default: by the hash of the key.
            name: Name of the topic.
        """
        if partitions is not None and (type(partitions) is not int or partitions < 1):
            raise TopologyError(f"partitions must be a whole number from 1 on, not {partitions!r}")
        if partitioner is not None:
            check_function(partitioner, "repartition(partitioner=)", PARTITION)
        prefix = self.plan.own_name(name, "KSTREAM-REPARTITION-")
        serdes = self.serdes.given(key_serde, value_serde)
        step = insert_repartition(
            self.plan,
            prefix,
            self.step,
            serdes,
            _ASK_REPARTITION,
            partitions=partitions,
            partitioner=partitioner,
            mergeable=False,
        )
        return KStream(self.plan, step, serdes, frozenset({step}))

    def group_by_key(
        self,
        *,
        key_serde: Serde[K_co] | None = None,
        value_serde: Serde[V_co] | None = None,
        name: str | None = None,
    ) -> KGroupedStream[K_co, V_co]:
        """Group the records by their keys; they are repartitioned only if keys may have changed.

        Args:
            key_serde: Default: inherited.
            value_serde: Default: inherited.
            name: Name of the repartition topic, if there is one.
        """
        return KGroupedStream(
            self.plan,
            self.step,
            self.serdes.given(key_serde, value_serde),
            self.sources,
            repartition_required=self.repartition_required,
            name=name,
        )

    def group_by(
        self,
        selector: Callable[[K_co, V_co], KR | None],
        *,
        key_serde: Serde[KR] | None = None,
        value_serde: Serde[V_co] | None = None,
        name: str | None = None,
    ) -> KGroupedStream[KR, V_co]:
        """Group the records by a new key; they are always repartitioned.

        Args:
            selector: From key and value to the key of the group; a record for which it returns None is dropped.
            key_serde: Serde of the new key.
            value_serde: Default: inherited.
            name: Name of the repartition topic and of the node.
        """
        check_function(selector, "group_by()", KEY_AND_VALUE)
        node = self.plan.name(name, "KSTREAM-KEY-SELECT-")
        selected = self.then(
            node, SelectKey(selector), self.serdes.losing_key(node, "selects new keys"), changes_key=True
        )
        serdes = selected.serdes.given(key_serde, value_serde)
        return KGroupedStream(self.plan, selected.step, serdes, self.sources, repartition_required=True, name=name)

    def to_table(self: KStream[K, V], *, store: Store[V] = None, name: str | None = None) -> KTable[K, V]:
        """Read the stream as a table: the last value of each key; a record without a value deletes, one without a key
        is dropped.

        Args:
            store: Name or options of the store; default: there is one only if something needs it.
            name: Name of the node, and of the repartition topic if keys may have changed.
        """
        options = materialized(store)
        node = self.plan.name(name, "KSTREAM-TOTABLE-")
        serdes = self.serdes.given(value=options.value_serde)
        pending = pending_store(self.plan, options, "KSTREAM-TOTABLE-", serdes, _ASK_TABLE)
        parent, sources = self.step, self.sources
        if self.repartition_required:
            parent = insert_repartition(self.plan, node, self.step, serdes, _ASK_TABLE)
            sources = frozenset({parent})
        step = TableStep(
            node,
            [parent],
            lambda step: ReadTable(step.store_in_use, step.sends_old_values),
            store=pending,
            materialized=options.name is not None,
        )
        self.plan.add(step)
        return KTable(self.plan, step, serdes, sources, options.name)

    # --- processors -------------------------------------------------------------------------------------------------

    def process(
        self,
        supplier: Callable[[], Processor[K_co, V_co, KR, VR]],
        *,
        stores: Sequence[StoreBuilder[Any] | str] = (),
        name: str | None = None,
    ) -> KStream[KR, VR]:
        """Run a processor of one's own.

        Args:
            supplier: The processor's class, or a function that returns a new one each time; each task has its own.
            stores: Stores it uses beside those in its `stores`: builders, or names of stores added with
                `add_state_store`.
            name: Name of the node.
        """
        node = self.plan.own_name(name, "KSTREAM-PROCESSOR-")
        serdes = self.serdes.losing_both(node, "processes records")
        return self._processed(node, supplier, stores, serdes, changes_key=True)

    def process_values(
        self,
        supplier: Callable[[], FixedKeyProcessor[K_co, V_co, VR]],
        *,
        stores: Sequence[StoreBuilder[Any] | str] = (),
        name: str | None = None,
    ) -> KStream[K_co, VR]:
        """Run a processor of one's own that leaves keys as they are, so that no repartitioning follows; see
        `process`."""
        node = self.plan.own_name(name, "KSTREAM-PROCESSVALUES-")
        return self._processed(
            node, supplier, stores, self.serdes.losing_value(node, "processes values"), changes_key=False
        )

    def _processed(
        self,
        node: str,
        supplier: Callable[[], Any],
        stores: Sequence[StoreBuilder[Any] | str],
        serdes: Serdes,
        *,
        changes_key: bool,
    ) -> KStream[Any, Any]:
        if isinstance(stores, str):
            raise TopologyError(f"node {node!r}: stores= takes a list of stores or of their names: [{stores!r}]")
        given = stores_of(supplier, node, keeps_keys=not changes_key)
        builders = [*given, *(store for store in stores if not isinstance(store, str))]
        step = ProcessorStep(
            node,
            [self.step],
            ProcessorOperator(supplier),
            stores=builders,
            store_names=[store for store in stores if isinstance(store, str)],
            changes_key=changes_key,
        )
        self.plan.add(step)
        return KStream(
            self.plan, step, serdes, self.sources, repartition_required=self.repartition_required or changes_key
        )

    # --- the end ----------------------------------------------------------------------------------------------------

    @overload
    def to(
        self: KStream[K | None, V | None],
        topic: Topic[K, V],
        *,
        partitioner: Partitioner | None = None,
        name: str | None = None,
    ) -> None: ...
    @overload
    def to(
        self: KStream[K | None, V | None],
        topic: Callable[[K, V, RecordMetadata | None], str],
        *,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        partitioner: Partitioner | None = None,
        name: str | None = None,
    ) -> None: ...
    def to(
        self,
        topic: Topic[Any, Any] | Callable[[Any, Any, RecordMetadata | None], str],
        *,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        partitioner: Partitioner | None = None,
        name: str | None = None,
    ) -> None:
        """Write the records to a topic, with their timestamps and headers.

        Args:
            topic: The topic, or a function of key, value and origin that returns the name of an existing topic.
            key_serde: With a function; default: inherited.
            value_serde: With a function; default: inherited.
            partitioner: From topic, key, value and number of partitions to the partition, to several (each gets the
                record; none: it is dropped, KIP-837), or to None: by the hash of the key, which is the default.
            name: Name of the node.
        """
        if isinstance(topic, Topic):
            if key_serde is not None or value_serde is not None:
                raise TopologyError(f"to({topic.name!r}): the topic brings its serdes along; give none beside it")
            serdes = Serdes(topic.key_serde, topic.value_serde)
        elif callable(topic):
            check_function(topic, "to()", ("key", "value", "record metadata"))
            serdes = self.serdes.given(key_serde, value_serde)
        else:
            raise TopologyError(f"to() takes a Topic, or a function that returns a topic's name, not {topic!r}")
        if partitioner is not None:
            check_function(partitioner, "to(partitioner=)", PARTITION)
        self.plan.add(SinkStep(self.plan.name(name, "KSTREAM-SINK-"), self.step, topic, serdes, partitioner))


class SinkStep(Step):
    """Becomes a sink node."""

    def __init__(
        self,
        name: str,
        parent: Step,
        topic: Topic[Any, Any] | Callable[..., str],
        serdes: Serdes,
        partitioner: Partitioner | None,
    ) -> None:
        super().__init__(name, [parent])
        self._topic = topic
        self._serdes = serdes
        self._partitioner = partitioner

    def write(self, writer: Writer) -> None:
        """Add the sink."""
        fixed = self._topic if isinstance(self._topic, Topic) else None
        writer.topology.add_node(
            SinkNode(
                self.name,
                writer.inputs(self),
                None if fixed is None else fixed.name,
                None if isinstance(self._topic, Topic) else self._topic,
                writer.key_serde(self._serdes.key, self.name, _ASK_SINK),
                writer.value_serde(self._serdes.value, self.name, _ASK_SINK),
                self._partitioner,
            )
        )
