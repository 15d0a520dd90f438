"""How much more often a word or bigram stands in texts of one class than in others."""

import numpy as np
from jaxtyping import Float, Int


def log_count_ratios(
    inputs: Int[np.ndarray, "N T"],
    lengths: Int[np.ndarray, " N"],
    labels: Int[np.ndarray, " N"],
    num_ids: int,
    num_classes: int,
) -> Float[np.ndarray, "V C"]:
    """Log-count ratios of Wang and Manning (2012), from the presence of each id in a text.

    With n(v, c) one more than the texts of class c that hold the id v, and p(v, c) = n(v, c) / sum_u n(u, c), the ratio
    is ln p(v, c) - ln p(v, not c). Two classes have one column, that of the second; padding is not counted.

    Args:
        inputs: ids of N texts, right-padded.
        lengths: the ids of each text.
        labels: class of each text.
        num_ids: V.
        num_classes: C.

    Returns:
        float32 [V, C], or [V, 1] for two classes.
    """
    is_real = np.arange(inputs.shape[1]) < lengths[:, None]
    ids = np.sort(np.where(is_real, inputs, num_ids), axis=1)  # [N, T] padding last
    is_first = np.diff(ids, axis=1, prepend=-1) > 0
    cells = labels[:, None].astype(np.int64) * (num_ids + 1) + ids
    counts = np.bincount(cells[is_first], minlength=num_classes * (num_ids + 1))
    present = counts.reshape(num_classes, num_ids + 1)[:, :-1].astype(np.float64)  # [C, V]
    columns = [1] if num_classes == 2 else range(num_classes)
    inside = 1 + present[columns]
    outside = 1 + present.sum(axis=0) - present[columns]
    ratios = np.log(inside / inside.sum(axis=1, keepdims=True)) - np.log(outside / outside.sum(axis=1, keepdims=True))
    return ratios.T.astype(np.float32)
