"""`Topology.describe()`: Kafka Streams' text, and pictures for Mermaid and Graphviz."""

from __future__ import annotations

import html
from typing import Any

from attrs import frozen

from streamlet.topology.graph import Topology
from streamlet.topology.java_order import TreeSet, hash_order
from streamlet.topology.nodes import ProcessorNode, SinkNode, SourceNode

_NONE = "none"


@frozen
class NodeDescription:
    """A node as it is described, its neighbours in the order of the text."""

    node: Any
    successors: tuple[str, ...]
    predecessors: tuple[str, ...]

    def __str__(self) -> str:
        node = self.node
        after = f"\n      --> {_names(self.successors)}"
        before = f"\n      <-- {_names(self.predecessors)}"
        match node:
            case SourceNode():
                return f"Source: {node.name} (topics: {_topics(node)}){after}"
            case SinkNode(topic=None):
                return f"Sink: {node.name} (extractor class: {_function_name(node.topic_extractor)}){before}"
            case SinkNode():
                return f"Sink: {node.name} (topic: {node.topic}){before}"
            case _:
                stores = ", ".join(hash_order(node.stores))
                return f"Processor: {node.name} (stores: [{stores}]){after}{before}"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names) or _NONE


def _topics(source: SourceNode) -> str:
    return f"[{', '.join(hash_order(source.topics))}]" if source.pattern is None else source.pattern.pattern


def _function_name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__


@frozen
class SubTopologyDescription:
    """A sub-topology as it is described.

    Attributes:
        id: Its number.
        nodes: Its nodes, in the order of the text.
        is_global: Whether it fills a global store.
    """

    id: int
    nodes: tuple[NodeDescription, ...]
    is_global: bool = False

    def __str__(self) -> str:
        lines = "".join(f"    {node}\n" for node in self.nodes)
        if self.is_global:
            return f"Sub-topology: {self.id} for global store (will not generate tasks)\n{lines}"
        return f"Sub-topology: {self.id}\n{lines}\n"


