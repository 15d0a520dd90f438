"""What watches a run from epoch to epoch."""

import dataclasses
import math


@dataclasses.dataclass
class EarlyStopping:
    """Remember the best epoch by val_loss, and say when to stop.

    `patience` epochs without a lower val_loss end the run; with 0 it goes on. Like Keras's callback with
    `restore_best_weights=True`: the parameters of the best epoch are the result.
    """

    patience: int
    best_value: float = math.inf
    best_epoch: int = 0
    waited: int = 0

    def update(self, epoch: int, value: float) -> bool:
        """Take in an epoch's val_loss; True if it is the best so far."""
        if value < self.best_value:
            self.best_value, self.best_epoch, self.waited = value, epoch, 0
            return True
        self.waited += 1
        return False

    @property
    def stops(self) -> bool:
        """Whether the run should end."""
        return self.patience > 0 and self.waited >= self.patience
