"""One embedded log as a process sees it: the log, its consumer groups, and the thread that looks after both.

Clients of one address share one `Broker`. That of a file closes when the last client is gone; that of a log in memory
stays until the process ends or `discard` is called, for its records are nowhere else.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from typing import Protocol

from confluent_kafka import KafkaException

from streamlet.clients.embedded import cleaning
from streamlet.clients.embedded.address import Address
from streamlet.clients.embedded.groups import Group
from streamlet.clients.embedded.log import Log
from streamlet.errors import ConfigError

logger = logging.getLogger(__name__)

# Kafka's log.retention.check.interval.ms is 5 minutes, its cleaner's backoff 15 seconds.
CLEANING_SECONDS = 15.0
PATIENCE_SECONDS = 0.005


class Lingering(Protocol):
    """What the keeper sends on time: a producer."""

    def linger_over(self) -> bool:
        """Write what is queued, unless records are streaming in and will fill a batch; whether it is done."""


class Broker:
    """A log, its groups and its keeper."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.log = Log(
            address.path,
            name=str(address.path or f"in memory ({address.name or 'anonymous'})"),
            synchronous=address.synchronous,
            default_partitions=address.partitions,
            cache_bytes=address.cache_bytes,
        )
        self.keeper = Keeper(self.log)
        self._groups: dict[str, Group] = {}
        weakref.finalize(self, _close, self.keeper, self.log)

    def group(self, id: str) -> Group:
        """The group of that id; it is remembered from here on."""
        with self.log.lock:
            return self._groups.setdefault(id, Group(self.log, id))

    def known_groups(self) -> list[Group]:
        """The groups that had members in this process."""
        with self.log.lock:
            return list(self._groups.values())


class Keeper:
    """A thread that sends what lingers in producers and applies retention and compaction."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._due: dict[int, tuple[float, weakref.ref[Lingering]]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def linger(self, producer: Lingering, seconds: float) -> None:
        """Send for this producer after so many seconds."""
        with self._lock:
            self._due.setdefault(id(producer), (time.monotonic() + seconds, weakref.ref(producer)))
        self._wake.set()

    def start(self) -> None:
        """Begin, unless it has begun."""
        with self._lock:
            if self._thread is None and not self._stopped:
                # A daemon, for it must not keep a process alive whose main thread is done; stopped at exit.
                self._thread = threading.Thread(target=self._run, name="embedded-log-keeper", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopped = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        next_cleaning = time.monotonic() + CLEANING_SECONDS
        while not self._stopped:
            with self._lock:
                earliest = min((at for at, _ in self._due.values()), default=next_cleaning)
            self._wake.wait(max(0.0, min(earliest, next_cleaning) - time.monotonic()))
            self._wake.clear()
            now = time.monotonic()
            with self._lock:
                ready = [(key, ref) for key, (at, ref) in self._due.items() if at <= now]
                for key, _ in ready:
                    del self._due[key]
            for _, ref in ready:
                producer = ref()
                if producer is not None and not producer.linger_over():
                    self.linger(producer, PATIENCE_SECONDS)
                del producer
            if now >= next_cleaning and not self._stopped:
                self._clean()
                next_cleaning = time.monotonic() + CLEANING_SECONDS

    def _clean(self) -> None:
        try:
            cleaning.clean(self._log, int(time.time() * 1000))
        except KafkaException as error:
            # Space is not freed now; the next round tries again, and appends report the failure where it matters.
            logger.warning("%s: cleaning failed: %s", self._log.name, error)


_brokers: weakref.WeakValueDictionary[str, Broker] = weakref.WeakValueDictionary()
_in_memory: dict[str, Broker] = {}
_inherited: list[Broker] = []
_registry_lock = threading.Lock()


def broker_for(address: Address) -> Broker:
    """The process's broker of an address.

    Raises:
        ConfigError: It is open already with other options.
        StreamsError: The file cannot be used.
    """
    key = f"file:{address.path}" if address.path else f"mem:{address.name}"
    with _registry_lock:
        found = _brokers.get(key)
        if found is None:
            found = _brokers[key] = Broker(address)
            if address.path is None:
                _in_memory[key] = found
        elif found.address != address:
            raise ConfigError(
                f"bootstrap.servers: the embedded log {address.name!r} is open in this process as {found.address}; "
                f"give the same options everywhere, not {address}"
            )
        return found


def discard(name: str = "") -> None:
    """Forget a log in memory with everything in it; for tests."""
    with _registry_lock:
        _in_memory.pop(f"mem:{name}", None)
        _brokers.pop(f"mem:{name}", None)


def _close(keeper: Keeper, log: Log) -> None:
    keeper.stop()
    log.close()


def _stop_keepers() -> None:
    for broker in list(_brokers.values()):
        broker.keeper.stop()


def _after_fork() -> None:
    # SQLite forbids to carry a connection into a child, even to close it there: keep it, untouched.
    global _registry_lock
    _inherited.extend(_brokers.values())
    _brokers.clear()
    _in_memory.clear()
    _registry_lock = threading.Lock()


atexit.register(_stop_keepers)
os.register_at_fork(after_in_child=_after_fork)
