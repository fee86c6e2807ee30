"""What can be said of a case: equal, different, or out of scope with the reason."""

from __future__ import annotations

from attrs import frozen

EQUAL = "equal"
DIFFERENT = "different"
OUT_OF_SCOPE = "out of scope"


class OutOfScopeError(Exception):
    """A case cannot be replayed; the message is the reason."""


class DifferentError(Exception):
    """streamlet does something else than the recording; the message tells what."""


@frozen
class Verdict:
    """What was found about one case."""

    case: str
    outcome: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:12}  {self.case}" + (f": {self.reason}" if self.reason else "")
