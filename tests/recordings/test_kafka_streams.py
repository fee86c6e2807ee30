"""Kafka Streams' own tests, as recorded: streamlet must do the same, record for record."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replay_kafka_streams.cases import replay_file
from tests.replay_kafka_streams.verdict import DIFFERENT

RECORDINGS = Path(__file__).parents[3] / "shared" / "kafka_streams"
WITH_DATA = ["joins.json", "windows.json", "tables_misc.json"]
FILES = [*WITH_DATA, "versioned_store.json", "topologies.json", "bytes.json"]


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"the recordings are not beside the repository, in {RECORDINGS}")
@pytest.mark.parametrize(
    ("name", "on_disk"), [*((name, False) for name in FILES), *((name, True) for name in WITH_DATA)]
)
def test_nothing_differs_from_the_recordings(name: str, on_disk: bool) -> None:
    verdicts = list(replay_file(RECORDINGS / name, on_disk=on_disk))
    assert [str(verdict) for verdict in verdicts if verdict.outcome == DIFFERENT] == []
    assert verdicts
