"""The directory that holds an application's local state."""

from __future__ import annotations


class StateDirectory:
    """The directory that holds an application's local state."""
