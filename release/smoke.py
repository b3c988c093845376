"""Whether an installed jda is whole: python release/smoke.py kernels, or reference.

With "kernels" its native libraries are to load, on any system that they are built for;
with "reference" it is the wheel without them, which has to say so. Either computes.
"""

import platform
import sys
from importlib import resources

import jax
import jax.numpy as jnp

import jda

WHOLE = "kernels", "reference"


def main() -> None:
    """Raises AssertionError where something is amiss."""
    (expected,) = sys.argv[1:]
    assert expected in WHOLE, f"{expected!r}; it may be one of {WHOLE}"
    kernels = expected == "kernels"
    found = jda.implementations()
    assert found["reference"].available
    assert found["cpu"].available == kernels, found
    for name in ("cpu", "ascend"):  # the libraries; of Ascend, whether CANN is or not
        assert ("Wheels with kernels are for" in found[name].detail) != kernels, found
        assert ("native library" in found[name].detail) != kernels, found
    emulated = resources.files("jda.ffi") / "emulated"
    assert not emulated.is_dir(), "the emulation is no product"

    features = jnp.arange(6.0).reshape(1, 6, 1)  # one map of 2 x 3 pixels
    shape, start = jnp.int32([[[2, 3]]]), jnp.int32([[0]])
    locations = jnp.full((1, 1, 1, 1, 2), 0.5)
    weight = jnp.ones((1, 1, 1, 1, 1, 1))

    def aggregate(*arrays: jax.Array) -> jax.Array:
        features, locations, weight = arrays
        out = jda.deformable_aggregation(features, shape, start, locations, weight)
        return out.sum()

    value, gradients = jax.value_and_grad(aggregate, argnums=(0, 2))(
        features, locations, weight
    )
    assert value == 2.5, value
    expected_gradient = jnp.float32([0, 0.5, 0, 0, 0.5, 0])
    assert (gradients[0].ravel() == expected_gradient).all(), gradients[0]
    assert gradients[1].item() == 2.5, gradients[1]
    print(f"jda {jda.__version__}, jax {jax.__version__}, {platform.machine()}")
    print(found)


if __name__ == "__main__":
    main()
