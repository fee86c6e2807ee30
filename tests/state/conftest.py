"""Stores over each backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamlet.state import StoreBuilder
from tests.state.support import Harness, Opener, SortedMap


@pytest.fixture(params=["rocksdb", "memory", "own"])
def open_state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens a task's state, on disk, in memory and over stores of one's own."""
    opened: list[Harness] = []

    def open_(*builders: StoreBuilder[Any]) -> Harness:
        if request.param == "own":
            builders = tuple(builder.over(SortedMap) for builder in builders)
        harness = Harness(builders, tmp_path / "task" if request.param == "rocksdb" else None)
        opened.append(harness)
        return harness

    yield open_
    for harness in opened:
        harness.close()
