"""How serdes flow through a program: inherited where an operator leaves a side alone, lost where it changes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import evolve, frozen

from streamlet.dsl.given import check_serde
from streamlet.serdes import Serde


@frozen
class Lost:
    """There is no serde any more.

    Attributes:
        node: Where it was lost.
        why: What that node does to the key or value.
        wrap: Makes the serde that is needed of the one the user gives: that of keys within windows of that of keys.
    """

    node: str
    why: str
    wrap: Callable[[Serde[Any]], Serde[Any]] | None = None


Slot: TypeAlias = Serde[Any] | Lost
"""A serde, or where it was lost."""


@frozen
class Serdes:
    """The serdes of a stream's or table's keys and values."""

    key: Slot
    value: Slot

    def losing_key(self, node: str, why: str) -> Serdes:
        """Return what is left behind a node that changes keys."""
        return Serdes(Lost(node, why), self.value)

    def losing_value(self, node: str, why: str) -> Serdes:
        """Return what is left behind a node that changes values."""
        return Serdes(self.key, Lost(node, why))

    def losing_both(self, node: str, why: str) -> Serdes:
        """Return what is left behind a node that changes keys and values."""
        return Serdes(Lost(node, why), Lost(node, why))

    def given(self, key: Serde[Any] | None = None, value: Serde[Any] | None = None) -> Serdes:
        """Return the same with what was given explicitly.

        Raises:
            TopologyError: If that is no serde.
        """
        check_serde(key, "key_serde")
        check_serde(value, "value_serde")
        return Serdes(self.key if key is None else key, self.value if value is None else value)

    def wrapping_key(self, wrap: Callable[[Serde[Any]], Serde[Any]]) -> Serdes:
        """Return the same with keys within windows, whose serde `wrap` makes of that of the keys."""
        key = evolve(self.key, wrap=wrap) if isinstance(self.key, Lost) else wrap(self.key)
        return Serdes(key, self.value)

    def merged(self, other: Serdes, node: str) -> Serdes:
        """Return what two streams have in common."""
        why = "merges streams with different serdes"
        return Serdes(
            self.key if self.key is other.key else _first_lost(self.key, other.key, Lost(node, why)),
            self.value if self.value is other.value else _first_lost(self.value, other.value, Lost(node, why)),
        )


def _first_lost(one: Slot, other: Slot, otherwise: Lost) -> Lost:
    if isinstance(one, Lost):
        return one
    return other if isinstance(other, Lost) else otherwise


@frozen
class Ask:
    """Where the user can give the serdes that a step needs; shown in errors.

    Attributes:
        key: Like ``group_by(key_serde=...)``.
        value: The same for values.
    """

    key: str
    value: str


def explain(lost: Lost, node: str, side: str, ask: str) -> str:
    """Return the text for a serde that is missing: who needs it, where it was lost, what to pass."""
    return (
        f"{node} needs a serde for its {side}s, lost at {lost.node}, which {lost.why}: "
        f"give {ask} or StreamsBuilder(default_{side}_serde=...)"
    )
