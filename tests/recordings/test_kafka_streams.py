"""Kafka Streams' own tests, as recorded: streamlet must do the same, record for record."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replay_kafka_streams.cases import replay_file
from tests.replay_kafka_streams.verdict import DIFFERENT

RECORDINGS = Path(__file__).parents[3] / "shared" / "kafka_streams"
FILES = ["joins.json", "windows.json", "tables_misc.json", "versioned_store.json", "topologies.json", "bytes.json"]


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"the recordings are not beside the repository, in {RECORDINGS}")
@pytest.mark.parametrize("name", FILES)
def test_nothing_differs_from_the_recordings(name: str) -> None:
    verdicts = list(replay_file(RECORDINGS / name))
    assert [str(verdict) for verdict in verdicts if verdict.outcome == DIFFERENT] == []
    assert verdicts
