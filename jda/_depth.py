"""Aggregation in which every pixel knows at which depths it sees something.

Each of the four corners of a sample is weighted by how probable it is that its pixel
lies at the sample's depth. It is written on top of the operator: a corner is a key
point at the centre of its pixel, and its coefficient and probability are part of its
weight. On the CPU native kernels make these key points; elsewhere, and where XLA splits
arrays over devices, it is ``jax.numpy`` (``_corners.py``).

There are three primitives for it, as in ``_primitives.py``; what differentiates them
further is ``jax.numpy`` too.
"""

# mypy: allow-untyped-calls

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jda import _compat, _corners, _operator
from jda._corners import FLOATING, given
from jda._dimensions import FLOATING as OPERATOR_FLOATING
from jda._dimensions import INDEX, Operands
from jda._make_primitive import define_primitive, wanted_gradients
from jda.ffi import cpu
from jda.ffi.call import call_target


def aggregate(
    operands: Operands, depth_prob: jax.Array, depth: jax.Array, **options: Any
) -> jax.Array:
    """The sum over corners of bilinear coefficient * probability * weight * feature.

    Args:
        operands: the operator's.
        depth_prob: [bs, num_feat, bins].
        depth: in bins [bs, anchor, pts, cam].
        options: the operator's.

    Returns:
        [bs, anchor, c].
    """
    floats = (*operands.chosen(OPERATOR_FLOATING), depth_prob, depth)
    if not _compat.has_explicit_axes(floats):
        return _aggregate(operands, depth_prob, depth, **options)
    # The result lies where the operator's does.
    like = jax.eval_shape(
        partial(_operator.deformable_aggregation, **options), *operands
    )

    def at_depth(*arrays: jax.Array) -> list[jax.Array]:
        return [_aggregate(Operands(*arrays[:5]), *arrays[5:], **options)]

    spread = _compat.with_automatic_axes(at_depth, [like])
    result: jax.Array = spread(*operands, depth_prob, depth)[0]
    return result


def _aggregate(
    operands: Operands, depth_prob: jax.Array, depth: jax.Array, **options: Any
) -> jax.Array:
    features, spatial_shape, scale_start_index, locations, weight = operands
    bs, anchor, pts, cam, scale, group = weight.shape
    size, start = (
        _operator.as_int32(jnp.asarray(index)) for index in operands.chosen(INDEX)
    )
    arrays = depth_prob, size, start, locations, weight.astype(depth.dtype), depth
    if _compat.is_plain(arrays):
        centres, weight = forward(*arrays, **options)
    else:
        order = options["coordinate_order"]
        centres, weight = _corners.forward(*arrays, coordinate_order=order)
    points = bs, anchor, pts * 4, cam * scale
    return _operator.deformable_aggregation(
        features,
        spatial_shape.reshape(cam * scale, 1, 2),  # every map has centres of its own
        scale_start_index.reshape(cam * scale, 1),
        jax.lax.stop_gradient(centres).reshape(*points, 2),
        weight.reshape(*points, 1, group),
        **options,
    )


def _result_avals(operation: str, *avals: Any, which: Any = (), **_: Any) -> list[Any]:
    operands, _others = given(avals)
    if operation == "backward":
        return [_plain(getattr(operands, name)) for name in which]
    weight = operands.weight
    bs, anchor, pts, *cam_scale, group = weight.shape
    corners = bs, anchor, pts, 4, *cam_scale
    weights = jax.core.ShapedArray((*corners, group), weight.dtype)
    if operation == "tangent":
        return [weights]
    return [jax.core.ShapedArray((*corners, 2), weight.dtype), weights]


def _plain(aval: Any) -> Any:
    return jax.core.ShapedArray(aval.shape, aval.dtype)


# Computation


def _run(
    operation: str,
    *operands: jax.Array,
    implementation: str | None,
    platforms: Sequence[str],
    **params: Any,
) -> list[jax.Array]:
    in_numpy = partial(getattr(_corners, operation), **params)
    chosen: Callable[..., list[jax.Array]] = in_numpy
    if operation in NATIVE and implementation in (None, cpu.BACKEND.name):
        native = partial(NATIVE[operation], **params)
        chosen = cpu.where_native(native, in_numpy, platforms)
    with jax.named_scope(f"corners_at_depth_{operation}"):
        return chosen(*operands)


def _native_forward(*operands: jax.Array, coordinate_order: str) -> list[jax.Array]:
    results = [
        jax.ShapeDtypeStruct(x.shape, x.dtype)
        for x in _result_avals("forward", *operands)
    ]
    return call_target("jda_cpu_corners", results, operands, coordinate_order)


