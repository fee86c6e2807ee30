"""Kinds of stores."""

from __future__ import annotations

from enum import Enum


class StoreKind(Enum):
    """What a store can do, and how its data is laid out.

    Attributes:
        format: Version of the local layout. Raise it when the layout changes: existing data is then rebuilt from the
            changelog.
        changelog: What the changelog's keys and values look like; kinds that agree here can be rebuilt from each
            other's.
    """

    format: int
    changelog: str

    def __new__(cls, name: str, format: int, changelog: str) -> StoreKind:
        kind = object.__new__(cls)
        kind._value_ = name
        kind.format = format
        kind.changelog = changelog
        return kind

    KEY_VALUE = ("key-value", 1, "key-value")
    TIMESTAMPED_KEY_VALUE = ("timestamped-key-value", 1, "key-value")
    WINDOW = ("window", 1, "window")
    TIMESTAMPED_WINDOW = ("timestamped-window", 1, "window")
    SESSION = ("session", 1, "session")
    VERSIONED_KEY_VALUE = ("versioned-key-value", 1, "versioned")
    OUTER_JOIN = ("outer-join", 1, "outer-join")

    @property
    def timestamped(self) -> bool:
        """Whether values are read and written with a timestamp."""
        return self in (StoreKind.TIMESTAMPED_KEY_VALUE, StoreKind.TIMESTAMPED_WINDOW)
