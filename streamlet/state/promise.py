"""Finds values that were changed in place although the store was promised that none is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlet.errors import StateStoreError
from streamlet.state.entries import Entry

_REMEMBERED = 256


class PromiseWatch:
    """The bytes of the objects that a store was given or gave away lately, to be compared with those of now.

    Args:
        store: Name of the store.
        serialise: Returns the bytes of the value of a key.
    """

    def __init__(self, store: str, serialise: Callable[[bytes, Any], bytes]) -> None:
        self._store = store
        self._serialise = serialise
        self._proofs: dict[bytes, tuple[Any, bytes]] = {}

    def used(self, key: bytes, entry: Entry) -> None:
        """Remember the bytes of an entry, if it has others than those of an object that is remembered already."""
        value = entry[0]
        if value is None:
            self._proofs.pop(key, None)
            return
        proof = self._proofs.pop(key, None)
        if proof is None or proof[0] is not value:
            proof = (value, self._serialise(key, value))
        self._proofs[key] = proof
        if len(self._proofs) > _REMEMBERED:
            oldest = next(iter(self._proofs))
            self._check(oldest)
            del self._proofs[oldest]

    def verify(self) -> None:
        """Compare.

        Raises:
            StateStoreError: If an object was changed; the message names the store and the key.
        """
        for key in self._proofs:
            self._check(key)

    def clear(self) -> None:
        """Forget everything."""
        self._proofs.clear()

    def _check(self, key: bytes) -> None:
        value, data = self._proofs[key]
        if self._serialise(key, value) != data:
            raise StateStoreError(
                f"store {self._store!r}: the value of key {key!r} was changed in place after it was put or got. "
                f"Build a new value instead, or declare the store without immutable_values=True"
            )


class WatchedEntries(dict[bytes, Entry]):
    """Entries that tell the watch which of them are used."""

    def __init__(self, watch: PromiseWatch) -> None:
        super().__init__()
        self._watch = watch

    def get(self, key: bytes, default: Any = None) -> Any:
        """Return an entry, which is used from now on."""
        entry = super().get(key)
        if entry is None:
            return default
        self._watch.used(key, entry)
        return entry

    def __getitem__(self, key: bytes) -> Entry:
        entry = super().__getitem__(key)
        self._watch.used(key, entry)
        return entry

    def __setitem__(self, key: bytes, entry: Entry) -> None:
        super().__setitem__(key, entry)
        self._watch.used(key, entry)
