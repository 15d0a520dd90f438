"""A notice to a person whose model has begun to learn its training data by heart."""

from collections.abc import Mapping, Sequence
from typing import Any

EPOCHS = 2
"""Epochs with a val_loss above the best, while the training loss falls, that make the notice."""

REMEDIES = {
    "dropout": "a higher --dropout",
    "recurrent_dropout": "a higher --recurrent-dropout",
    "units": "fewer --units",
    "l2": "a higher --l2",
    "weight_decay": "a higher --weight-decay",
}
"""Settings that help, where a task has them, and what to do with them."""


def overfits(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether val_loss has been above its best for the last `EPOCHS` epochs or more, while the training loss fell.

    `history` has for each epoch `train` and `validation` metrics, each with a "loss".
    """
    if not history:
        return False
    train = [record["train"]["loss"] for record in history]
    validation = [record["validation"]["loss"] for record in history]
    best = validation.index(min(validation))
    since = range(best + 1, len(history))
    return len(since) >= EPOCHS and all(
        validation[epoch] > validation[best] and train[epoch] < train[epoch - 1] for epoch in since
    )


def overfitting_notice(history: Sequence[Mapping[str, Any]], config: Any) -> str | None:
    """What to say after the last epoch of `history`: nothing, unless it is the first of the run that shows it."""
    if not overfits(history) or any(overfits(history[:count]) for count in range(len(history))):
        return None
    losses = [record["validation"]["loss"] for record in history]
    best = losses.index(min(losses))
    remedies = [text for name, text in REMEDIES.items() if hasattr(config, name)]
    return (
        f"over-fitting: val_loss was best after epoch {history[best]['epoch']} ({losses[best]:.4f}) and is "
        f"{losses[-1]:.4f} now, while the training loss still falls. The best weights are kept. "
        f"Remedies: {', '.join([*remedies, 'an earlier stop (a lower --patience or --epochs)', 'more data'])}."
    )
