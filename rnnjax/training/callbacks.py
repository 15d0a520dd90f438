"""What watches a run from epoch to epoch."""

import dataclasses
import math


@dataclasses.dataclass
class EarlyStopping:
    """Remember the best epoch by one metric, and say when to stop. Its fields go into each checkpoint.

    `patience` epochs without an improvement of more than `min_change` end the run; with 0 it goes on. Like Keras's
    callback of this name.
    """

    patience: int
    maximises: bool = False
    """Whether larger values are better."""
    min_change: float = 0.0
    best_value: float | None = None
    best_epoch: int = 0
    waited: int = 0

    def update(self, epoch: int, value: float) -> bool:
        """Take in an epoch's metric; True if it is the best so far."""
        worst = -math.inf if self.maximises else math.inf
        best = worst if self.best_value is None else self.best_value
        improvement = value - best if self.maximises else best - value
        if improvement > self.min_change:
            self.best_value, self.best_epoch, self.waited = value, epoch, 0
            return True
        self.waited += 1
        return False

    @property
    def stops(self) -> bool:
        """Whether the run should end."""
        return self.patience > 0 and self.waited >= self.patience
