"""The SQLite file under an embedded log: how it is opened, recognised, and versioned."""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from streamlet.errors import StreamsError

APPLICATION_ID = 0x53744C67  # "StLg": tells our files from other SQLite files
FORMAT = 1
BUSY_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE topics (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, uuid BLOB NOT NULL, config TEXT NOT NULL
);
CREATE TABLE partitions (
    topic INTEGER, partition INTEGER,
    start INTEGER NOT NULL DEFAULT 0,       -- the first offset that may be read
    floor INTEGER NOT NULL DEFAULT 0,       -- the end offset where no batch is left to tell it
    epoch INTEGER NOT NULL DEFAULT 0,
    hidden INTEGER NOT NULL DEFAULT -1,     -- tests: an end whose trailing marker is gone, so that no EOF is reported
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE epochs (
    topic INTEGER, partition INTEGER, epoch INTEGER, start INTEGER NOT NULL, PRIMARY KEY (topic, partition, epoch)
) WITHOUT ROWID;
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    topic INTEGER NOT NULL, partition INTEGER NOT NULL,
    base INTEGER NOT NULL,                  -- the first offset
    "end" INTEGER NOT NULL,                 -- the next batch's first offset: past the marker, past what was compacted
    count INTEGER NOT NULL,
    bytes INTEGER NOT NULL,                 -- the blob's length
    newest INTEGER NOT NULL,                -- the greatest timestamp, ms
    epoch INTEGER NOT NULL,
    state INTEGER NOT NULL,                 -- 0 committed; 1 open and 2 aborted are written by tests only
    stamp INTEGER NOT NULL,                 -- timestamp type: 1 create time, 2 append time
    cleaned INTEGER NOT NULL DEFAULT 0,     -- after compaction: when its tombstones may go, ms; -1: it has none
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX batches_by_end ON batches (topic, partition, "end");
CREATE TABLE offsets (
    grp TEXT, topic TEXT, partition INTEGER, "offset" INTEGER NOT NULL, epoch INTEGER NOT NULL, metadata TEXT,
    PRIMARY KEY (grp, topic, partition)
) WITHOUT ROWID;
CREATE TABLE producers (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
"""


def connect(path: Path | None, synchronous: str) -> sqlite3.Connection:
    """Open the log's file, making it where there is none; None is a log in memory.

    Args:
        path: The file.
        synchronous: ``normal``: what was acknowledged survives the death of the process, but the last commits may be
            lost with the power. ``full``: they are not.

    Raises:
        StreamsError: The file cannot be opened or written, is no log, or was written by a newer version.
    """
    if path is None:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _create(connection)
        return connection
    if not path.parent.is_dir():
        raise StreamsError(f"embedded log {path}: the directory {path.parent} does not exist; create it first")
    if path.exists() and not os.access(path, os.W_OK):
        raise StreamsError(f"embedded log {path}: the file is read-only; a log needs to be written even to be read")
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
    except sqlite3.Error as error:
        raise StreamsError(f"embedded log {path}: cannot be opened: {error}") from error
    try:
        _check(connection, path)
        _write_ahead(connection)
        connection.execute(f"PRAGMA synchronous = {synchronous.upper()}")
        # Without a limit the WAL file keeps the size of the largest burst for ever.
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            _create(connection)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.close()
        raise StreamsError(f"embedded log {path}: {explain(error)}") from error
    except StreamsError:
        connection.close()
        raise
    return connection


def explain(error: sqlite3.Error) -> str:
    """SQLite's error in words that say what to do."""
    text = str(error)
    if "not a database" in text or "malformed" in text:
        return f"{text}; the file is not an embedded log, or is damaged: give another path, or restore a copy"
    if "disk is full" in text:
        return f"{text}; nothing of the last write was stored: free some space and try again"
    if "readonly" in text or "unable to open" in text:
        return f"{text}; check the permissions of the file and of its directory, both are written to"
    if "locked" in text:
        return f"{text}; another process has held the file's lock for more than {BUSY_SECONDS:.0f} s"
    return text


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == 0 and version == 0:
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables == 0:
            return
    if application != APPLICATION_ID:
        raise StreamsError(f"embedded log {path}: this is an SQLite file of another program; give another path")
    if version > FORMAT:
        raise StreamsError(
            f"embedded log {path}: the file has format {version}, this streamlet knows up to {FORMAT}; use a newer one"
        )


def _write_ahead(connection: sqlite3.Connection) -> None:
    # Changing the mode ignores the busy timeout, so two processes that create the same file at once must retry.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _create(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    connection.execute("INSERT INTO meta VALUES ('cluster', ?), ('generation', 0)", (cluster,))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
