"""Writes docs/configuration.md from the declarations in streamlet/config.py: `python docs/configuration.py`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import attrs

from streamlet.config import ALIASES, CLIENT_PREFIXES, SECURITY_PREFIXES, TOPIC_PREFIX, StreamsConfig

HEAD = """\
# Configuration

A configuration is a mapping of Kafka Streams' keys to values; numbers may be given as text. A key that is unknown or
not supported is refused when the application is made, with the nearest right one, and all faults at once:

```python
from streamlet import ConfigError, StreamsConfig

try:
    StreamsConfig.parse({"application.id": "app", "bootstrap.server": "embedded:", "acks": "all"})
except ConfigError as error:
    print(error)  # bootstrap.server is unknown: did you mean bootstrap.servers?; acks is not supported: an ...
```

| key | default | meaning |
|---|---|---|
"""

TAIL = """
Keys marked * are not Kafka Streams'. {aliases}

| prefix | goes to |
|---|---|
| {client_prefixes} | librdkafka's settings of those clients, without the prefix: `consumer.fetch.min.bytes`. \
`consumer.` is for all consumers, `main.consumer.` and `restore.consumer.` win over it |
| {security_prefixes} | all clients, as they are |
| `{topic_prefix}` | configs of the internal topics: `{topic_prefix}min.insync.replicas` |

What the guarantees rest on cannot be set through a prefix: `enable.auto.commit`, `group.id`, `transactional.id`,
`enable.idempotence` and `acks` among them. `consumer.isolation.level` may be `read_committed` under `at_least_once`, so
that what others wrote and aborted is not read; with `exactly_once_v2` it always is.

## The address

| `bootstrap.servers` | log |
|---|---|
| `host:port,host:port` | a cluster |
| `embedded:path/to/log.db` | an embedded log in a file, made on first use; state lies in `log.db.state/` |
| `embedded:` | the process's log in memory; `embedded:mem:NAME` is another one |

Options of an embedded log follow a question mark: `embedded:log.db?partitions=4` (of topics made on first use; 1),
`synchronous=full` (survive a loss of power, not only of the process), `cache.bytes=N` (64 MiB).
"""


def text() -> str:
    """The page."""
    declared = [field for field in attrs.fields(StreamsConfig) if "key" in field.metadata]
    rows = "".join(_row(field) for field in declared if not field.metadata["key"].startswith("__"))  # internal ones
    aliases = " ".join(f"`{alias}` is another name of `{key}`." for alias, key in ALIASES.items())
    return (
        HEAD
        + rows
        + TAIL.format(
            aliases=aliases,
            client_prefixes=_code(CLIENT_PREFIXES),
            security_prefixes=_code(SECURITY_PREFIXES),
            topic_prefix=TOPIC_PREFIX,
        )
    )


def _row(field: Any) -> str:
    star = " *" if field.metadata["ours"] else ""
    return f"| `{field.metadata['key']}`{star} | {_default(field.default)} | {field.metadata['doc']} |\n"


def _default(default: object) -> str:
    if default is attrs.NOTHING:
        return "needed"
    if default is None:
        return ""
    return (
        f"{default:,}" if isinstance(default, int) else f"`{default.value if isinstance(default, Enum) else default}`"
    )


def _code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(text())
