"""The promise: `jda.torch` gives the bits that JAX gives, as PyTorch expects it."""

import ctypes
import os
import re
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda
from jda import sparse4d
from jda._dimensions import FLOATING
from jda.ffi import c_api
from tests.support import cases, oracle
from tests.support.emulated_books import EmulatedDriver
from tests.support.implementations import enable_x64, require, require_module
from tests.test_errors import GOOD, SHAPES, VALUES
from tests.test_sparse4d_torch import (
    SMALL,
    assert_close,
    converted,
    layer_arguments,
    layer_of,
    randomised,
)

torch = require_module("torch")
torch_sparse4d = require_module("tests.support.torch_sparse4d")
jda_torch = require_module("jda.torch")
ours = jda_torch.deformable_aggregation
OPERATOR = torch.ops.jda.deformable_aggregation.default
BACKWARD = torch.ops.jda.deformable_aggregation_backward.default

TYPES = {  # dtypes of feature maps and weights
    "float32": (np.float32, np.float32),
    "float64": (np.float64, np.float64),
    "bfloat16": (jnp.bfloat16, jnp.bfloat16),
    "float16": (np.float16, np.float16),
    "bfloat16 beside float32": (jnp.bfloat16, np.float32),
    "float16 beside float32": (np.float16, np.float32),
}
NAMES = ("two cameras", "rig", "rig clustered", "rig remarkable", "300 points")


@pytest.fixture(autouse=True)
def with_kernels():
    require("cpu")


