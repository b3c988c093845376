"""The promise: XLA's handlers on a card, and what they refuse.

On the emulated driver, and on no hardware. A test that takes a launcher of its own sees
what a new process would: no card and no kernel is known yet.
"""

import ctypes

import ml_dtypes
import numpy as np
import pytest

from tests.launcher.calls import INVALID_ARGUMENT, OK, Call, OnCard, through_xla
from tests.support import cases, cxx, oracle
from tests.support.launched import both, bring_back, check, require_driver

require_driver()


@pytest.fixture(scope="module")
def frame() -> ctypes.CDLL:
    """XLA's side of a handler (launcher/frame.cc)."""
    return ctypes.CDLL(str(cxx.build("frame") / "frame.so"))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("name", ["rig", "300 points at one place", "no points"])
def test_handlers_of_a_card(name, deterministic, frame, launcher, runtime, books):
    one, stream = launcher(), runtime.stream()
    calls = both(name, deterministic=deterministic)
    arrays = [OnCard(runtime, call) for call in calls]
    books.reset()
    for call, on_card in zip(calls, arrays, strict=True):
        told = through_xla(frame, one, "device", call, on_card, stream)
        assert told == (OK, "")
    done = books.calls()
    assert not any("ynchronize" in call or "Memcpy" in call for call in done), done
    assert not books.kernels(), "enqueued, not awaited"
    runtime.synchronise(stream)
    bring_back(arrays)
    check(name, *calls)
    one.trim()
    runtime.destroy(stream)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("which", range(3))
def test_only_what_is_wanted_moves(which, deterministic, launcher, books):
    """The gradient of the maps alone needs no maps."""
    one, inputs = launcher(), cases.case("two cameras")
    judged = cases.judged_case("two cameras")
    wanted = tuple(i == which for i in range(3))
    call = Call(inputs, judged.cotangent, wanted, deterministic=deterministic)
    assert one.compute(call) == OK, one.error()
    results = list(map(np.float32, judged.grads))
    results[which] = call.results[which]
    cases.assert_gradients_within(results, judged)
    needed = inputs[1:] if which == 0 else inputs
    sizes = [array.nbytes for array in (*needed, judged.cotangent.astype(np.float32))]
    assert books.copies("host") == sizes
    assert books.copies("device") == [call.results[which].nbytes]
    assert books.calls()["aclrtLaunchKernelWithHostArgs"] == 1


WRONG = {
    "sample_locations must be float32 on Ascend": lambda x: x._replace(
        sample_locations=np.float64(x.sample_locations)
    ),
    "feature_maps has dtype number 12 on Ascend, where 10 (float16), 11 (": lambda x: (
        x._replace(feature_maps=np.float64(x.feature_maps))
    ),
    "weight has dtype number 12 on Ascend, where 11 (float32) and that of ": lambda x: (
        x._replace(weight=np.float64(x.weight))
    ),
    "weight has dtype number 10 on Ascend, where 11 (float32) and that of ": lambda x: (
        x._replace(weight=np.float16(x.weight))
    ),
    "must be int32": lambda x: x._replace(spatial_shape=np.float32(x.spatial_shape)),
    "must have 3, 5 and 6 dim": lambda x: x._replace(feature_maps=x.feature_maps[0]),
    "must agree in their sizes": lambda x: x._replace(weight=x.weight[:, :2]),
    "must describe the cameras": lambda x: x._replace(
        spatial_shape=x.spatial_shape[:1]
    ),
    "scale_start_index[1, 0] is ": lambda x: x._replace(
        scale_start_index=x.scale_start_index + np.int32([[0], [1000]])
    ),
}


@pytest.mark.parametrize("where", ["host", "device"])
@pytest.mark.parametrize("weights", [None, np.float32], ids=["narrow", "float32"])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("backward", [False, True])
def test_arrays_of_16_bits(
    backward, dtype, weights, where, frame, launcher, runtime, books
):
    inputs, cotangent, judged = cases.half_case("batch of five", dtype, weights)
    one, call = launcher(), Call(inputs, cotangent if backward else None)
    on_card = OnCard(runtime, call)
    stream = runtime.stream()
    if where == "host":
        told = through_xla(frame, one, where, call)
        given = [x.nbytes for x in call.operands]
        assert books.copies("host")[-len(given) :] == given
        assert books.copies("device") == [x.nbytes for x in call.results]
    else:
        told = through_xla(frame, one, where, call, on_card, stream)
        runtime.synchronise(stream)
        bring_back([on_card])
    assert told == (OK, "")
    if backward:
        cases.assert_gradients_within(call.results, judged)
    else:
        oracle.assert_rounded_once(call.results[0], judged.out, judged.out_scale)
    if where == "host":
        on_card.free()
    runtime.destroy(stream)
    one.trim()


def test_gradients_of_16_bits_in_several_launches(frame, launcher, runtime, books):
    """Elements with 49 MiB of sums, on a card: each has a launch, and one workspace."""
    shape = cases.Shape((((98, 512),),), batch=2, anchors=4, channels=256, groups=8)
    inputs = cases.narrowed(cases.make(shape), np.float16)
    cotangent = cases.make_cotangent(inputs)
    assert 4 * inputs.feature_maps[0].size == 49 << 20
    one, stream = launcher(), runtime.stream()
    whole = Call(inputs, cotangent)
    parts = [
        Call(
            inputs._replace(
                feature_maps=inputs.feature_maps[i : i + 1],
                sample_locations=inputs.sample_locations[i : i + 1],
                weight=inputs.weight[i : i + 1],
            ),
            cotangent[i : i + 1],
        )
        for i in range(2)
    ]
    arrays = [OnCard(runtime, call) for call in (whole, *parts)]
    books.reset()
    for call, on_card in zip((whole, *parts), arrays, strict=True):
        told = through_xla(frame, one, "device", call, on_card, stream)
        assert told == (OK, "")
        if call is whole:
            assert books.calls()["aclrtLaunchKernelWithHostArgs"] == 2
    runtime.synchronise(stream)
    bring_back(arrays)
    for i, part in enumerate(parts):
        for got, right in zip(whole.results, part.results, strict=True):
            np.testing.assert_allclose(
                np.float32(got[i : i + 1]), np.float32(right), rtol=1e-3, atol=1e-5
            )
    runtime.destroy(stream)
    one.trim()


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_refused(message, frame, launcher, books):
    one, right = launcher(), cases.case("two cameras")
    wrong = Call(right)
    wrong.inputs = WRONG[message](right)
    wrong.results = [np.zeros_like(wrong.results[0], wrong.inputs[0].dtype)]
    code, told = through_xla(frame, one, "host", wrong)
    assert (code, told[:5]) == (INVALID_ARGUMENT, "jda: ")
    assert message in told
    assert not books.kernels()
