"""Topics with their serdes: a value that gives a stream its types."""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from streamlet.errors import TopologyError
from streamlet.serdes import Serde

K = TypeVar("K")
V = TypeVar("V")

_LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def check_name(name: str, what: str) -> str:
    """Return `name` if Kafka allows it for a topic, a node or a store.

    Raises:
        TopologyError: Otherwise.
    """
    if not isinstance(name, str) or not _LEGAL_NAME.fullmatch(name) or name in {".", ".."}:
        raise TopologyError(
            f"{what} {name!r} is not a legal name: use 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-', "
            "but not '.' or '..'"
        )
    return name


def _check_topic_name(_instance: object, _attribute: object, name: str) -> None:
    check_name(name, "topic")


def _check_serde(instance: Any, attribute: Any, serde: object) -> None:
    if serde is not None and not isinstance(serde, Serde):
        where = getattr(instance, "name", None) or getattr(instance, "pattern", None)
        raise TopologyError(
            f"{attribute.name} of topic {where!r} must be a Serde (see streamlet.serdes), not {serde!r}"
        )


@frozen
class Topic(Generic[K, V]):
    """A topic's name and the serdes of its keys and values."""

    name: str = field(validator=_check_topic_name)
    key_serde: Serde[K] = field(validator=_check_serde)
    value_serde: Serde[V] = field(validator=_check_serde)


def _compile(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(pattern)


@frozen
class TopicPattern(Generic[K, V]):
    """All topics whose whole name matches a regular expression; to be read from, never written to."""

    pattern: re.Pattern[str] = field(converter=_compile)
    key_serde: Serde[K] = field(validator=_check_serde)
    value_serde: Serde[V] = field(validator=_check_serde)
