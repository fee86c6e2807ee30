"""Replays recordings of Kafka Streams' own tests against streamlet: ``python -m tests.replay_kafka_streams FILE...``.

A recording tells what was piped in and what came out, the text of `Topology.describe()`, and the rest in words. The
text is translated back into calls of the DSL (`rebuild`), the words into the functions those calls need (`functions`).
"""
