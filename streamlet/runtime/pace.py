"""How much to do at a time, and when to commit."""

from __future__ import annotations

from streamlet.config import StreamsConfig
from streamlet.runtime import settings

# Few enough that the garbage collector seldom runs while many messages are alive, and enough that the cost of a turn
# of the loop is spread over them.
BATCH = 1_000
_MOST = 4_000
_FIRST = 64
_BRAKE = 4.0
_LONGEST_SLICE_SECONDS = 0.5


class Slice:
    """How many records a task may process before the thread looks around again.

    It grows while slices are quick, and shrinks when user code is slow, so that polling and commits stay on time.
    """

    def __init__(self, config: StreamsConfig) -> None:
        self._longest = min(
            _LONGEST_SLICE_SECONDS, max(config.commit_interval_ms / 1000, 0.01), settings.max_poll_interval(config) / 10
        )
        self.limit = _FIRST

    def took(self, records: int, seconds: float) -> None:
        """Learn from a slice."""
        if seconds > self._longest:
            self.limit = max(1, int(self.limit * self._longest / seconds / 2))
        elif records >= self.limit and seconds < self._longest / 4:
            self.limit = min(_MOST, self.limit * 2)


class CommitClock:
    """Says when a commit is due: at the interval, or when the input is drained, but then not too often.

    At medium load the input is drained after every record: a commit for that reason waits at least four times as long
    as the last commit took, so that commits take a fifth of the time at most.
    """

    def __init__(self, config: StreamsConfig, now: float) -> None:
        self._interval = config.commit_interval_ms / 1000
        self._last = now
        self._took = 0.0

    def committed(self, began: float, ended: float) -> None:
        """Take note of a commit."""
        self._last = ended
        self._took = ended - began

    def postpone(self, until: float) -> None:
        """Do not commit before a time."""
        self._last = until
        self._took = 0.0

    def is_due(self, now: float, *, drained: bool) -> bool:
        """Tell whether to commit now, if there is anything to be committed."""
        return now - self._last >= self._interval or (drained and self.until_drained(now) <= 0)

    def until_drained(self, now: float) -> float:
        """Return in how many seconds drained input may be committed."""
        return self._last + _BRAKE * self._took - now
