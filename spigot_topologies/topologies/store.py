"""The manager's store: every workflow's parts, and an index of those that have ended.

| key | value |
|---|---|
| `w` + hash of the workflow's key + part | a part of the workflow |
| `e` + when it ended + hash of the workflow's key | nothing: an entry of the index for retention |

The parts are the engine's (`spigot_topologies.workflow.parts`), and two more: `c`, the ctx and the further params,
written once; and `h`, where the engine's header is preceded by what the controller has to know at each command. So a
transition writes both in one entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from struct import Struct
from typing import Any, Final

from spigot_topologies.values import codec
from spigot_topologies.workflow import MAX_PART_BYTES
from streamlet import KeyValueStore, StateStoreError, StoreBuilder, Stores, serdes

__all__ = ["ENDED", "HASH_BYTES", "PARTS", "Store", "WorkflowParts", "key_hash", "workflow_store"]

Store = KeyValueStore[bytes, bytes]

HASH_BYTES: Final = 16
PARTS: Final = b"w"
ENDED: Final = b"e"
HEADER: Final = b"h"
_CONTEXT: Final = b"c"
_ERROR: Final = b"e"

_VERSION: Final = 1
_REFUSED, _ENDED, _DELETING = 1, 2, 4
_HEAD = Struct(">BBQQ")
_MAX_PART_KEY = 128  # names are users' own: a changelog record's key must not grow with them


def workflow_store(name: str, *, in_memory: bool = False) -> StoreBuilder[Store]:
    """Declares the manager's store."""
    return Stores.key_value(name, serdes.bytes_, serdes.bytes_, in_memory=in_memory)


def key_hash(key: bytes) -> bytes:
    """What stands for a workflow's key in the keys of its entries."""
    return sha256(key).digest()[:HASH_BYTES]


