"""`KStream.join`, `left_join` and `outer_join`, for streams, tables and global tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from inspect import signature
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

from streamlet.dsl.global_table import GlobalKTable
from streamlet.dsl.stream_joins import Kind, join_streams
from streamlet.dsl.stream_table_joins import join_global, join_table
from streamlet.dsl.table import KTable
from streamlet.errors import TopologyError
from streamlet.serdes import Serde

if TYPE_CHECKING:
    from streamlet.dsl.stream import KStream
    from streamlet.dsl.windows import JoinWindows
    from streamlet.state.suppliers import WindowStoreSupplier

K_co = TypeVar("K_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)
VO = TypeVar("VO")
VR = TypeVar("VR")
KO = TypeVar("KO")


class Joins(Generic[K_co, V_co]):
    """The joins of a stream; `KStream` is one."""

    @overload
    def join(
        self,
        other: KTable[K_co, VO],
        joiner: Callable[[V_co, VO], VR],
        *,
        with_key: Literal[False] = False,
        grace: timedelta | None = None,
        name: str | None = None,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        in_memory: bool = False,
        logging: bool = True,
        immutable_values: bool = False,
        changelog_config: Mapping[str, str] | None = None,
    ) -> KStream[K_co, VR]: ...
    @overload
    def join(
        self,
        other: KTable[K_co, VO],
        joiner: Callable[[K_co, V_co, VO], VR],
        *,
        with_key: Literal[True],
        grace: timedelta | None = None,
        name: str | None = None,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        in_memory: bool = False,
        logging: bool = True,
        immutable_values: bool = False,
        changelog_config: Mapping[str, str] | None = None,
    ) -> KStream[K_co, VR]: ...
    @overload
    def join(
        self,
        other: KStream[K_co, VO],
        joiner: Callable[[V_co, VO], VR],
        windows: JoinWindows,
        *,
        with_key: Literal[False] = False,
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
    ) -> KStream[K_co, VR]: ...
    @overload
    def join(
        self,
        other: KStream[K_co, VO],
        joiner: Callable[[K_co, V_co, VO], VR],
        windows: JoinWindows,
        *,
        with_key: Literal[True],
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
    ) -> KStream[K_co, VR]: ...
    @overload
    def join(
        self,
        other: GlobalKTable[KO, VO],
        key_selector: Callable[[K_co, V_co], KO | None],
        joiner: Callable[[V_co, VO], VR],
        *,
        with_key: Literal[False] = False,
        name: str | None = None,
    ) -> KStream[K_co, VR]: ...
    @overload
    def join(
        self,
        other: GlobalKTable[KO, VO],
        key_selector: Callable[[K_co, V_co], KO | None],
        joiner: Callable[[K_co, V_co, VO], VR],
        *,
        with_key: Literal[True],
        name: str | None = None,
    ) -> KStream[K_co, VR]: ...
    def join(self, other: Any, *arguments: Any, **options: Any) -> Any:
        """Join each record with those of another stream, or with the rows of a table; without a partner there is no
        result.

        - With a stream, ``join(other, joiner, windows)``: with its records of the same key whose timestamps lie within
          `windows`, whichever comes first. Results carry the later timestamp, and come in the order of the other
          side's timestamps. Records are kept for the length of the window and its grace.
        - With a table, ``join(table, joiner)``: with the row of the record's key, as it is now; a versioned table is
          looked up as it was at the record's time. With `grace`, records wait that long for the table's updates.
          Changes of the table cause no results.
        - With a global table, ``join(table, key_selector, joiner)``: with the row of the selected key.

        Records without a value are dropped, and those without a key to look up too. Streams are repartitioned if their
        keys may have changed; the topics on both sides need equal numbers of partitions.

        Args:
            other: The stream or table.
            arguments: ``joiner, windows`` with a stream; ``joiner`` with a table; ``key_selector, joiner`` with a
                global table. `joiner` makes the result of the two values; of key and values if `with_key`.
                `key_selector` makes the table's key of key and value, None for none.
            options: ``with_key``: whether the joiner gets the key first. ``name``: of the node, or the prefix of names
                of nodes and repartition topics. ``store_name``: prefix of the stores' names. ``this_store``,
                ``other_store``: suppliers of the stores of the two sides (`Stores`), with retain_duplicates.
                ``grace``: how long records wait for a (versioned) table. ``key_serde``, ``value_serde``,
                ``other_value_serde``: where they are not inherited. ``in_memory``, ``logging``, ``immutable_values``,
                ``changelog_config``: of the
                stores, see `Materialized`.

        Raises:
            TopologyError: If `other` is none of these, or belongs to another builder.
        """
        return self._joined("inner", other, arguments, options)

    @overload
    def left_join(
        self,
        other: KTable[K_co, VO],
        joiner: Callable[[V_co, VO | None], VR],
        *,
        with_key: Literal[False] = False,
        grace: timedelta | None = None,
        name: str | None = None,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        in_memory: bool = False,
        logging: bool = True,
        immutable_values: bool = False,
        changelog_config: Mapping[str, str] | None = None,
    ) -> KStream[K_co, VR]: ...
    @overload
    def left_join(
        self,
        other: KTable[K_co, VO],
        joiner: Callable[[K_co, V_co, VO | None], VR],
        *,
        with_key: Literal[True],
        grace: timedelta | None = None,
        name: str | None = None,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        in_memory: bool = False,
        logging: bool = True,
        immutable_values: bool = False,
        changelog_config: Mapping[str, str] | None = None,
    ) -> KStream[K_co, VR]: ...
    @overload
    def left_join(
        self,
        other: KStream[K_co, VO],
        joiner: Callable[[V_co, VO | None], VR],
        windows: JoinWindows,
        *,
        with_key: Literal[False] = False,
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
    ) -> KStream[K_co, VR]: ...
    @overload
    def left_join(
        self,
        other: KStream[K_co, VO],
        joiner: Callable[[K_co, V_co, VO | None], VR],
        windows: JoinWindows,
        *,
        with_key: Literal[True],
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
    ) -> KStream[K_co, VR]: ...
    @overload
    def left_join(
        self,
        other: GlobalKTable[KO, VO],
        key_selector: Callable[[K_co, V_co], KO | None],
        joiner: Callable[[V_co, VO | None], VR],
        *,
        with_key: Literal[False] = False,
        name: str | None = None,
    ) -> KStream[K_co, VR]: ...
    @overload
    def left_join(
        self,
        other: GlobalKTable[KO, VO],
        key_selector: Callable[[K_co, V_co], KO | None],
        joiner: Callable[[K_co, V_co, VO | None], VR],
        *,
        with_key: Literal[True],
        name: str | None = None,
    ) -> KStream[K_co, VR]: ...
    def left_join(self, other: Any, *arguments: Any, **options: Any) -> Any:
        """Join as `join` does, and give records without a partner a result too: the joiner gets None for the other one.

        With a stream, such a result comes when the window and its grace are over, with the record's own timestamp, as
        soon as another record of either side moves time on. Records without a key have no partner (KIP-962).
        """
        return self._joined("left", other, arguments, options)

    @overload
    def outer_join(
        self,
        other: KStream[K_co, VO],
        joiner: Callable[[V_co | None, VO | None], VR],
        windows: JoinWindows,
        *,
        with_key: Literal[False] = False,
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
    ) -> KStream[K_co, VR]: ...
    @overload
    def outer_join(
        self,
        other: KStream[K_co, VO],
        joiner: Callable[[K_co, V_co | None, VO | None], VR],
        windows: JoinWindows,
        *,
        with_key: Literal[True],
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
    ) -> KStream[K_co, VR]: ...
    def outer_join(self, other: Any, *arguments: Any, **options: Any) -> Any:
        """Join with another stream as `join` does, and give records of both sides without a partner a result too; see
        `left_join`."""
        return self._joined("outer", other, arguments, options)

    def _joined(self, kind: Kind, other: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        from streamlet.dsl.stream import KStream  # it needs this module

        stream = cast("KStream[Any, Any]", self)
        if isinstance(other, GlobalKTable) and kind != "outer":
            of_same_builder(stream, other)
            _check_call(join_global, "global table, join(table, key_selector, joiner)", arguments, options)
            return join_global(kind, stream, other, *arguments, **options)
        if isinstance(other, KTable) and kind != "outer":
            of_same_builder(stream, other)
            _check_call(join_table, "table, join(table, joiner)", arguments, options)
            return join_table(kind, stream, other, *arguments, **options)
        if isinstance(other, KStream):
            of_same_builder(stream, other)
            _check_call(join_streams, "stream, join(other, joiner, windows)", arguments, options)
            return join_streams(kind, stream, other, *arguments, **options)
        takes = "a KStream" if kind == "outer" else "a KStream, KTable or GlobalKTable"
        raise TopologyError(f"an {kind} join takes {takes}, not {other!r}")


def _check_call(join: Callable[..., Any], usage: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    try:
        signature(join).bind("inner", None, None, *arguments, **options)
    except TypeError as error:
        raise TopologyError(f"the join with a {usage}, cannot be called like this: {error}") from None


def of_same_builder(
    stream: KStream[Any, Any], other: KStream[Any, Any] | KTable[Any, Any] | GlobalKTable[Any, Any]
) -> None:
    """Check that two streams or tables are of one program.

    Raises:
        TopologyError: If they are not.
    """
    if stream.plan is not other.plan:
        raise TopologyError(f"{stream.step.name} cannot be joined with what was made by another StreamsBuilder")
