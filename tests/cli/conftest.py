"""An embedded log and an application for the command line's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.application import APPLICATION


@pytest.fixture
def servers(tmp_path: Path) -> str:
    return f"embedded:{tmp_path / 'log.db'}"


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with an application that counts words, in the current directory."""
    name = f"app_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(APPLICATION.format(suffix=""))
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield name
    sys.path[:] = path
    sys.modules.pop(name, None)
