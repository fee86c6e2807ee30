"""Names that the library made up, and how to make up one's own (KIP-1111).

An unnamed store or repartition topic is called after its place in the program: a step more before it, and it is called
otherwise, and what was in it is not found again.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import frozen

from streamlet.errors import TopologyError
from streamlet.topology.nodes import ProcessorNode, SourceNode

if TYPE_CHECKING:
    from streamlet.topology.graph import Topology

_NUMBER = re.compile(r"(?:^(?:KSTREAM|KTABLE)-[A-Z-]+-|-STATE-STORE-)(\d{10})(?!\d)")

Resource: TypeAlias = Literal["store", "repartition topic"]

_STREAM_JOIN_STORE = "join(..., store_name=...) or left_join, outer_join: the same argument"
_JOIN = "join(..., name=...) or left_join, outer_join: the same argument"
_STORES = (
    ("KSTREAM-AGGREGATE-STATE-STORE-", "count(store=...) or aggregate(..., store=...)"),
    ("KSTREAM-REDUCE-STATE-STORE-", "reduce(..., store=...)"),
    ("KTABLE-AGGREGATE-STATE-STORE-", "count(store=...) or aggregate(..., store=...)"),
    ("KTABLE-REDUCE-STATE-STORE-", "reduce(..., store=...)"),
    ("KSTREAM-TOTABLE-STATE-STORE-", "to_table(store=...)"),
    ("KTABLE-MERGE-STATE-STORE-", "join(..., store=...) or left_join, outer_join: the same argument"),
    ("KTABLE-FK-JOIN-OUTPUT-STATE-STORE-", "join(..., store=...) or left_join: the same argument"),
    ("KTABLE-FK-JOIN-SUBSCRIPTION-STATE-STORE-", "join(..., name=...) or left_join: the same argument"),
    ("KTABLE-SUPPRESS-STATE-STORE-", "suppress(..., name=...)"),
    ("KSTREAM-JOINTHIS-", _STREAM_JOIN_STORE),
    ("KSTREAM-JOINOTHER-", _STREAM_JOIN_STORE),
    ("KSTREAM-OUTER", _STREAM_JOIN_STORE),
    ("KSTREAM-JOIN-", _JOIN),
    ("KSTREAM-LEFTJOIN-", _JOIN),
)
_TOPICS = (
    ("KTABLE-FK-JOIN-", "join(..., name=...) or left_join: the same argument"),
    ("KTABLE-", "group_by(..., name=...)"),
    ("KSTREAM-REPARTITION-", "repartition(name=...)"),
    ("KSTREAM-TOTABLE-", "to_table(name=...)"),
    ("KSTREAM-AGGREGATE-STATE-STORE-", "group_by(..., name=...) or group_by_key(name=...)"),
    ("KSTREAM-REDUCE-STATE-STORE-", "group_by(..., name=...) or group_by_key(name=...)"),
)


@frozen
class Unnamed:
    """A store or a repartition topic that the user gave no name.

    Attributes:
        resource: What it is.
        name: The generated name; of a topic without the application's id.
        node: A node that uses it.
        argument: What to pass, and to which method.
    """

    resource: Resource
    name: str
    node: str
    argument: str

    def __str__(self) -> str:
        return f"{self.resource} {self.name} (of {self.node}): pass {self.argument}"


def is_generated(name: str, generated: Container[str]) -> bool:
    """Tell whether the name of a store or topic was made up of one of these names with numbers.

    A user may give a store the very name that an earlier version of the program made up, to keep what is in it.
    """
    found = _NUMBER.search(name)
    return found is not None and name[: found.end(1)] in generated


def without_number(name: str) -> str:
    """Return a generated name without the number that changes with the program; other names as they are."""
    found = _NUMBER.search(name)
    return name if found is None else name[: found.start(1)] + name[found.end(1) :]


def unnamed(topology: Topology) -> tuple[Unnamed, ...]:
    """Return the stores and repartition topics with generated names, in the order of the program."""
    found: dict[str, Unnamed] = {}
    for node in topology.nodes:
        if isinstance(node, ProcessorNode):
            for name in node.stores:
                if is_generated(name, topology.generated):
                    found.setdefault(
                        name, Unnamed("store", name, node.name, _argument(name, _STORES, "table(topic, store=...)"))
                    )
        elif isinstance(node, SourceNode):
            for name in node.topics:
                if topology.is_internal(name) and is_generated(name, topology.generated):
                    found.setdefault(
                        name, Unnamed("repartition topic", name, node.name, _argument(name, _TOPICS, _JOIN))
                    )
    return tuple(found.values())


def ensure_named(topology: Topology) -> None:
    """Refuse generated names (``ensure.explicit.internal.resource.naming``).

    Raises:
        TopologyError: Lists all of them, each with the argument to pass.
    """
    found = unnamed(topology)
    if found:
        raise TopologyError(
            "ensure.explicit.internal.resource.naming is on, and these have no name of their own:\n"
            + "\n".join(f"- {each}" for each in found)
        )


def _argument(name: str, known: tuple[tuple[str, str], ...], otherwise: str) -> str:
    return next((argument for prefix, argument in known if name.startswith(prefix)), otherwise)
