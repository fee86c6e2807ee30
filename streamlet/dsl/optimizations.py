"""``topology.optimization``: what may be done to a program beside writing it down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamlet.errors import ConfigError

OPTIMIZATIONS = frozenset({"single.store.self.join"})
_KEY = "topology.optimization"


def optimizations(config: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the optimisations that a configuration asks for: ``none``, ``all``, or names with commas.

    Raises:
        ConfigError: If a name is unknown.
    """
    given = config.get(_KEY) or "none"
    names = frozenset(name.strip() for name in given.split(",")) if isinstance(given, str) else frozenset(given)
    if names == {"none"}:
        return frozenset()
    if names == {"all"}:
        return OPTIMIZATIONS
    unknown = names - OPTIMIZATIONS
    if unknown:
        raise ConfigError(
            f"{_KEY}: {', '.join(sorted(unknown))} is not known; it is 'none', 'all', or some of "
            f"{', '.join(sorted(OPTIMIZATIONS))}"
        )
    return names
