"""The metrics of a run as event files of TensorBoard, written without TensorFlow."""

import datetime
import shutil
from collections.abc import Mapping
from typing import Any

from rnnjax.training.folder import METRICS_KEYS, RunFolder


class Events:
    """`tensorboard/` in a run folder: a folder for each split, so that TensorBoard draws them into one chart.

    metrics.jsonl is what counts. The events are made from it anew whenever a run starts or goes on, and so hold each
    step once.
    """

    def __init__(self, folder: RunFolder) -> None:
        """Write the events of the lines that there are."""
        self.folder = folder.tensorboard
        with folder.explain_config():
            self.created = datetime.datetime.fromisoformat(folder.read_config()["created"]).timestamp()
        self.writers: dict[str, Any] = {}
        if self.folder.exists():
            shutil.rmtree(self.folder)
        for record in folder.read_metrics():
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> None:
        """Write the events of a line of metrics.jsonl; they are in the file when this returns."""
        from tensorboardX import SummaryWriter

        split = record["split"]
        if split not in self.writers:
            self.writers[split] = SummaryWriter(str(self.folder / split))
        time = self.created + record["seconds"]
        for name, value in record.items():
            if name not in METRICS_KEYS:
                self.writers[split].add_scalar(name, value, record["step"], time)
        self.writers[split].flush()

    def close(self) -> None:
        """Write no more."""
        for writer in self.writers.values():
            writer.close()
