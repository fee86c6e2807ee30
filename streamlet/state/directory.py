"""The directory that holds an application's local state on this machine."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

from streamlet.errors import LockError, StateMismatchError, StateStoreError
from streamlet.records import TaskId
from streamlet.time import Clock, SystemClock

_LOCK = "lock"
_PROCESS = "process"
_LOG = "log"
_TASKS = "tasks"


class StateDirectory:
    """The directory of one application, used by one process at a time. Safe from any thread.

    Args:
        root: The directory of all applications (``state.dir``); made if it does not exist.
        application_id: Names the directory below it.
        clock: Tells how old the state of a task is.

    Attributes:
        path: The application's directory.
        process_id: Identity of this instance; the same after a restart with the same directory.

    Raises:
        LockError: If another process, or another application object of this one, uses the directory.
        StateStoreError: If the directory cannot be made or written.
    """

    def __init__(self, root: Path, application_id: str, *, clock: Clock | None = None) -> None:
        self.path = root / application_id
        self._clock = clock or SystemClock()
        try:
            (self.path / _TASKS).mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] | None = self._acquire()
            self.process_id = self._process_id()
        except OSError as error:
            raise StateStoreError(
                f"the state directory {self.path} cannot be used: {error}. "
                f"Set state.dir to a directory that can be written"
            ) from error

    def _acquire(self) -> IO[str]:
        file = (self.path / _LOCK).open("a+")  # not "w": the holder's pid is in it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            whose = "this process" if holder == str(os.getpid()) else f"process {holder}"
            raise LockError(
                f"the state directory {self.path} is in use by {whose}: stop it, "
                f"or give this instance a state.dir of its own"
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        return file

    def _process_id(self) -> str:
        try:
            return self._read(_PROCESS, "process_id") or self._write(_PROCESS, "process_id", uuid.uuid4().hex)
        except BaseException:
            self.close()
            raise

    def check_log(self, cluster_id: str) -> None:
        """Check that the state belongs to this log; the first log to be named becomes the one it belongs to.

        Raises:
            StateMismatchError: If it belongs to another one: it was deleted, or ``bootstrap.servers`` was changed.
        """
        known = self._read(_LOG, "cluster_id")
        if known is None:
            self._write(_LOG, "cluster_id", cluster_id)
        elif known != cluster_id:
            raise StateMismatchError(
                f"the state in {self.path} belongs to log {known!r}, but bootstrap.servers leads to {cluster_id!r}: "
                f"if the log was deleted or exchanged on purpose, delete the directory; "
                f"otherwise correct bootstrap.servers, or set another state.dir"
            )

    def task_directory(self, task: TaskId) -> Path:
        """Return the directory of a task; made if it does not exist."""
        directory = self.path / _TASKS / str(task)
        directory.mkdir(exist_ok=True)
        return directory

    def existing_tasks(self) -> list[TaskId]:
        """Return the tasks that have a directory, in order."""
        names = [entry.name for entry in (self.path / _TASKS).iterdir()]
        return sorted(TaskId.parse(name) for name in names if _is_task(name))

    def delete_task(self, task: TaskId) -> None:
        """Delete a task's directory, if there is one; its state must be closed.

        Raises:
            StateStoreError: If it cannot be deleted.
        """
        directory = self.path / _TASKS / str(task)
        try:
            shutil.rmtree(directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StateStoreError(f"the state of task {task} in {directory} cannot be deleted: {error}") from error

    def clean_up(
        self,
        older_than_ms: int,
        claim: Callable[[TaskId], bool] = lambda _: True,
        release: Callable[[TaskId], None] = lambda _: None,
    ) -> list[TaskId]:
        """Delete the directories of tasks that nobody wrote to for a time.

        Args:
            older_than_ms: The time, in milliseconds.
            claim: Takes a task, so that nobody opens what is being deleted; False: it is in use, and left alone.
            release: Gives a task back that was taken.

        Returns:
            The tasks that were deleted.
        """
        before = self._clock.wall_ms() - older_than_ms
        deleted: list[TaskId] = []
        for task in self.existing_tasks():
            if self._last_write(task) > before or not claim(task):
                continue
            try:
                if self._last_write(task) <= before:  # somebody may have had it meanwhile
                    self.delete_task(task)
                    deleted.append(task)
            finally:
                release(task)
        return deleted

    def forget_log(self) -> None:
        """Forget which log the state belongs to; to be called when there is none left."""
        (self.path / _LOG).unlink(missing_ok=True)

    def _last_write(self, task: TaskId) -> int:
        directory = self.path / _TASKS / str(task)
        times = [directory.stat().st_mtime_ns]
        for path in directory.rglob("*"):
            try:
                times.append(path.stat().st_mtime_ns)
            except FileNotFoundError:  # RocksDB replaces files
                continue
        return max(times) // 1_000_000

    def close(self) -> None:
        """Give the directory up; allowed more than once."""
        # The file stays: if it were deleted, two processes could lock two files.
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _read(self, name: str, key: str) -> str | None:
        try:
            return str(json.loads((self.path / name).read_text())[key])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise StateStoreError(
                f"{self.path / name} is damaged ({error}): delete it, or all of the directory"
            ) from error

    def _write(self, name: str, key: str, value: str) -> str:
        write_atomically(self.path / name, json.dumps({"version": 1, key: value}).encode())
        return value


def _is_task(name: str) -> bool:
    try:
        return str(TaskId.parse(name)) == name
    except ValueError:
        return False


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that, after a crash at any point, it holds either its old contents or the new ones."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
