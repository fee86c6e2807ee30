"""What a broker needs to run: a Java runtime and the jars that Maven brought."""

from __future__ import annotations

import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIB = HERE / "target" / "lib"


class BrokerUnavailableError(RuntimeError):
    """No broker can be started here; the message says why and what to do."""


def java_command() -> str:
    """Path of `java`. Raises BrokerUnavailableError if there is none."""
    java = shutil.which("java")
    if java is None:
        raise BrokerUnavailableError(
            "no `java` on PATH: a broker needs Java 17 or newer (apt install openjdk-17-jre-headless)"
        )
    return java


def broker_classpath() -> str:
    """Class path of Kafka's jars. Raises BrokerUnavailableError if they have not been resolved."""
    if not any(LIB.glob("kafka_2.13-*.jar")):
        raise BrokerUnavailableError(
            f"no Kafka jars in {LIB}: `make kafka` resolves them (needs Maven: apt install maven)"
        )
    return f"{LIB}/*"
