"""Three primitives that are closed under JAX's transformations.

Their operands are the operator's five arrays and then:

    forward                                      -> result
    tangent    one tangent for each of `which`   -> tangent of the result
    backward   cotangent of the result           -> one gradient for each of `which`

`which` holds the names of the operands that are differentiated. The derivative of
`forward` is `tangent`; `tangent` and `backward` are each other's transpose, and their
own derivatives, which only second order needs, are those of the reference.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jda import _dimensions, _reference, _sharding
from jda._compat import is_zero, materialise, with_automatic_axes
from jda._dimensions import FLOATING, INDEX, Operands, given
from jda._implementations import run
from jda._make_primitive import define_primitive, wanted_gradients


def _result_avals(operation: str, *avals: Any, which: Any = (), **_: Any) -> list[Any]:
    operands, _cotangent = given(avals)
    if operation == "backward":
        return [aval.update(weak_type=False) for aval in operands.chosen(which)]
    feature_maps = operands.feature_maps
    bs, _num_feat, c = feature_maps.shape
    shape = (bs, operands.sample_locations.shape[1], c)
    sharding = _sharding.of_result(avals)
    return [feature_maps.update(shape=shape, weak_type=False, sharding=sharding)]


# Derivatives


def _forward_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    results = forward(*primals, **params)
    which, moves = _moving(Operands(*tangents))
    return results, tangent(*primals, *moves, which=which, **params)


def _moving(tangents: Operands) -> tuple[tuple[str, ...], list[Any]]:
    """The names of the operands that move, and their tangents."""
    which = tuple(name for name in FLOATING if not is_zero(getattr(tangents, name)))
    return which, tangents.chosen(which)


def _linear_jvp(operation: str, primals: Any, tangents: Any, **params: Any) -> Any:
    """The derivative of an operation that is linear in its last operands."""
    bind = {"tangent": tangent, "backward": backward}[operation]
    results = bind(*primals, **params)
    operands, _ = given(primals)
    of_operands, of_linear = given(tangents)
    terms = []
    if not all(map(is_zero, of_linear)):
        terms.append(bind(*operands, *map(materialise, of_linear), **params))
    names, moves = _moving(of_operands)
    if names:
        known = {key: params[key] for key in ("coordinate_order", "which")}
        moved = partial(_reference_moved, operation, names, **known)
        terms.append(with_automatic_axes(moved, results)(primals, moves))
    return results, [sum(term[1:], term[0]) for term in zip(*terms, strict=True)]


def _reference_moved(
    operation: str,
    names: Sequence[str],
    primals: Sequence[jax.Array],
    moves: Sequence[jax.Array],
    **params: Any,
) -> Any:
    """How the reference's result moves with those of the five arrays."""
    definition: Callable[..., list[jax.Array]] = getattr(_reference, operation)
    operands, linear = given(primals)

    def of_moved(*values: jax.Array) -> list[jax.Array]:
        some = dict(zip(names, values, strict=True))
        return definition(*operands.replaced(some), *linear, **params)

    return jax.jvp(of_moved, operands.chosen(names), moves)[1]


def _tangent_transpose(
    cotangents: Any, *operands: Any, which: Any, **params: Any
) -> list[Any]:
    if is_zero(cotangents[0]):
        return [None] * len(operands)
    arrays, _ = given(operands)
    grads = backward(*arrays, cotangents[0], which=which, **params)
    return [None] * len(arrays) + grads


def _backward_transpose(
    cotangents: Any, *operands: Any, which: Any, **params: Any
) -> list[Any]:
    pairs = zip(which, cotangents, strict=True)
    live = {name: cotangent for name, cotangent in pairs if not is_zero(cotangent)}
    if not live:
        return [None] * len(operands)
    arrays, _ = given(operands)
    found = tangent(*arrays, *live.values(), which=tuple(live), **params)
    return [None] * len(arrays) + found


# Batching


def _batch(
    operation: str, operands: Sequence[Any], axes: Sequence[Any], **params: Any
) -> tuple[list[Any], list[int]]:
    """Folds the mapped axis into an axis of one call.

    That axis is the batch as soon as an array without anchors is mapped or returned,
    and the anchors otherwise, so that shared feature maps are not copied. Mapped index
    arrays describe other maps for every element: one call each.
    """
    operations = {"forward": forward, "tangent": tangent, "backward": backward}
    bind = partial(operations[operation], **params)
    left, right = _dimensions.terms(operation, params.get("which", ()))
    mapped = [axis is not None for axis in axes]
    arrays = [
        jnp.moveaxis(array, axis, 0) if axis is not None else array
        for array, axis in zip(operands, axes, strict=True)
    ]
    if any(given(mapped)[0].chosen(INDEX)):
        return _bind_each(bind, arrays, mapped), [0] * len(right)

    moving = [term for term, is_mapped in zip(left, mapped, strict=True) if is_mapped]
    into = "a" if all("a" in term for term in [*moving, *right]) else "b"
    size = arrays[mapped.index(True)].shape[0]
    # The weight has both axes; the tangent of the maps has no anchors.
    weight = Operands._fields.index("weight")
    part = arrays[weight].shape[left[weight].index(into) + mapped[weight]]
    # In front of that axis, where no copy is needed, unless JAX knows the axis to be
    # split over devices: then only behind it.
    behind = any(
        into in term and _sharding.is_split(array, term.index(into) + is_mapped)
        for term, array, is_mapped in zip(left, arrays, mapped, strict=True)
    )
    both = (part, size) if behind else (size, part)

    def fold(term: tuple[str, ...], array: Any, is_mapped: bool) -> Any:
        if into not in term:
            return array
        at = term.index(into)
        if is_mapped:
            array = jnp.moveaxis(array, 0, at + behind)
        else:
            shape = (*array.shape[:at], *both, *array.shape[at + 1 :])
            array = jnp.broadcast_to(jnp.expand_dims(array, at + behind), shape)
        shape = array.shape
        return array.reshape(*shape[:at], size * part, *shape[at + 2 :])

    def unfold(term: tuple[str, ...], array: Any) -> Any:
        at = term.index(into)
        shape = array.shape
        return array.reshape(*shape[:at], *both, *shape[at + 1 :])

    results = bind(*map(fold, left, arrays, mapped))
    places = [term.index(into) + behind for term in right]
    return list(map(unfold, right, results)), places


def _bind_each(
    bind: Callable[..., list[jax.Array]], arrays: list[Any], mapped: list[bool]
) -> list[Any]:
    def one(elements: list[Any]) -> list[Any]:
        rest = iter(elements)
        pairs = zip(arrays, mapped, strict=True)
        return bind(*[next(rest) if is_mapped else array for array, is_mapped in pairs])

    stacked = [x for x, is_mapped in zip(arrays, mapped, strict=True) if is_mapped]
    results: list[Any] = jax.lax.map(one, stacked)
    return results


def _define(operation: str, **rules: Any) -> Callable[..., list[jax.Array]]:
    return define_primitive(
        f"deformable_aggregation_{operation}",
        result_avals=partial(_result_avals, operation),
        run=partial(run, operation),
        batch=partial(_batch, operation),
        spread=partial(_sharding.spread, operation),
        **rules,
    )


forward = _define("forward", jvp=_forward_jvp)
tangent = _define(
    "tangent",
    jvp=partial(_linear_jvp, "tangent"),
    transpose=_tangent_transpose,
)
backward = _define(
    "backward",
    jvp=partial(_linear_jvp, "backward"),
    transpose=_backward_transpose,
    wanted=wanted_gradients,
)
