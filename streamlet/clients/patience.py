"""A transactional producer whose calls come back."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from threading import Thread
from typing import Any, Final

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

# What a call may take beyond its timeout: librdkafka 2.16 takes up to ten seconds more while brokers are away.
_GRACE_SECONDS: Final = 10.0


class PatientProducer(confluent_kafka.Producer):
    """Raises instead of waiting for ever.

    ``send_offsets_to_transaction`` does not keep its timeout: after the broker of the group's coordinator was shut down
    in order, it did not return for five minutes, though that broker was back and another coordinated the group
    (docs/runtime-findings.md). It therefore runs in a thread; if it does not come back, this producer is given up, and
    the next one with its transactional id fences it.
    """

    def send_offsets_to_transaction(self, positions: Any, group_metadata: Any, timeout: float = -1) -> None:
        """See ``confluent_kafka.Producer``.

        Raises:
            KafkaException: As there; or a fatal one, if the call did not come back in time.
        """
        outcome: Future[None] = Future()
        call = super().send_offsets_to_transaction

        def run() -> None:
            try:
                call(positions, group_metadata, timeout)
                outcome.set_result(None)
            except BaseException as error:
                outcome.set_exception(error)

        # a daemon: at the end of the process nothing waits for a call that does not come back
        Thread(target=run, name="send-offsets", daemon=True).start()
        limit = None if timeout < 0 else timeout + _GRACE_SECONDS
        try:
            outcome.result(limit)
        except FutureTimeoutError:
            text = f"send_offsets_to_transaction did not return within {limit} s"
            raise KafkaException(KafkaError(KafkaError._FATAL, text, True, False, False)) from None
