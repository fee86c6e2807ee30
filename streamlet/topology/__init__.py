"""The graph as plain frozen data: nodes, stores, sub-topologies, validation, `describe()`."""

from streamlet.topology.description import NodeDescription, SubTopologyDescription, TopologyDescription
from streamlet.topology.evolution import Compatibility, Finding, Verdict, compatibility
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
from streamlet.topology.shape import TopologyShape

__all__ = [
    "Compatibility",
    "Finding",
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
    "TopologyShape",
    "Verdict",
    "changelog_name",
    "compatibility",
    "internal_name",
]
