"""Testing topologies without a log."""

from streamlet.testing.driver import TopologyTestDriver
from streamlet.testing.mock_context import CapturedForward, CapturedPunctuator, MockProcessorContext
from streamlet.testing.promises import BrokenPromiseError
from streamlet.testing.topics import TestInputTopic, TestOutputTopic

__all__ = [
    "BrokenPromiseError",
    "CapturedForward",
    "CapturedPunctuator",
    "MockProcessorContext",
    "TestInputTopic",
    "TestOutputTopic",
    "TopologyTestDriver",
]