@frozen
class TopologyDescription:
    """What a topology consists of; printed, exactly the text of Kafka Streams, which existing viewers read."""

    sub_topologies: tuple[SubTopologyDescription, ...]

    @classmethod
    def of(cls, topology: Topology) -> TopologyDescription:
        """Describe a topology."""
        described = [
            SubTopologyDescription(part.id, _describe({node.name: node for node in part.nodes}), is_global)
            for parts, is_global in ((topology.sub_topologies, False), (topology.global_parts, True))
            for part in parts
        ]
        return cls(tuple(sorted(described, key=lambda part: part.id)))

    def __str__(self) -> str:
        return "Topologies:\n " + "".join(f"  {part}" for part in self.sub_topologies)

    def mermaid(self) -> str:
        """Return a flow chart for Mermaid, which GitHub, GitLab and notebooks draw."""
        names = _short_names(self)
        lines = ["flowchart TD"]
        for part in self.sub_topologies:
            lines.append(f'  subgraph sub{part.id}["Sub-topology: {part.id}"]')
            for described in part.nodes:
                left, right = _MERMAID_SHAPES[type(described.node)]
                lines.append(f'    {names[described.node.name]}{left}"{_quoted(described.node.name)}"{right}')
            for described in part.nodes:
                lines.extend(
                    f"    {names[described.node.name]} --> {names[successor]}" for successor in described.successors
                )
            for store in _stores(part):
                lines.append(f'    {names["store " + store]}[("{_quoted(store)}")]')
            for described in part.nodes:
                for store in getattr(described.node, "stores", ()):
                    lines.append(f"    {names[described.node.name]} <--> {names['store ' + store]}")
            lines.append("  end")
        for topic in _all_topics(self):
            lines.append(f'  {names["topic " + topic]}>"{_quoted(topic)}"]')
        for node, topic, reads in _topic_edges(self):
            ends = (names["topic " + topic], names[node])
            lines.append("  {} --> {}".format(*(ends if reads else reversed(ends))))
        return "\n".join(lines) + "\n"

    def dot(self) -> str:
        """Return a digraph for Graphviz."""
        names = _short_names(self)
        lines = ["digraph topology {", "  rankdir=TB;", "  node [fontname=Helvetica];"]
        for part in self.sub_topologies:
            lines.append(f'  subgraph cluster_{part.id} {{ label="Sub-topology: {part.id}";')
            for described in part.nodes:
                shape = _DOT_SHAPES[type(described.node)]
                lines.append(
                    f'    {names[described.node.name]} [label="{_escaped(described.node.name)}", shape={shape}];'
                )
            for described in part.nodes:
                lines.extend(
                    f"    {names[described.node.name]} -> {names[successor]};" for successor in described.successors
                )
            for store in _stores(part):
                lines.append(f'    {names["store " + store]} [label="{_escaped(store)}", shape=cylinder];')
            for described in part.nodes:
                for store in getattr(described.node, "stores", ()):
                    lines.append(
                        f"    {names[described.node.name]} -> {names['store ' + store]} [dir=both, style=dashed];"
                    )
            lines.append("  }")
        for topic in _all_topics(self):
            lines.append(f'  {names["topic " + topic]} [label="{_escaped(topic)}", shape=cds];')
        for node, topic, reads in _topic_edges(self):
            ends = (names["topic " + topic], names[node])
            lines.append("  {} -> {};".format(*(ends if reads else reversed(ends))))
        return "\n".join(lines) + "\n}\n"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what a notebook draws: Mermaid where it can, the text otherwise."""
        return {
            "text/vnd.mermaid": self.mermaid(),
            "text/html": f"<pre>{html.escape(str(self))}</pre>",
            "text/plain": str(self),
        }


_MERMAID_SHAPES = {SourceNode: ("([", "])"), ProcessorNode: ("[", "]"), SinkNode: ("[/", "/]")}
_DOT_SHAPES = {SourceNode: "ellipse", ProcessorNode: "box", SinkNode: "parallelogram"}


def _quoted(text: str) -> str:
    return text.replace('"', "#quot;")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _stores(part: SubTopologyDescription) -> list[str]:
    return sorted({store for described in part.nodes for store in getattr(described.node, "stores", ())})


def _topic_edges(description: TopologyDescription) -> list[tuple[str, str, bool]]:
    """Return (node, topic, whether it reads it) for all sources and sinks."""
    edges: list[tuple[str, str, bool]] = []
    for part in description.sub_topologies:
        for described in part.nodes:
            node = described.node
            if isinstance(node, SourceNode):
                topics = node.topics if node.pattern is None else (node.pattern.pattern,)
                edges.extend((node.name, topic, True) for topic in topics)
            elif isinstance(node, SinkNode):
                edges.append((node.name, node.topic or _function_name(node.topic_extractor), False))
    return edges


def _all_topics(description: TopologyDescription) -> list[str]:
    return sorted({topic for _, topic, _ in _topic_edges(description)})


def _short_names(description: TopologyDescription) -> dict[str, str]:
    """Number everything, since names may hold characters that the languages do not allow."""
    nodes = [described.node.name for part in description.sub_topologies for described in part.nodes]
    stores = ["store " + store for part in description.sub_topologies for store in _stores(part)]
    topics = ["topic " + topic for topic in _all_topics(description)]
    return {
        name: f"{letter}{number}"
        for letter, names in (("n", nodes), ("s", dict.fromkeys(stores)), ("t", topics))
        for number, name in enumerate(names)
    }


class _Sized:
    """A node while it is put in order: its size is that of the tree below it, and grows as edges are added."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.size = 1
        self.successors: TreeSet[_Sized] = TreeSet(_larger_first)
        self.predecessors: TreeSet[_Sized] = TreeSet(_larger_first)

    def grow(self, by: int) -> None:
        self.size += by
        for predecessor in self.predecessors:
            predecessor.grow(by)


def _larger_first(one: _Sized, other: _Sized) -> int:
    if one is other:
        return 0
    if one.size != other.size:
        return other.size - one.size
    return -1 if one.node.name < other.node.name else 1


def _describe(nodes: dict[str, Any]) -> tuple[NodeDescription, ...]:
    """Connect and order the nodes of a sub-topology as Kafka Streams does, step by step."""
    sources = [name for name, node in nodes.items() if isinstance(node, SourceNode)]
    sized = {name: _Sized(nodes[name]) for name in hash_order([*sources, *nodes])}
    for each in sized.values():
        for parent in each.node.parents:
            predecessor = sized[parent]
            each.predecessors.add(predecessor)
            predecessor.successors.add(each)
            predecessor.grow(each.size)
    ordered = sorted(sized.values(), key=lambda each: (-each.size, each.node.name))
    return tuple(
        NodeDescription(
            each.node,
            tuple(successor.node.name for successor in each.successors),
            tuple(predecessor.node.name for predecessor in each.predecessors),
        )
        for each in ordered
    )
