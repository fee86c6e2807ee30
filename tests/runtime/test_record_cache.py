"""Record caches on a log: fewer results, the last ones the same."""

from __future__ import annotations

import pytest

from tests.runtime.harness import LogUnderTest, running, word_count


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