class WorkflowParts:
    """One workflow's entries during one transition: what is written is kept back until `write`.

    So a command that cannot be applied leaves nothing behind, whatever it came to.

    Attributes:
        key: The workflow's key.
        exists: There is such a workflow, or was one whose retention is not over.
        refused: Its plan was refused; there is nothing but its error.
        ended: It has ended.
        deleting: It has ended, its retention is over, and some of its entries are gone.
        sequence: How many transitions it has had.
        continuation: The sequence number of the transition whose continuation is under way; 0 if there is none.
    """

    __slots__ = (
        "_before", "_changes", "_context", "_engine_header", "_get", "_prefix", "_put", "continuation", "deleting",
        "ended", "exists", "key", "refused", "sequence",
    )  # fmt: skip

    def __init__(self, store: Store, key: bytes) -> None:
        self.key = key
        self._get = store.fast_get  # a pair of value and timestamp: what `get` costs beside is a third of it
        self._put = store.put
        self._prefix = PARTS + key_hash(key)
        self._changes: dict[bytes, bytes | None] = {}
        self._context: bytes | None = None
        header = self._read(HEADER)
        self._before = header
        self.exists = header is not None
        self.refused = self.ended = self.deleting = False
        self.sequence = self.continuation = 0
        self._engine_header: bytes | None = None
        if header is not None:
            if header[0] != _VERSION or len(header) < _HEAD.size:
                raise StateStoreError(
                    f"workflow {key!r}: state of unknown format {header[0]}, written by a newer version of "
                    f"spigot_topologies: run that version, or drain and delete the application's state"
                )
            _, flags, self.sequence, self.continuation = _HEAD.unpack_from(header)
            self.refused, self.ended, self.deleting = (bool(flags & bit) for bit in (_REFUSED, _ENDED, _DELETING))
            self._engine_header = header[_HEAD.size :] or None

    @property
    def hash(self) -> bytes:
        """The hash of its key."""
        return self._prefix[1:]

    # --- what the engine needs ----------------------------------------------------------------------------------------

    def get(self, part_key: bytes, /) -> bytes | None:
        if part_key == HEADER:
            return self._engine_header
        if part_key in self._changes:
            return self._changes[part_key]
        return self._read(part_key)

    def put(self, part_key: bytes, value: bytes, /) -> None:
        if part_key == HEADER:
            self._engine_header = value
        else:
            self._changes[part_key] = value

    def delete(self, part_key: bytes, /) -> None:
        self._changes[part_key] = None

    # --- what the controller needs ------------------------------------------------------------------------------------

    def set_context(self, ctx: Any, extra: dict[Any, Any]) -> None:
        """Keeps the caller's own data.

        Raises:
            TypeError: it holds a value that state cannot hold.
        """
        data = codec.encode([ctx, extra])
        count = -(-len(data) // MAX_PART_BYTES)
        self._changes[_CONTEXT] = count.to_bytes(2, "big") + data[:MAX_PART_BYTES]
        for number in range(1, count):
            self._changes[_CONTEXT + number.to_bytes(2, "big")] = data[number * MAX_PART_BYTES :][:MAX_PART_BYTES]
        self._context = data

    def context(self) -> tuple[Any, dict[Any, Any]]:
        """The ctx and the further params; a new object each time, so that nobody can change another's."""
        data = self._context
        if data is None:
            first = self._need(_CONTEXT)
            pieces = [first[2:]]
            for number in range(1, int.from_bytes(first[:2], "big")):
                pieces.append(self._need(_CONTEXT + number.to_bytes(2, "big")))
            data = self._context = b"".join(pieces)
        ctx, extra = self._decode(data)
        return ctx, extra

    def set_error(self, error: dict[Any, Any]) -> None:
        """Keeps why the plan was refused."""
        self._changes[_ERROR] = codec.encode(error)

    def error(self) -> dict[Any, Any]:
        """Why the plan was refused."""
        error: dict[Any, Any] = self._decode(self._need(_ERROR))
        return error

    def forget_changes(self) -> None:
        """Takes back what was written in this transition."""
        self._changes.clear()
        self._engine_header = None if self._before is None else self._before[_HEAD.size :] or None

    def write(self) -> None:
        """Writes what has changed to the store."""
        put, prefix = self._put, self._prefix
        for part_key, value in self._changes.items():
            put(prefix + _bounded(part_key), value)
        self._changes.clear()
        flags = self.refused * _REFUSED | self.ended * _ENDED | self.deleting * _DELETING
        header = _HEAD.pack(_VERSION, flags, self.sequence, self.continuation) + (self._engine_header or b"")
        if header != self._before:
            put(prefix + HEADER, header)
            self._before = header

    def _need(self, part_key: bytes) -> bytes:
        data = self.get(part_key)
        if data is None:
            raise StateStoreError(f"workflow {self.key!r} lacks the entry {part_key!r}; was it only partly restored?")
        return data

    def _decode(self, data: bytes) -> Any:
        try:
            return codec.decode(data)
        except Exception as error:
            raise StateStoreError(f"workflow {self.key!r} has an entry that cannot be read: {error}") from error

    def _read(self, part_key: bytes) -> bytes | None:
        try:
            found = self._get(self._prefix + (part_key if len(part_key) <= _MAX_PART_KEY else _bounded(part_key)))
            return None if found is None else found[0]
        except StateStoreError:
            raise
        except Exception as error:  # the database's own: no fault of the message at hand
            raise StateStoreError(f"workflow {self.key!r}: the entry {part_key!r} cannot be read: {error}") from error


def entries_of(store: Store, hash: bytes) -> Iterator[bytes]:
    """The keys of a workflow's entries, its header last."""
    prefix = PARTS + hash
    header = prefix + HEADER
    with store.prefix_scan(prefix) as entries:
        for key, _ in entries:
            if key != header:
                yield key
    yield header


def mark_deleting(store: Store, hash: bytes) -> None:
    """From here on the workflow is one of which some entries are gone."""
    key = PARTS + hash + HEADER
    header = store.get(key)
    if header is not None and not header[1] & _DELETING:
        store.put(key, header[:1] + bytes([header[1] | _DELETING]) + header[2:])


def _bounded(part_key: bytes) -> bytes:
    if len(part_key) <= _MAX_PART_KEY:
        return part_key
    return part_key[:1] + b"#" + sha256(part_key).digest()
