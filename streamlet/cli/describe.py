"""``streamlet describe``: a topology as text, in Kafka Streams' own format, or as a graph."""

from __future__ import annotations

import argparse

from streamlet.cli.arguments import Commands, topology
from streamlet.topology import TopologyShape


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "describe",
        help="print a topology",
        description="Prints a topology in Kafka Streams' text format, which existing viewers read, or as a graph.",
    )
    parser.add_argument("topology", metavar="MODULE:TOPOLOGY", help="see `streamlet run`")
    parser.add_argument(
        "--format",
        choices=("text", "mermaid", "dot", "json"),
        default="text",
        help="text, Mermaid, Graphviz, or JSON to be saved for `streamlet check` (default: text)",
    )
    parser.set_defaults(action=_describe)


def _describe(options: argparse.Namespace) -> int:
    built = topology(options.topology)
    description = built.describe()
    match options.format:
        case "mermaid":
            print(description.mermaid())
        case "dot":
            print(description.dot())
        case "json":
            print(TopologyShape.of(built).to_json())
        case _:
            print(description)
    return 0
