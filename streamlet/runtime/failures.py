"""What the runtime itself raises and catches between the log's refusals and what is done about them (RUNTIME.md, 3)."""

from __future__ import annotations

from enum import Enum

from confluent_kafka import KafkaError, KafkaException

from streamlet.errors import ControlError


class Remedy(Enum):
    """What a refusal of the log asks for."""

    REPEAT = "the outcome is unknown or the log was busy: call it again"
    LATER = "the group is rebalancing: go on, and commit after it"
    ABORT = "abort, go back to the last commit, and go on"
    CAREFUL = "a record was refused: abort, go back, and find out which one it was"
    RENEW = "this producer is done for: make another and load the tasks again"


class LogRefusalError(ControlError):
    """The log refused to write or to commit; `remedy` says what to do about it."""

    def __init__(self, message: str, remedy: Remedy, error: KafkaError | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.error = error


class InstanceHeldError(ControlError):
    """Another member of the group has this one's ``group.instance.id``, alive or not yet given up (KIP-848)."""


_MEMBERSHIP = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.FENCED_INSTANCE_ID,
    }
)
_RECORD = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
_BUSY = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._WAIT_COORD,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RETRY,
        KafkaError._IN_PROGRESS,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    }
)


def error_of(exception: KafkaException) -> KafkaError:
    """Return the error that a client's exception carries."""
    error: KafkaError = exception.args[0]
    return error


def remedy_for(error: KafkaError) -> Remedy:
    """Return what to do about an error of a transactional producer or of a commit."""
    if error.fatal() or error.code() in (KafkaError._FATAL, KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
        return Remedy.RENEW
    if error.code() == KafkaError.REBALANCE_IN_PROGRESS:
        return Remedy.LATER
    if error.code() in _MEMBERSHIP:
        return Remedy.ABORT
    if error.code() in _RECORD:
        return Remedy.CAREFUL
    if error.txn_requires_abort():
        return Remedy.ABORT
    if error.retriable() or error.code() in _BUSY:
        return Remedy.REPEAT
    return Remedy.ABORT


def is_membership(error: KafkaError) -> bool:
    """Whether a commit was refused because the group has gone on: the next poll tells what that means for our tasks."""
    return error.code() in _MEMBERSHIP


def is_record_fault(error: KafkaError) -> bool:
    """Whether an error is about a single record, so that a handler may decide to go on without it."""
    return error.code() in _RECORD


def has_cause(fatal: KafkaError, code: int) -> bool:
    """Whether a consumer's fatal error was caused by this one, which is in its text only."""
    cause = KafkaError(code)
    return cause.str() in fatal.str() or str(cause.name()) in fatal.str()


def is_busy(error: KafkaError) -> bool:
    """Whether the same call may succeed later."""
    return not error.fatal() and (error.retriable() or error.code() in _BUSY)


def refusal(what: str, error: KafkaError, remedy: Remedy | None = None) -> LogRefusalError:
    """Return the exception for an error of the log."""
    return LogRefusalError(f"{what}: {error.name()}: {error.str()}", remedy or remedy_for(error), error)
