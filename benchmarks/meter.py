"""What a process has used between two moments."""

from __future__ import annotations

import resource
from time import monotonic
from typing import NamedTuple

from attrs import frozen


class Moment(NamedTuple):
    """Wall clock and CPU (s) of this process, all its threads included, librdkafka's too; and what was done so far."""

    wall: float
    cpu: float
    done: int


@frozen
class Used:
    """What `done` records (or steps, or tasks) took.

    Attributes:
        done: How many.
        wall: Seconds.
        cpu: CPU seconds of the process.
    """

    done: int
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """How many a second."""
        return self.done / self.wall

    @property
    def cpu_per_100k(self) -> float:
        """CPU seconds for 100,000."""
        return self.cpu / self.done * 100_000


def now(done: int = 0) -> Moment:
    """Return this moment."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Moment(monotonic(), usage.ru_utime + usage.ru_stime, done)


def between(first: Moment, last: Moment) -> Used:
    """Return what was used between two moments."""
    return Used(last.done - first.done, last.wall - first.wall, last.cpu - first.cpu)
