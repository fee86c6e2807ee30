"""Each example of the course, run as a reader runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

EXPECTED = {
    "01_word_count": ["snow    3", "and     3", "wind    2", "more    2"],
    "02_delays_per_airline": [
        "airline                       left  cancelled  minutes late",
        "JetBlue Airways                284        139          11.1",
        "Hawaiian Airlines Inc.           3          0          59.0",
    ],
    "03_processor_api": ["7 readings came, 5 are unique:", "a   -1.0", "b   -2.5", "c   -3.0", "d   -4.5", "e   -4.0"],
    "04_test_driver": ["large orders: bob; ann has spent 102.5"],
    "05_first_workflow_local": ["success: 2 cups of coffee and 4 slices of toast"],
    "06_workflow_over_a_log": ["success: 2 cups of coffee and 4 slices of toast"],
    "07_try_catch_and_loops": [
        "a lamp went to Ann",
        "a chair is kept: no address",
        "a table went to Bob",
        "failure: no address",
    ],
    "08_dead_letters": [
        "jfk: 23 °F",
        "jfk: 14 °F",
        "dead: ?, offset 1 of temperatures: orjson.JSONDecodeError",
        'dead: {"celsius": -4}, offset 2 of temperatures: TypeError',
    ],
    "09_own_words": ["success: 162"],
}


TAKE_AN_ADDRESS = [
    "01_word_count",
    "02_delays_per_airline",
    "03_processor_api",
    "06_workflow_over_a_log",
    "08_dead_letters",
]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_example_prints_its_result_and_ends(name: str) -> None:
    check(name)


@pytest.mark.parametrize("name", TAKE_AN_ADDRESS)
def test_the_example_runs_on_a_file(name: str, tmp_path: Path) -> None:
    check(name, f"embedded:{tmp_path / 'log.db'}")


@pytest.mark.parametrize("name", TAKE_AN_ADDRESS)
def test_the_example_runs_on_a_cluster(name: str, kafka_cluster: Any, tmp_path: Path) -> None:
    check(name, kafka_cluster.bootstrap_servers, XDG_STATE_HOME=str(tmp_path))


def check(name: str, *arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line in EXPECTED[name]] == EXPECTED[name], done.stdout


def test_every_numbered_example_is_run_here() -> None:
    assert sorted(path.stem for path in (ROOT / "examples").glob("[0-9]*.py")) == sorted(EXPECTED)
