"""The graph as plain frozen data: nodes, stores, sub-topologies, validation, `describe()`."""

from streamlet.topology.description import NodeDescription, SubTopologyDescription, TopologyDescription
from streamlet.topology.graph import SubTopology, Topology
from streamlet.topology.nodes import (
    InternalTopic,
    Node,
    ProcessorNode,
    SinkNode,
    SourceNode,
    changelog_name,
    internal_name,
)

__all__ = [
    "InternalTopic",
    "Node",
    "NodeDescription",
    "ProcessorNode",
    "SinkNode",
    "SourceNode",
    "SubTopology",
    "SubTopologyDescription",
    "Topology",
    "TopologyDescription",
    "changelog_name",
    "internal_name",
]
