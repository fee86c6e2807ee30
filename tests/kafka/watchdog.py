"""Ends brokers whose owner has died: run as a script, it outlives its parent by a moment.

Lines on standard input name what to end: `+123` a process group to watch, `-123` one that has ended by itself,
`d/path` the directory to remove. At the end of the input, which also a SIGKILL of the owner brings about, it kills and
removes all of them.
(PR_SET_PDEATHSIG is no substitute: it fires when the *thread* that started the broker ends.)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def watch(lines: Iterable[str]) -> None:
    """Follows `lines` to their end, then kills the groups and removes the directories still named."""
    groups: set[int] = set()
    directories: set[str] = set()
    for line in lines:
        sign, rest = line[0], line[1:].strip()
        if sign == "+":
            groups.add(int(rest))
        elif sign == "-":
            groups.discard(int(rest))
        elif sign == "d":
            directories.add(rest)
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(map(_alive, groups)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal; the owner decides
    watch(sys.stdin)
