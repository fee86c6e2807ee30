"""The fluent builder."""

from streamlet.dsl.branched import BranchedKStream
from streamlet.dsl.builder import StreamsBuilder
from streamlet.dsl.grouped import KGroupedStream
from streamlet.dsl.materialized import Materialized
from streamlet.dsl.stream import KStream
from streamlet.dsl.table import KTable

__all__ = ["BranchedKStream", "KGroupedStream", "KStream", "KTable", "Materialized", "StreamsBuilder"]