@pytest.fixture
def threads():
    """Sets the number of PyTorch's threads for a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def tensor(array):
    """NumPy has no bfloat16 that PyTorch knows: by its bits."""
    array = np.array(array)
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def bits(array):
    if torch.is_tensor(array):
        array = array.detach().contiguous().view(torch.uint8)
    return np.asarray(array).tobytes()


def problem(name, types="float32"):
    of_maps, of_weight = TYPES[types]
    wide = np.float64 if types == "float64" else np.float32
    inputs = cases.narrowed(cases.case(name, wide), of_maps, of_weight)
    return inputs, cases.make_cotangent(inputs)


def tensors_of(inputs, wanted=FLOATING):
    found = inputs._replace(**{k: tensor(v) for k, v in inputs._asdict().items()})
    for name in wanted:
        getattr(found, name).requires_grad_()
    return found


def there(inputs, cotangent, wanted=FLOATING, **keywords):
    """Result and gradients of PyTorch."""
    tensors = tensors_of(inputs, wanted)
    out = ours(*tensors, **keywords)
    grads = torch.autograd.grad(out, tensors.chosen(wanted), tensor(cotangent))
    return [out, *grads]


def here(inputs, cotangent, wanted=FLOATING, **keywords):
    """Result and gradients of JAX, on the same kernels."""

    def of_wanted(*floats):
        given = inputs.replaced(dict(zip(wanted, floats, strict=True)))
        return jda.deformable_aggregation(*given, implementation="cpu", **keywords)

    with enable_x64():
        out, pull = jax.vjp(of_wanted, *map(jnp.asarray, inputs.chosen(wanted)))
        return [out, *pull(jnp.asarray(cotangent))]


def assert_same(found, wanted):
    for x, y in zip(found, wanted, strict=True):
        assert tuple(x.shape) == tuple(y.shape)
        assert bits(x) == bits(y)


@pytest.mark.parametrize("name", cases.ZOO)
def test_every_shape_is_computed_as_by_jax(name):
    inputs, cotangent = problem(name)
    assert_same(there(inputs, cotangent), here(inputs, cotangent))


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_dtype_is_computed_as_by_jax(name, types):
    inputs, cotangent = problem(name, types)
    found = there(inputs, cotangent)
    assert_same(found, here(inputs, cotangent))
    assert [x.dtype for x in found[1:]] == [
        tensor(x).dtype for x in inputs.chosen(FLOATING)
    ]


@pytest.mark.parametrize("name", cases.BOTH_ORDERS)
def test_order_of_coordinates(name):
    inputs, cotangent = problem(name)
    swapped = cases.swap_order(inputs), cotangent
    order = {"coordinate_order": "xy"}
    assert_same(there(*swapped, **order), here(*swapped, **order))


@pytest.mark.parametrize(
    "wanted", [("feature_maps",), ("weight",), ("sample_locations", "weight")]
)
def test_gradients_that_are_not_wanted(wanted):
    inputs, cotangent = problem("rig")
    found = there(inputs, cotangent, wanted)
    assert_same(found, here(inputs, cotangent, wanted))


def test_no_gradient_at_all():
    inputs, _ = problem("rig")
    assert not ours(*tensors_of(inputs, ())).requires_grad
    with torch.no_grad():
        assert not ours(*tensors_of(inputs)).requires_grad


def strided(x):
    """The same values, not contiguous."""
    return torch.stack([x, torch.full_like(x, -1)], dim=-1)[..., 0]


def test_tensors_that_are_not_contiguous():
    inputs, cotangent = problem("rig")
    apart = [strided(x.detach()) for x in tensors_of(inputs)]
    assert not any(x.is_contiguous() for x in apart)
    leaves = tensors_of(inputs)._make(apart)
    for name in FLOATING:
        getattr(leaves, name).requires_grad_()
    out = ours(*leaves)
    bar = strided(tensor(cotangent))
    grads = torch.autograd.grad(out, leaves.chosen(FLOATING), bar)
    assert_same([out, *grads], here(inputs, cotangent))


def test_a_cotangent_that_is_one_number():
    """As of a sum: it is expanded, and has no memory of its own."""
    inputs, cotangent = problem("rig")
    tensors = tensors_of(inputs)
    ours(*tensors).sum().backward()
    found = [x.grad for x in tensors.chosen(FLOATING)]
    assert_same(found, here(inputs, np.ones_like(cotangent))[1:])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.uint8])
def test_integers_of_other_sizes(dtype):
    inputs, cotangent = problem("two cameras")
    tensors = tensors_of(inputs, ())
    out = ours(
        tensors.feature_maps,
        tensors.spatial_shape.to(dtype),
        tensors.scale_start_index.to(dtype),
        *tensors[3:],
    )
    assert_same([out], here(inputs, cotangent)[:1])


@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist])
def test_index_arrays_need_not_be_tensors(convert):
    inputs, cotangent = problem("two cameras")
    tensors = tensors_of(inputs, ())
    indices = map(convert, (inputs.spatial_shape, inputs.scale_start_index))
    out = ours(tensors.feature_maps, *indices, *tensors[3:])
    assert_same([out], here(inputs, cotangent)[:1])


def test_threads_change_nothing(threads):
    shape = cases.Shape(cases.RIG, batch=2, anchors=200, points=13, channels=64)
    inputs = cases.make(shape)
    cotangent = cases.make_cotangent(inputs)
    threads(1)
    alone = there(inputs, cotangent)
    for count in (2, 3, 16):
        threads(count)
        for _ in range(5):
            assert_same(there(inputs, cotangent), alone)


def in_a_process(source, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(source)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_that_was_forked_computes_too():
    """A data loader's: the threads that helped its parent are not there."""
    told = in_a_process("""
        import os, torch, jda.torch
        torch.set_num_threads(3)
        maps, weight = torch.randn(1, 600, 64), torch.randn(1, 200, 9, 1, 1, 8)
        locations = torch.rand(1, 200, 9, 1, 2)
        given = maps, [[[20, 30]]], [[0]], locations, weight
        before = jda.torch.deformable_aggregation(*given)
        child = os.fork()
        same = torch.equal(before, jda.torch.deformable_aggregation(*given))
        if child == 0:
            os._exit(0 if same else 1)
        print(same, os.waitpid(child, 0)[1])
    """)
    assert told.split() == ["True", "0"]


def test_helpers_flush_denormal_numbers_where_the_caller_does():
    """Whatever it did when they started."""
    told = in_a_process("""
        import torch, jda.torch
        maps = torch.full((1, 600, 64), 1e-39)
        locations, weight = torch.rand(1, 900, 9, 1, 2), torch.ones(1, 900, 9, 1, 1, 8)
        given = maps, [[[20, 30]]], [[0]], locations, weight
        def sums(threads):
            torch.set_num_threads(threads)
            calls = [jda.torch.deformable_aggregation(*given) for _ in range(20)]
            return {float(x.sum(dtype=torch.float64)) for x in calls}
        kept = sums(3)
        assert torch.set_flush_denormal(True)
        print(len(kept), min(kept) > 0, sums(1) == sums(3))
    """)
    assert told.split() == ["1", "True", "True"]


