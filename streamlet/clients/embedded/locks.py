"""The lock that keeps a second process out of a consumer group of an embedded log.

Groups rebalance within one process. Two processes with the same group would each consume everything, so the second is
refused. The operating system releases the lock of a process that dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from streamlet.errors import LockError

if TYPE_CHECKING:
    from streamlet.clients.embedded.log import Log


class GroupLock:
    """A held lock."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, log: Log, group: str) -> GroupLock:
        """Lock a group; on a log in memory there is nobody to lock out.

        Raises:
            LockError: Another process holds it; the message names its pid.
        """
        if log.path is None:
            return cls(None)
        path = lock_path(log.path, group)
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise LockError(
                f"group {group!r} of the embedded log {log.path} is in use by process {holder}: one process runs an "
                f"application on an embedded log. Stop that process, use more threads in it, or move to a cluster"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return cls(descriptor)

    def release(self) -> None:
        """Let others in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def held_elsewhere(log: Log, group: str) -> bool:
    """Whether another process, or another group object of this one, holds the group."""
    if log.path is None or not lock_path(log.path, group).exists():
        return False
    try:
        GroupLock.acquire(log, group).release()
    except LockError:
        return True
    return False


def lock_path(log: Path, group: str) -> Path:
    """The lock file of a group: beside the log, in ``<log>.groups``."""
    return log.with_name(log.name + ".groups") / (quote(group, safe="") + ".lock")
