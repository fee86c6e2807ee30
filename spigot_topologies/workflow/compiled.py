"""A plan compiled: the tree the engine walks, with expressions as functions, and what each scope can hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from attrs import field, frozen

from spigot_topologies.plan import split
from spigot_topologies.workflow.expressions import Evaluate, compile_expression
from spigot_topologies.workflow.registry import Directive, Reducer, Registry

__all__ = ["PlanNode", "cached", "compile_plan", "plan_hash"]


@frozen(eq=False)
class PlanNode:
    """A node of a compiled plan.

    Attributes:
        tag: Directive or task.
        directive: What it does with its children; None for a task.
        options: As the plan has them.
        children: Of a loop, the template alone.
        params: A task's parameters.
        out: A task's writes.
        variable: A loop's variable.
        items: A loop's collection.
        gathered: A loop's `into`: symbol, reducer and its arguments.
        bindings: An isolate's bindings.
        commit: An isolate's commit.
        error: The symbol a catch binds.
        is_loop: The children are copies of the template.
        is_scope: The children have scopes of their own.
        writes: The symbols that it, or what is below it, can write into the scope it stands in.
    """

    tag: str
    directive: Directive | None
    options: Mapping[str, Any]
    children: tuple[PlanNode, ...] = ()
    params: Evaluate | None = None
    out: tuple[tuple[str, Evaluate], ...] = ()
    variable: str | None = None
    items: Evaluate | None = None
    gathered: tuple[tuple[str, Reducer, tuple[Evaluate, ...]], ...] = ()
    bindings: tuple[tuple[str, Evaluate], ...] = ()
    commit: tuple[tuple[str, Evaluate], ...] = ()
    error: str | None = None
    is_loop: bool = False
    is_scope: bool = False
    writes: frozenset[str] = field(default=frozenset())

    def child(self, index: int) -> PlanNode:
        """The plan of the `index`-th child."""
        return self.children[0 if self.is_loop else index]


def compile_plan(plan: Any, registry: Registry) -> PlanNode:
    """Compiles a plan that `check` found no error in."""
    tag, options, children = split(plan)
    directive = registry.directives.get(tag)
    resolvers = registry.resolvers

    def pairs(name: str) -> tuple[tuple[str, Evaluate], ...]:
        given = options.get(f"spigot/{name}") or {}
        return tuple((symbol, compile_expression(value, resolvers)) for symbol, value in given.items())

    if directive is None:
        params = options.get("spigot/in")
        out = pairs("out")
        return PlanNode(
            tag,
            None,
            options,
            params=None if params is None else compile_expression(params, resolvers),
            out=out,
            writes=frozenset(symbol for symbol, _ in out),
        )

    known = directive.shape.options
    compiled = []
    for child in children:
        compiled.append(compile_plan(child, registry))
    is_loop = "for" in known
    is_scope = is_loop or "commit" in known or "binding" in known
    variable, items = options["spigot/for"] if is_loop else (None, None)
    gathered = tuple(
        (symbol, registry.reducers[head], tuple(compile_expression(argument, resolvers) for argument in arguments))
        for symbol, (head, *arguments) in ((options.get("spigot/into") or {}).items() if "into" in known else ())
    )
    flat = (options.get("spigot/binding") or ()) if "binding" in known else ()
    commit = pairs("commit") if "commit" in known else ()
    if is_scope:
        writes = frozenset([*(symbol for symbol, *_ in gathered), *(symbol for symbol, _ in commit)])
    else:
        writes = frozenset().union(*(child.writes for child in compiled))
    return PlanNode(
        tag,
        directive,
        options,
        tuple(compiled),
        variable=variable,
        items=compile_expression(items, resolvers) if is_loop else None,
        gathered=gathered,
        bindings=tuple((flat[at], compile_expression(flat[at + 1], resolvers)) for at in range(0, len(flat), 2)),
        commit=commit,
        error=options.get("spigot/error") if "error" in known else None,
        is_loop=is_loop,
        is_scope=is_scope,
        writes=writes,
    )


def plan_hash(encoded: bytes) -> bytes:
    """The address of a plan's bytes: 16 bytes."""
    return sha256(encoded).digest()[:16]


_CACHED_PLANS = 256
_caches: WeakKeyDictionary[Registry, OrderedDict[bytes, PlanNode]] = WeakKeyDictionary()
_lock = Lock()


def cached(address: bytes, registry: Registry, plan: PlanNode | None = None) -> PlanNode | None:
    """The compiled plan with this address; with `plan` given, remembers it. Safe from any thread."""
    with _lock:
        cache = _caches.setdefault(registry, OrderedDict())
        found = cache.pop(address, None) or plan
        if found is not None:
            cache[address] = found
            if len(cache) > _CACHED_PLANS:
                cache.popitem(last=False)
        return found
