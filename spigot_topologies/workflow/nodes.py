"""A node at run time, its id, and its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha1
from struct import Struct, pack, unpack_from
from typing import Any, Final

from spigot_topologies.values import codec
from spigot_topologies.workflow.compiled import PlanNode

__all__ = ["FAILURE", "LIVE", "SUCCESS", "Node", "node_id", "pack_node", "task_path", "unpack_node"]

LIVE: Final = 0
SUCCESS: Final = 1
FAILURE: Final = 2

_VERSION: Final = 1
_STATUS, _TASK, _DROPPED, _VALUES = 3, 4, 8, 16  # bits of a packed node's second byte
_GROUP = Struct(">BBIIIIH")
_TASK_HEAD = Struct(">BBH")


def node_id(run: bytes, name: str) -> bytes:
    """`uuid5(run, name).bytes`, in a third of its time."""
    digest = bytearray(sha1(run + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


class Node:
    """A node that was admitted: what the engine knows of it beside its plan.

    Attributes:
        plan: Its compiled plan.
        parent: The node above, None for the root.
        index: Which child of the parent it is.
        name: Its path, as `r.0.1`.
        id: `uuid5(run id, name)`, its bytes.
        status: `LIVE`, `SUCCESS` or `FAILURE`.
        total: How many children it has.
        admitted: How many of them have been admitted, from the first on.
        succeeded: How many have succeeded.
        failed: How many have failed.
        dropped: The children's own scopes are gone.
        chunk: How many of a loop's items lie in one part.
        scope: What was read of, or written to, this node's own sub-scope.
        folded: The whole sub-scope is in `scope`, and stored with the node.
        values: An isolate's bindings, and the failure that a group handled; None where not loaded.
        has_values: Whether there are such values.
        items: A loop's items: all of them in memory, else the chunk last read.
    """

    __slots__ = (
        "_path",
        "admitted",
        "chunk",
        "dropped",
        "failed",
        "folded",
        "has_values",
        "id",
        "index",
        "items",
        "name",
        "parent",
        "plan",
        "scope",
        "status",
        "succeeded",
        "total",
        "values",
    )

    def __init__(self, plan: PlanNode, parent: Node | None, index: int, name: str, id: bytes) -> None:
        self.plan = plan
        self.parent = parent
        self.index = index
        self.name = name
        self.id = id
        self.status = LIVE
        self.total = 0
        self.admitted = 0
        self.succeeded = 0
        self.failed = 0
        self.dropped = False
        self.chunk = 0
        self.scope: dict[str, Any] | None = None
        self.folded = plan.directive is None and parent is not None and parent.plan.is_scope
        self.values: dict[str, Any] | None = None
        self.has_values = False
        self.items: Any = None
        self._path: tuple[int, ...] | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        return self.plan.options

    @property
    def path(self) -> tuple[int, ...]:
        """The indexes of the name; sorts in tree order."""
        if self._path is None:
            self._path = tuple(map(int, self.name.split(".")[1:]))
        return self._path


def pack_node(node: Node) -> bytes:
    """The node's bytes: of one length for nodes of one depth, whatever their numbers."""
    if node.plan.directive is None:
        path = node.path
        packed = _TASK_HEAD.pack(_VERSION, node.status | _TASK, len(path)) + pack(f">{len(path)}I", *path)
        return packed + codec.encode(node.scope) if node.folded and node.scope else packed
    flags = node.status | (_DROPPED if node.dropped else 0) | (_VALUES if node.has_values else 0)
    return _GROUP.pack(_VERSION, flags, node.total, node.admitted, node.succeeded, node.failed, node.chunk)


def task_path(data: bytes) -> tuple[int, ...] | None:
    """The path in a packed task; None for a packed group.

    Raises:
        ValueError: the bytes are of a format version newer than this code.
    """
    if data[0] != _VERSION:
        raise ValueError(f"a node of unknown format {data[0]}: written by a newer version of spigot_topologies?")
    if not data[1] & _TASK:
        return None
    depth: int = _TASK_HEAD.unpack_from(data)[2]
    return unpack_from(f">{depth}I", data, _TASK_HEAD.size)


def unpack_node(node: Node, data: bytes) -> None:
    """Fills in what `pack_node` wrote."""
    path = task_path(data)
    node.status = data[1] & _STATUS
    if path is not None:
        rest = data[_TASK_HEAD.size + 4 * len(path) :]
        node.scope = codec.decode(rest) if rest else None
        return
    node.dropped = bool(data[1] & _DROPPED)
    node.has_values = bool(data[1] & _VALUES)
    _, _, node.total, node.admitted, node.succeeded, node.failed, node.chunk = _GROUP.unpack(data)
