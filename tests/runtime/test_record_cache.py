"""Record caches on a log: fewer results, the last ones the same, also after a kill."""

from __future__ import annotations

import signal
from itertools import pairwise

import pytest

from streamlet.runtime.hooks import FaultPoint
from tests.runtime.harness import TIMEOUT, LogUnderTest, running, word_count
from tests.runtime.test_crashes import QUICK, every_count, spawn


@pytest.mark.parametrize("cache", [1, 1 << 20])
def test_counts_come_once_per_commit(log: LogUnderTest, guarantee: str, cache: int) -> None:
    log.create("lines")
    log.create("counts")
    log.write("lines", [("w", "x")] * 500 + [("v", "x")] * 300)
    config = log.config(guarantee=guarantee, statestore_cache_max_bytes=cache)
    with running(word_count(log, repartition=False), config):
        found = log.await_counts("counts", {"w": 500, "v": 300})
    assert len(found) == 800 if cache == 1 else len(found) < 800
    log.write("lines", [("w", "x")])  # what was held back is in the store, too
    with running(word_count(log, repartition=False), config):
        log.await_counts("counts", {"w": 501, "v": 300})


@pytest.mark.parametrize("point", list(FaultPoint), ids=lambda point: point.name)
def test_killed_in_a_commit(log: LogUnderTest, point: FaultPoint) -> None:
    """What was held back is part of the transaction: none is lost, none comes twice."""
    log.create("lines", 2)
    log.create("counts")
    log.write("lines", [(f"k{n % 50}", "x") for n in range(2_000)])
    config = {**log.config(statestore_cache_max_bytes=4096), **QUICK}
    app = spawn(log, config, point, nth=2)
    _, said = app.communicate(timeout=TIMEOUT)
    assert app.returncode == -signal.SIGKILL, said
    with running(word_count(log, repartition=False), config):
        found = log.await_counts("counts", {f"k{n}": 40 for n in range(50)})
    counts: dict[str, list[int]] = {}
    for key, count in every_count(found):
        counts.setdefault(key, []).append(count)
    assert all(before < after for of_key in counts.values() for before, after in pairwise(of_key))
    assert max(every_count(found).values()) == 1
