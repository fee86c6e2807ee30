"""The write buffer: what is in front of every store, whatever holds its committed data.

Changes since the last commit are *dirty*; they are read first. Behind them are entries that were read or written
lately, in two generations: when the younger one is full, or has lasted for the retention of a store that forgets, the
older one is forgotten and it takes that one's place. A hot key costs one or two dictionary look-ups. Entries hold
objects if nobody can change them in place, bytes otherwise; either way each changed entry is serialised once per
commit, for the changelog and for the database together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import islice, repeat
from operator import is_, itemgetter
from struct import Struct
from typing import Any

from streamlet.errors import SerializationError, StateStoreError, StateUnreadableError
from streamlet.serdes import Serde, bytes_
from streamlet.state.backend import Backend, Changes
from streamlet.state.codec import exact_encoder
from streamlet.state.entries import NO_TIMESTAMP, Entry
from streamlet.state.expiry import SEGMENT_BYTES, Expiry
from streamlet.state.in_memory import merge_keys
from streamlet.state.memory import StateMemory
from streamlet.state.promise import PromiseWatch, WatchedEntries
from streamlet.state.size_sample import SizeSample
from streamlet.state.values import ChangelogRecord, ValueAndTimestamp

ENTRY_BYTES = 256
"""What an entry takes beside its serialised value: key, tuple, timestamp, its share of the dictionary."""
OBJECT_FACTOR = 2
"""How much larger an object is than its bytes, about."""
_TIMESTAMP = Struct(">q")
_new = tuple.__new__


class WriteBuffer:
    """The changes of one store that are not committed, and its recently used entries. Used from one thread.

    Args:
        store: Name of the store.
        backend: Its committed data.
        value_serde: Serde of the values.
        timestamped: Whether the stored bytes carry the timestamp as a prefix of eight bytes.
        immutable: Whether values may be kept as objects.
        memory: The budget for entries that are not changed.
        expiry: The time of the store, if its entries expire.

    Attributes:
        dirty: Changes since the last commit, in the order in which their keys were first written.
        recent: Entries used lately that are as the backend has them.
        old: The generation before.
        careful: Serialise at every put, so that a value that cannot be serialised is found where it is put.
        objects: Whether entries hold objects; otherwise they hold bytes.
        expiry: See above.
        local_key: Turns a key of the changelog into that of the database, or None if it has expired. The changelog's
            key is the database's without the segment. None if both are the same.
        events: What is logged instead of the dirty entries, by key and timestamp: values whose bytes are a byte and
            those of the changelog, or none for a deletion. None if the dirty entries are logged.
        replay: Takes in changelog records that are events.
        on_rollback: Called with the entries that were dropped, or None if the backend was changed otherwise.
    """

    def __init__(
        self,
        store: str,
        backend: Backend,
        value_serde: Serde[Any],
        *,
        timestamped: bool,
        immutable: bool,
        memory: StateMemory,
        expiry: Expiry | None = None,
    ) -> None:
        self.store = store
        self.objects = immutable and value_serde is not bytes_  # bytes need no second form
        self.dirty: dict[bytes, Entry] = {}
        self.recent: dict[bytes, Entry] = {}
        self.old: dict[bytes, Entry] = {}
        self.careful = False
        self.dirty_bytes = 0  # exact, of values kept as bytes
        self.expiry = expiry
        self.local_key: Callable[[bytes], bytes | None] | None = None
        self.events: dict[tuple[bytes, int], Any] | None = None
        self.replay: Callable[[Sequence[ChangelogRecord]], None] | None = None
        self.on_rollback: Callable[[Mapping[bytes, Entry] | None], None] | None = None
        self._backend = backend
        self._encode: Callable[[Any], bytes] = exact_encoder(value_serde) if self.objects else _same
        self._decode: Callable[[bytes], Any] = value_serde.decoder if self.objects else _same
        self._timestamped = timestamped
        self._memory = memory
        self._sorted: list[bytes] | None = None
        self._sample = SizeSample(self._size_of)
        self._sealed: dict[bytes, Entry] | None = None
        self._encoded: list[bytes | None] = []
        self._sealed_events: dict[tuple[bytes, int], Any] | None = None
        self._promised = immutable and not value_serde.immutable
        self._watch: PromiseWatch | None = None
        self._clean_limit = 0
        self._generation_at = 0  # how far the time of the store had come when the younger generation began (ms)
        self._set_clean_limit(64.0)

    @property
    def changed(self) -> bool:
        """Whether there is something to be committed."""
        return bool(self.dirty or self.events)

    # -- reading ---------------------------------------------------------------------------------
    def find(self, key: bytes) -> Entry | None:
        """Return the entry of a key; None if there is none. An entry with the value None was deleted."""
        entry = self.dirty.get(key)
        if entry is None:
            entry = self.recent.get(key)
            if entry is None:
                entry = self.load(key)
        return entry

    def load(self, key: bytes) -> Entry | None:
        """Return the entry of a key that is neither dirty nor recent, and keep it as recent."""
        entry = self.old.get(key)
        if entry is None:
            try:
                stored = self._backend.get(key)
            except StateStoreError:
                raise
            except Exception as error:  # rocksdict raises bare exceptions
                raise StateUnreadableError(f"store {self.store!r} cannot be read: {error}") from error
            if stored is None:
                return None
            entry = self._entry(key, stored)
        self.recent[key] = entry
        if len(self.recent) > self._clean_limit:
            self._next_generation()
        return entry

    def scan(
        self, lower: bytes | None, upper: bytes | None, *, reverse: bool = False
    ) -> Generator[tuple[bytes, Entry], None, None]:
        """Iterate over entries from `lower` (included) to `upper` (not included), dirty ones in their places.

        The keys are those of the moment of the call; a value that is changed meanwhile is shown as it is when it is
        reached.
        """
        keys = self._dirty_between(lower, upper)
        if reverse:
            keys.reverse()
        stored = self._backend.scan(lower, upper, reverse=reverse)
        return self._merge(self.dirty, keys, stored, reverse)

    def _merge(
        self, dirty: dict[bytes, Entry], keys: list[bytes], stored: Any, reverse: bool
    ) -> Generator[tuple[bytes, Entry], None, None]:
        waiting = iter(keys)
        key = next(waiting, None)
        try:
            for stored_key, value in stored:
                while key is not None and (key > stored_key if reverse else key < stored_key):
                    entry = dirty[key]
                    if entry[0] is not None:
                        yield key, entry
                    key = next(waiting, None)
                if key == stored_key:
                    key = next(waiting, None)
                changed = dirty.get(stored_key)
                if changed is None:
                    yield stored_key, self._entry(stored_key, value)
                elif changed[0] is not None:
                    yield stored_key, changed
            while key is not None:
                entry = dirty[key]
                if entry[0] is not None:
                    yield key, entry
                key = next(waiting, None)
        finally:
            stored.close()

    def _dirty_between(self, lower: bytes | None, upper: bytes | None) -> list[bytes]:
        keys = self._sorted
        if keys is None:
            keys = self._sorted = sorted(self.dirty)
        elif len(keys) != len(self.dirty):  # dictionaries keep the order of insertion: the new keys are the last ones
            merge_keys(keys, list(islice(reversed(self.dirty), len(self.dirty) - len(keys))))
        low = 0 if lower is None else bisect_left(keys, lower)
        high = len(keys) if upper is None else bisect_left(keys, upper)
        return keys[low:high]

    def approximate_count(self) -> int:
        """Return about how many entries there are: deletions and new keys since the commit are taken as they come."""
        changes = sum(-1 if value is None else 1 for value, _ in self.dirty.values())
        return max(0, self._backend.approximate_count() + changes)

    def _entry(self, key: bytes, stored: bytes) -> Entry:
        try:
            if self._timestamped:
                return _new(ValueAndTimestamp, (self._decode(stored[8:]), _TIMESTAMP.unpack_from(stored)[0]))
            return (self._decode(stored), NO_TIMESTAMP)
        except Exception as error:
            raise SerializationError(
                f"store {self.store!r}: the value of key {key!r} cannot be deserialised: {error}. "
                f"If the serde was changed, delete the local state and reset the application"
            ) from error

    # -- writing ---------------------------------------------------------------------------------
    def put(self, key: bytes, value: Any, timestamp: int) -> None:
        """Change an entry; a value of None deletes it. Values kept as bytes are given as bytes."""
        if not self.objects:
            before = self.dirty.get(key)
            if before is not None and before[0] is not None:
                self.dirty_bytes -= len(before[0])
            if value is not None:
                self.dirty_bytes += len(value)
        elif self.careful and value is not None:
            self.check(key, value)
        self.dirty[key] = (value, timestamp)

    def check(self, key: bytes, value: Any) -> None:
        """Serialise an object now, for the error it may raise."""
        self.serialised(key, value)

    def serialised(self, key: bytes, value: Any) -> bytes:
        """Return a value's bytes.

        Raises:
            SerializationError: If it has none; the message names store and key.
        """
        try:
            return self._encode(value)
        except Exception as error:
            raise self._unserialisable(key, error) from error

    # -- committing ------------------------------------------------------------------------------
    def seal(self) -> None:
        """Serialise what is dirty, once; what is put later belongs to the next commit.

        Raises:
            SerializationError: If a value has no bytes; the message names store and key.
        """
        sealed, encode = self.dirty.copy(), self._encode
        try:
            encoded = [None if value is None else encode(value) for value, _ in sealed.values()]
        except Exception:
            encoded = [None if value is None else self.serialised(key, value) for key, (value, _) in sealed.items()]
        if any(kind is not int for kind in set(map(type, map(itemgetter(1), sealed.values())))):
            key, timestamp = next((key, at) for key, (_, at) in sealed.items() if type(at) is not int)
            raise SerializationError(
                f"store {self.store!r}: the timestamp of key {key!r} must be an int, not {timestamp!r}"
            )
        self._sealed, self._encoded = sealed, encoded
        self._sealed_events = None if self.events is None else self.events.copy()
        if encoded:
            self._set_clean_limit(sum(map(len, filter(None, encoded))) / len(encoded))

    def records(self) -> list[ChangelogRecord]:
        """Return what was sealed as changelog records."""
        if self._sealed_events is not None:
            records: list[ChangelogRecord] = []
            for (key, timestamp), value in self._sealed_events.items():
                data = self.serialised(key, value)
                records.append(ChangelogRecord(key, data[1:] if data else None, timestamp))
            return records
        keys: Iterable[bytes] = self._sealed or {}
        if self.local_key is not None:
            keys = [key[SEGMENT_BYTES:] for key in keys]
        timestamps = map(itemgetter(1), (self._sealed or {}).values())
        return list(map(_new, repeat(ChangelogRecord), zip(keys, self._encoded, timestamps)))

    def changes(self) -> tuple[Changes, dict[bytes, bytes | None]]:
        """Return what the commit has to write: what was sealed, or everything if nothing was; and its metadata."""
        if self._sealed is None:
            self.seal()
        sealed = self._sealed or {}
        entries: Iterable[tuple[bytes, bytes | None]]
        if self._timestamped:
            pack = _TIMESTAMP.pack
            entries = (
                (key, None if data is None else pack(entry[1]) + data)
                for (key, entry), data in zip(sealed.items(), self._encoded)
            )
        else:
            entries = zip(sealed, self._encoded)
        if self.expiry is None:
            return Changes(self.store, entries), {}
        dropped, remembered = self.expiry.seal()
        return Changes(self.store, entries, dropped), {time_key(self.store): remembered}

    def committed(self) -> None:
        """The backend has what was sealed: those entries are clean now."""
        sealed, events = self._sealed, self._sealed_events
        self._unseal()
        if sealed is None:
            return
        later: dict[bytes, Entry] = {}
        if len(self.dirty) > len(sealed) or not all(map(is_, self.dirty.values(), sealed.values())):
            later = {key: entry for key, entry in self.dirty.items() if sealed.get(key) is not entry}
        self._set_dirty(later)
        if self.events and events:
            self.events = {key: value for key, value in self.events.items() if events.get(key, self) is not value}
        self.recent.update(sealed)
        for key in later:
            self._forget(key)
        if len(self.recent) > self._clean_limit:
            self._next_generation()
        if self.expiry is not None:
            self.expiry.committed()
            if self.expiry.observed - self._generation_at >= self.expiry.retention_ms:
                self._next_generation()  # what was used last before the younger one began cannot be read any more

    def rollback(self) -> None:
        """Drop the changes since the last commit, and the clean entries of the same keys."""
        dropped = self.dirty
        self._set_dirty({})
        if self._watch is not None:
            self._watch.clear()
        self._unseal()
        if self.events:
            self.events = {}
        for key in dropped:
            self._forget(key)
        if self.expiry is not None:
            self.expiry.rollback()
        if self.on_rollback is not None:
            self.on_rollback(dropped)

    def restored(self, records: Sequence[ChangelogRecord]) -> tuple[Changes, dict[bytes, bytes | None]]:
        """Return what changelog records mean to the backend; the last one of a key counts."""
        self.clear_clean()
        if self.replay is not None:
            self.replay(records)
            return self.changes()
        entries: dict[bytes, bytes | None] = {}
        timestamped, pack, local_key = self._timestamped, _TIMESTAMP.pack, self.local_key
        for key, value, timestamp in records:
            if local_key is not None:
                local = local_key(key)
                if local is None:
                    continue
                key = local
            entries[key] = pack(timestamp) + value if timestamped and value is not None else value
        if self.expiry is None:
            return Changes(self.store, entries.items()), {}
        dropped, remembered = self.expiry.seal()
        return Changes(self.store, entries.items(), dropped), {time_key(self.store): remembered}

    def restored_committed(self) -> None:
        """What `restored` returned is in the backend."""
        if self.replay is not None:
            self.committed()
        elif self.expiry is not None:
            self.expiry.committed()
        if self.on_rollback is not None:
            self.on_rollback(None)

    def _unseal(self) -> None:
        self._sealed, self._encoded, self._sealed_events = None, [], None

    def _unserialisable(self, key: bytes, error: Exception) -> SerializationError:
        return SerializationError(f"store {self.store!r}: the value of key {key!r} cannot be serialised: {error}")

    def reset(self) -> None:
        """Forget everything: the backend was emptied."""
        self.rollback()
        self.clear_clean()
        if self.expiry is not None:
            self.expiry.reset()
        if self.on_rollback is not None:
            self.on_rollback(None)

    def clear_clean(self) -> None:
        """Forget all clean entries."""
        if self._watch is not None:
            self._watch.clear()
        self.recent, self.old = self._new_entries(), self._new_entries()

    def _forget(self, key: bytes) -> None:
        self.recent.pop(key, None)
        self.old.pop(key, None)

    def _set_dirty(self, dirty: dict[bytes, Entry]) -> None:
        self.dirty = self._new_entries()  # a new one: open iterators go on with the one they began with
        self.dirty.update(dirty)
        if self._sorted is not None:
            self._sorted = sorted(dirty)
        self._sample = SizeSample(self._size_of)
        self.dirty_bytes = 0 if self.objects else sum(len(value) for value, _ in dirty.values() if value is not None)

    # -- memory ----------------------------------------------------------------------------------
    @property
    def buffered_bytes(self) -> int:
        """About how many bytes the dirty entries take."""
        count = len(self.dirty)
        events = len(self.events) * ENTRY_BYTES if self.events else 0
        if not self.objects:
            return self.dirty_bytes + count * ENTRY_BYTES + events
        return int(count * (ENTRY_BYTES + OBJECT_FACTOR * self._sample.mean(self.dirty))) + events

    def _size_of(self, entry: Entry) -> int:
        try:
            return 0 if entry[0] is None else len(self._encode(entry[0]))
        except Exception:  # the commit will say so, naming the key
            return 0

    def _set_clean_limit(self, value_bytes: float) -> None:
        entry = ENTRY_BYTES + value_bytes * (OBJECT_FACTOR if self.objects else 1)
        self._clean_limit = max(1, int(self._memory.entries_bytes / 2 / entry))

    def _next_generation(self) -> None:
        self.old, self.recent = self.recent, self._new_entries()
        self._generation_at = self.expiry.observed if self.expiry is not None else 0

    # -- the promise of immutable values ---------------------------------------------------------
    def watch(self) -> None:
        """Remember the bytes of the objects used lately, for `verify`, if their immutability rests on a promise."""
        if self.objects and self._promised:
            self._watch = PromiseWatch(self.store, self.serialised)
            self.clear_clean()
            self._set_dirty(self.dirty)

    def verify(self) -> None:
        """Check that no object used lately was changed in place; needs `watch`.

        Raises:
            StateStoreError: If one was; the message names the store and the key.
        """
        if self._watch is not None:
            self._watch.verify()

    def _new_entries(self) -> dict[bytes, Entry]:
        return {} if self._watch is None else WatchedEntries(self._watch)


def time_key(store: str) -> bytes:
    """Return the metadata key of what a store's expiry remembers."""
    return b"time:" + store.encode()


def _same(value: Any) -> Any:
    return value
