"""How a primitive of JAX is made: its rules, its lowering, and how XLA may split it.

No other module but ``_compat`` names ``jax.interpreters`` or ``jax.extend``.
"""

# mypy: allow-untyped-calls

from collections.abc import Callable, Sequence
from functools import cache, partial
from math import prod
from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.extend.mlir import ir
from jax.interpreters import ad, batching, mlir, partial_eval


def define_primitive(
    name: str,
    *,
    result_avals: Callable[..., list[Any]],
    run: Callable[..., list[jax.Array]],
    jvp: Callable[..., Any],
    batch: Callable[..., Any],
    transpose: Callable[..., Any] | None = None,
    wanted: Callable[..., Any] | None = None,
    spread: Callable[..., Any] | None = None,
) -> Callable[..., list[jax.Array]]:
    """Defines a primitive with several results and all the rules that it needs.

    Args:
        name: the name that a jaxpr shows.
        result_avals: from the operands' abstract values and the parameters to those of
            the results.
        run: the operation in terms of JAX functions. It also takes ``platforms``, the
            platforms that it is being lowered for.
        jvp: the rule of forward-mode differentiation.
        batch: the rule of ``jax.vmap``.
        transpose: the rule of transposition, for an operation with linear operands.
        wanted: from a tuple of flags, one for each result, and the parameters to the
            parameters of the operation that computes these results alone.
        spread: from ``run`` without its parameters, the operands' shapes, the sizes of
            all mesh axes with whether XLA may split along them, and the parameters to
            the same function, which XLA may split over devices.

    Returns:
        The function that binds the primitive to operands and parameters.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_abstract_eval(result_avals)
    primitive.def_impl(partial(_bind_compiled, primitive))
    mlir.register_lowering(primitive, partial(_lower, run, spread))
    ad.primitive_jvps[primitive] = jvp
    batching.primitive_batchers[primitive] = batch
    if transpose is not None:
        ad.primitive_transposes[primitive] = transpose
    if wanted is not None:
        partial_eval.dce_rules[primitive] = partial(_eliminate, wanted)
    bind: Callable[..., list[jax.Array]] = primitive.bind
    return bind


def wanted_gradients(used: Any, *, which: Any, **_: Any) -> dict[str, Any]:
    """The rule `wanted` of an operation whose results are the gradients `which`."""
    return {"which": tuple(name for name, use in zip(which, used, strict=True) if use)}


@cache
def _compiled(primitive: Primitive, params: tuple[tuple[str, Any], ...]) -> Any:
    return jax.jit(partial(primitive.bind, **dict(params)))


def _bind_compiled(primitive: Primitive, *operands: Any, **params: Any) -> Any:
    # Under jax.disable_jit this would call itself for ever.
    with jax.disable_jit(False):
        return _compiled(primitive, tuple(params.items()))(*operands)


def _lower(
    run: Callable[..., Any],
    spread: Callable[..., Any] | None,
    ctx: Any,
    *operands: Any,
    **params: Any,
) -> Any:
    platforms = tuple(ctx.platforms or ctx.module_context.platforms)
    # Shardings and varying axes of the caller would differ from those of new arrays.
    plain = [jax.core.ShapedArray(aval.shape, aval.dtype) for aval in ctx.avals_in]
    ctx = ctx.replace(avals_in=plain)
    function = partial(run, platforms=platforms, **params)
    axes = _mesh_axes(ctx.module_context.axis_context)
    count = prod(size for size, is_free in axes if is_free)
    is_empty = any(0 in aval.shape for aval in plain)
    if spread is None or count == 1 or is_empty:
        return mlir.lower_fun(function, multiple_results=True)(ctx, *operands)
    function = spread(function, [aval.shape for aval in plain], axes, **params)
    # JAX wants to know the devices here, but nothing depends on which they are.
    numbered = mlir.ShardingContext(count, tuple(range(count)))
    module = ctx.module_context.replace(axis_context=numbered)
    ctx = ctx.replace(module_context=module)
    results = mlir.lower_fun(function, multiple_results=True)(ctx, *operands)
    # The program names the function by its address alone. In the persistent compilation
    # cache, that of another process could be taken for this one.
    label = ir.StringAttr.get(f"{ctx.primitive} {params} {platforms}")
    attributes = results[0].owner.attributes
    attributes["mhlo.frontend_attributes"] = ir.DictAttr.get({"jda": label})
    return results


def _mesh_axes(context: Any) -> list[tuple[int, bool]]:
    """The sizes of a program's mesh axes, and whether XLA may split work along them."""
    if isinstance(context, mlir.ShardingContext):
        return [(context.num_devices, True)]
    if isinstance(context, mlir.SPMDAxisContext):  # inside shard_map
        sizes = context.mesh.shape.items()
        return [(size, name not in context.manual_axes) for name, size in sizes]
    return []


def partitioned(
    function: Callable[..., Any],
    partition: Callable[..., Any],
    rule: str,
    keywords: dict[str, Any],
) -> Callable[..., Any]:
    """A function that XLA may split over devices, for use while lowering.

    Args:
        function: from arrays to a list of arrays.
        partition: takes a mesh, which means nothing, and the operands and results with
            the shardings that XLA would like; the devices of these are numbers. Returns
            a mesh, the function of one device and, as shardings over this mesh, those
            of the results and of the operands.
        rule: Shardy's rule of how shardings of operands and results go together.
        keywords: more about the rule.
    """
    call = custom_partitioning(lambda *operands: function(*operands))
    call.def_partition(
        partition, sharding_rule=rule, decode_shardings=False, **keywords
    )
    return call


def _eliminate(wanted: Callable[..., Any], used: Sequence[bool], *rest: Any) -> Any:
    *_, equation = rest  # JAX 0.12 passes a context before the equation.
    if not any(used):
        return [False] * len(equation.invars), None
    kept = [v for v, use in zip(equation.outvars, used, strict=True) if use]
    params = equation.params | wanted(tuple(used), **equation.params)
    return (
        [True] * len(equation.invars),
        equation.replace(params=params, outvars=kept),
    )
