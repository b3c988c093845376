"""The public function."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jda import _check, _compat, _implementations, _primitives
from jda._dimensions import INDEX, Operands
from jda._reverse import reverse_mode
from jda.packing import reminds_to_unpack


@reminds_to_unpack
def deformable_aggregation(
    feature_maps: ArrayLike,
    spatial_shape: ArrayLike,
    scale_start_index: ArrayLike,
    sample_locations: ArrayLike,
    weight: ArrayLike,
    *,
    coordinate_order: str = "yx",
    implementation: str | None = None,
    differentiation: str = "reverse",
) -> jax.Array:
    """Samples key points in multi-camera, multi-scale feature maps and sums them.

    The feature of each anchor is::

        out[b, a, g*D + d] = sum over p, k, s of weight[b, a, p, k, s, g]
            * bilinear(map(b, k, s), y[b, a, p, k], x[b, a, p, k])[g*D + d]

    with D = c / group. The H x W x c map(b, k, s) is the rows of ``feature_maps[b]``
    from ``scale_start_index[k, s]`` on, row-major over (h, w), where (H, W) is
    ``spatial_shape[k, s]``. This is the aggregation inside Sparse4D v2 and v3,
    SparseDrive and DiffusionDrive.

    .. warning::
        **Coordinate order.** By default the last axis of ``sample_locations`` is
        (y, x). Sparse4D, the kernels of ``mx_driving`` and all models that use them put
        x (width) first, whatever their documentation says: pass
        ``coordinate_order="xy"`` when you port such a model. A wrong order gives no
        error, only wrong features.

    ====================  =========  ==========================================
    argument              dtype      shape
    ====================  =========  ==========================================
    feature_maps          F          [bs, num_feat, c]
    spatial_shape         integer    [cam, scale, 2]
    scale_start_index     integer    [cam, scale]
    sample_locations      locations  [bs, anchor, pts, cam, 2]
    weight                weights    [bs, anchor, pts, cam, scale, group]
    result                F          [bs, anchor, c]
    ====================  =========  ==========================================

    F is float32, bfloat16, float16 or, where ``jax_enable_x64`` is set, float64. The
    locations are float64 with float64 and float32 with all others. The weights have F
    too, or float32 beside feature maps of 16 bits. With these everything is computed in
    float32 and rounded once, at the end. A gradient has the dtype of its argument. Any
    size may be zero, but for ``group``.

    Sampling rule: a sample counts if 0 < y < 1 and 0 < x < 1, both strict. All others,
    NaN and infinities among them, contribute nothing, to the result and to gradients.
    The pixel coordinates of a sample are h = y*H - 0.5 and w = x*W - 0.5; it is
    interpolated bilinearly between its four neighbours, of which those outside the map
    count as zero.

    Derivatives: reverse mode gives the gradients of ``feature_maps``,
    ``sample_locations`` (in the order of the locations) and ``weight``, and computes
    those alone that are asked for. Interpolation has kinks at pixel centres; there the
    derivative towards larger coordinates is taken. Second and higher orders are
    computed by the reference.

    Args:
        feature_maps: all maps of one batch element, flattened and concatenated.
        spatial_shape: (H, W) of each map. Positive.
        scale_start_index: first row of each map within num_feat. Maps may share rows,
            and rows may belong to no map.
        sample_locations: normalised coordinates; (0, 0) is the upper left corner of the
            map and (1, 1) its lower right corner. Anything outside is legal.
        weight: weight of each sample for each channel group.
        coordinate_order: ``"yx"`` or ``"xy"``, the last axis of ``sample_locations``.
        implementation: None for the best one on the platform that the call is lowered
            for, or one of ``"reference"``, ``"cpu"`` and ``"ascend"``; see
            :func:`jda.implementations`.
        differentiation: ``"reverse"``, or ``"both"`` to allow forward mode as well
            (``jax.jvp``, ``jax.jacfwd``, ``jax.linearize``) and to keep the gradient of
            a ``jax.vmap`` over sets of anchors one call.

    Returns:
        The aggregated features [bs, anchor, c].

    Raises:
        ValueError: if a shape does not fit the others, ``group`` does not divide ``c``,
            a keyword has an unknown value, or a map does not lie within num_feat.
            Index arrays that are not traced are read, also where JAX is still computing
            them. Of traced ones, the CPU kernels and the Ascend route from the host
            complain when they run: a ``jax.errors.JaxRuntimeError`` or, from the second
            call of a compiled function on, a ``ValueError``, as JAX passes it on. The
            reference and a program for a card's platform cannot: there, such a map has
            no samples, in value and gradients.
        TypeError: if a dtype is not supported.
        RuntimeError: when the call is lowered, if ``implementation`` is not available
            or does not serve the platform that it is lowered for. For the platform of
            an Ascend card it may be lowered on any machine.

    Example:
        >>> import jax.numpy as jnp
        >>> import jda
        >>> features = jnp.ones((1, 6, 4))  # one map of 2 x 3 pixels, c = 4
        >>> locations = jnp.full((1, 1, 1, 1, 2), 0.5)
        >>> weight = jnp.full((1, 1, 1, 1, 1, 2), 0.25)
        >>> jda.deformable_aggregation(features, [[[2, 3]]], [[0]], locations, weight)
        Array([[[0.25, 0.25, 0.25, 0.25]]], dtype=float32)
    """
    _check.choice("coordinate_order", coordinate_order, _check.COORDINATE_ORDERS)
    _check.choice("implementation", implementation, (None, *_implementations.NAMES))
    _check.choice("differentiation", differentiation, _check.DIFFERENTIATIONS)
    arguments = Operands(
        feature_maps, spatial_shape, scale_start_index, sample_locations, weight
    )
    result: jax.Array = _aggregate(
        _check.arrays(arguments, coordinate_order),
        coordinate_order=coordinate_order,
        implementation=implementation,
        differentiation=differentiation,
    )
    return result


# Inlined, it leaves no trace in a jaxpr; called eagerly, it is a single dispatch.
@partial(
    jax.jit,
    inline=_compat.INLINE,
    static_argnames=("coordinate_order", "implementation", "differentiation"),
)
def _aggregate(
    operands: Operands,
    coordinate_order: str,
    implementation: str | None,
    differentiation: str,
) -> jax.Array:
    indices = map(as_int32, operands.chosen(INDEX))
    operands = operands.replaced(dict(zip(INDEX, indices, strict=True)))
    params = {"coordinate_order": coordinate_order, "implementation": implementation}

    def forward(*arrays: jax.Array) -> jax.Array:
        return _primitives.forward(*arrays, **params)[0]

    def backward(*arrays: jax.Array, which: tuple[str, ...]) -> list[jax.Array]:
        return _primitives.backward(*arrays, which=which, **params)

    differentiable = (
        forward if differentiation == "both" else reverse_mode(forward, backward)
    )
    return differentiable(*_compat.with_same_varying_axes(operands))


def as_int32(array: jax.Array) -> jax.Array:
    """A value beyond int32 must not wrap into one that a map may have."""
    values = np.iinfo(array.dtype)
    if values.max > _check.MOST_ROWS:
        array = jnp.clip(array, max(-1, int(values.min)), _check.MOST_ROWS)
    return array.astype(jnp.int32)