def test_a_call_holds_no_lock_of_python():
    """ctypes calls the functions of a PyDLL with it, and those of a CDLL without."""
    assert not isinstance(c_api._cpu(), ctypes.PyDLL)


# What PyTorch asks of an operator.


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", ["one map", "rig", "no anchors", "all invisible"])
@pytest.mark.parametrize("wanted", [FLOATING, ("weight",), ()])
def test_opcheck(name, wanted):
    inputs, cotangent = problem(name)
    torch.library.opcheck(OPERATOR, (*tensors_of(inputs, wanted), "yx"))
    flags = [name in wanted for name in FLOATING]
    given = (tensor(cotangent), *tensors_of(inputs, ()), "yx", flags)
    torch.library.opcheck(BACKWARD, given)


def test_gradcheck():
    shape = cases.Shape(cases.TWO_CAMERAS, channels=4, locate=cases.smooth)
    inputs = cases.make(shape, dtype=np.float64)
    torch.autograd.gradcheck(ours, tuple(tensors_of(inputs)), fast_mode=True)


def test_no_second_derivative():
    inputs, _ = problem("one map")
    tensors = tensors_of(inputs)
    out = ours(*tensors).square().sum()
    (grad,) = torch.autograd.grad(out, [tensors.weight], create_graph=True)
    with pytest.raises(RuntimeError, match="deformable_aggregation_backward"):
        grad.sum().backward()


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_no_forward_mode():
    """A tangent is refused, and not taken for zero."""
    inputs, _ = problem("one map")
    tensors = tensors_of(inputs, ())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(tensors.weight, tensors.weight)
        with pytest.raises(NotImplementedError, match="forward mode AD"):
            ours(*tensors._replace(weight=dual))


def test_modes_of_dispatch_see_both_operators():
    mode = torch.utils._python_dispatch.TorchDispatchMode

    class Watch(mode):  # type: ignore[valid-type]
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    seen = []
    inputs, cotangent = problem("one map")
    with Watch():
        there(inputs, cotangent)
    assert [x for x in seen if x.namespace == "jda"] == [OPERATOR, BACKWARD]


def test_compiled():
    inputs, cotangent = problem("rig")

    def twice(*tensors):
        return 2 * ours(*tensors, coordinate_order="xy")

    results = []
    for function in (twice, torch.compile(twice, backend="aot_eager", fullgraph=True)):
        tensors = tensors_of(inputs)
        out = function(*tensors)
        bar = tensor(cotangent)
        grads = torch.autograd.grad(out, tensors.chosen(FLOATING), bar)
        results.append([out, *grads])
    assert_same(*results)


# PyTorch 2.4 says so of every operator that is not its own.
@pytest.mark.filterwarnings("ignore:At pre-dispatch tracing")
def test_exported_for_any_batch():
    class Model(torch.nn.Module):  # type: ignore[name-defined]
        def forward(self, features, shapes, starts, locations, weight):
            return ours(features, shapes, starts, locations, weight)

    inputs, cotangent = problem("batch of five")
    batch = {0: torch.export.Dim("bs", min=2)}
    program = torch.export.export(
        Model(),
        tuple(tensors_of(inputs, ())),
        dynamic_shapes=(batch, None, None, batch, batch),
    )
    fewer = inputs.replaced({name: getattr(inputs, name)[:3] for name in FLOATING})
    found = program.module()(*tensors_of(fewer, ()))
    assert_same([found], here(fewer, cotangent[:3])[:1])


# A model of PyTorch beside the ported one.


class Layer(torch_sparse4d.Layer):  # type: ignore[name-defined]
    """The aggregation through `jda.torch`."""

    def aggregate(self, maps, locations, weight):
        rows = [x.flatten(3).transpose(2, 3) for x in maps]  # [b, k, h*w, c]
        sizes = torch.tensor([x.shape[-2:] for x in maps]).repeat(len(rows[0][0]), 1, 1)
        pixels = sizes.prod(dim=-1).flatten()
        return ours(
            torch.cat(rows, dim=2).flatten(1, 2),
            sizes,
            (pixels.cumsum(0) - pixels).view(sizes.shape[:2]),
            locations.permute(0, 2, 3, 1, 4),
            weight.permute(0, 1, 4, 2, 3, 5),
            coordinate_order="xy",
        )

    def forward(self, feature, anchor, embed, matrices, sizes, *maps):
        return super().forward(feature, anchor, embed, maps, matrices, sizes)


