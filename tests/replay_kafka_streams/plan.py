"""The calls of the DSL that lead to a described topology, in the order in which they were made.

Kafka Streams numbers nodes and stores with one counter, in the order of the calls. So the smallest number that a call
left behind tells when it was made, and a call is repeated as soon as what it works on is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from attrs import define, field

from tests.replay_kafka_streams.describe_text import Graph, TextNode, index_of
from tests.replay_kafka_streams.functions import Functions
from tests.replay_kafka_streams.natural import NaturalSerde
from tests.replay_kafka_streams.verdict import OutOfScopeError
from tests.replay_kafka_streams.words import Op


@define
class Call:
    """One call: what it leaves behind, what it needs, and how to make it.

    Attributes:
        order: When it is made: the smallest number among what it leaves behind; None: right after what it needs.
        needs: Names of nodes whose stream or table it works on.
        gives: Name of the node that stands for its result.
        run: Makes the call with the results of `needs`, and returns its own.
    """

    order: float | None
    needs: tuple[str, ...]
    gives: str
    run: Callable[..., Any]


@define
class Event:
    """A record that a terminal processor saw."""

    node: str
    key: Any
    value: Any
    timestamp: int


@define
class Plan:
    """A described topology on its way back to calls.

    Attributes:
        claimed: Names of the nodes that some call accounts for.
        results: Streams and tables, by the name of the node they stand for.
        events: What the terminal processors saw, in order.
        attachments: Processors to be attached to tables after the build, as the tests do: (name, parent).
        explicit: Sources of repartition topics that the user asked for.
    """

    graph: Graph
    functions: Functions
    ops: tuple[Op, ...]
    builder: Any
    serde: NaturalSerde
    calls: list[Call] = field(factory=list)
    claimed: set[str] = field(factory=set)
    results: dict[str, Any] = field(factory=dict)
    events: list[Event] = field(factory=list)
    attachments: list[tuple[str, str]] = field(factory=list)
    explicit: set[str] = field(factory=set)

    def claim(self, *nodes: TextNode) -> None:
        """Mark nodes as accounted for."""
        for node in nodes:
            self.claimed.add(node.name)

    def is_free(self, node: TextNode) -> bool:
        """Tell whether no call accounts for a node yet."""
        return node.name not in self.claimed

    def add(self, order: float | None, needs: tuple[str, ...], gives: str, run: Callable[..., Any]) -> None:
        """Add a call."""
        self.calls.append(Call(order, needs, gives, run))

    def op(self, name: str, store: str | None = None) -> Op | None:
        """Return the recorded parameters of an operator, by the store it uses if it has one."""
        found = [op for op in self.ops if op.name == name]
        if store is None:
            return found[0] if found else None
        return next((op for op in found if op.word("store") == store or op.text.split(" ")[0] == store), None)

    @property
    def numbers(self) -> frozenset[int]:
        """All numbers seen in the names of nodes and stores."""
        names = [node.name for node in self.graph] + list(self.graph.stores)
        return frozenset(index for index in map(index_of, names) if index is not None)

    def execute(self) -> None:
        """Make all calls.

        Raises:
            OutOfScopeError: If a node is left that nothing accounts for, or a call whose needs never come.
        """
        left = [node.name for node in self.graph if self.is_free(node)]
        if left:
            raise OutOfScopeError(f"unknown topology: do not know what node {left[0]} stands for")
        made: dict[str, float] = {}
        pending = list(self.calls)
        while pending:
            ready = [call for call in pending if all(need in self.results for need in call.needs)]
            if not ready:
                missing = next(need for call in pending for need in call.needs if need not in self.results)
                raise OutOfScopeError(f"unknown topology: nothing stands for node {missing}")

            def when(call: Call) -> float:
                if call.order is not None:
                    return call.order
                return max((made[need] for need in call.needs), default=-math.inf) + 0.5

            chosen = min(ready, key=when)
            made[chosen.gives] = when(chosen)
            self.results[chosen.gives] = chosen.run(*(self.results[need] for need in chosen.needs))
            pending.remove(chosen)


def first_index(*names: str) -> int | None:
    """Return the smallest number among names."""
    numbers = [number for number in map(index_of, names) if number is not None]
    return min(numbers, default=None)
