"""A cluster for a fixture: without a broker here the tests are skipped, in CI they fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.kafka.cluster import Cluster
from tests.kafka.jars import BrokerUnavailableError


def launched(make: Callable[[], Cluster], *, coordinators: bool = True) -> Iterator[Cluster]:
    """Launches a cluster for as long as the fixture lasts.

    Args:
        make: Makes it.
        coordinators: Wait for the coordinators of groups and transactions.
    """
    try:
        cluster = make()
    except BrokerUnavailableError as unavailable:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs a real broker: {unavailable}", pytrace=False)
        pytest.skip(str(unavailable))
    with cluster:
        if coordinators:
            cluster.make_coordinators()
        yield cluster
