"""The command line: run and describe topologies, produce to, consume from and list topics, on any log."""

from streamlet.cli.main import main

__all__ = ["main"]
