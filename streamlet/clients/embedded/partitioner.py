"""Which partition a key goes to: librdkafka's partitioners by name, through its own functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from confluent_kafka import consistent, fnv1a, murmur2

from streamlet.errors import ConfigError

KeyPartitioner: TypeAlias = Callable[[bytes, int], int]

DEFAULT = "murmur2_random"


# The first of a pair places keys, the second says whether a None key is spread (as Java does) or hashed as empty.
_PARTITIONERS: dict[str, tuple[KeyPartitioner | None, bool]] = {
    "random": (None, True),
    "consistent": (consistent, False),
    "consistent_random": (consistent, True),
    "murmur2": (murmur2, False),
    "murmur2_random": (murmur2, True),
    "fnv1a": (fnv1a, False),
    "fnv1a_random": (fnv1a, True),
}


def partitioner(name: str) -> tuple[KeyPartitioner | None, bool]:
    """The function of a configured name, and whether records without a key are spread at random.

    Raises:
        ConfigError: No partitioner of that name.
    """
    found = _PARTITIONERS.get(name)
    if found is None:
        raise ConfigError(f"partitioner: {name!r} is not one of {', '.join(_PARTITIONERS)}")
    return found
