"""Reads what the recorder wrote by machine into a case's words: ``windows/ops: name Class{key=value, ...} ...``."""

from __future__ import annotations

import re

from attrs import frozen

_OP = re.compile(
    r"(?P<name>streamStreamJoin|versionedStore|windowAggregate|slidingWindowAggregate|sessionWindowAggregate|suppress) "
    r"(?P<rest>.*)$"
)
_PERIOD = re.compile(r"^PT(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>[\d.]+)S)?$")
UNBOUNDED = 9223372036854775807


@frozen
class Op:
    """One operator with the parameters it was given."""

    name: str
    text: str

    def number(self, key: str) -> int:
        """Return a whole number given as ``key=123``."""
        found = re.search(rf"\b{key}=(-?\d+)", self.text)
        if found is None:
            raise KeyError(key)
        return int(found[1])

    def word(self, key: str) -> str | None:
        """Return a word given as ``key=word``."""
        found = re.search(rf"\b{key}=([^\s,}}]+)", self.text)
        return found[1] if found else None

    def flag(self, key: str) -> bool:
        """Return whether ``key=true``."""
        return self.word(key) == "true"

    def milliseconds(self, key: str) -> int:
        """Return a duration given in Java's form, ``key=PT1.5S``."""
        word = self.word(key) or ""
        found = _PERIOD.match(word)
        if found is None:
            raise KeyError(key)
        seconds = int(found["h"] or 0) * 3600 + int(found["m"] or 0) * 60
        return seconds * 1000 + round(float(found["s"] or 0) * 1000)


def ops(words: str) -> tuple[Op, ...]:
    """Return the operators named in the words, in order."""
    _, marker, listed = words.partition("windows/ops: ")
    if not marker:
        return ()
    found = (_OP.match(part.strip()) for part in re.split(r"; (?=[a-z])", listed))
    return tuple(Op(match["name"], match["rest"]) for match in found if match)
