"""Deformable aggregation for PyTorch, on the kernels that JAX calls here.

A PyTorch model that is to be ported runs on a CPU without any CUDA build, and each of
its layers can be compared with the ported one: both compute the same sums in the same
order. It needs the extra ``torch``; ``import jda`` alone does not import PyTorch.
"""

import functools
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jda import _check
from jda._dimensions import FLOATING, INDEX, Operands
from jda._environment import flag
from jda.ffi import c_api

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "jda.torch needs PyTorch: pip install 'jda[torch]'"
    ) from error

__all__ = ["deformable_aggregation"]

_Tensors = dict[str, torch.Tensor]


def deformable_aggregation(
    feature_maps: torch.Tensor,
    spatial_shape: Any,
    scale_start_index: Any,
    sample_locations: torch.Tensor,
    weight: torch.Tensor,
    *,
    coordinate_order: str = "yx",
) -> torch.Tensor:
    """As :func:`jda.deformable_aggregation`, for tensors.

    It is the operator ``torch.ops.jda.deformable_aggregation`` of ``torch.library``:
    autograd, fake tensors and ``torch.compile`` know it. The backward computes the
    gradients that are wanted and no others; it has no derivative itself. Tensors that
    are not contiguous are copied.

    Tensors on the CPU are computed on ``torch.get_num_threads()`` threads; the result
    depends neither on their number nor on the run. Tensors on ``npu`` go to the kernels
    for Ascend, on torch_npu's current stream, which has never been tried on a card.

    Args:
        feature_maps: [bs, num_feat, c], float32, float64, bfloat16 or float16.
        spatial_shape: [cam, scale, 2], (H, W) of each map, as a tensor of any integers,
            an array or nested lists.
        scale_start_index: [cam, scale], first row of each map in num_feat, likewise.
        sample_locations: [bs, anchor, pts, cam, 2], normalised; anything outside of
            (0, 1) is legal. float64 beside float64 maps, float32 beside all others.
        weight: [bs, anchor, pts, cam, scale, group], of the maps' dtype, or float32
            beside maps of 16 bits.
        coordinate_order: ``"yx"`` or ``"xy"``, the last axis of ``sample_locations``.
            Sparse4D and the kernels of ``mx_driving`` have ``"xy"``.

    Returns:
        The aggregated features [bs, anchor, c], of the maps' dtype.

    Raises:
        ValueError: if a shape does not fit the others, ``group`` does not divide ``c``,
            ``coordinate_order`` is unknown, the tensors are on different devices or, on
            the CPU, a map does not lie within num_feat.
        TypeError: if an argument is no tensor, or a dtype or device is not supported.
        RuntimeError: if there are no kernels for this machine.

    Example:
        >>> import torch
        >>> import jda.torch
        >>> features = torch.ones(1, 6, 4)  # one map of 2 x 3 pixels, c = 4
        >>> locations = torch.full((1, 1, 1, 1, 2), 0.5)
        >>> weight = torch.full((1, 1, 1, 1, 1, 2), 0.25)
        >>> shapes, starts = [[[2, 3]]], [[0]]
        >>> jda.torch.deformable_aggregation(
        ...     features, shapes, starts, locations, weight
        ... )
        tensor([[[0.2500, 0.2500, 0.2500, 0.2500]]])
    """
    _check.choice("coordinate_order", coordinate_order, _check.COORDINATE_ORDERS)
    _require_tensor("feature_maps", feature_maps)
    _require_tensor("sample_locations", sample_locations)
    _require_tensor("weight", weight)
    result: torch.Tensor = _forward(
        feature_maps,
        _index("spatial_shape", spatial_shape, feature_maps),
        _index("scale_start_index", scale_start_index, feature_maps),
        sample_locations,
        weight,
        coordinate_order,
    )
    return result


def _require_tensor(name: str, value: Any) -> None:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}, it must be a tensor")


def _index(name: str, value: Any, feature_maps: torch.Tensor) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    try:
        return torch.as_tensor(value, device=feature_maps.device)
    except (RuntimeError, TypeError, ValueError) as error:
        kind = type(value).__name__
        raise TypeError(
            f"{name} is a {kind} of which no tensor can be made: {error}"
        ) from error


class _Array(NamedTuple):
    """A tensor as the checks of JAX's arrays see one."""

    shape: tuple[int, ...]
    dtype: Any

    @property
    def ndim(self) -> int:
        return len(self.shape)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


_Described = tuple[tuple[Any, torch.dtype, torch.device], ...]


def _describe(tensors: Operands) -> _Described:
    return tuple([(x.shape, x.dtype, x.device) for x in tensors])


