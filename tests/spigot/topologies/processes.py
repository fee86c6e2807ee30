"""Managers and workers in processes of their own, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[3]


class Process:
    """One of them; leaving the block kills it."""

    def __init__(self, role: str, brokers: str, prefix: str = "", state_dir: str = "") -> None:
        self._command = [sys.executable, "-m", "tests.spigot.topologies.app", role, brokers, prefix, state_dir]
        self._process: subprocess.Popen[str] | None = None
        self.kills = 0
        self.start()

    def start(self) -> None:
        """Starts it, and returns when it runs."""
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "running\n", f"the process ended with {self._process.wait()}"

    def kill(self) -> None:
        """Kills it as it stands."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None
            self.kills += 1

    def restart(self) -> None:
        """Kills it, and starts it again."""
        self.kill()
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
