"""The ledger: where every passenger ends up. An outside system, as a task's handler meets them.

It is a SQLite file of its own, not part of any topic or transaction of the workflows. A task may run more than once (a
worker died before its result was sent), so writing is idempotent by the task's id, and what must never happen, a
passenger twice or a seat twice, the tables refuse.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attrs import frozen

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    cancelled TEXT NOT NULL,     -- the cancelled flight
    passenger INTEGER NOT NULL,
    task TEXT NOT NULL,          -- id of the task that wrote this
    flight TEXT,                 -- the flight of the new seat; NULL: stranded
    seat INTEGER,
    PRIMARY KEY (cancelled, passenger),
    UNIQUE (flight, seat),
    CHECK ((flight IS NULL) = (seat IS NULL))
)
"""


class LedgerConflictError(Exception):
    """Something else is written there already: a passenger or a seat would be used twice."""


@frozen
class Entry:
    """A passenger's end.

    Attributes:
        passenger: The number on the cancelled flight.
        flight: Key of the flight that takes them, or None: stranded.
        seat: The seat on it, or None.
    """

    passenger: int
    flight: str | None = None
    seat: int | None = None


class Ledger:
    """The ledger in a file; may be used from several threads and processes at once."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute(_SCHEMA)

    def write(self, task: str, cancelled: str, entries: Sequence[Entry]) -> None:
        """Write where passengers end up, all or none of them; writing the same again for the same task changes nothing.

        Raises:
            LedgerConflictError: Another task dealt with one of them, or took one of the seats.
        """
        wanted = [(entry.passenger, task, entry.flight, entry.seat) for entry in entries]
        values = ", ".join(["(?, ?, ?, ?, ?)"] * len(wanted))
        with self._lock:
            try:
                self._connection.execute(
                    f"INSERT INTO ledger VALUES {values}", [field for row in wanted for field in (cancelled, *row)]
                )
            except sqlite3.IntegrityError:  # nothing of the statement has taken effect
                found = self._connection.execute(
                    "SELECT passenger, task, flight, seat FROM ledger"
                    " WHERE cancelled = ? AND passenger BETWEEN ? AND ? ORDER BY passenger",
                    (cancelled, wanted[0][0], wanted[-1][0]),
                ).fetchall()
                if found != wanted:
                    raise LedgerConflictError(
                        f"task {task}, flight {cancelled}: {wanted} cannot be written beside {found}"
                    ) from None

    def size(self) -> int:
        """How many passengers have been dealt with."""
        return int(self._rows("SELECT count(*) FROM ledger")[0][0])

    def stranding_tasks(self) -> int:
        """How many tasks have written that passengers are stranded."""
        return int(self._rows("SELECT count(DISTINCT task) FROM ledger WHERE flight IS NULL")[0][0])

    def entries(self) -> list[tuple[str, Entry]]:
        """All that is written, each with its cancelled flight."""
        rows = self._rows("SELECT cancelled, passenger, flight, seat FROM ledger ORDER BY cancelled, passenger")
        return [(cancelled, Entry(passenger, flight, seat)) for cancelled, passenger, flight, seat in rows]

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(query).fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def rebooked(first: int, seats: Iterable[tuple[str, int]]) -> list[Entry]:
    """Entries for passengers from number `first` on who have seats."""
    return [Entry(first + index, flight, seat) for index, (flight, seat) in enumerate(seats)]


def stranded(first: int, count: int) -> list[Entry]:
    """Entries for passengers who have none."""
    return [Entry(passenger) for passenger in range(first, first + count)]
