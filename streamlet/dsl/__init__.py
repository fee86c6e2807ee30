"""The fluent builder."""

from streamlet.dsl.async_values import MapValuesAsync
from streamlet.dsl.branched import BranchedKStream
from streamlet.dsl.builder import StreamsBuilder
from streamlet.dsl.cogroup import CogroupedKStream, SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream
from streamlet.dsl.global_table import GlobalKTable
from streamlet.dsl.grouped import KGroupedStream
from streamlet.dsl.grouped_table import KGroupedTable
from streamlet.dsl.materialized import Materialized
from streamlet.dsl.stream import KStream
from streamlet.dsl.suppress import Suppressed
from streamlet.dsl.table import KTable
from streamlet.dsl.windowed import SessionWindowedKStream, TimeWindowedKStream
from streamlet.dsl.windows import (
    EmitStrategy,
    JoinWindows,
    SessionWindows,
    SlidingWindows,
    TimeWindows,
    UnlimitedWindows,
)

__all__ = [
    "BranchedKStream",
    "CogroupedKStream",
    "EmitStrategy",
    "GlobalKTable",
    "JoinWindows",
    "KGroupedStream",
    "KGroupedTable",
    "KStream",
    "KTable",
    "MapValuesAsync",
    "Materialized",
    "SessionWindowedCogroupedKStream",
    "SessionWindowedKStream",
    "SessionWindows",
    "SlidingWindows",
    "StreamsBuilder",
    "Suppressed",
    "TimeWindowedCogroupedKStream",
    "TimeWindowedKStream",
    "TimeWindows",
    "UnlimitedWindows",
]
