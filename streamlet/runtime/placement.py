"""Where standby replicas are kept: rendezvous hashing over the instances of an application (RUNTIME.md, 1).

Nobody assigns them: every instance computes the same from the group's members, and a member that comes or goes moves
the copies of only those tasks that rank it high.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

from streamlet.records import TaskId


def standbys(
    active: Mapping[TaskId, str | None], instances: Iterable[str], replicas: int
) -> dict[TaskId, tuple[str, ...]]:
    """Return the instances that keep a copy of each task, in order of rank.

    Args:
        active: The tasks, and the instances that run them; None: nobody does now.
        instances: All instances, by their identities.
        replicas: How many copies to keep of each task; there are fewer if there are not as many other instances.
    """
    known = sorted(set(instances))
    placed: dict[TaskId, tuple[str, ...]] = {}
    for task, owner in active.items():
        ranked = sorted(known, key=lambda instance: _weight(task, instance), reverse=True)
        placed[task] = tuple(instance for instance in ranked if instance != owner)[:replicas]
    return placed


def _weight(task: TaskId, instance: str) -> bytes:
    return blake2b(f"{task}/{instance}".encode(), digest_size=16).digest()
