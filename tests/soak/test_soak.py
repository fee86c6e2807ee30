"""A short seed of the soak: load, two instances, kills of both kinds; see `python -m tests.soak` for long ones."""

from __future__ import annotations

import shutil

import pytest

from tests.kafka.cluster import Cluster
from tests.soak.soak import Soak


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("guarantee", "seed"), [("exactly_once_v2", 3), ("at_least_once", 4)])
def test_short(kafka_cluster_3: Cluster, guarantee: str, seed: int) -> None:
    soak = Soak(
        kafka_cluster_3,
        seed=seed,
        guarantee=guarantee,
        seconds=12,
        kills=3,
        instances=2,
        rate=100,
        prefix=f"soak-{seed}-",
    )
    report = soak.run()
    assert report.instance_kills + report.broker_kills == 3
    shutil.rmtree(soak.directory)
