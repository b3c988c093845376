"""One of two processes with two devices each: `one_of_two_processes.py RANK PORT`.

Run by tests/test_distributed.py. Prints what it has checked.
"""

import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests.eight_devices import scene
from tests.eight_devices.scene import INPUTS, SPLITS, forward, pull_back, run

COUNTS = {"batch": (0, 0), "anchor": (0, 1), "camera": (1, 1)}


def spread(array, mesh, spec):
    """Every process makes the parts of its own devices."""
    sharding = NamedSharding(mesh, spec)
    return jax.make_array_from_callback(array.shape, sharding, lambda at: array[at])


def whole(array):
    """All of an array, on every process."""
    everywhere = NamedSharding(array.sharding.mesh, P())
    copy = jax.jit(lambda x: x, out_shardings=everywhere)(array)
    return np.asarray(copy.addressable_data(0))


def main(rank, port):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
    assert (jax.process_count(), jax.device_count()) == (2, 4)
    mesh = scene.mesh((4,), ("x",))
    for axis, (once, back) in COUNTS.items():
        specs = SPLITS[axis]("x")
        pairs = zip(INPUTS, specs, strict=True)
        inputs = [spread(array, mesh, spec) for array, spec in pairs]
        out, found = run(forward, inputs)
        assert found == scene.reductions(once), (axis, found)
        grads, found = run(pull_back, inputs)
        assert found == scene.reductions(back), (axis, found)
        out, grads = whole(out), [whole(grad) for grad in grads]
        if rank == 0:
            scene.assert_forward(out)
            scene.assert_gradients(grads)
        print("right:", axis, flush=True)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
