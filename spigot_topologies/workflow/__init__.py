"""The workflow engine: pure, with no input or output and no clock of its own."""

from spigot_topologies.workflow.local import run
from spigot_topologies.workflow.parts import MAX_PART_BYTES, DictParts, Parts
from spigot_topologies.workflow.registry import DEFAULT, Directive, Progress, Reducer, Registry, Verdict
from spigot_topologies.workflow.tasks import Outcome, Reason, RunningTask, Task
from spigot_topologies.workflow.workflow import Scope, Status, Workflow, create

__all__ = [
    "DEFAULT",
    "MAX_PART_BYTES",
    "DictParts",
    "Directive",
    "Outcome",
    "Parts",
    "Progress",
    "Reason",
    "Reducer",
    "Registry",
    "RunningTask",
    "Scope",
    "Status",
    "Task",
    "Verdict",
    "Workflow",
    "create",
    "run",
]
