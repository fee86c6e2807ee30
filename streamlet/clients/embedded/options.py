"""Reading a client's configuration, with errors that name the key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from streamlet.errors import ConfigError


class Options:
    """A client's configuration.

    Keys that steer a network, buffers or files have no meaning here and are passed over, so that one configuration
    serves the embedded log and a cluster.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    def text(self, key: str, default: str) -> str:
        """A text value."""
        return str(self._config.get(key, default))

    def one_of(self, key: str, default: str, allowed: Collection[str]) -> str:
        """A value out of some.

        Raises:
            ConfigError: Another value.
        """
        value = self.text(key, default)
        if value not in allowed:
            raise ConfigError(f"{key}: {value!r} is not one of {', '.join(allowed)}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false, as such or as text.

        Raises:
            ConfigError: Something else.
        """
        value = str(self._config.get(key, default)).lower()
        if value in ("true", "t", "1"):
            return True
        if value in ("false", "f", "0"):
            return False
        raise ConfigError(f"{key}: {self._config[key]!r} is neither true nor false")

    def whole(self, key: str, default: int, *, least: int) -> int:
        """A whole number.

        Raises:
            ConfigError: None, or one below `least`.
        """
        return int(self.number(key, default, least=least))

    def number(self, key: str, default: float, *, least: float) -> float:
        """A number.

        Raises:
            ConfigError: None, or one below `least`.
        """
        given = self._config.get(key, default)
        try:
            value = float(given)
        except (TypeError, ValueError):
            raise ConfigError(f"{key}: {given!r} is no number") from None
        if value < least:
            raise ConfigError(f"{key}: {given!r} is below {least}")
        return value

    def refuse_true(self, key: str, instead: str) -> None:
        """Refuse a feature that the embedded log does not have.

        Raises:
            ConfigError: It is asked for.
        """
        if self.flag(key, False):
            raise ConfigError(f"{key}: the embedded log does not do this; set it to false and {instead}")