def test_sparse4d_layer(float64):
    """Result and all gradients, of weights too, in float64 on both sides."""
    module = randomised(Layer(SMALL)).double()
    arguments = layer_arguments(SMALL, batch=2, number=30)
    arguments = [np.asarray(x, np.float64) for x in arguments]
    params = converted(module)
    result, pull = jax.vjp(layer_of(SMALL), params, *map(jnp.asarray, arguments))
    bar = np.random.default_rng(0).standard_normal(result.shape)
    of_params, *of_arguments = pull(jnp.asarray(bar))

    tensors = [torch.tensor(x, requires_grad=True) for x in arguments]
    out = module(*tensors)
    out.backward(torch.tensor(bar))
    gradients = sparse4d.state_dict_from_params(of_params)
    named = {k: p.grad for k, p in module.named_parameters() if p.requires_grad}
    found = [out.detach(), *(x.grad for x in tensors), *named.values()]
    wanted = [result, *of_arguments, *(gradients[name] for name in named)]
    assert_close([x.numpy() for x in found], map(np.asarray, wanted), tolerance=2e-6)


# On an NPU, as far as a machine without one allows: what torch_npu does is done here,
# and its tensors are memory of the emulated driver. None of this has run on a card.


class Stream(NamedTuple):
    npu_stream: int | None


@pytest.fixture
def on_npu(monkeypatch):
    """Lets `torch.npu` have a current stream."""

    def use(stream):
        npu = SimpleNamespace(
            device=lambda device: nullcontext(),
            current_stream=lambda device: Stream(stream),
        )
        monkeypatch.setattr(torch, "npu", npu, raising=False)

    return use


def over(pointer, like):
    """A tensor in memory that only the card may touch."""
    memory = (ctypes.c_char * like.nbytes).from_address(pointer)
    return torch.frombuffer(memory, dtype=tensor(like).dtype).view(like.shape)


@pytest.mark.parametrize("order", ["yx", "xy"])
@pytest.mark.parametrize("name", ["two cameras", "rig"])
def test_npu_on_the_emulated_driver(name, order, on_npu):
    require("ascend")
    inputs, cotangent = problem(name)
    given = inputs if order == "yx" else cases.swap_order(inputs)
    results = [cotangent, *given.chosen(FLOATING)]
    arrays = [*given, cotangent, *(np.full_like(x, np.nan) for x in results)]
    names = (*inputs._fields, "cotangent", "out", *(f"grad_{x}" for x in FLOATING))
    driver = EmulatedDriver()
    driver.reset()
    with driver.memory(arrays) as (pointers, stream, fetch):
        on_npu(stream)
        tensors = dict(zip(names, map(over, pointers, arrays), strict=True))
        before = driver.calls()
        operands = {name: tensors[name] for name in inputs._fields}
        out = {"out": tensors["out"]}
        jda_torch._run_on_npu("forward", operands, out, order)
        operands["cotangent"] = tensors["cotangent"]
        grads = {name: tensors[name] for name in names if name.startswith("grad")}
        jda_torch._run_on_npu("backward", operands, grads, order)
        called = driver.calls() - before
        *_, out, features, locations, weight = fetch()
    assert not driver.findings()
    assert called["aclrtLaunchKernelWithHostArgs"] >= 2
    assert not called["aclrtSynchronizeStream"]
    judged = cases.judged_case(name)
    oracle.assert_within(out, judged.out, judged.out_scale)
    if order == "xy":
        locations = locations[..., ::-1]
    cases.assert_gradients_within((features, locations, weight), judged)


