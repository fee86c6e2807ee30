"""What a plan may be made of: the directives' shapes and the heads of expressions, for checking a plan.

The workflow engine's registry adds what they do; here is only what can be told from the plan alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

__all__ = ["ANY_NUMBER", "BUILT_IN", "MAX_DEPTH", "Arity", "Shape", "Vocabulary"]

MAX_DEPTH: Final = 256
"""Levels of nodes in a plan, and levels of nesting in an option's value."""


@frozen
class Arity:
    """How many children a directive, or arguments a head, takes: at least `least`, and at most `most` (None: any)."""

    least: int
    most: int | None

    def allows(self, count: int) -> bool:
        return self.least <= count and (self.most is None or count <= self.most)

    def __str__(self) -> str:
        if self.most is None:
            return f"at least {self.least}" if self.least else "any number of"
        return f"exactly {self.least}" if self.least == self.most else f"{self.least} to {self.most}"


ANY_NUMBER: Final = Arity(0, None)
_ONE: Final = Arity(1, 1)
_TWO: Final = Arity(2, 2)


@frozen
class Shape:
    """What a directive takes.

    Attributes:
        children: How many children; of a loop it is one, the template.
        options: The options it understands, by their names without `spigot/`.
        required: Those of them that must be there; `for` always must.

    Raises:
        ValueError: a loop (`for`) or an own scope (`binding`, `commit`) for anything but exactly one child.
    """

    children: Arity = ANY_NUMBER
    options: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()

    def __attrs_post_init__(self) -> None:
        single = self.options & {"for", "binding", "commit"}
        if single and self.children != _ONE:
            raise ValueError(
                f"a directive with the option {min(single)} takes exactly one child: Shape(Arity(1, 1), ...)"
            )


@frozen
class Vocabulary:
    """The directives, the resolvers' heads and the reducers' heads a plan may use.

    Attributes:
        directives: Shapes by tag. Any other tag is a task.
        resolvers: Heads of expressions, with the number of arguments each takes.
        reducers: Heads of the values of `into`, likewise.
    """

    directives: Mapping[str, Shape] = field(factory=dict)
    resolvers: Mapping[str, Arity] = field(factory=dict)
    reducers: Mapping[str, Arity] = field(factory=dict)


BUILT_IN: Final = Vocabulary(
    directives={
        "spigot/serial": Shape(),
        "spigot/parallel": Shape(options=frozenset({"throttle"})),
        "spigot/serialize": Shape(_ONE, frozenset({"for", "into"}), frozenset({"for"})),
        "spigot/parallelize": Shape(_ONE, frozenset({"for", "into", "throttle"}), frozenset({"for"})),
        "spigot/try": Shape(_TWO),
        "spigot/catch": Shape(_ONE, frozenset({"error"})),
        "spigot/isolate": Shape(_ONE, frozenset({"binding", "commit"})),
    },
    resolvers={"spigot/get": _ONE, "spigot/quote": _ONE},
    reducers={"spigot/each": _ONE},
)
"""The directives and heads of the original, and `spigot/quote`."""
