"""Cases that drove one processor of Kafka Streams directly, without a topology."""

from __future__ import annotations

from typing import Any

from streamlet.runtime.handlers import Response
from tests.replay_kafka_streams.functions import Functions
from tests.replay_kafka_streams.verdict import OutOfScopeError
from tests.replay_kafka_streams.words import Op


def exception_config(functions: Functions) -> dict[str, Any]:
    """Return the processing exception handler of a case: as its method's name says."""
    fail = "ReturnsFail" in functions.method or "InFailProcessing" in functions.method

    def handle(_context: Any, record: Any, _error: Exception) -> Any:
        if "FATAL" in record.key:
            raise RuntimeError("KABOOM!")
        if "NULL" in record.key:
            return None
        return Response.fail() if fail else Response.resume()

    return {"processing.exception.handler": handle}


def replay(case: dict[str, Any], functions: Functions, recorded: tuple[Op, ...]) -> None:
    """Replay a case that gave records to a processor.

    Raises:
        OutOfScopeError: If streamlet has no such operator.
        DifferentError: If something else comes out.
    """
    raise OutOfScopeError("unknown topology: a processor driven directly")
