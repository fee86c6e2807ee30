"""Directives, resolvers and reducers: what a plan's words do, and where own ones are added.

    registry = DEFAULT.extend(
        directives={"my/race": Directive(Shape(), admissible=lambda group: group.total, verdict=first_wins)},
        resolvers={"my/upper": lambda lookup, text: text.upper()},
        reducers={"my/sum": sum},
    )
    create(plan, registry=registry)

A workflow that is stored must be loaded with a registry that knows the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Protocol

from attrs import field, frozen

from spigot_topologies.plan import BUILT_IN, Arity, Shape, Vocabulary
from spigot_topologies.plan.vocabulary import ANY_NUMBER
from spigot_topologies.workflow.expressions import Resolver

__all__ = ["DEFAULT", "Directive", "Progress", "Reducer", "Registry", "Verdict"]

Reducer = Callable[..., Any]
"""Makes the value `into` writes: called with, for each of its arguments, the list of its values in item order."""


class Verdict(IntEnum):
    """What the ends of a group's children so far mean for the group."""

    GOES_ON = 0
    SUCCESS = 1
    FAILURE = 2


class Progress(Protocol):
    """How far a group has come. Children are counted in order; of a loop they are its items."""

    @property
    def total(self) -> int:
        """How many children there are."""

    @property
    def succeeded(self) -> int:
        """How many have succeeded."""

    @property
    def failed(self) -> int:
        """How many have failed."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The node's options as the plan has them, with their full names."""


@frozen
class Directive:
    """What a tag does with its children, told from counts alone; so a group's state never grows with its children.

    Options in the shape have their meaning for own directives too: with `for` (and `into`) the one child is a template
    and the children are its copies; with `binding` and `commit` the child has a scope of its own; with `error` the
    caught error is bound.

    Attributes:
        shape: The children and options it takes.
        admissible: How many of the children, from the first on, may have started by now. Must not depend on anything
            but its argument, and not decrease while the group goes on.
        verdict: Whether the group has ended by now. A child's failure that does not end the group is handled: it is
            what a `catch` among the later children sees.
    """

    shape: Shape
    admissible: Callable[[Progress], int]
    verdict: Callable[[Progress], Verdict]


@frozen(eq=False)
class Registry:
    """The words of plans.

    Attributes:
        directives: By tag.
        resolvers: By head; called with the lookup (a function of a key) and the evaluated arguments.
        reducers: By head; called with a list per argument, holding its values in item order.
        arities: How many arguments a resolver or reducer takes; without an entry, any number.
    """

    directives: Mapping[str, Directive]
    resolvers: Mapping[str, Resolver]
    reducers: Mapping[str, Reducer]
    arities: Mapping[str, Arity] = field(factory=dict)

    def extend(
        self,
        *,
        directives: Mapping[str, Directive] | None = None,
        resolvers: Mapping[str, Resolver] | None = None,
        reducers: Mapping[str, Reducer] | None = None,
        arities: Mapping[str, Arity] | None = None,
    ) -> Registry:
        """A registry with further words.

        Raises:
            ValueError: a word is one of the built-in ones, which cannot be given another meaning.
        """
        for word in [*(directives or ()), *(resolvers or ()), *(reducers or ())]:
            if word in _OWN:
                raise ValueError(f"{word} is built in; choose another name for your own")
        return Registry(
            directives={**self.directives, **(directives or {})},
            resolvers={**self.resolvers, **(resolvers or {})},
            reducers={**self.reducers, **(reducers or {})},
            arities={**self.arities, **(arities or {})},
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """What `check` needs to know."""
        return Vocabulary(
            directives={tag: directive.shape for tag, directive in self.directives.items()},
            resolvers={head: self.arities.get(head, ANY_NUMBER) for head in self.resolvers},
            reducers={head: self.arities.get(head, ANY_NUMBER) for head in self.reducers},
        )


def all_succeed(group: Progress) -> Verdict:
    """Fails with the first failure, succeeds with the last success."""
    if group.failed:
        return Verdict.FAILURE
    return Verdict.SUCCESS if group.succeeded == group.total else Verdict.GOES_ON


def one_by_one(group: Progress) -> int:
    """Each child after the success of the one before."""
    return group.succeeded + 1


def _throttled(group: Progress) -> int:
    throttle = group.options.get("spigot/throttle")
    return group.total if throttle is None else group.succeeded + group.failed + int(throttle)


def _body_then_handler(group: Progress) -> int:
    return 1 + group.failed


def _either_succeeds(group: Progress) -> Verdict:
    if group.succeeded:
        return Verdict.SUCCESS
    return Verdict.FAILURE if group.failed == group.total else Verdict.GOES_ON


_BEHAVIOUR: dict[str, tuple[Callable[[Progress], int], Callable[[Progress], Verdict]]] = {
    "spigot/serial": (one_by_one, all_succeed),
    "spigot/parallel": (_throttled, all_succeed),
    "spigot/serialize": (one_by_one, all_succeed),
    "spigot/parallelize": (_throttled, all_succeed),
    "spigot/try": (_body_then_handler, _either_succeeds),
    "spigot/catch": (one_by_one, all_succeed),
    "spigot/isolate": (one_by_one, all_succeed),
}


DEFAULT = Registry(
    directives={tag: Directive(BUILT_IN.directives[tag], *behaviour) for tag, behaviour in _BEHAVIOUR.items()},
    resolvers={"spigot/get": lambda lookup, key: lookup(key), "spigot/quote": lambda _, data: data},
    reducers={"spigot/each": lambda values: values},
    arities={**BUILT_IN.resolvers, **BUILT_IN.reducers},
)
"""The directives and heads of the original, and `spigot/quote`."""

_OWN = frozenset({*DEFAULT.directives, *DEFAULT.resolvers, *DEFAULT.reducers})
