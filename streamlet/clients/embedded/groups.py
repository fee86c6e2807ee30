"""Consumer groups within the process: sticky assignment, handed over incrementally.

Each member reconciles on its own, inside its ``consume``: it first gives up what it shall lose, and takes over what
its former owners have given up. A partition thus has one owner at any time. The group's generation grows with each
new target assignment, a member carries the generation that it has reconciled with.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from confluent_kafka import KafkaError, KafkaException

from streamlet.clients.embedded.locks import GroupLock
from streamlet.clients.embedded.log import Log

Place: TypeAlias = tuple[str, int]

_MAGIC = b"CGMDv2:"


class Member:
    """A consumer in a group.

    Attributes:
        generation: The generation it has reconciled with; -1 before the first.
        expelled: It did not poll in time, or its group was taken from it: what it owned is lost.
    """

    __slots__ = (
        "client_id",
        "expelled",
        "generation",
        "id",
        "last_poll",
        "max_poll_seconds",
        "owned",
        "target",
        "topics",
    )

    def __init__(self, client_id: str, topics: frozenset[str], max_poll_seconds: float) -> None:
        self.id = f"{client_id}-{uuid.uuid4()}"
        self.client_id = client_id
        self.topics = topics
        self.max_poll_seconds = max_poll_seconds
        self.generation = -1
        self.owned: set[Place] = set()
        self.target: set[Place] = set()
        self.expelled = False
        self.last_poll = time.monotonic()


class Group:
    """A group's members and their assignment. All of it under the log's lock."""

    def __init__(self, log: Log, id: str) -> None:
        self.id = id
        self.generation = 0
        self.version = 0
        self.members: dict[str, Member] = {}
        self._log = log
        self._catalog_version = -1
        self._lock: GroupLock | None = None

    def join(self, member: Member) -> None:
        """Take a member in.

        Raises:
            LockError: Another process uses the group.
        """
        if self._lock is None:
            self._lock = GroupLock.acquire(self._log, self.id)
        self.members[member.id] = member
        self.rebalance()

    def leave(self, member: Member) -> None:
        """Let a member go; what it owned is free at once."""
        if self.members.pop(member.id, None) is not None:
            member.owned = set()
            self.rebalance()
        if not self.members and self._lock is not None:
            self._lock.release()
            self._lock = None

    def check(self, now: float) -> None:
        """Notice silent members and changed topics."""
        if self._catalog_version != self._log.catalog_version:
            partitions = self._partitions()
            if any(m.target - partitions for m in self.members.values()) or partitions != self._assigned():
                self.rebalance()
            self._catalog_version = self._log.catalog_version
        for member in list(self.members.values()):
            if now - member.last_poll > member.max_poll_seconds:
                member.expelled = True
                self.leave(member)

    def rebalance(self) -> None:
        """Find a new target assignment."""
        self._catalog_version = self._log.catalog_version
        topics = {id: member.topics for id, member in self.members.items()}
        owned = {id: member.owned for id, member in self.members.items()}
        for id, target in assign(sorted(self._partitions()), topics, owned).items():
            self.members[id].target = target
        self.generation += 1
        self._notify()

    def revocable(self, member: Member) -> set[Place]:
        """What the member owns and shall give up."""
        return member.owned - member.target

    def release(self, member: Member, places: Iterable[Place]) -> None:
        """The member has given these up."""
        member.owned.difference_update(places)
        self._notify()

    def acquire(self, member: Member) -> set[Place] | None:
        """What the member may take over now; None where nothing changed for it."""
        taken: set[Place] = set()
        for other in self.members.values():
            if other is not member:
                taken |= other.owned
        free = member.target - member.owned - taken
        if not free and member.generation == self.generation:
            return None
        member.owned |= free
        member.generation = self.generation
        return free

    def verify(self, member_id: str, generation: int) -> KafkaError | None:
        """Why a commit under this membership must be refused, or None."""
        if not member_id and generation < 0:
            if self.members:
                return _refusal(KafkaError.UNKNOWN_MEMBER_ID, f"group {self.id} has members, this consumer is none")
            return None
        member = self.members.get(member_id)
        if member is None:
            return _refusal(KafkaError.UNKNOWN_MEMBER_ID, f"{member_id} is no member of group {self.id}")
        if member.generation != generation:
            return _refusal(
                KafkaError.ILLEGAL_GENERATION,
                f"{member_id} of group {self.id} has generation {member.generation}, not {generation}",
            )
        return None

    def _notify(self) -> None:
        self.version += 1
        self._log.changed.notify_all()

    def _partitions(self) -> set[Place]:
        names = frozenset().union(*(m.topics for m in self.members.values())) if self.members else frozenset()
        found = (self._log.topics.get(name) for name in names)
        return {(topic.name, n) for topic in found if topic is not None for n in range(len(topic.partitions))}

    def _assigned(self) -> set[Place]:
        return set().union(*(m.target for m in self.members.values()))


def _refusal(code: int, text: str) -> KafkaError:
    return KafkaError(code, text, txn_requires_abort=True)


def assign(
    partitions: list[Place], topics: Mapping[str, frozenset[str]], owned: Mapping[str, set[Place]]
) -> dict[str, set[Place]]:
    """Spread partitions evenly over the members that want their topics, moving as few as possible.

    Args:
        partitions: All of them, in order.
        topics: What each member subscribes to.
        owned: What each has now; of two that claim a partition, the first in order keeps it.
    """
    members = sorted(topics)
    result: dict[str, set[Place]] = {member: set() for member in members}
    loose: list[Place] = []
    for place in partitions:
        holder = next((m for m in members if place in owned.get(m, ()) and place[0] in topics[m]), None)
        if holder is None:
            loose.append(place)
        else:
            result[holder].add(place)
    for place in loose:
        wanting = [m for m in members if place[0] in topics[m]]
        if wanting:
            result[min(wanting, key=lambda m: len(result[m]))].add(place)
    while _move_one(members, topics, result):
        pass
    return result


def _move_one(members: list[str], topics: Mapping[str, frozenset[str]], result: dict[str, set[Place]]) -> bool:
    by_load = sorted(members, key=lambda m: len(result[m]))
    for poor in by_load:
        for rich in reversed(by_load):
            if len(result[rich]) - len(result[poor]) < 2:
                break
            movable = [place for place in result[rich] if place[0] in topics[poor]]
            if movable:
                # The highest goes: which one is arbitrary, but must be the same at every member's view.
                place = max(movable)
                result[rich].remove(place)
                result[poor].add(place)
                return True
    return False


def metadata_of(group: str, member: Member | None) -> bytes:
    """A membership as confluent-kafka encodes it: opaque to the application, in librdkafka's own layout."""
    generation, member_id = (-1, "") if member is None else (member.generation, member.id)
    return b"".join(
        (_MAGIC, generation.to_bytes(4, "big", signed=True), group.encode(), b"\0", member_id.encode(), b"\0\1")
    )


def read_metadata(data: object) -> tuple[str, int, str]:
    """Group, generation and member id of a membership.

    Raises:
        KafkaException: _INVALID_ARG: this is none.
    """
    if isinstance(data, bytes) and data.startswith(_MAGIC):
        generation = int.from_bytes(data[7:11], "big", signed=True)
        parts = data[11:].split(b"\0")
        if len(parts) == 3:
            return parts[0].decode(), generation, parts[1].decode()
    raise KafkaException(KafkaError(KafkaError._INVALID_ARG, "consumer_group_metadata() makes the group metadata"))
