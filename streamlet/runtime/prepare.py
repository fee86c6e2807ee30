"""Before the threads start, and again from time to time: topics are looked at, made and agreed upon."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Lock

from confluent_kafka import KafkaError

from streamlet.clients.supplier import ClientSupplier
from streamlet.config import StreamsConfig
from streamlet.errors import InvalidTopicError, MissingSourceTopicError, StreamsError, TopologyError
from streamlet.metrics import Sensor
from streamlet.runtime import settings
from streamlet.runtime.context import AppContext
from streamlet.runtime.hooks import Hooks
from streamlet.runtime.internal_topics import Admin, prepare
from streamlet.runtime.partitions import Layout, lay_out, missing_sources, tasks_topic
from streamlet.runtime.plan import PlanLog, TaskPlan
from streamlet.state import StateDirectory, StateMemory
from streamlet.time import Clock
from streamlet.topology import Topology

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
_HEARD = 20


class Preparation:
    """Lays a topology out over the topics of the log, and keeps that up to date.

    Attributes:
        app: What the threads share, once `run` has returned.
        interval: How often (seconds) `look_again` is to be called.
    """

    def __init__(
        self,
        topology: Topology,
        config: StreamsConfig,
        *,
        supplier: ClientSupplier,
        clock: Clock,
        sensor: Sensor,
        hooks: Hooks,
        directory: StateDirectory,
        memory: StateMemory,
        on_shutdown_request: Callable[[str], None],
        on_plan_changed: Callable[[], None],
    ) -> None:
        self._topology = topology
        self._sub_topologies = topology.sub_topologies
        self._config = config
        self._supplier = supplier
        self._clock = clock
        self._sensor = sensor
        self._hooks = hooks
        self._directory = directory
        self._memory = memory
        self._on_shutdown_request = on_shutdown_request
        self._on_plan_changed = on_plan_changed
        prefix = config.client_id or config.application_id
        self._client_id = f"{prefix}-{directory.process_id[:8]}"
        self._fingerprint = topology.fingerprint()
        heard: deque[KafkaError] = deque(maxlen=_HEARD)
        client = {**settings.admin(config, f"{self._client_id}-admin"), "error_cb": heard.append}
        self._admin = Admin(supplier.admin(client), config, heard)
        # While the application runs it is asked again soon enough, and closing must not wait for a log that is away.
        self._short = Admin(self._admin.client, config)
        self._short.be_patient(_LOOK_SECONDS)
        self._plans = PlanLog(supplier, config, self._client_id, self._admin)
        self._lock = Lock()
        self.app: AppContext | None = None
        self.interval = settings.metadata_interval(config)

    def run(self, patience: float | None) -> AppContext:
        """Check and make topics, agree on the tasks.

        Args:
            patience: How long the log may take to answer, in seconds; None: 30.

        Raises:
            StreamsError: See `KafkaStreams.start`.
        """
        admin, config = self._admin, self._config
        admin.be_patient(patience)
        admin.reach()
        self._directory.check_log(admin.cluster_id())
        existing = admin.topics()
        if config.embedded:
            # The embedded log makes topics on first use; reading them is a use.
            missing = missing_sources((*self._sub_topologies, *self._topology.global_parts), existing)
            admin.create({topic: (-1, {}) for topic in missing})
            existing = admin.topics() if missing else existing
        layout = lay_out(self._sub_topologies, config.application_id, existing)
        prepare(layout, existing, admin, config)
        plan = self._agree(layout.tasks)
        topic = tasks_topic(config.application_id)
        starts = admin.offsets([(topic, partition) for partition in range(admin.topics().get(topic, 0))], end=True)
        self.app = AppContext(
            config=config,
            sub_topologies={part.id: part for part in self._sub_topologies},
            supplier=self._supplier,
            clock=self._clock,
            sensor=self._sensor,
            hooks=self._hooks,
            memory=self._memory,
            state_directory=self._directory,
            admin=admin,
            client_id=self._client_id,
            layout=layout,
            plan=plan,
            changelog_configs=admin.configs(self._changelogs(layout)),
            starts={partition: offset for (_, partition), offset in starts.items()},
            on_shutdown_request=self._on_shutdown_request,
            on_plan_changed=self._on_plan_changed,
        )
        admin.be_patient()
        return self.app

    def _changelogs(self, layout: Layout) -> list[str]:
        reused = (store.source_topic for part in self._sub_topologies for store in part.stores)
        return [*layout.changelogs, *dict.fromkeys(topic for topic in reused if topic is not None)]

    def _agree(self, tasks: tuple[object, ...]) -> TaskPlan:
        plan = self._plans.agree(self._fingerprint, tasks, self._admin.members)  # type: ignore[arg-type]
        topic = tasks_topic(self._config.application_id)
        if self._admin.topics().get(topic, 0) < len(plan.tasks):
            self._admin.grow(topic, len(plan.tasks))
        return plan

    def look_again(self) -> None:
        """Take up new topics that match patterns, and new partitions.

        A sub-topology with stores cannot have more tasks than its changelogs have partitions: keys would be looked for
        in other tasks than their state is in.

        Raises:
            InvalidTopicError: A source topic of such a sub-topology has grown.
            TopologyError: The group runs another topology now.
            MissingSourceTopicError: A source topic was deleted.
            StreamsError: The log did not answer.
        """
        with self._lock:
            app = self.app
            if app is None:
                return
            existing = self._short.topics()
            layout = lay_out(self._sub_topologies, self._config.application_id, existing)
            if layout.sources != app.layout.sources:
                _log.info("source topics have changed: %s", {k: dict(v) for k, v in layout.sources.items()})
                prepare(layout, existing, self._admin, self._config)
                app.changelog_configs = self._admin.configs(self._changelogs(layout))
            plan = self._agree(layout.tasks)
            if plan != app.plan or layout.sources != app.layout.sources:
                app.plan = plan
                app.layout = layout

    def ask_all_to_shut_down(self, reason: str) -> None:
        """Tell every instance to shut down.

        Raises:
            StreamsError: The log could not be written.
        """
        self._plans.shut_down(self._admin.topics().get(tasks_topic(self._config.application_id), 0), reason)

    @staticmethod
    def is_final(error: StreamsError) -> bool:
        """Whether an error of `look_again` will not pass by itself."""
        return isinstance(error, InvalidTopicError | MissingSourceTopicError | TopologyError)
