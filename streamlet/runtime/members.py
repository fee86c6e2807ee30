"""The instances of an application, as the group knows them (RUNTIME.md, 1).

The protocol of the group has no room for user data, so a member's client id says which instance it belongs to and where
that one can be asked: ``<instance>-StreamThread-<n>-consumer[@host:port]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from threading import Lock

from attrs import evolve, frozen
from confluent_kafka import ConsumerGroupState

from streamlet.records import TaskId
from streamlet.runtime.internal_topics import Admin
from streamlet.runtime.metadata import HostInfo
from streamlet.runtime.placement import standbys
from streamlet.runtime.plan import TaskPlan
from streamlet.time import Clock

_MEMBER = re.compile(r"(?P<instance>.+)-StreamThread-\d+-consumer(?:@(?P<server>.+:\d+))?")


def member_client_id(thread: str, server: str | None) -> str:
    """Return the client id of a thread's consumer.

    Args:
        thread: Name of the thread: ``<instance>-StreamThread-<n>``.
        server: ``application.server``.
    """
    return f"{thread}-consumer" + ("" if server is None else f"@{server}")


@frozen
class Instance:
    """A process of the application.

    Attributes:
        id: Its identity: the prefix of its clients' ids.
        host: Where it can be asked; None if it does not say.
        tasks: Partitions of the tasks topic that its threads own.
    """

    id: str
    host: HostInfo | None = None
    tasks: frozenset[int] = frozenset()


def instances(members: Iterable[tuple[str, Iterable[int]]]) -> dict[str, Instance]:
    """Return the instances that members (client id, partitions of the tasks topic) belong to, by identity."""
    found: dict[str, Instance] = {}
    for client_id, tasks in members:
        parts = _MEMBER.fullmatch(client_id)
        id = client_id if parts is None else parts["instance"]
        server = None if parts is None else parts["server"]
        before = found.get(id, Instance(id))
        host = before.host if server is None else HostInfo.parse(server)
        found[id] = evolve(before, host=host, tasks=before.tasks | frozenset(tasks))
    return found


@frozen
class Membership:
    """Who had what when the group was asked.

    Attributes:
        instances: By identity.
        owners: For each task the identity of the instance that runs it; None: nobody does.
    """

    instances: Mapping[str, Instance]
    owners: Mapping[TaskId, str | None]

    @classmethod
    def of(cls, instances: Mapping[str, Instance], plan: TaskPlan) -> Membership:
        """Return who runs the tasks of a plan."""
        owner = {index: instance.id for instance in instances.values() for index in instance.tasks}
        return cls(instances, {task: owner.get(index) for index, task in enumerate(plan.tasks)})

    def standbys(self, tasks: Iterable[TaskId], replicas: int) -> dict[TaskId, tuple[str, ...]]:
        """Return the identities of the instances that keep copies of tasks."""
        return standbys({task: self.owners.get(task) for task in tasks}, self.instances, replicas)

    def host(self, instance: str) -> HostInfo:
        """Return where an instance can be asked."""
        known = self.instances.get(instance)
        return HostInfo.unavailable() if known is None or known.host is None else known.host


class MembershipReader:
    """Asks the group who its members are; remembers the answer for a moment. Safe from any thread.

    Args:
        admin: Asks the group's coordinator.
        topic: The tasks topic.
        clock: Tells how old an answer is.
        max_age: How long (seconds) an answer is good for.
    """

    def __init__(self, admin: Admin, topic: str, clock: Clock, *, max_age: float) -> None:
        self._admin = admin
        self._topic = topic
        self._clock = clock
        self._max_age = max_age
        self._lock = Lock()
        self._read_at: float | None = None
        self._answer: Mapping[str, Instance] | None = None

    def read(self) -> Mapping[str, Instance] | None:
        """Return the instances, by identity; None while the group is rebalancing, or has no members.

        Raises:
            StreamsError: The log did not answer.
        """
        with self._lock:
            now = self._clock.monotonic()
            if self._read_at is None or now - self._read_at >= self._max_age:
                self._answer = self._ask()
                self._read_at = now
            return self._answer

    def _ask(self) -> Mapping[str, Instance] | None:
        group = self._admin.group()
        if group is None or group.state is not ConsumerGroupState.STABLE:
            return None
        return instances(
            (
                member.client_id,
                [p.partition for p in member.assignment.topic_partitions if p.topic == self._topic],
            )
            for member in group.members
        )
