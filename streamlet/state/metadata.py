"""What a database remembers beside the data: how far each changelog was taken in, and how the data is laid out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import orjson
from attrs import frozen

from streamlet.errors import StateMismatchError
from streamlet.state.backend import Database
from streamlet.state.buffer import time_key
from streamlet.state.expiry import segment_interval
from streamlet.state.values import Position

if TYPE_CHECKING:
    from streamlet.state.builder import StoreBuilder

_log = logging.getLogger(__name__)

_POSITION_VERSION = 2


def position_key(store: str) -> bytes:
    """Return the metadata key of a store's position."""
    return b"position:" + store.encode()


def unfinished_key(store: str) -> bytes:
    """Return the metadata key of how far a write of several batches is to bring a store; there while it goes on."""
    return b"unfinished:" + store.encode()


def dump_position(position: Position) -> bytes:
    """Return the bytes of a position."""
    return orjson.dumps({"version": _POSITION_VERSION, **attrs.asdict(position)})


def load_position(data: bytes) -> Position | None:
    """Return the position of these bytes; None if a later version wrote it: the store is then restored anew."""
    fields = orjson.loads(data)
    return Position(**fields) if fields.pop("version") == _POSITION_VERSION else None


@frozen
class StoreMetadata:
    """How a store's data is laid out.

    Attributes:
        store: Name of the store.
        kind: Kind of the store.
        format: Version of the kind's local layout.
        changelog: Kinds with the same value here can be rebuilt from each other's changelogs.
        logging: Whether there is a changelog, or a source topic that serves as one.
        segment_ms: Length of the segments that keys begin with (ms), 0 if there are none.
    """

    store: str
    kind: str
    format: int
    changelog: str
    logging: bool
    segment_ms: int = 0

    @classmethod
    def of(cls, builder: StoreBuilder[Any]) -> StoreMetadata:
        """Return what a declared store needs."""
        retention = builder.retention_ms
        return cls(
            store=builder.name,
            kind=builder.kind.value,
            format=builder.kind.format,
            changelog=builder.kind.changelog,
            logging=builder.logging or builder.source_topic is not None,
            segment_ms=0 if retention is None else segment_interval(retention),
        )

    @property
    def _key(self) -> bytes:
        return b"store:" + self.store.encode()

    @property
    def described(self) -> str:
        """The layout in words."""
        segments = f" and segments of {self.segment_ms} ms" if self.segment_ms else ""
        return f"a {self.kind} store in format {self.format}{segments}"

    def reconcile(self, database: Database, directory: Path | None) -> None:
        """Compare with what the database holds; record it there if the store is new.

        Data of another kind or format is thrown away if the changelog can bring it back.

        Raises:
            StateMismatchError: If it cannot.
        """
        data = database.metadata(self._key)
        if data is not None:
            there = StoreMetadata(**orjson.loads(data))
            if attrs.evolve(there, logging=self.logging) != self:
                self._replace(there, database, directory)
            elif there == self:
                return
        database.write([], {self._key: orjson.dumps(attrs.asdict(self))})

    def _replace(self, there: StoreMetadata, database: Database, directory: Path | None) -> None:
        was, wanted = there.described, self.described
        if there.changelog != self.changelog:
            raise StateMismatchError(
                f"store {self.store!r} in {directory} is {was}, but the topology declares {wanted}, and its changelog "
                f"cannot be read as one: give the store another name, or reset the application"
            )
        if not (self.logging and there.logging):
            raise StateMismatchError(
                f"store {self.store!r} in {directory} is {was}, but this program needs {wanted}, and there is no "
                f"changelog to rebuild it from: go back to the program that wrote it, "
                f"or delete the directory and with it the data"
            )
        _log.warning("store %r in %s is %s; it is rebuilt from its changelog as %s", self.store, directory, was, wanted)
        gone = (position_key(self.store), unfinished_key(self.store), time_key(self.store))
        database.write([], dict.fromkeys(gone))
        database.clear(self.store)
