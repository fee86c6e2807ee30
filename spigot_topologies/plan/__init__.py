"""The plan language: builders that return plain data, the check of a plan, and plans as text."""

from spigot_topologies.plan.builders import (
    catch,
    each,
    get,
    isolate,
    parallel,
    parallelize,
    quote,
    serial,
    serialize,
    task,
    try_,
)
from spigot_topologies.plan.check import Fault, check, split
from spigot_topologies.plan.text import dumps, from_json, loads, to_json
from spigot_topologies.plan.vocabulary import BUILT_IN, MAX_DEPTH, Arity, Shape, Vocabulary

__all__ = [
    "BUILT_IN",
    "MAX_DEPTH",
    "Arity",
    "Fault",
    "Shape",
    "Vocabulary",
    "catch",
    "check",
    "dumps",
    "each",
    "from_json",
    "get",
    "isolate",
    "loads",
    "parallel",
    "parallelize",
    "quote",
    "serial",
    "serialize",
    "split",
    "task",
    "to_json",
    "try_",
]