def test_npu_after_two_failed_launches_in_a_row(on_npu):
    require("ascend")
    inputs, cotangent = problem("two cameras")
    arrays = [*inputs, np.full_like(cotangent, np.nan)]
    driver = EmulatedDriver()
    driver.reset()
    with driver.memory(arrays) as (pointers, stream, fetch):
        on_npu(stream)
        *given, out = map(over, pointers, arrays)
        operands, outputs = dict(zip(inputs._fields, given, strict=True)), {"out": out}
        for _ in range(2):
            driver.fail("aclrtLaunchKernelWithHostArgs", 1, 507899)
            with pytest.raises(RuntimeError, match="aclrtLaunchKernelWithHostArgs"):
                jda_torch._run_on_npu("forward", operands, outputs, "yx")
        jda_torch._run_on_npu("forward", operands, outputs, "yx")
        *_, found = fetch()
    assert not driver.findings()
    judged = cases.judged_case("two cameras")
    oracle.assert_within(found, judged.out, judged.out_scale)


@pytest.mark.parametrize("types", ["bfloat16", "float16 beside float32"])
def test_npu_computes_16_bits_in_float32(types, on_npu, monkeypatch):
    """Arrays go as they are. Here the kernels of the CPU stand in for the card's."""
    called = {}

    def enqueue(operation, given, pointers, stream):
        dtypes = given.feature_maps_dtype, given.weight_dtype
        called[operation] = dtypes
        call = c_api.CpuProblem(given.sizes, given.y_axis, *dtypes, 1)
        c_api.compute(operation, call, pointers)

    on_npu(None)
    monkeypatch.setattr(c_api, "enqueue", enqueue)
    monkeypatch.setitem(jda_torch._RUNS, "cpu", jda_torch._run_on_npu)
    inputs, cotangent = problem("rig", types)
    found = there(inputs, cotangent)
    wanted = here(cases.widened(inputs), np.float32(cotangent))
    dtypes = [cotangent.dtype, *(x.dtype for x in inputs.chosen(FLOATING))]
    narrow = [x.astype(dtype) for x, dtype in zip(wanted, dtypes, strict=True)]
    assert_same(found, narrow)
    numbers = [c_api.DTYPES[inputs[i].dtype.name] for i in (0, 4)]
    assert called == dict.fromkeys(("forward", "backward"), tuple(numbers))


@pytest.mark.parametrize("types", ["bfloat16", "float16", "float16 beside float32"])
def test_npu_forward_on_arrays_of_16_bits(types, on_npu):
    """By the kernel itself, on memory of the emulated card."""
    require("ascend")
    inputs, cotangent = problem("rig", types)
    arrays = [*inputs, np.zeros_like(cotangent)]
    driver = EmulatedDriver()
    driver.reset()
    with driver.memory(arrays) as (pointers, stream, fetch):
        on_npu(stream)
        *given, out = map(over, pointers, arrays)
        operands = dict(zip(inputs._fields, given, strict=True))
        jda_torch._run_on_npu("forward", operands, {"out": out}, "yx")
        *_, found = fetch()
    assert not driver.findings()
    assert found.dtype == cotangent.dtype
    judged = cases.judge(cases.widened(inputs))
    oracle.assert_rounded_once(found, judged.out, judged.out_scale)


def test_npu_takes_no_float64(on_npu, monkeypatch):
    on_npu(None)
    monkeypatch.setitem(jda_torch._RUNS, "cpu", jda_torch._run_on_npu)
    message = (
        "feature_maps has dtype float64, on npu allowed are float32, bfloat16 and "
        "float16"
    )
    changed = {name: np.float64(GOOD[name]) for name in FLOATING}
    fails(TypeError, message, **changed)


def test_other_devices(monkeypatch):
    monkeypatch.delitem(jda_torch._RUNS, "cpu")
    fails(TypeError, "feature_maps is on cpu, jda.torch computes on npu")


# Wrong arguments.


def fails(error, message, *, device=None, coordinate_order="yx", **changed):
    given = {
        name: torch.as_tensor(value).to(device)
        for name, value in (GOOD | changed).items()
    }
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        ours(**given, coordinate_order=coordinate_order)


@pytest.mark.parametrize(("message", "changed"), SHAPES.items(), ids=SHAPES)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_shapes(message, changed, device):
    fails(ValueError, message, device=device, **changed)


@pytest.mark.parametrize(("message", "changed"), VALUES.items(), ids=VALUES)
def test_values_of_the_maps(message, changed):
    fails(ValueError, message, **changed)


