"""Reads the text of `Topology.describe()` into a graph."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import field, frozen

from tests.replay_kafka_streams.verdict import OutOfScopeError

_NODE = re.compile(r"\s+(Source|Processor|Sink): (\S+) \((topics|stores|topic|extractor class): (.*)\)$")
_INDEX = re.compile(r"^(.*)-(\d{10})$")
_REPARTITION = re.compile(r"^(.*)-repartition$")


@frozen
class TextNode:
    """A node as the text shows it.

    Attributes:
        kind: ``Source``, ``Processor`` or ``Sink``.
        topics: What a source reads or a sink writes; empty for a pattern or an extractor.
        pattern: The pattern of a source that has one.
        extractor: Whether a sink chooses its topic by a function.
        group: Number of the sub-topology.
    """

    kind: str
    name: str
    group: int
    is_global: bool
    topics: tuple[str, ...] = ()
    pattern: str | None = None
    extractor: bool = False
    stores: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()

    @property
    def index(self) -> int | None:
        """Number at the end of a generated name."""
        found = _INDEX.match(self.name)
        return int(found[2]) if found else None

    @property
    def operator(self) -> str:
        """A generated name without its number; empty for a name given by the user."""
        found = _INDEX.match(self.name)
        return found[1] if found else ""


@frozen
class Graph:
    """All nodes of a text, by name, in the order of the text."""

    nodes: dict[str, TextNode] = field(repr=False)

    def __iter__(self) -> Iterator[TextNode]:
        return iter(self.nodes.values())

    def __getitem__(self, name: str) -> TextNode:
        return self.nodes[name]

    def children(self, node: TextNode) -> list[TextNode]:
        """Return the nodes behind a node."""
        return [self.nodes[name] for name in node.children]

    def parents(self, node: TextNode) -> list[TextNode]:
        """Return the nodes before a node."""
        return [self.nodes[name] for name in node.parents]

    def writers(self, topic: str) -> list[TextNode]:
        """Return the sinks that write to a topic."""
        return [node for node in self if node.kind == "Sink" and topic in node.topics]

    def readers(self, topic: str) -> list[TextNode]:
        """Return the sources that read a topic by name."""
        return [node for node in self if node.kind == "Source" and topic in node.topics]

    @property
    def stores(self) -> frozenset[str]:
        """Names of all stores shown."""
        return frozenset(store for node in self for store in node.stores)


def index_of(name: str) -> int | None:
    """Return the number at the end of a generated name of a node or store."""
    found = _INDEX.match(name)
    return int(found[2]) if found else None


def repartitioned(topic: str) -> str | None:
    """Return what a repartition topic is named after; None if it is none."""
    found = _REPARTITION.match(topic)
    return found[1] if found else None


def parse(text: str) -> Graph:
    """Read a text.

    Raises:
        OutOfScopeError: If a line has an unknown form.
    """
    nodes: list[dict[str, object]] = []
    group, is_global = -1, False
    for line in text.splitlines():
        if not line.strip() or line.startswith("Topologies:"):
            continue
        if "Sub-topology:" in line:
            group, is_global = group + 1, "for global store" in line
        elif found := _NODE.match(line):
            nodes.append(_node(found, group, is_global))
        elif (found := re.match(r"\s+(-->|<--) (.*)$", line)) and nodes:
            names = () if found[2] == "none" else tuple(found[2].split(", "))
            nodes[-1]["children" if found[1] == "-->" else "parents"] = names
        else:
            raise OutOfScopeError(f"unknown topology: cannot read the line {line.strip()!r} of the description")
    return Graph({str(node["name"]): TextNode(**node) for node in nodes})  # type: ignore[arg-type]


def _node(found: re.Match[str], group: int, is_global: bool) -> dict[str, object]:
    kind, name, what, rest = found.groups()
    node: dict[str, object] = {"kind": kind, "name": name, "group": group, "is_global": is_global}
    listed = tuple(item for item in rest.removeprefix("[").removesuffix("]").split(", ") if item)
    if what == "stores":
        node["stores"] = listed
    elif what == "extractor class":
        node["extractor"] = True
    elif what == "topic":
        node["topics"] = (rest,)
    elif rest.startswith("["):
        node["topics"] = listed
    else:
        node["pattern"] = rest
    return node
