"""EDN, the original's format on the wire: `loads` reads it, `dumps` prints it as Clojure's `pr-str`."""

from spigot_topologies.wire.edn_reader import loads
from spigot_topologies.wire.edn_writer import dumps, dumps_named

__all__ = ["dumps", "dumps_named", "loads"]
