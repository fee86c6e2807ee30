"""Record caches: one change per row and commit instead of one per record (``statestore.cache.max.bytes``).

A cache stands behind the node that keeps a table's rows. The store has every update at once, for its write buffer is
the cache of Kafka Streams' caching stores; what is held back is only the change that goes on. It is sent at the
commit, before the changelogs are written, or as soon as the caches of the thread hold more than they may. Nodes nearer
to the sources go first; rows go in the order in which they were last updated. A change then carries the newest value,
its timestamp and headers, and as old value what was sent last, so that changes form a chain whatever was left out. A
row that came and went in between sends nothing.

Nothing of it has to outlive the process: what is held back was not committed, and comes again after a crash.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

from attrs import frozen

from streamlet.dsl.change import Change
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers
from streamlet.serdes import Serde
from streamlet.state import SessionStore, WindowStore

ENTRY_BYTES = 384
"""What a change that is held back takes beside the bytes of its key and value."""
_MEASURED = 16
"""Of so many updates, one value is measured."""

Row: TypeAlias = tuple[Any, int]
"""Value and timestamp."""


@frozen
class Cached(Operator):
    """Another operator, whose changes are held back if record caches are on.

    Attributes:
        operator: What updates the rows.
        store: Where they are.
        value_serde: By which their values are measured.
        sends_old: Whether changes carry old values.
    """

    operator: Operator
    store: str
    value_serde: Serde[Any]
    sends_old: bool

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function: that of the operator itself if caches are off."""
        if context.cache_budget is None:
            return self.operator.compile(context, forward)
        cache = cache_of(context, self.store)
        context.on_commit(cache.flush)
        hold = cache.holding(forward, self.value_serde.serialize, sends_old=self.sends_old)
        return self.operator.compile(context, hold)


def cache_of(context: NodeContext, store: str) -> RecordCache:
    """Return the cache of a store that is connected to the node: one per task and store."""
    cache: RecordCache = context.shared(f"record-cache/{store}", lambda: RecordCache(context, store))
    return cache


def sent_getter(context: NodeContext, store: str, get: Callable[[Any], Row | None]) -> Callable[[Any], Row | None]:
    """Return how another table's node reads rows: as they were last sent, not as they are.

    What it makes of a row then agrees with the changes it has seen, and the changes that it sends form a chain.

    Args:
        context: That of the reading node.
        store: Where the rows are.
        get: Reads them as they are.
    """
    return get if context.cache_budget is None else cache_of(context, store).sent_getter(get)


class Uncached:
    """A node's context through which tables are read as they are: for records of streams, which see every update."""

    cache_budget = None

    def __init__(self, context: NodeContext) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class RecordCache:
    """The changes of one store's rows that are held back, and what was sent since the last commit.

    Args:
        context: Of a node that is connected with the store.
        store: Its name.
    """

    def __init__(self, context: NodeContext, store: str) -> None:
        budget = context.cache_budget
        assert budget is not None, "record caches are off"
        self._budget = budget
        self._identify, self._committed = _access(context.store(store), context.committed_store(store))
        self._held: OrderedDict[Hashable, tuple[Any, Any, int, Headers, Callable[..., None]]] = OrderedDict()
        self._sent: dict[Hashable, Row | None] = {}
        self._bytes = 0
        self._key_bytes = 0
        self._value_bytes = 0.0
        self._measure_in = 0
        context.on_committed(self._sent.clear)
        context.on_rewind(self._forget)
        context.on_close(self._forget)

    def holding(self, forward: Forward, encode: Callable[[Any], bytes], *, sends_old: bool) -> Forward:
        """Return the function that takes in a change, to be forwarded later."""
        held, identify, budget, before = self._held, self._identify, self._budget, self._before

        def send(identity: Hashable, key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            row = before(identity, key) if sends_old or value is None else None
            self._sent[identity] = None if value is None else (value, timestamp)
            if value is not None or row is not None:
                forward(key, (value, row[0] if sends_old and row is not None else None, True), timestamp, headers)

        def hold(key: Any, change: Change, timestamp: int, headers: Headers) -> None:
            identity = identify(key)
            value = change[0]
            if identity in held:
                held.move_to_end(identity)
            else:
                self._key_bytes += _size_of_key(identity)
            held[identity] = (key, value, timestamp, headers, send)
            self._measure(value, encode)
            if budget.used > budget.limit:
                self.flush()

        return hold

    def flush(self) -> None:
        """Send on what is held back."""
        held = self._held
        while held:
            identity, (key, value, timestamp, headers, send) = held.popitem(last=False)
            send(identity, key, value, timestamp, headers)
        self._key_bytes = 0
        self._reckon()

    def sent_getter(self, get: Callable[[Any], Row | None]) -> Callable[[Any], Row | None]:
        """Return how rows are read as they were last sent, given how they are read as they are."""
        held, identify = self._held, self._identify

        def sent(key: Any) -> Row | None:
            identity = None if key is None else identify(key)
            return self._before(identity, key) if identity in held else get(key)

        return sent

    def _before(self, identity: Hashable, key: Any) -> Row | None:
        """Return a row as it was last sent: since the commit, or as the commit left it."""
        sent = self._sent
        return sent[identity] if identity in sent else self._committed(key)

    def _measure(self, value: Any, encode: Callable[[Any], bytes]) -> None:
        self._measure_in -= 1
        if self._measure_in < 0 and value is not None:
            size = len(encode(value))
            self._value_bytes += (size - self._value_bytes) / (4 if self._value_bytes else 1)
            self._measure_in = _MEASURED - 1
        self._reckon()

    def _reckon(self) -> None:
        now = int(len(self._held) * (ENTRY_BYTES + self._value_bytes)) + self._key_bytes
        self._budget.used += now - self._bytes
        self._bytes = now

    def _forget(self) -> None:
        self._held.clear()
        self._sent.clear()
        self._key_bytes = 0
        self._reckon()


def _access(store: Any, committed: Any) -> tuple[Callable[[Any], Hashable], Callable[[Any], Row | None]]:
    """Return how keys become what tells rows apart, and how a row is read as the last commit left it."""
    encode: Callable[[Any], bytes] = store.encode_key
    if not isinstance(store, WindowStore | SessionStore):
        return encode, committed.get

    def identify(key: Any) -> Hashable:
        return encode(key.key), key.window.start, key.window.end

    if isinstance(store, WindowStore):
        return identify, lambda key: committed.fetch(key.key, key.window.start)

    def of_session(key: Any) -> Row | None:
        aggregate = committed.fetch_session(key.key, key.window.start, key.window.end)
        return None if aggregate is None else (aggregate, key.window.end)

    return identify, of_session


def _size_of_key(identity: Hashable) -> int:
    return len(identity) if isinstance(identity, bytes) else len(identity[0])  # type: ignore[index]
