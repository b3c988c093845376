"""The same card, the same problem: jda and `mx_driving.deformable_aggregation`.

Values and gradients of both are judged by the oracle; times are printed. mx_driving
puts x first, so all problems here do.
"""

import os

import jax
import numpy as np
import pytest

from tests.npu import mx_driving_peer
from tests.support import cases, on_card

pytestmark = pytest.mark.filterwarnings("default")  # PyTorch's warnings are its own

# Within the limits that mx_driving documents: group = 8, c <= 256, c / group a multiple
# of 8, at most 6 cameras and 4 scales, nothing of size zero.
SMALL = {
    "six cameras": cases.Shape(cases.RIG, batch=2, channels=64, groups=8),
    "clustered": cases.Shape(
        cases.RIG, anchors=9, points=5, channels=256, groups=8, locate=cases.clustered
    ),
    "one map": cases.Shape(cases.ONE, anchors=40, channels=128, groups=8),
}
SPARSE4D = ((64, 176), (32, 88), (16, 44), (8, 22))
LARGE = {
    "Sparse4D v3, 900 anchors, 6 cameras": cases.Shape(
        (SPARSE4D,) * 6,
        anchors=900,
        points=13,
        channels=256,
        groups=8,
        locate=cases.clustered,
    ),
    "10 anchors x 2000 points, one map": cases.Shape(
        (((32, 88),),), anchors=10, points=2000, channels=256, groups=8
    ),
}


@pytest.fixture(scope="module")
def peer(card):
    try:
        return mx_driving_peer.find(int(os.environ.get("JDA_ASCEND_DEVICE") or 0))
    except ImportError as error:
        pytest.skip(f"nothing to compare with: {error}")


@pytest.mark.parametrize("name", SMALL)
def test_both_are_right(name, peer):
    inputs = cases.swap_order(cases.make(SMALL[name]))
    judged = cases.judge(inputs, "xy")
    problem = (inputs, judged.cotangent)
    found = {
        "jda": on_card.value_and_gradients(*problem, "xy"),
        "jda's kernels": peer.fetch(peer.our_kernels(*problem)()),
        "mx_driving": peer.fetch(peer.call(*problem)()),
    }
    errors = {who: on_card.errors(results, judged) for who, results in found.items()}
    print(f"\n{name}: largest errors, as parts of what float32 allows")
    for who, parts in errors.items():
        print(f"  {who:14}", {what: f"{part:.3f}" for what, part in parts.items()})
    wrong = [
        f"{who}: {what}"
        for who, parts in errors.items()
        for what, part in parts.items()
        if part > 1
    ]
    assert not wrong, wrong


def in_float16(shape):
    """Inputs for us and for mx_driving, whose locations have 16 bits too."""
    inputs = cases.swap_order(cases.make(shape))
    locations = inputs.sample_locations.astype(np.float16)
    theirs = cases.narrowed(inputs, np.float16)._replace(sample_locations=locations)
    return theirs._replace(sample_locations=locations.astype(np.float32)), theirs


@pytest.mark.parametrize("name", SMALL)
def test_float16(name, peer):
    """Ours sums in float32 and rounds once. mx_driving's sums have 16 bits."""
    inputs, their_inputs = in_float16(SMALL[name])
    cotangent = cases.make_cotangent(inputs)
    judged = cases.judge(cases.widened(inputs), "xy", np.float32(cotangent))
    found = {
        "jda": on_card.value_and_gradients(inputs, cotangent, "xy"),
        "jda's kernels": peer.fetch(peer.our_kernels(inputs, cotangent)()),
        "mx_driving": peer.fetch(peer.call(their_inputs, cotangent)()),
    }
    print(f"\n{name} in float16: largest errors, as parts of the largest number")
    right = (judged.out, *judged.grads)
    for who, (out, grads) in found.items():
        parts = [
            np.abs(np.asarray(got, np.float64) - exact).max() / np.abs(exact).max()
            for got, exact in zip((out, *grads), right, strict=True)
        ]
        print(f"  {who:14}", [f"{part:.1e}" for part in parts])
    for who in ("jda", "jda's kernels"):
        on_card.assert_rounded_once(found[who], judged)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", LARGE)
def test_times(name, dtype, peer, platform):
    inputs = theirs_inputs = cases.swap_order(cases.make(LARGE[name]))
    if dtype == "float16":
        inputs, theirs_inputs = in_float16(LARGE[name])
    cotangent = cases.make_cotangent(inputs)
    program = on_card.program("xy")
    arguments = jax.device_put((tuple(inputs), cotangent))
    kernels = peer.our_kernels(inputs, cotangent)
    theirs = peer.call(theirs_inputs, cotangent)

    def ours():
        return jax.block_until_ready(program(*arguments))

    expected = peer.fetch(theirs())
    for results in (jax.device_get(ours()), peer.fetch(kernels())):
        apart = on_card.disagreement(results, expected)
        print("\n  apart:", {what: f"{value:.1e}" for what, value in apart.items()})
        if dtype == "float32":
            assert max(apart.values()) < 1e-4
    times = on_card.milliseconds(ours, kernels, theirs)
    copies = ", copies to and from the card included" if platform == "cpu" else ""
    print(f"{name}, {dtype}: forward and backward, medians of 20")
    print(f"  jda on the JAX platform {platform}: {times[0]:.3f} ms{copies}")
    print(f"  jda's kernels, arrays on the card: {times[1]:.3f} ms")
    print(f"  mx_driving, arrays on the card:    {times[2]:.3f} ms")
