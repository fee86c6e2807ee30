"""The state directory, and what happens when a process is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from streamlet import serdes
from streamlet.errors import LockError, StateMismatchError, StateStoreError
from streamlet.records import TaskId
from streamlet.runtime.context import TaskClaims
from streamlet.state import StateDirectory, StateMemory, Stores, TaskState
from streamlet.state.directory import write_atomically
from streamlet.time import ManualClock
from tests.state.support import position

HOLD = """
import sys
from pathlib import Path
from streamlet.state import StateDirectory
directory = StateDirectory(Path(sys.argv[1]), "app")
print(directory.process_id, flush=True)
sys.stdin.read()
"""

COMMIT_FOREVER = """
import sys
from pathlib import Path
from streamlet import serdes
from streamlet.state import Position, StateMemory, Stores, TaskState
stores = [Stores.timestamped_key_value(name, serdes.int64, serdes.int64) for name in ("a", "b")]
state = TaskState.open(stores, directory=Path(sys.argv[1]), memory=StateMemory(16 << 20), timestamp=lambda: 0)
a, b = state.store("a"), state.store("b")
offset = 0
while True:
    offset += 1
    for key in range(200):
        a.fast_put(key, offset, offset)
        b.fast_put((offset * 7 + key) % 1000, offset, offset)
    list(state.changes())
    state.commit({name: Position(offset, 0, None, 0) for name in ("a", "b")})
    a.fast_put(-1, offset, offset)  # never committed before the next round replaces it
    a.fast_put(-1, None, offset)
    print(offset, flush=True)
"""


def run(program: str, argument: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(argument)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_a_second_process_is_refused_and_told_who_holds_the_directory(tmp_path: Path) -> None:
    with run(HOLD, tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        try:
            process_id = holder.stdout.readline().strip()
            with pytest.raises(LockError, match=f"in use by process {holder.pid}: stop it"):
                StateDirectory(tmp_path, "app")
            StateDirectory(tmp_path, "other").close()
        finally:
            holder.stdin.close()
            holder.wait()
    directory = StateDirectory(tmp_path, "app")
    assert directory.process_id == process_id  # the same instance after a restart
    with pytest.raises(LockError, match="in use by this process"):
        StateDirectory(tmp_path, "app")
    directory.close()
    directory.close()
    StateDirectory(tmp_path, "app").close()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    with run(HOLD, tmp_path) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    StateDirectory(tmp_path, "app").close()


def test_state_belongs_to_its_log(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path, "app")
    directory.check_log("cluster-1")
    directory.check_log("cluster-1")
    with pytest.raises(StateMismatchError, match=r"belongs to log 'cluster-1'.*delete the directory"):
        directory.check_log("cluster-2")
    directory.close()
    again = StateDirectory(tmp_path, "app")
    with pytest.raises(StateMismatchError):
        again.check_log("cluster-2")
    again.close()


def test_tasks_and_their_clean_up(tmp_path: Path) -> None:
    clock = ManualClock()
    directory = StateDirectory(tmp_path, "app", clock=clock)
    tasks = [TaskId(1, 0), TaskId(0, 10), TaskId(0, 2)]
    for task in tasks:
        path = directory.task_directory(task)
        (path / "data").write_text("x")
        for written in (path / "data", path):
            os.utime(written, (1_000, 1_000))
    os.utime(directory.task_directory(TaskId(0, 2)) / "data", (1_100, 1_100))
    (directory.path / "tasks" / "no task").mkdir()
    assert directory.existing_tasks() == [TaskId(0, 2), TaskId(0, 10), TaskId(1, 0)]
    clock.advance(timedelta(seconds=1_050))
    assert directory.clean_up(60_000) == []
    claims = TaskClaims()
    assert claims.claim(TaskId(1, 0))
    assert directory.clean_up(50_000, claims.claim, claims.release) == [TaskId(0, 10)]
    assert claims.claim(TaskId(0, 10)), "it was given back"
    assert directory.existing_tasks() == [TaskId(0, 2), TaskId(1, 0)]
    directory.delete_task(TaskId(0, 2))
    directory.delete_task(TaskId(0, 2))
    assert directory.existing_tasks() == [TaskId(1, 0)]
    directory.close()


def test_nobody_opens_a_task_while_it_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, claims, task = StateDirectory(tmp_path, "app"), TaskClaims(), TaskId(0, 0)
    directory.task_directory(task)
    claimed: list[bool] = []
    delete = directory.delete_task

    def claimed_meanwhile(id: TaskId) -> None:
        claimed.append(claims.claim(id))
        delete(id)

    monkeypatch.setattr(directory, "delete_task", claimed_meanwhile)
    assert directory.clean_up(0, claims.claim, claims.release) == [task]
    assert claimed == [False]
    directory.close()


def test_what_came_back_meanwhile_is_not_deleted(tmp_path: Path) -> None:
    """Between looking at its age and taking it, the task was here again, and has gone."""
    clock = ManualClock(1)
    directory, task = StateDirectory(tmp_path, "app", clock=clock), TaskId(0, 0)
    data = directory.task_directory(task) / "data"

    def claim(_: TaskId) -> bool:
        data.write_text("new")
        return True

    os.utime(data.parent, (0, 0))
    assert directory.clean_up(0, claim) == []
    assert data.exists()
    directory.close()


def test_without_state_the_directory_may_be_used_with_another_log(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path, "app")
    directory.check_log("cluster-1")
    directory.forget_log()
    directory.check_log("cluster-2")
    directory.forget_log()
    directory.forget_log()
    directory.close()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "process").write_text("{")
    with pytest.raises(StateStoreError, match=r"app/process is damaged"):
        StateDirectory(tmp_path, "app")
    (tmp_path / "app" / "process").write_text(json.dumps({"process_id": "p"}))
    directory = StateDirectory(tmp_path, "app")  # the failed attempt left no lock
    assert directory.process_id == "p"
    directory.close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateStoreError, match=r"Set state\.dir to a directory"):
        StateDirectory(tmp_path / "file", "app")


def test_files_are_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def no_space(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("rounds", [1, 20, 60])
def test_after_sigkill_the_state_is_that_of_its_position(tmp_path: Path, rounds: int) -> None:
    """Killed at any moment, the stores hold what was committed up to their position, and nothing else."""
    with run(COMMIT_FOREVER, tmp_path / "task") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= rounds:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
    stores = [Stores.timestamped_key_value(name, serdes.int64, serdes.int64) for name in ("a", "b")]
    state = TaskState.open(stores, directory=tmp_path / "task", memory=StateMemory(16 << 20), timestamp=lambda: 0)
    reached = state.position("a")
    assert reached is not None
    assert reached == state.position("b")
    assert reached.offset >= rounds
    expected = {(offset * 7 + key) % 1000: offset for offset in range(1, reached.offset + 1) for key in range(200)}
    assert {key: pair.value for key, pair in state.store("a").all()} == dict.fromkeys(range(200), reached.offset)
    assert {key: pair.value for key, pair in state.store("b").all()} == expected
    assert position(1) != reached
    state.close()
