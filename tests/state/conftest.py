"""Stores over each backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamlet.state import StoreBuilder
from tests.state.support import Harness, Opener


@pytest.fixture(params=["rocksdb", "memory"])
def open_state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens a task's state, on disk and in memory."""
    opened: list[Harness] = []

    def open_(*builders: StoreBuilder[Any]) -> Harness:
        harness = Harness(builders, tmp_path / "task" if request.param == "rocksdb" else None)
        opened.append(harness)
        return harness

    yield open_
    for harness in opened:
        harness.close()
