"""What flows between tables."""

from __future__ import annotations

from typing import Any, TypeAlias

Change: TypeAlias = tuple[Any, Any, bool]
"""``(new value, old value, is latest)``: None as new value deletes the row; the old value is None unless it was asked
for (`TableStep.send_old_values`); `is latest` is False only for out-of-order updates of versioned tables.

A plain tuple: one is made per record, and a tuple costs a sixth of any class."""
