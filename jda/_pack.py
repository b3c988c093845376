"""Two primitives: maps to rows, and back. Each is the other's inverse and transpose.

Operands are arrays [bs, cam, channels, pixels] or, with ``channels_last``, [bs, cam,
pixels, channels]: the ``scales`` of a group of cameras, then those of the next one. On
the CPU native kernels copy, each element once; elsewhere, and where XLA splits arrays
over devices, it is ``jax.numpy``.
"""

# mypy: allow-untyped-calls

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jda import _compat
from jda._make_primitive import define_primitive
from jda.ffi import cpu

Sizes = tuple[tuple[int, int], ...]  # (cam, pixels) of the operands


def packed(
    arrays: Sequence[jax.Array], *, channels_last: bool, scales: int
) -> jax.Array:
    """The rows of all maps [bs, rows, channels]."""
    params: Any = {"channels_last": channels_last, "scales": scales}
    if not _compat.is_plain(arrays):
        return _in_numpy(*arrays, **params)[0]
    rows: list[jax.Array] = pack(*arrays, **params)
    return rows[0]


def sizes(arrays: Sequence[Any], channels_last: bool) -> Sizes:
    """(cam, pixels) of each."""
    axis = 2 if channels_last else 3
    return tuple((array.shape[1], array.shape[axis]) for array in arrays)


def places(of: Sizes, scales: int) -> tuple[list[int], list[int], int]:
    """Each operand's first row, its rows from camera to camera, and all rows."""
    first, stride, total = [], [], 0
    for at in range(0, len(of), scales):
        group = of[at : at + scales]
        of_camera = sum(pixels for _, pixels in group)
        row = total
        for _, pixels in group:
            first.append(row)
            stride.append(of_camera)
            row += pixels
        total += group[0][0] * of_camera
    return first, stride, total


def _in_numpy(*arrays: jax.Array, channels_last: bool, scales: int) -> list[jax.Array]:
    last = arrays if channels_last else [jnp.swapaxes(x, 2, 3) for x in arrays]
    groups = [last[at : at + scales] for at in range(0, len(last), scales)]
    rows = [jax.lax.collapse(jnp.concatenate(x, axis=2), 1, 3) for x in groups]
    return [jnp.concatenate(rows, axis=1) if len(rows) > 1 else rows[0]]


def _back_in_numpy(
    rows: jax.Array, *, channels_last: bool, scales: int, of: Sizes
) -> list[jax.Array]:
    first, stride, _ = places(of, scales)
    found = []
    for (cam, pixels), at, step in zip(of, first, stride, strict=True):
        starts = [at + k * step for k in range(cam)]
        maps = [rows[:, start : start + pixels] for start in starts]
        shape = rows.shape[0], 0, pixels, rows.shape[2]
        array = jnp.stack(maps, axis=1) if maps else jnp.zeros(shape, rows.dtype)
        found.append(array if channels_last else jnp.swapaxes(array, 2, 3))
    return found


def _on_cpu(
    target: str, operands: Sequence[Any], results: Any, of: Sizes, **params: Any
) -> list[jax.Array]:
    first, stride, _ = places(of, params["scales"])
    call: Any = jax.ffi.ffi_call(target, results)
    return list(
        call(
            *operands,
            channels_last=params["channels_last"],
            first=np.array(first, np.int64),
            stride=np.array(stride, np.int64),
        )
    )


def _pack_shape(arrays: Sequence[Any], channels_last: bool, scales: int) -> Any:
    of = sizes(arrays, channels_last)
    channels = arrays[0].shape[3 if channels_last else 2]
    return arrays[0].shape[0], places(of, scales)[2], channels


def _pack_avals(*avals: Any, **params: Any) -> list[Any]:
    return [jax.core.ShapedArray(_pack_shape(avals, **params), avals[0].dtype)]


