"""Careful mode: a batch that could not be committed is replayed record by record, until the one at fault is found."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException

from streamlet.clients.supplier import Consumer, Message
from streamlet.records import TaskId
from streamlet.runtime.active import ActiveTask, Resume, topic_partitions
from streamlet.runtime.collector import count_dropped, settle
from streamlet.runtime.context import AppContext
from streamlet.runtime.failures import LogRefusalError, Remedy
from streamlet.runtime.handlers import ErrorContext, OutputRecord
from streamlet.runtime.outputs import LostRecord, Outputs
from streamlet.runtime.places import Place
from streamlet.runtime.task_set import TaskSet
from streamlet.topology import changelog_name

_log = logging.getLogger(__name__)


class CarefulMode:
    """Replays what could not be committed, one record and one commit at a time.

    Stores serialise when they are written to, so a value without bytes raises at its own record, in its own node, and
    goes to the processing exception handler. A record whose commit the log refuses goes to the production exception
    handler: if that chooses to continue, the record is skipped with everything that came of it.
    """

    def __init__(self, app: AppContext, tasks: TaskSet, outputs: Outputs, consumer: Consumer) -> None:
        self._app = app
        self._consumer = consumer
        self._tasks = tasks
        self._outputs = outputs
        self._until: dict[Place, int] = {}
        self._messages: dict[Place, dict[int, Message]] = {}
        self.active = False

    def enter(self) -> None:
        """Begin, up to what was processed since the last commit; to be called before the tasks go back."""
        for task in self._tasks.running:
            passed = task.task.passed()
            for place, resume in task.resume.items():
                until = passed.get(place, resume.offset)
                if until > resume.offset:
                    self._until[place] = max(until, self._until.get(place, 0))
        if not self._until:
            return
        _log.warning(
            "replaying record by record up to %s", {f"{t}[{p}]": offset for (t, p), offset in self._until.items()}
        )
        self.active = True
        self._set(True)

    def remember(self, place: Place, records: Sequence[Message]) -> None:
        """Keep the messages that are replayed: a handler wants to see the culprit."""
        until = self._until.get(place, 0)
        kept = self._messages.setdefault(place, {})
        kept.update((offset, m) for m in records if (offset := m.offset() or 0) < until)

    def leave_if_done(self) -> None:
        """End once every record that was part of the failed commit is committed, or belongs to somebody else."""
        for place in list(self._until):
            task = self._tasks.at(place)
            if (task is None and self._tasks.ready) or (
                task is not None and task.resume[place].offset >= self._until[place]
            ):
                del self._until[place]
                self._messages.pop(place, None)
        if not self._until:
            self.active = False
            self._set(False)
            _log.info("replayed; going on at full speed")

    def _set(self, careful: bool) -> None:
        self._outputs.careful = careful
        self._tasks.set_careful(careful)
        self._outputs.refused.clear()

    def settle(self, task: ActiveTask, before: Mapping[Place, int], error: Exception) -> None:
        """Ask the production exception handler about the one record whose commit failed, and skip it if it says so.

        Raises:
            ProductionError: The handler chose to fail.
            LogRefusalError: At-least-once: the record is skipped, but the changelogs may hold some of what came of it,
                so the tasks have to be loaded again.
        """
        consumed, passed = task.task.consumed(), task.task.passed()
        moved = [place for place, offset in passed.items() if place not in before or offset > before[place]]
        if not moved:  # what a punctuation wrote: no record is to blame, and none can be skipped
            raise error
        place = moved[0]
        offset = passed[place]
        record, cause = self._refused_record(task, error)
        context = self._context(task.id, place, offset - 1)
        self._outputs.abort()
        self._tasks.rewind()
        self._outputs.begin()
        settle(self._app.config, self._outputs, context, record, cause)
        count_dropped(self._app.sensor, context)
        _log.warning("skipped a record that could not be committed (%s): %s", context, error)
        # at once, and in one transaction: a later abort must not take the dead letter and leave the record skipped
        skipped = topic_partitions([(place, consumed[place])])
        self._outputs.prepare(skipped, self._consumer)
        self._outputs.finish(skipped, self._consumer)
        if not self._app.config.exactly_once:
            raise LogRefusalError(f"skipped {place[0]}[{place[1]}]@{offset - 1}", Remedy.ABORT)
        task.resume[place] = Resume(consumed[place].offset)
        task.metadata[place] = consumed[place].metadata
        task.state.careful = True
        self._tasks.reread(task)

    def _refused_record(self, task: ActiveTask, error: Exception) -> tuple[OutputRecord, KafkaException]:
        self._outputs.poll()  # the report that names the record may still wait
        refused = self._outputs.refused
        if refused:
            lost = refused.pop(0)
            refused.clear()
            return _output(lost), KafkaException(lost.error)
        cause = error.error if isinstance(error, LogRefusalError) else None
        text = KafkaError(KafkaError._VALUE_SERIALIZATION, str(error)) if cause is None else cause
        return OutputRecord(self._written_by(task), None, None, 0, ()), KafkaException(text)

    def _written_by(self, task: ActiveTask) -> str:
        """Return the topics that the record may have been for, as the log did not say."""
        sinks = [task.task.topic_on_log(sink.topic) for sink in task.sub_topology.sinks if isinstance(sink.topic, str)]
        changelogs = [changelog_name(self._app.config.application_id, store.name) for store in task.changelogged]
        return f"(one of those that task {task.id} writes to: {', '.join(sorted({*sinks, *changelogs}))})"

    def _context(self, task: TaskId, place: Place, offset: int) -> ErrorContext:
        message = self._messages.get(place, {}).get(offset)
        return ErrorContext(
            node=None,
            task=task,
            topic=place[0],
            partition=place[1],
            offset=offset,
            timestamp=-1 if message is None else message.timestamp()[1],
            headers=() if message is None else message.headers() or (),
            raw_key=None if message is None else message.key(),
            raw_value=None if message is None else message.value(),
            dead_letter_topic=self._app.config.dead_letter_queue_topic,
        )


def _output(lost: LostRecord) -> OutputRecord:
    return OutputRecord(lost.topic, lost.key, lost.value, lost.timestamp, (), lost.partition)
