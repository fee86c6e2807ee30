"""The order in which Java's collections give out their elements.

Kafka Streams' `describe()` iterates over hash sets, hash maps and tree sets whose sort keys change after insertion.
Its texts can only be the same, character by character, if the same happens here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


def string_hash(text: str) -> int:
    """Return ``String.hashCode()`` as an unsigned number."""
    code = 0
    units = text.encode("utf-16-be")
    for high, low in zip(units[::2], units[1::2], strict=True):
        code = (31 * code + (high << 8 | low)) & 0xFFFFFFFF
    return code


def hash_order(texts: Iterable[str]) -> list[str]:
    """Return different strings in the order of a ``HashSet`` into which they were put one by one."""
    inserted = list(dict.fromkeys(texts))
    capacity = 16
    while len(inserted) > capacity * 3 // 4:
        capacity *= 2

    def bucket(text: str) -> int:
        code = string_hash(text)
        return (code ^ code >> 16) & (capacity - 1)

    return sorted(inserted, key=bucket)  # stable: within a bucket the order of insertion stays


class _Entry(Generic[T]):
    __slots__ = ("item", "left", "parent", "red", "right")

    def __init__(self, item: T, parent: _Entry[T] | None) -> None:
        self.item = item
        self.parent = parent
        self.left: _Entry[T] | None = None
        self.right: _Entry[T] | None = None
        self.red = True


class TreeSet(Generic[T]):
    """``java.util.TreeSet``: a red-black tree that compares when something is added, and never again."""

    def __init__(self, compare: Callable[[T, T], int]) -> None:
        self._compare = compare
        self._root: _Entry[T] | None = None

    def add(self, item: T) -> None:
        """Add an item where it belongs now; nothing happens if one compares equal."""
        parent, entry, order = None, self._root, 0
        while entry is not None:
            order = self._compare(item, entry.item)
            if order == 0:
                return
            parent, entry = entry, entry.left if order < 0 else entry.right
        added = _Entry(item, parent)
        if parent is None:
            self._root = added
        elif order < 0:
            parent.left = added
        else:
            parent.right = added
        self._balance(added)

    def __iter__(self) -> Iterator[T]:
        stack: list[_Entry[T]] = []
        entry = self._root
        while stack or entry is not None:
            while entry is not None:
                stack.append(entry)
                entry = entry.left
            entry = stack.pop()
            yield entry.item
            entry = entry.right

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _balance(self, entry: _Entry[T]) -> None:
        while entry.parent is not None and entry.parent.red:
            parent, grandparent = entry.parent, entry.parent.parent
            assert grandparent is not None  # the root is black
            parent_is_left = parent is grandparent.left
            uncle = grandparent.right if parent_is_left else grandparent.left
            if uncle is not None and uncle.red:
                parent.red = uncle.red = False
                grandparent.red = True
                entry = grandparent
                continue
            if entry is (parent.right if parent_is_left else parent.left):
                self._rotate(parent, left=parent_is_left)
                entry, parent = parent, entry
            parent.red, grandparent.red = False, True
            self._rotate(grandparent, left=not parent_is_left)
        assert self._root is not None
        self._root.red = False

    def _rotate(self, entry: _Entry[T], *, left: bool) -> None:
        up = entry.right if left else entry.left
        assert up is not None
        moved = up.left if left else up.right
        if left:
            entry.right, up.left = moved, entry
        else:
            entry.left, up.right = moved, entry
        if moved is not None:
            moved.parent = entry
        up.parent = entry.parent
        if entry.parent is None:
            self._root = up
        elif entry.parent.left is entry:
            entry.parent.left = up
        else:
            entry.parent.right = up
        entry.parent = up
