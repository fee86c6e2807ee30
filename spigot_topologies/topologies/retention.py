"""Ended workflows are deleted when their retention is over: a sweep, in bounded portions."""

from __future__ import annotations

from struct import Struct

from spigot_topologies.topologies.store import ENDED, HASH_BYTES, Store, WorkflowParts, entries_of, mark_deleting

__all__ = ["note_end", "sweep"]

_TIME = Struct(">Q")


def note_end(store: Store, parts: WorkflowParts, now_ms: int) -> None:
    """The workflow has ended now."""
    store.put(ENDED + _TIME.pack(now_ms) + parts.hash, b"\x01")


def sweep(store: Store, ended_before_ms: int, limit: int) -> int:
    """Deletes workflows that ended before a time, the earliest first.

    A workflow's header goes last. Until then its id stays taken, so nothing of an old run can be read by a new one.

    Args:
        store: The manager's store.
        ended_before_ms: The time.
        limit: How many entries to delete at most; the next sweep goes on with the rest.

    Returns:
        How many entries were deleted.
    """
    deleted = 0
    doomed: list[bytes] = []
    with store.range(ENDED, ENDED + _TIME.pack(max(ended_before_ms, 0))) as index:
        for key, _ in index:
            doomed.append(key)
            if len(doomed) > limit:
                break
    for key in doomed:
        hash = key[-HASH_BYTES:]
        mark_deleting(store, hash)
        keys: list[bytes] = []
        for entry in entries_of(store, hash):
            keys.append(entry)
            if deleted + len(keys) > limit:
                keys.pop()
                break
        else:
            keys.append(key)
        for entry in keys:
            store.put(entry, None)
        deleted += len(keys)
        if deleted >= limit:
            break
    return deleted