def _native_backward(
    *operands: jax.Array, coordinate_order: str, which: tuple[str, ...]
) -> list[jax.Array]:
    arrays, _cotangent = given(operands)
    # What is not wanted has no elements.
    shapes = {
        name: getattr(arrays, name).shape if name in which else (0,)
        for name in FLOATING
    }
    results = [
        jax.ShapeDtypeStruct(shapes[name], arrays.depth.dtype) for name in FLOATING
    ]
    found = call_target("jda_cpu_corners_backward", results, operands, coordinate_order)
    return [found[FLOATING.index(name)] for name in which]


NATIVE: dict[str, Callable[..., list[jax.Array]]] = {
    "forward": _native_forward,
    "backward": _native_backward,
}


# Derivatives


def _forward_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    centres, weights = forward(*primals, **params)
    moving = {
        name: move
        for name, move in zip(_corners.Operands._fields, tangents, strict=True)
        if name in FLOATING and not _compat.is_zero(move)
    }
    (moved,) = tangent(*primals, *moving.values(), which=tuple(moving), **params)
    return [centres, weights], [_compat.zero_tangent(centres), moved]


def _jvp_in_numpy(operation: str, primals: Any, tangents: Any, **params: Any) -> Any:
    bind = {"tangent": tangent, "backward": backward}[operation]
    known = {key: params[key] for key in ("coordinate_order", "which")}
    moving = [i for i, move in enumerate(tangents) if not _compat.is_zero(move)]

    def of_moving(*values: jax.Array) -> list[jax.Array]:
        moved = dict(zip(moving, values, strict=True))
        every = [moved.get(i, x) for i, x in enumerate(primals)]
        found: list[jax.Array] = getattr(_corners, operation)(*every, **known)
        return found

    values, moves = [primals[i] for i in moving], [tangents[i] for i in moving]
    return bind(*primals, **params), jax.jvp(of_moving, values, moves)[1]


def _tangent_transpose(cotangents: Any, *operands: Any, **params: Any) -> list[Any]:
    if _compat.is_zero(cotangents[0]):
        return [None] * len(operands)
    arrays, _moves = given(operands)
    return [None] * len(arrays) + backward(*arrays, cotangents[0], **params)


# Batching


def _batch(
    operation: str, operands: Sequence[Any], axes: Sequence[Any], **params: Any
) -> tuple[list[Any], list[int]]:
    """Folds the mapped axis into that of the anchors, as long as probabilities allow.

    They have no anchors: mapped or differentiated, they want the batch. Mapped index
    arrays describe other maps for every element, which is left to ``jax.numpy``.
    """
    which = params.get("which", ())
    others = which if operation == "tangent" else ["cotangent"]
    names = [*_corners.Operands._fields, *others][: len(operands)]
    mapped = {name for name, axis in zip(names, axes, strict=True) if axis is not None}
    if mapped & {*INDEX}:
        known = {key: x for key, x in params.items() if key != "implementation"}
        each = jax.vmap(partial(getattr(_corners, operation), **known), tuple(axes))
        results: list[Any] = each(*operands)
        return results, [0] * len(results)

    of_batch = "depth_prob" in mapped or (
        operation == "backward" and "depth_prob" in which
    )
    at = 0 if of_batch else 1
    size = next(
        x.shape[i] for x, i in zip(operands, axes, strict=True) if i is not None
    )
    depth = operands[names.index("depth")]
    own = [n for i, n in enumerate(depth.shape) if i != axes[names.index("depth")]]

    def fold(name: str, array: Any, axis: int | None) -> Any:
        if name in INDEX or (name == "depth_prob" and not of_batch):
            return array
        array = (
            jnp.broadcast_to(jnp.expand_dims(array, at), _inserted(array, at, size))
            if axis is None
            else jnp.moveaxis(array, axis, at)
        )
        return jax.lax.collapse(array, at, at + 2)

    bind = {"forward": forward, "tangent": tangent, "backward": backward}[operation]
    found = bind(*map(fold, names, operands, axes), **params)
    shape = size, own[at]
    unfolded = [x.reshape(*x.shape[:at], *shape, *x.shape[at + 1 :]) for x in found]
    return unfolded, [at] * len(found)


def _inserted(array: Any, at: int, size: int) -> tuple[int, ...]:
    return (*array.shape[:at], size, *array.shape[at:])


def _spread(operation: str, *_: Any, implementation: Any, **params: Any) -> Any:
    """Where XLA splits arrays over devices, it splits ``jax.numpy``."""
    return partial(getattr(_corners, operation), **params)


def _define(operation: str, **rules: Any) -> Callable[..., list[jax.Array]]:
    return define_primitive(
        f"corners_at_depth_{operation}",
        result_avals=partial(_result_avals, operation),
        run=partial(_run, operation),
        batch=partial(_batch, operation),
        spread=partial(_spread, operation),
        **rules,
    )


forward = _define("forward", jvp=_forward_jvp)
tangent = _define(
    "tangent", jvp=partial(_jvp_in_numpy, "tangent"), transpose=_tangent_transpose
)
backward = _define(
    "backward", jvp=partial(_jvp_in_numpy, "backward"), wanted=wanted_gradients
)