def test_two_wrong_calls_in_a_row_spoil_nothing():
    message, changed = next(iter(VALUES.items()))
    for _ in range(2):
        fails(ValueError, message, **changed)
    inputs, cotangent = problem("rig")
    assert_same(there(inputs, cotangent), here(inputs, cotangent))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_nothing_is_remembered_of_index_tensors_but_their_values(dtype):
    inputs, cotangent = problem("rig")
    tensors = tensors_of(inputs, ())
    indices = [x.to(dtype) for x in (tensors.spatial_shape, tensors.scale_start_index)]
    given = tensors._replace(spatial_shape=indices[0], scale_start_index=indices[1])
    wanted = here(inputs, cotangent)[:1]
    assert_same([ours(*given)], wanted)
    indices[1] += 2**20
    with pytest.raises(ValueError, match=r"^scale_start_index\[0, 0\] is 1048576"):
        ours(*given)
    indices[1] -= 2**20
    assert_same([ours(*given)], wanted)
    indices[0][0, 0, 0] = 1
    smaller = inputs._replace(spatial_shape=indices[0].int().numpy())
    assert_same([ours(*given)], here(smaller, cotangent)[:1])


def test_what_was_right_once_is_checked_again():
    inputs, _ = problem("rig")
    tensors = tensors_of(inputs, ())
    ours(*tensors)
    for changed, error, name in (
        (tensors.weight.double(), TypeError, "weight has dtype float64"),
        (tensors.weight[:, :1], ValueError, "weight has anchor=1"),
        (tensors.weight.to("meta"), ValueError, "weight is on meta"),
    ):
        with pytest.raises(error, match=f"^{name}"):
            ours(*tensors._replace(weight=changed))


def test_values_beyond_int32():
    message = (
        "scale_start_index[0, 0] is 4294967296 and spatial_shape[0, 0] is (2, 4), so "
        "that the map ends at row 4294967304, but feature_maps has num_feat=14"
    )
    starts = np.array([[2**32], [8]])
    fails(ValueError, message, scale_start_index=starts)


def test_dtypes():
    message = (
        "feature_maps has dtype int32, allowed are float32, float64, bfloat16 and "
        "float16"
    )
    fails(TypeError, message, feature_maps=np.zeros((2, 14, 8), np.int32))
    message = (
        "weight has dtype float64, it must have dtype float32 where feature_maps has "
        "dtype float32"
    )
    fails(TypeError, message, weight=np.zeros((2, 3, 4, 2, 1, 2)))
    message = "spatial_shape has dtype float32, allowed are integers"
    fails(TypeError, message, spatial_shape=np.ones((2, 1, 2), np.float32))


def test_order_of_coordinates_is_known():
    message = "coordinate_order='zyx' is unknown, allowed are 'yx', 'xy'"
    fails(ValueError, message, coordinate_order="zyx")


@pytest.mark.parametrize("name", FLOATING)
def test_what_is_no_tensor(name):
    given = {k: torch.as_tensor(v) for k, v in GOOD.items()} | {name: GOOD[name]}
    with pytest.raises(TypeError, match=f"^{name} is a ndarray, it must be a tensor$"):
        ours(**given)


def test_devices_differ():
    given = {k: torch.as_tensor(v) for k, v in GOOD.items()}
    given["weight"] = given["weight"].to("meta")
    message = (
        "weight is on meta but feature_maps is on cpu; put them on the same device by "
        "Tensor.to"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ours(**given)


# Importing it.


def test_jda_alone_does_not_import_torch():
    told = in_a_process("import jda, sys; print('torch' in sys.modules)")
    assert told.split() == ["False"]


def test_without_torch():
    told = in_a_process("""
        import sys
        sys.modules["torch"] = None
        try:
            import jda.torch
        except ImportError as error:
            print(error)
    """)
    assert told.strip() == "jda.torch needs PyTorch: pip install 'jda[torch]'"


def test_an_unknown_instruction_set():
    told = in_a_process(
        """
        import torch, jda.torch
        try:
            jda.torch.deformable_aggregation(
                torch.ones(1, 6, 4), [[[2, 3]]], [[0]],
                torch.full((1, 1, 1, 1, 2), 0.5), torch.ones(1, 1, 1, 1, 1, 2))
        except ValueError as error:
            print(error)
        """,
        JDA_CPU_ISA="avx3",
    )
    assert "JDA_CPU_ISA is 'avx3'" in told
