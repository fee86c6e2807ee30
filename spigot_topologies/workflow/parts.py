"""Where a workflow's state is kept: parts, small values under keys, in any key-value store.

| key | value | written |
|---|---|---|
| `m` | run id and plan address | once |
| `p` | the plan, compressed | once |
| `N` | names in the initial scope | once |
| `h` | status, number of running tasks, agenda | where they changed |
| `e` | the workflow's error | once, at a failure |
| `n` + node id | a node: status and counts; of a task its path too | as it starts, ends, counts |
| `v` + node id | a node's values: an isolate's bindings, a caught error | once |
| `i` + node id + chunk | a chunk of a loop's items | once |
| `r` + symbol | a binding of the root scope | at each write |
| `s` + node id + symbol | a binding of a sub-scope | at each write |
| `x` + key + number | a piece of an entry that was too large for one | with the entry |

The sub-scope of a task that is itself a loop's copy is folded into its node, which is written at its result anyway.
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["MAX_PART_BYTES", "DictParts", "Parts"]

MAX_PART_BYTES: Final = 256 * 1024
"""An entry that is larger is split."""


class Parts(Protocol):
    """One workflow's entries."""

    def get(self, part_key: bytes, /) -> bytes | None:
        """The entry, or None."""

    def put(self, part_key: bytes, value: bytes, /) -> None:
        """Writes the entry."""

    def delete(self, part_key: bytes, /) -> None:
        """Deletes the entry, if it exists."""


class DictParts:
    """Parts in memory.

    Attributes:
        entries: The entries by key.
    """

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def get(self, part_key: bytes, /) -> bytes | None:
        return self.entries.get(part_key)

    def put(self, part_key: bytes, value: bytes, /) -> None:
        self.entries[part_key] = value

    def delete(self, part_key: bytes, /) -> None:
        self.entries.pop(part_key, None)
