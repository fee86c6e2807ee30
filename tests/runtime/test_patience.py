"""Calls about offsets, configs and the group are repeated while leaders move."""

from __future__ import annotations

import pytest

from streamlet.runtime import internal_topics
from streamlet.runtime.internal_topics import LogBusyError, _patiently


class Pauses:
    """Time that passes only in pauses."""

    def __init__(self) -> None:
        self.now = 0.0

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    pauses = Pauses()
    monkeypatch.setattr(internal_topics, "Event", lambda: pauses)
    monkeypatch.setattr(internal_topics, "monotonic", lambda: pauses.now)
    return pauses


def test_old_news_of_leaders_is_waited_out(pauses: Pauses) -> None:
    """Seen after a SIGKILL of a broker, on a busy machine: "Leader epoch is older than broker epoch" for over 7 s."""

    def call() -> str:
        if pauses.now < 25:
            raise LogBusyError("Broker: Leader epoch is older than broker epoch")
        return "found"

    assert _patiently(call) == "found"


def test_it_is_not_waited_for_ever(pauses: Pauses) -> None:
    def call() -> str:
        raise LogBusyError("no leader")

    with pytest.raises(LogBusyError, match="no leader"):
        _patiently(call)
    assert 30 < pauses.now < 60
