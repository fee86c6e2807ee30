"""Collections where Python wants hashable values: inside sets and as keys of maps.

EDN allows any value as an element of a set or as a key: `#{[:seat 1]}`, `{{:row 3} :free}`. Python does not, so in such
a place (and only there) a vector becomes a `Vector` and a map a `FrozenMap`. They equal the `list` and `dict` with the
same content and are written as what they were. Lists are tuples and sets frozensets already.

A `Vector` is a tuple by inheritance, but no expression: code that looks for expressions asks `type(value) is tuple`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from spigot_topologies.errors import show
from spigot_topologies.values.kinds import Tagged

__all__ = ["FrozenMap", "Vector", "freeze"]


class Vector(tuple[Any, ...]):
    """A vector that can be hashed. Equals the list, and the tuple, with the same items, as in Clojure."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, tuple(other) if isinstance(other, list) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__

    def __repr__(self) -> str:
        return f"Vector({list(self)!r})"


class FrozenMap(dict[Any, Any]):
    """A map that can be hashed and not be changed. Equals the dict with the same items."""

    __slots__ = ("_hash",)

    def __hash__(self) -> int:  # type: ignore[override]  # dict declares itself unhashable; that is the point here
        try:
            return self._hash
        except AttributeError:
            self._hash: int = hash(frozenset(self.items()))
            return self._hash

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a FrozenMap cannot be changed; copy it with dict(...)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenMap, (dict(self),)

    def __repr__(self) -> str:
        return f"FrozenMap({dict.__repr__(self)})"


def freeze(value: Any) -> Any:
    """`value` as something that can be hashed: itself if it can, else with `Vector` and `FrozenMap` inside.

    Raises:
        TypeError: something inside is neither hashable nor a list, tuple, set or map.
    """
    try:
        hash(value)
    except TypeError:
        pass
    else:
        return value
    if isinstance(value, list | tuple):
        items = []
        for item in value:  # no comprehension: it would take a second frame for each level of nesting
            items.append(freeze(item))
        return tuple(items) if type(value) is tuple else Vector(items)
    if isinstance(value, Mapping):
        frozen_map = {}
        for key, item in value.items():
            frozen_map[key] = freeze(item)
        return FrozenMap(frozen_map)
    if isinstance(value, set):
        return frozenset(value)
    if isinstance(value, Tagged):
        return Tagged(value.tag, freeze(value.value))
    raise TypeError(f"a {type(value).__name__} cannot be a key or an element of a set: {show(value, 200)}")
