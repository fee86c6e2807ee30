"""Values that plain Python lacks, and the exact codec with which state is stored.

`Keyword`, `Symbol` and `Char` are strings that remember what they were in Clojure: they compare and hash like the
plain string of the same text, so Python code reads `result["seat"]` whatever the key was, and what came from Clojure
goes back as it came. Inside sets and as keys, vectors are `Vector` and maps `FrozenMap`, since Python hashes neither.
"""

from spigot_topologies.values import codec, tagged
from spigot_topologies.values.frozen import FrozenMap, Vector
from spigot_topologies.values.kinds import Char, Keyword, Symbol, Tagged, Text

__all__ = ["Char", "FrozenMap", "Keyword", "Symbol", "Tagged", "Text", "Vector", "codec", "tagged"]
