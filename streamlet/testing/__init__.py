"""Testing topologies without a log."""

from streamlet.testing.driver import TopologyTestDriver
from streamlet.testing.promises import BrokenPromiseError
from streamlet.testing.topics import TestInputTopic, TestOutputTopic

__all__ = ["BrokenPromiseError", "TestInputTopic", "TestOutputTopic", "TopologyTestDriver"]
