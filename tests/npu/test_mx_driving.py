"""The same card, the same problem: jda and `mx_driving.deformable_aggregation`.

Values and gradients of both are judged by the oracle; times are printed. mx_driving
puts x first, so all problems here do.
"""

import os

import cases
import jax
import numpy as np
import on_card
import pytest

from npu import mx_driving_peer

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
        return mx_driving_peer.find(int(os.environ.get("JDA_ASCEND_DEVICE", "0")))
    except ImportError as error:
        pytest.skip(f"nothing to compare with: {error}")


@pytest.mark.parametrize("name", SMALL)
def test_both_are_right(name, peer):
    inputs = cases.swap_order(cases.make(SMALL[name]))
    judged = cases.judge(inputs, "xy")
    ours = on_card.value_and_gradients(inputs, judged.cotangent, "xy")
    theirs = peer.fetch(peer.call(inputs, judged.cotangent)())
    found = {
        "jda": on_card.errors(ours, judged),
        "mx_driving": on_card.errors(theirs, judged),
    }
    print(f"\n{name}: largest errors, as parts of what float32 allows")
    for who, errors in found.items():
        print(f"  {who:10}", {what: f"{error:.3f}" for what, error in errors.items()})
    wrong = [
        f"{who}: {what}"
        for who, errors in found.items()
        for what, error in errors.items()
        if error > 1
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("name", LARGE)
def test_times(name, peer, platform):
    inputs = cases.swap_order(cases.make(LARGE[name]))
    cotangent = cases.make_cotangent(inputs)
    program = on_card.program("xy")
    arguments = jax.device_put((tuple(inputs), cotangent))
    theirs = peer.call(inputs, cotangent)

    def ours():
        return jax.block_until_ready(program(*arguments))

    apart = on_card.disagreement(jax.device_get(ours()), peer.fetch(theirs()))
    our_time, their_time = on_card.milliseconds(ours, theirs)
    copies = ", copies to and from the card included" if platform == "cpu" else ""
    print(f"\n{name}: forward and backward, medians of 20")
    print(f"  jda {our_time:.3f} ms on the JAX platform {platform}{copies}")
    print(f"  mx_driving {their_time:.3f} ms, arrays on the card")
    print("  apart:", {what: f"{value:.1e}" for what, value in apart.items()})
    assert np.max(list(apart.values())) < 1e-4
