"""The command line: run and describe topologies, produce to, consume from and list topics, on a cluster or an embedded log."""

from streamlet.cli.main import main

__all__ = ["main"]
