"""How saturated this runtime and each of its models is, for whoever scales pods."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import Metric

from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.load import LoadMeter

POD = "flambeau_saturation"
MODEL = "flambeau_model_saturation"


class SaturationCollector:
    """Two gauges, averaged over the time since the scrape before."""

    def __init__(self, lives: Callable[[], Sequence[LiveVersion]]) -> None:
        self._lives = lives
        self._pod = LoadMeter()
        self._models: dict[str, LoadMeter] = {}
        self._hostname = socket.gethostname()

    def collect(self) -> Iterator[Metric]:
        """Yield both; belongs to the loop's thread, like everything it reads."""
        now = asyncio.get_running_loop().time()
        lives = self._lives()
        pod = Metric(
            POD, "Busy share of all workers there may be; above 1: requests wait.", "gauge"
        )
        labels = {"hostname": self._hostname}
        pod.add_sample(POD, labels, self._pod.read(lives, now).saturation)
        models = Metric(MODEL, "The same for all versions of one model.", "gauge")
        names = sorted({live.spec.model for live in lives})
        self._models = {name: self._models.get(name, LoadMeter()) for name in names}
        for name, meter in self._models.items():
            own = [live for live in lives if live.spec.model == name]
            load = meter.read(own, now)
            models.add_sample(MODEL, {"model_name": name, **labels}, load.saturation)
        yield from (pod, models)
