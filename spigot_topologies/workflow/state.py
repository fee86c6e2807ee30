"""A workflow's state: nodes, scopes and loop items, in memory or loaded part by part and written by what changed."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from spigot_topologies.values import Keyword, codec
from spigot_topologies.workflow.compiled import PlanNode
from spigot_topologies.workflow.nodes import Node, node_id, pack_node, task_path, unpack_node
from spigot_topologies.workflow.parts import MAX_PART_BYTES, Parts
from streamlet.errors import StateStoreError

__all__ = ["MISSING", "State"]

MISSING: Final = object()
"""What a lookup gives where nothing is bound: None is a value."""

_SPLIT = b"\xff"
_CHUNK_ITEMS = 64  # a step reads one chunk for its item: 64 small items decode in a few microseconds
_CHUNK_BYTES = 16 * 1024


class State:
    """Loads lazily, remembers what it loaded, and writes at `flush` only what changed. Without parts, all in memory."""

    def __init__(self, run_id: UUID, plan: PlanNode, parts: Parts | None) -> None:
        self.run = run_id.bytes
        self.plan = plan
        self.parts = parts
        self.nodes: dict[bytes, Node] = {}
        self.root_scope: dict[str, Any] = {}
        self.failure: Exception | None = None
        """What went wrong with the parts: never a fault of the expression that happened to read them."""
        self._dirty: dict[bytes, Node] = {}
        self._writes: dict[bytes, bytes | None] = {}

    def word(self, text: str) -> str:
        """A key of the engine's own making: a keyword in a plan that came from Clojure, else a plain string."""
        return Keyword(text) if isinstance(self.plan.tag, Keyword) else text

    # --- nodes ------------------------------------------------------------------------------------------------------

    def add(self, parent: Node | None, index: int) -> Node:
        """A new node: the `index`-th child of `parent`, or the root."""
        name = "r" if parent is None else f"{parent.name}.{index}"
        plan = self.plan if parent is None else parent.plan.child(index)
        node = Node(plan, parent, index, name, node_id(self.run, name))
        self.nodes[node.id] = node
        self.touch(node)
        return node

    def touch(self, node: Node) -> None:
        """The node will be written at the next flush."""
        if self.parts is not None:
            self._dirty[node.id] = node

    def find(self, id: bytes) -> tuple[Node | None, bool]:
        """The task with this id, and whether the id is that of a group instead."""
        node = self.nodes.get(id)
        if node is None and self.parts is not None:
            data = self._get(b"n" + id)
            if data is not None:
                path = task_path(data)
                if path is None:
                    return None, True
                node = self.at(path)
        if node is None:
            return None, False
        return (node, False) if node.plan.directive is None else (None, True)

    def at(self, path: tuple[int, ...]) -> Node | None:
        """The node with this path, None where it was not admitted."""
        node = self._load(None, 0)
        for index in path:
            if node is None:
                return None
            node = self.child(node, index)
        return node

    def admitted_child(self, parent: Node, index: int) -> Node:
        """The `index`-th child of a node that has admitted it; not remembered, so it must not be changed.

        Raises:
            StateStoreError: it is not there.
        """
        child = self._load(parent, index, keep=False)
        if child is None:
            raise self._lost(f"the workflow's state lacks the node {parent.name}.{index}")
        return child

    def child(self, parent: Node, index: int) -> Node | None:
        """The `index`-th child, None where it was not admitted."""
        return self._load(parent, index)

    def _load(self, parent: Node | None, index: int, *, keep: bool = True) -> Node | None:
        name = "r" if parent is None else f"{parent.name}.{index}"
        id = node_id(self.run, name)
        node = self.nodes.get(id)
        if node is None and self.parts is not None:
            data = self._get(b"n" + id)
            if data is not None:
                node = Node(self.plan if parent is None else parent.plan.child(index), parent, index, name, id)
                try:
                    unpack_node(node, data)
                except Exception as error:
                    self.failure = error
                    raise
                if keep:
                    self.nodes[id] = node
        return node

    # --- scopes -----------------------------------------------------------------------------------------------------

    def read(self, owner: Node | None, name: Any) -> Any:
        """What `name` is bound to in the owner's sub-scope (None: the root scope), or `MISSING`."""
        if owner is None:
            scope = self.root_scope
        elif owner.scope is None:
            if self.parts is None or owner.folded:
                return MISSING
            scope = owner.scope = {}
        else:
            scope = owner.scope
        value = scope.get(name, MISSING)
        if value is not MISSING or self.parts is None or (owner is not None and owner.folded):
            return value
        if not isinstance(name, str):
            return MISSING
        data = self._get(self._scope_key(owner, name))
        if data is None:
            return MISSING
        value = scope[name] = self._decode(data)
        return value

    def write(self, owner: Node | None, values: dict[str, Any]) -> None:
        """Binds all of `values`, or, where one cannot be stored, none.

        Raises:
            TypeError: a value of a type that state cannot hold.
        """
        if not values:
            return
        if self.parts is not None:
            encoded = {name: codec.encode(value) for name, value in values.items()}
            if owner is None or not owner.folded:
                for name, data in encoded.items():
                    self._put(self._scope_key(owner, name), data, overwrite=True)
        if owner is None:
            self.root_scope.update(values)
            return
        if owner.scope is None:
            owner.scope = {}
        owner.scope.update(values)
        if owner.folded:
            self.touch(owner)

    def forget(self, owner: bytes, names: frozenset[str]) -> None:
        """Deletes the bindings of the sub-scope of the node with this id; nothing reads them any more."""
        for name in names:
            self._delete(b"s" + owner + name.encode("utf-8", "surrogatepass"))

    def _scope_key(self, owner: Node | None, name: str) -> bytes:
        text = name.encode("utf-8", "surrogatepass")
        return b"r" + text if owner is None else b"s" + owner.id + text

    # --- values and items -------------------------------------------------------------------------------------------

    def values(self, node: Node) -> dict[str, Any]:
        """A node's bindings and handled failure."""
        if node.values is None:
            node.values = self._decode(self._need(b"v" + node.id)) if node.has_values else {}
        return node.values

    def set_values(self, node: Node, values: dict[str, Any]) -> None:
        """Replaces them.

        Raises:
            TypeError: a value of a type that state cannot hold.
        """
        if self.parts is not None:
            self._put(b"v" + node.id, codec.encode(values), overwrite=node.has_values)
        node.values = values
        node.has_values = True
        self.touch(node)

    def set_items(self, node: Node, items: list[Any]) -> None:
        """Stores a loop's items.

        Raises:
            TypeError: an item of a type that state cannot hold.
        """
        node.total = len(items)
        if self.parts is None:
            node.items = items
            return
        node.items = {}
        size = _CHUNK_ITEMS
        if items:
            first = len(codec.encode(items[:size]))
            node.chunk = size = max(1, min(size, size * _CHUNK_BYTES // first))
        encoded = [codec.encode(items[at : at + size]) for at in range(0, len(items), size)]
        for number, data in enumerate(encoded):
            self._put(self._chunk_key(node, number), data, overwrite=False)

    def item(self, node: Node, index: int) -> Any:
        """A loop's `index`-th item."""
        if self.parts is None:
            return node.items[index]
        if node.items is None:
            node.items = {}
        number, offset = divmod(index, node.chunk)
        chunk = node.items.get(number)
        if chunk is None:
            chunk = self._decode(self._need(self._chunk_key(node, number)))
            node.items = {number: chunk}  # only the last one: a walk over a large loop must not load it whole
        return chunk[offset]

    def _chunk_key(self, node: Node, number: int) -> bytes:
        return b"i" + node.id + number.to_bytes(4, "big")

    # --- entries ----------------------------------------------------------------------------------------------------

    def entry(self, key: bytes) -> Any:
        """The value of one of the workflow's own entries, or None."""
        data = self._get(key)
        return None if data is None else self._decode(data)

    def set_entry(self, key: bytes, value: Any) -> None:
        """Writes one of the workflow's own entries."""
        if self.parts is not None:
            self._put(key, codec.encode(value), overwrite=True)

    def bytes_of(self, key: bytes) -> bytes:
        """The bytes of one of the workflow's own entries.

        Raises:
            KeyError: there is no such entry.
        """
        return self._need(key)

    def put_bytes(self, key: bytes, data: bytes) -> None:
        """Writes an entry that is bytes already, for the first time."""
        self._put(key, data, overwrite=False)

    def flush(self) -> int:
        """Writes what changed to the parts, and gives the number of entries written or deleted."""
        parts = self.parts
        if parts is None:
            return 0
        for id, node in self._dirty.items():
            self._put(b"n" + id, pack_node(node), overwrite=False)
        self._dirty.clear()
        count = len(self._writes)
        for key, data in self._writes.items():
            if data is None:
                parts.delete(key)
            else:
                parts.put(key, data)
        self._writes.clear()
        return count

    def _get(self, key: bytes) -> bytes | None:
        data = self._get_raw(key)
        return self._join(key, data) if data is not None and data[:1] == _SPLIT else data

    def _get_raw(self, key: bytes) -> bytes | None:
        if key in self._writes:
            return self._writes[key]
        if self.parts is None:
            return None
        try:
            return self.parts.get(key)
        except Exception as error:
            self.failure = error
            raise

    def _need(self, key: bytes) -> bytes:
        data = self._get(key)
        if data is None:
            raise self._lost(f"the workflow's state lacks the entry {key!r}")
        return data

    def _decode(self, data: bytes) -> Any:
        try:
            return codec.decode(data)
        except Exception as error:
            self.failure = error
            raise

    def _lost(self, what: str) -> StateStoreError:
        self.failure = StateStoreError(f"{what}; was it deleted, or only partly restored?")
        return self.failure

    def _join(self, key: bytes, manifest: bytes) -> bytes:
        pieces = []
        for number in range(int.from_bytes(manifest[1:], "big")):
            piece = self._get_raw(self._piece_key(key, number))
            if piece is None:
                raise self._lost(f"piece {number} of the entry {key!r} is missing")
            pieces.append(piece)
        return b"".join(pieces)

    def _put(self, key: bytes, data: bytes, *, overwrite: bool) -> None:
        if overwrite:
            self._delete_pieces(key, keep=-(-len(data) // MAX_PART_BYTES) if len(data) > MAX_PART_BYTES else 0)
        if len(data) > MAX_PART_BYTES:
            count = -(-len(data) // MAX_PART_BYTES)
            for number in range(count):
                at = number * MAX_PART_BYTES
                self._writes[self._piece_key(key, number)] = data[at : at + MAX_PART_BYTES]
            data = _SPLIT + count.to_bytes(4, "big")
        self._writes[key] = data

    def _delete(self, key: bytes) -> None:
        self._delete_pieces(key, keep=0)
        self._writes[key] = None

    def _delete_pieces(self, key: bytes, *, keep: int) -> None:
        before = self._get_raw(key)
        if before is not None and before[:1] == _SPLIT:
            for number in range(keep, int.from_bytes(before[1:], "big")):
                self._writes[self._piece_key(key, number)] = None

    @staticmethod
    def _piece_key(key: bytes, number: int) -> bytes:
        return b"x" + key + number.to_bytes(4, "big")
