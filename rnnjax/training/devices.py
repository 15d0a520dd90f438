"""Where a run's arrays are: each batch is divided over all devices of all processes, all else is on every device.

One mesh of one axis, and JAX's own partitioning: a step is written for the whole batch, and the compiler adds what the
devices have to tell each other. So sums and counts are those of the whole batch before they are divided, and dropout
masks are drawn for it: with more devices a run takes the same steps, to float accuracy.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rnnjax.task import Batch

AXIS = "data"
"""Name of the mesh's axis, over which the rows of a batch are divided."""


class Devices:
    """A mesh of devices, and how arrays come to it and back."""

    def __init__(self, devices: Sequence[Any] | None = None) -> None:
        """Take `devices`, by default all of all processes."""
        self.mesh = Mesh(np.asarray(jax.devices() if devices is None else devices), (AXIS,), (AxisType.Auto,))
        self.divided = NamedSharding(self.mesh, PartitionSpec(AXIS))
        self.copied = NamedSharding(self.mesh, PartitionSpec())
        self.num_processes = jax.process_count()
        self.is_writer = jax.process_index() == 0
        """Whether this process is the one that writes the run folder and speaks to the user."""

    def num_rows(self, count: int) -> int:
        """`count` rows, and those that have to be added so that each device has as many."""
        return -(-count // self.mesh.size) * self.mesh.size

    def divide_batch(self, batch: Batch) -> dict[str, Any]:
        """A batch of NumPy arrays divided over the devices.

        Rows that have to be added repeat the first one, with weight 0. Every process gives the whole batch, and places
        the rows of its own devices.
        """
        if self.mesh.size == 1:  # the step takes NumPy arrays to the one device itself, in a tenth of the time
            return batch
        count = len(batch["weight"])
        if extra := self.num_rows(count) - count:
            batch = {name: np.concatenate([array, *[array[:1]] * extra]) for name, array in batch.items()}
            batch["weight"][count:] = 0
        return {name: self._place(array, self.divided) for name, array in batch.items()}

    def settle(self, results: Any) -> None:
        """Before a program is started, wait for the results of the one before, where devices share a CPU.

        There a device that waits for the others' part of a sum keeps a thread, and XLA has one for each core: programs
        of several steps can take them all and wait for ever (and do, after some hundred steps that nobody waits for).
        """
        if self.mesh.size > 1 and self.mesh.devices.flat[0].platform == "cpu":
            jax.block_until_ready(results)

    def divide_state(self, state: Any) -> Any:
        """A recurrent state `[B, ...]` divided over the devices; rows that have to be added are zeros."""

        def divide(leaf: Any) -> jax.Array:
            array = np.asarray(leaf)
            extra = self.num_rows(len(array)) - len(array)
            return self._place(np.pad(array, [(0, extra), *[(0, 0)] * (array.ndim - 1)]), self.divided)

        return jax.tree.map(divide, state)

    def copy(self, tree: Any) -> Any:
        """A tree of arrays, the same in every process, on every device."""
        return jax.tree.map(lambda leaf: self._place(np.asarray(leaf), self.copied), tree)

    def gather(self, tree: Any) -> Any:
        """Whole arrays of a tree on the host of each process; all processes have to ask."""
        return multihost_utils.process_allgather(tree, tiled=True)

    def agree(self, number: int) -> int:
        """The largest of the numbers that the processes give; all have to ask."""
        if self.num_processes == 1:
            return number
        return int(multihost_utils.process_allgather(np.asarray(number)).max())

    def have_same(self, value: Any) -> bool:
        """Whether all processes give the same value, of what JSON can say; all have to ask."""
        digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
        given = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))  # [processes, 32]
        return bool((given == given[0]).all())

    def _place(self, array: np.ndarray, sharding: NamedSharding) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
