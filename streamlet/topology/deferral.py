"""Where nodes that send records on later (`Operator.defers`) may stand.

A commit may come while such a node has records: those are then read again after a restart. So they must have left
nothing behind anywhere else: between their topic and the node there may only be operators without state, one after the
other.
"""

from __future__ import annotations

from streamlet.errors import TopologyError
from streamlet.topology.graph import SubTopology
from streamlet.topology.nodes import ProcessorNode, SourceNode


def check_deferral(part: SubTopology) -> None:
    """Check the nodes of a sub-topology that send records on later.

    Raises:
        TopologyError: One stands where a record that it has may have left something behind.
    """
    for node in part.nodes:
        if isinstance(node, ProcessorNode) and node.operator.defers:
            before = _ancestors(part, node)
            for source in part.sources:
                if source.name in before:
                    _check_way(part, source, node, before)


def _check_way(part: SubTopology, source: SourceNode, target: ProcessorNode, before: set[str]) -> None:
    expanded = False
    open_ends = [source.name]
    while open_ends:
        here = part.node(open_ends.pop())
        if isinstance(here, ProcessorNode):
            if not here.operator.traceless or here.stores:
                raise _misplaced(target, source, f"{here.name!r} stands between them")
            expanded = expanded or here.operator.expands
        children = part.children(here.name)
        if isinstance(here, ProcessorNode) and here.operator.chooses and not expanded:
            children = tuple(child for child in children if child in before or child == target.name)
        elif len(children) > 1:
            raise _misplaced(target, source, f"records go from {here.name!r} to {' and '.join(map(repr, children))}")
        open_ends.extend(child for child in children if child != target.name)


def _ancestors(part: SubTopology, node: ProcessorNode) -> set[str]:
    found: set[str] = set()
    rest = list(node.parents)
    while rest:
        name = rest.pop()
        if name not in found:
            found.add(name)
            rest.extend(part.node(name).parents)
    return found


def _misplaced(target: ProcessorNode, source: SourceNode, why: str) -> TopologyError:
    topics = ", ".join(source.topics) or "its topics"
    return TopologyError(
        f"node {target.name!r} works on records while others are committed, so nothing but operators without state may "
        f"stand between {topics} and it, and no other branch may take the same records; but {why}. Put repartition() "
        f"in front of it, so that it reads a topic of its own"
    )