def _check_described(described: _Described, coordinate_order: str) -> None:
    """All that is to be checked without a look at values."""
    named = dict(zip(Operands._fields, described, strict=True))
    _, _, device = named["feature_maps"]
    for name, (_, _, other) in named.items():
        if other != device:
            raise ValueError(
                f"{name} is on {other} but feature_maps is on {device}; put them on "
                "the same device by Tensor.to"
            )
    arrays = {
        name: _Array(tuple(shape), jnp.dtype(_name(dtype)))
        for name, (shape, dtype, _) in named.items()
    }
    _check.shapes(arrays, coordinate_order)


_check_once = functools.lru_cache(maxsize=64)(_check_described)


# The operator and its backward, as torch.library knows them; their schemas, at the end,
# say which arguments come in which order. Sizes that are symbols can be checked, but
# not be remembered.


def _compute_forward(*arguments: Any) -> torch.Tensor:
    *given, coordinate_order = arguments
    tensors = Operands(*given)
    _check_once(_describe(tensors), coordinate_order)
    out = _like_result(tensors)
    _run("forward", tensors._asdict(), {"out": out}, coordinate_order)
    return out


def _fake_forward(*arguments: Any) -> torch.Tensor:
    *given, coordinate_order = arguments
    tensors = Operands(*given)
    _check_described(_describe(tensors), coordinate_order)
    return _like_result(tensors)


def _like_result(tensors: Operands) -> torch.Tensor:
    bs, _num_feat, c = tensors.feature_maps.shape
    anchor = tensors.sample_locations.shape[1]
    result: torch.Tensor = tensors.feature_maps.new_empty(bs, anchor, c)
    return result


def _compute_backward(*arguments: Any) -> list[torch.Tensor]:
    cotangent, *given, coordinate_order, wanted = arguments
    tensors = Operands(*given)
    _check_once(_describe(tensors), coordinate_order)
    grads = _like_wanted(tensors, wanted)
    operands = tensors._asdict() | {"cotangent": cotangent}
    results = {f"grad_{name}": grad for name, grad in grads.items()}
    _run("backward", operands, results, coordinate_order)
    return list(grads.values())


def _fake_backward(*arguments: Any) -> list[torch.Tensor]:
    _cotangent, *tensors, _coordinate_order, wanted = arguments
    return list(_like_wanted(Operands(*tensors), wanted).values())


def _like_wanted(tensors: Operands, wanted: Sequence[bool]) -> _Tensors:
    """A contiguous tensor for each gradient that is wanted."""
    named = zip(FLOATING, tensors.chosen(FLOATING), wanted, strict=True)
    dense = torch.contiguous_format
    return {
        name: torch.empty_like(x, memory_format=dense)
        for name, x, want in named
        if want
    }


def _run(
    operation: str, operands: _Tensors, results: _Tensors, coordinate_order: str
) -> None:
    """Writes the results, which are contiguous."""
    device = operands["feature_maps"].device
    if device.type not in _RUNS:
        raise TypeError(
            f"feature_maps is on {device}, jda.torch computes on {' and '.join(_RUNS)}"
        )
    _RUNS[device.type](operation, operands, results, coordinate_order)


def _run_on_cpu(
    operation: str, operands: _Tensors, results: _Tensors, coordinate_order: str
) -> None:
    features, weight = operands["feature_maps"], operands["weight"]
    problem = _cpu_problem(
        (features.shape, weight.shape),
        (features.dtype, weight.dtype),
        coordinate_order,
        torch.get_num_threads(),
    )
    values = [_values(operands[name]) for name in INDEX]
    indices = dict(zip(INDEX, _known_maps(*values, features.shape[1]), strict=True))
    arrays = _dense(operands | indices) | results
    c_api.compute(operation, problem, _pointers(arrays))


@functools.lru_cache(maxsize=64)
def _cpu_problem(
    shapes: tuple[Any, Any],
    dtypes: tuple[torch.dtype, torch.dtype],
    coordinate_order: str,
    threads: int,
) -> c_api.CpuProblem:
    numbers = [c_api.DTYPES[_name(dtype)] for dtype in dtypes]
    return c_api.CpuProblem(
        c_api.sizes(*shapes), coordinate_order.index("y"), *numbers, threads
    )


_Values = tuple[bytes, Any, tuple[int, ...]]  # dtype and shape in NumPy


def _values(index: torch.Tensor) -> _Values:
    array = index.numpy()
    return array.tobytes(), array.dtype, array.shape


@functools.lru_cache(maxsize=64)  # the same few pyramids come with every call
def _known_maps(shapes: _Values, starts: _Values, num_feat: int) -> list[torch.Tensor]:
    """The index arrays, checked, in int32."""
    size, first = (
        np.frombuffer(values, dtype).reshape(shape)
        for values, dtype, shape in (shapes, starts)
    )
    _check.maps(size, first, num_feat)
    return [torch.from_numpy(x.astype(np.int32)) for x in (size, first)]


