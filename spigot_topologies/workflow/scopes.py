"""What a key is bound to, seen from a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spigot_topologies.workflow.expressions import Lookup
from spigot_topologies.workflow.nodes import Node
from spigot_topologies.workflow.state import MISSING, State

__all__ = ["scope_owner", "sees_path", "sees_result", "sees_root"]


def sees_path(state: State, node: Node) -> Lookup:
    """For `into` and `commit`: sub-scopes and bindings from `node` up, never the root scope."""

    def lookup(key: Any) -> Any:
        value = _on_path(state, node, key)
        return None if value is MISSING else value

    return lookup


def sees_root(state: State, node: Node) -> Lookup:
    """For `in`, `for` and `binding`: the path, then the root scope."""

    def lookup(key: Any) -> Any:
        value = _on_path(state, node, key)
        if value is MISSING:
            value = state.read(None, key)
        return None if value is MISSING else value

    return lookup


def sees_result(state: State, node: Node, result: Mapping[Any, Any]) -> Lookup:
    """For `out`: the task's result, then the path."""

    def lookup(key: Any) -> Any:
        value = result.get(key, MISSING)
        if value is MISSING:
            value = _on_path(state, node, key)
        return None if value is MISSING else value

    return lookup


def scope_owner(node: Node) -> tuple[Node | None, bool]:
    """The node whose sub-scope takes what `node` writes (None: the root scope), and whether that still exists."""
    while node.parent is not None:
        if node.parent.plan.is_scope:
            return node, not node.parent.dropped
        node = node.parent
    return None, True


def _on_path(state: State, node: Node, key: Any) -> Any:
    while node.parent is not None:
        parent = node.parent
        plan = parent.plan
        if plan.is_scope:
            if key in node.plan.writes and not parent.dropped:
                value = state.read(node, key)
                if value is not MISSING:
                    return value
            if plan.is_loop and key == plan.variable:
                return state.item(parent, node.index)
            if plan.bindings:
                bindings = state.values(parent)["bindings"]
                if key in bindings:
                    return bindings[key]
        if plan.error is not None and key == plan.error:
            return _caught(state, parent)
        node = parent
    return MISSING


def _caught(state: State, node: Node) -> Any:
    """The failure that the nearest group above `node` handles with the child that `node` is or is below."""
    while node.parent is not None:
        parent = node.parent
        if parent.has_values:
            failure = state.values(parent).get("failure")
            if failure is not None and failure["child"] < node.index:
                return failure["error"]
        node = parent
    return None
