"""The embedded log's catalog (topics, partitions, epochs, ends) while another process changes it.

The other process is another `Log` of the same file here: all that the two share is that file. It acts at a given
statement of the first, so each moment there is has its turn.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from streamlet.clients.embedded.database import connect
from streamlet.clients.embedded.log import Log


class Meddled:
    """A log in a file and another process's view of it, which does something at a given statement of the first.

    Attributes:
        begun: How many statements the first has begun since it was told to count.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.other = Log(path, name="other")
        self.begun = 0
        self._at = -1
        self._act: Callable[[], object] = lambda: None

    def act_at(self, statement: int, act: Callable[[], object]) -> None:
        self.begun, self._at, self._act = 0, statement, act

    def open(self) -> Log:
        """Open the log that is watched, from its first statement on."""

        def watched(path: Path | None, synchronous: str) -> sqlite3.Connection:
            connection = connect(path, synchronous)
            connection.set_trace_callback(self._trace)
            return connection

        with mock.patch("streamlet.clients.embedded.log.connect", watched):
            return Log(self.path, name="watched")

    def _trace(self, statement: str) -> None:
        self.begun += 1
        if self.begun - 1 == self._at:
            self._act()


def catalog(log: Log) -> dict[str, tuple[int, int, int]]:
    """What is said of each topic: its partitions, epochs and records."""
    return {
        topic.name: (len(topic.partitions), sum(len(p.epochs) for p in topic.partitions), topic.partitions[0].end)
        for topic in log.topics.values()
    }


@pytest.mark.parametrize("opens", [False, True], ids=["refresh", "open"])
@pytest.mark.parametrize("change", ["a topic is made", "a topic is deleted", "a topic gets partitions"])
def test_the_catalog_is_that_of_one_moment(tmp_path: Path, change: str, opens: bool) -> None:
    """At each statement of reading it another process changes it: what was read is what was before, or after."""
    meddled = Meddled(tmp_path / "log.db")
    other, watched = meddled.other, None if opens else meddled.open()
    steps = 0
    while True:
        other.create_topic("last", 1, {})  # there is something to be taken note of
        other.delete_topic("last")
        other.create_topic(f"there-{steps}", 2, {})
        before = catalog(other)
        after: list[dict[str, tuple[int, int, int]]] = []

        def act() -> None:
            if change == "a topic is made":
                other.create_topic(f"made-{steps}", 3, {})  # noqa: B023  # called within this turn of the loop
            elif change == "a topic is deleted":
                other.delete_topic(f"there-{steps}")  # noqa: B023
            else:
                other.add_partitions(f"there-{steps}", 5)  # noqa: B023
            after.append(catalog(other))  # noqa: B023

        meddled.act_at(steps, act)
        if opens:
            watched = meddled.open()
        assert watched is not None
        watched.refresh()
        found = catalog(watched)
        if not after:
            assert found == before
            break
        assert found in (before, after[0])
        watched.refresh()
        assert catalog(watched) == after[0]
        if opens:
            watched.close()
        steps += 1
    assert steps > 8, "it was in the middle of it"
    watched.close()
    other.close()
