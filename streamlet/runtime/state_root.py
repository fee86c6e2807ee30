"""Where the local state of applications lies on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from streamlet.config import EMBEDDED_PREFIX, StreamsConfig


def state_root(config: StreamsConfig) -> Path | None:
    """Return the directory of all applications: ``state.dir``, beside the file of an embedded log, or the default.

    None if the log ends with the process, and so does its state.
    """
    if config.state_dir is not None:
        return config.state_dir
    if not config.embedded:
        return default_state_dir()
    path = config.bootstrap_servers.removeprefix(EMBEDDED_PREFIX).partition("?")[0]
    return None if not path or path.startswith("mem:") else Path(path + ".state").expanduser()


def default_state_dir() -> Path:
    """Return where state is kept on a cluster if nothing is said: ``$XDG_STATE_HOME/streamlet``."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "streamlet"
