"""Partitions as keys."""

from __future__ import annotations

from typing import TypeAlias

Place: TypeAlias = tuple[str, int]
"""A topic's name on the log, and a partition of it."""
