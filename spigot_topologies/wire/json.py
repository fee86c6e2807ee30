"""JSON, the default between Python processes: orjson, with the tags of `values.tagged` for what JSON lacks."""

from spigot_topologies.values.tagged import dumps, loads

__all__ = ["dumps", "loads"]
