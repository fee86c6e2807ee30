"""SIGKILL at every point of a commit, and at random: a restart restores the tail only, and the results are exact."""

from __future__ import annotations

import json
import random
import signal
import struct
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamlet.runtime.hooks import FaultPoint
from streamlet.runtime.streams import KafkaStreams
from tests.runtime.harness import TIMEOUT, LogUnderTest, Recorder, last_counts, running, word_count

ROOT = Path(__file__).parents[2]
QUICK = {"commit.interval.ms": 1, "consumer.session.timeout.ms": 1500, "consumer.heartbeat.interval.ms": 300}


def spawn(
    log: LogUnderTest,
    config: dict[str, Any],
    point: FaultPoint | str | None,
    nth: int = 1,
    *,
    repartition: bool = False,
    program: str = "word_count",
) -> subprocess.Popen[str]:
    """Start the application in a process that kills itself at a point, or one that waits to be killed."""
    order = {
        "config": config,
        "prefix": log.prefix,
        "point": point.name if isinstance(point, FaultPoint) else point,
        "nth": nth,
        "repartition": repartition,
        "program": program,
    }
    command = [sys.executable, "-m", "tests.runtime.crash_app", json.dumps(order)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Starts:
    """A restore listener that remembers where stores began."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []

    def on_restore_start(self, topic: str, partition: int, store: str, start: int, end: int) -> None:
        self.begun.append((start, end))

    def on_batch_restored(self, topic: str, partition: int, store: str, end: int, restored: int) -> None: ...

    def on_restore_end(self, topic: str, partition: int, store: str, total: int) -> None: ...

    def on_restore_suspended(self, topic: str, partition: int, store: str, total: int) -> None: ...


def every_count(messages: list[Any]) -> Counter[tuple[str, int]]:
    return Counter((m.key().decode(), struct.unpack(">q", m.value())[0]) for m in messages)


@pytest.mark.parametrize("point", list(FaultPoint), ids=lambda point: point.name)
def test_killed_in_a_commit(log: LogUnderTest, guarantee: str, point: FaultPoint) -> None:
    log.create("lines", 2)
    log.create("counts")
    log.write("lines", [(f"k{n % 50}", "x") for n in range(2_000)])
    config = {**log.config(guarantee=guarantee), **QUICK}
    app = spawn(log, config, point, nth=3)
    _, said = app.communicate(timeout=TIMEOUT)
    assert app.returncode == -signal.SIGKILL, said

    starts, sensor = Starts(), Recorder()
    again = KafkaStreams(word_count(log, repartition=False), config, sensor=sensor)
    again.set_global_state_restore_listener(starts)
    wanted = {f"k{n}": 40 for n in range(50)}
    with again:
        again.start()
        if guarantee == "exactly_once_v2":
            found = log.read("counts", lambda found: len(found) >= 2_000)
            assert every_count(found) == Counter((f"k{n}", count) for n in range(50) for count in range(1, 41))
            log.write("lines", [("k0", "x")])
            found = log.read("counts", lambda found: len(found) >= 2_001)
            assert last_counts(found) == {**wanted, "k0": 41}
        else:
            log.read("counts", lambda found: all(last_counts(found).get(k, 0) >= v for k, v in wanted.items()))
    # What the two commits before wrote to the stores need not be restored: one commit changes each key once at most.
    assert sensor.restored <= 50, starts.begun
    assert any(start for start, _ in starts.begun)
    if guarantee == "exactly_once_v2" and point in (FaultPoint.AFTER_CHANGELOGS, FaultPoint.BEFORE_COMMIT):
        assert sensor.restored == 0  # the transaction was aborted
    if point is FaultPoint.AFTER_STORES:
        assert sensor.restored == 0
    if point is FaultPoint.AFTER_COMMIT:
        assert sensor.restored > 0


def test_killed_at_random_through_a_repartition_topic(log: LogUnderTest, guarantee: str) -> None:
    """Words go through two sub-topologies while the process is killed again and again."""
    seed = random.randrange(1_000_000)
    print("seed", seed)
    chance = random.Random(seed)
    log.create("lines", 2)
    log.create("counts")
    config = {**log.config(guarantee=guarantee), **QUICK, "commit.interval.ms": 20}
    total = 0
    for _ in range(3):
        app = spawn(log, config, None, repartition=True)
        assert app.stdout is not None
        killer = threading.Timer(chance.uniform(0.05, 0.6), app.kill)
        for line in app.stdout:
            if line.strip() == "RUNNING":
                killer.start()
                for _ in range(5):
                    log.write("lines", [(None, f"a w{n % 20}") for n in range(100)])
                    total += 100
                break
        assert app.wait(TIMEOUT) == -signal.SIGKILL
        killer.join()
        app.communicate()
    wanted = {"a": total, **{f"w{n}": total // 20 for n in range(20)}}
    with running(word_count(log), config):
        if guarantee == "exactly_once_v2":
            found = log.read("counts", lambda found: len(found) >= 2 * total)
            assert every_count(found) == Counter((k, n) for k, v in wanted.items() for n in range(1, v + 1))
        else:
            log.read("counts", lambda found: all(last_counts(found).get(k, 0) >= v for k, v in wanted.items()))
