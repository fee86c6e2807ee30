"""``topology.optimization``: what may be done to a program beside writing it down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamlet import config as keys


def optimizations(config: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the optimisations that a configuration asks for: ``none``, ``all``, or names with commas.

    Raises:
        ConfigError: If a name is unknown.
    """
    return keys.optimizations(keys.OPTIMIZATION_KEY, config.get(keys.OPTIMIZATION_KEY) or "none")
