"""The stores of one task."""

from __future__ import annotations


class TaskState:
    """The stores of one task."""