def _unpack_avals(rows: Any, *, channels_last: bool, of: Sizes, **_: Any) -> list[Any]:
    bs, _rows, c = rows.shape
    shapes = [(bs, k, n, c) if channels_last else (bs, k, c, n) for k, n in of]
    return [jax.core.ShapedArray(shape, rows.dtype) for shape in shapes]


def _by_platform(
    native: Callable[..., Any],
    in_numpy: Callable[..., Any],
    operands: Sequence[jax.Array],
    platforms: Sequence[str],
) -> list[jax.Array]:
    chosen = in_numpy
    if operands[0].dtype.itemsize in (2, 4, 8):
        chosen = cpu.where_native(native, in_numpy, platforms)
    with jax.named_scope("pack_feature_maps"):
        results: list[jax.Array] = chosen(*operands)
    return results


def _run_pack(*arrays: jax.Array, platforms: Any, **params: Any) -> list[jax.Array]:
    def native(*arrays: jax.Array) -> list[jax.Array]:
        shape = jax.ShapeDtypeStruct(_pack_shape(arrays, **params), arrays[0].dtype)
        of = sizes(arrays, params["channels_last"])
        return _on_cpu("jda_cpu_pack", arrays, [shape], of, **params)

    return _by_platform(native, partial(_in_numpy, **params), arrays, platforms)


def _run_unpack(rows: jax.Array, *, platforms: Any, **params: Any) -> list[jax.Array]:
    def native(rows: jax.Array) -> list[jax.Array]:
        avals = _unpack_avals(rows, **params)
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
        return _on_cpu("jda_cpu_unpack", [rows], shapes, **params)

    return _by_platform(native, partial(_back_in_numpy, **params), [rows], platforms)


def _jvp(bind: Callable[..., Any], primals: Any, tangents: Any, **params: Any) -> Any:
    moves = map(_compat.materialise, tangents)
    return bind(*primals, **params), bind(*moves, **params)


def _batch(bind: Callable[..., Any], operands: Any, axes: Any, **params: Any) -> Any:
    """The mapped axis goes with the batch."""
    count = next(
        x.shape[i] for x, i in zip(operands, axes, strict=True) if i is not None
    )
    merged = [
        jnp.broadcast_to(x[None], (count, *x.shape))
        if i is None
        else jnp.moveaxis(x, i, 0)
        for x, i in zip(operands, axes, strict=True)
    ]
    found = bind(*[jax.lax.collapse(x, 0, 2) for x in merged], **params)
    bs = merged[0].shape[1]
    return [x.reshape(count, bs, *x.shape[1:]) for x in found], [0] * len(found)


def _pack_transpose(cotangents: Any, *operands: Any, **params: Any) -> Any:
    (rows,) = map(_compat.materialise, cotangents)
    of = sizes([operand.aval for operand in operands], params["channels_last"])
    return unpack(rows, of=of, **params)


def _unpack_transpose(cotangents: Any, _: Any, *, of: Sizes, **params: Any) -> Any:
    return pack(*map(_compat.materialise, cotangents), **params)


def _spread(in_numpy: Callable[..., Any], *_: Any, **params: Any) -> Any:
    return partial(in_numpy, **params)


def _define(
    name: str,
    result_avals: Callable[..., Any],
    run: Callable[..., Any],
    in_numpy: Callable[..., Any],
    transpose: Callable[..., Any],
) -> Callable[..., Any]:
    """A primitive that is linear in all its operands."""
    primitive = define_primitive(
        name,
        result_avals=result_avals,
        run=run,
        jvp=lambda *x, **params: _jvp(primitive, *x, **params),
        batch=lambda *x, **params: _batch(primitive, *x, **params),
        transpose=transpose,
        spread=partial(_spread, in_numpy),
    )
    return primitive


pack = _define("pack_feature_maps", _pack_avals, _run_pack, _in_numpy, _pack_transpose)
unpack = _define(
    "unpack_feature_maps",
    _unpack_avals,
    _run_unpack,
    _back_in_numpy,
    _unpack_transpose,
)