def _run_on_npu(
    operation: str, operands: _Tensors, results: _Tensors, coordinate_order: str
) -> None:
    """On the stream that torch_npu works on; it is not waited for.

    What is allocated here may be freed while the card still works: torch_npu gives the
    memory to no one but later work of this stream.
    """
    features = operands["feature_maps"]
    if features.dtype == torch.float64:
        raise TypeError(
            "feature_maps has dtype float64, on npu allowed are float32, bfloat16 and "
            "float16"
        )
    exact = flag("JDA_ASCEND_DETERMINISTIC")
    indices = {name: _as_int32(operands[name]) for name in INDEX}
    weight = operands["weight"]
    problem = c_api.AscendProblem(
        c_api.sizes(features.shape, weight.shape),
        coordinate_order.index("y"),
        c_api.DTYPES[_name(features.dtype)],
        c_api.DTYPES[_name(weight.dtype)],
        exact or torch.are_deterministic_algorithms_enabled(),
    )
    extended: Any = torch
    npu = extended.npu  # torch_npu's
    with npu.device(features.device):
        # Asked for its stream, torch_npu puts on it all that it has queued before.
        stream = npu.current_stream(features.device).npu_stream
        arrays = _dense(operands | indices) | results
        c_api.enqueue(operation, problem, _pointers(arrays), stream)


def _as_int32(index: torch.Tensor) -> torch.Tensor:
    """A value beyond int32 must not wrap into one that a map may have."""
    if index.dtype == torch.int32:
        return index
    return index.to(torch.int64).clamp(-1, _check.MOST_ROWS).to(torch.int32)


_RUNS: dict[str, Callable[..., None]] = {"cpu": _run_on_cpu, "npu": _run_on_npu}


def _dense(operands: _Tensors) -> _Tensors:
    return {name: x.contiguous() for name, x in operands.items()}


def _pointers(arrays: _Tensors) -> dict[str, int]:
    return {name: x.data_ptr() for name, x in arrays.items()}


def _below_autograd(operator: Any, arguments: Sequence[Any]) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


class _Aggregate(torch.autograd.Function):
    """What autograd knows of the operator."""

    @staticmethod
    def forward(context: Any, *arguments: Any) -> Any:
        *tensors, context.coordinate_order = arguments
        context.save_for_backward(*tensors)
        return _below_autograd(_forward, arguments)

    @staticmethod
    def backward(context: Any, cotangent: torch.Tensor) -> tuple[Any, ...]:
        *needed, _ = context.needs_input_grad
        wanted = Operands(*needed).chosen(FLOATING)
        tensors, order = context.saved_tensors, context.coordinate_order
        arguments = (cotangent, *tensors, order, wanted)
        if torch.is_grad_enabled():  # somebody may want its derivative, and be told
            grads = _backward(*arguments)
        else:
            grads = _below_autograd(_backward, arguments)
        found = dict(zip(compress(FLOATING, wanted), grads, strict=True))
        return (*map(found.get, Operands._fields), None)


class _Gradients(torch.autograd.Function):
    """The same of the backward, which has no derivative."""

    @staticmethod
    def forward(context: Any, *arguments: Any) -> tuple[torch.Tensor, ...]:
        return tuple(_below_autograd(_backward, arguments))

    @staticmethod
    def backward(context: Any, *cotangents: torch.Tensor) -> Any:
        raise RuntimeError("jda.deformable_aggregation_backward has no derivative")


# Defined by hand: what `torch.library.custom_op` adds to each call costs more than a
# small call itself.
_torch_library: Any = torch.library  # has no types
_library = _torch_library.Library("jda", "FRAGMENT")


def _define(schema: str, compute: Any, fake: Any, differentiable: Any) -> Any:
    name, _, _ = schema.partition("(")
    _library.define(schema, tags=torch.Tag.pt2_compliant_tag)
    _library.impl(name, compute, "CompositeExplicitAutograd")
    _library.impl(name, differentiable, "Autograd")
    _torch_library.register_fake(f"jda::{name}", fake, lib=_library)
    return getattr(torch.ops.jda, name).default


_ARGUMENTS = ", ".join(f"Tensor {name}" for name in Operands._fields)
_forward = _define(
    f"deformable_aggregation({_ARGUMENTS}, str coordinate_order) -> Tensor",
    _compute_forward,
    _fake_forward,
    lambda *arguments: _Aggregate.apply(*arguments),  # found when it is called
)
_backward = _define(
    f"deformable_aggregation_backward(Tensor cotangent, {_ARGUMENTS}, "
    "str coordinate_order, bool[] wanted) -> Tensor[]",
    _compute_backward,
    _fake_backward,
    lambda *arguments: list(_Gradients.apply(*arguments)),
)
