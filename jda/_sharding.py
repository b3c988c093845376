"""Splitting an operation over devices, derived from its dimensions.

Every dimension may be split but for the feature rows, which any sample may read, and
the pair of coordinates. Each device computes its part; a result is then summed over the
devices that share the work along a dimension which it lacks.

The devices are numbered, and form a mesh with one axis for every prime factor of their
number. It has a name for every split that meshes, channel groups and reshapes give rise
to: theirs are products of its axes.
"""

# mypy: allow-untyped-calls

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from math import prod
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from jda import _dimensions
from jda._dimensions import Terms
from jda._make_primitive import partitioned

WHOLE = ("n", "t")

Operation = Callable[..., list[jax.Array]]
Sizes = Mapping[str, int]  # of factors or of mesh axes
Names = Sequence[tuple[str, ...]]  # of the mesh axes that split each axis of an array
MeshAxes = Sequence[tuple[int, bool]]  # sizes, and whether XLA may split along them
Split = dict[str, tuple[str, ...]]  # the mesh axes that split each factor


def spread(
    operation: str,
    call: Operation,
    shapes: Sequence[Any],
    axes: MeshAxes,
    **params: Any,
) -> Any:
    """Lets XLA split an operation over devices.

    Args:
        operation: its name.
        call: computes it on one device.
        shapes: the shapes of its operands, none of them empty.
        axes: of the mesh.
        params: of the operation.

    Returns:
        ``call``, which XLA may now run on parts of the operands.
    """
    left, right = _dimensions.terms(operation, params.get("which", ()))
    sizes = factor_sizes(left, shapes)

    def partition(_: Any, operands: Sequence[Any], results: Sequence[Any]) -> Any:
        mesh, every, splits = name_splits((*operands, *results), axes)
        split = divide((*left, *right), splits, sizes, mesh.shape)
        sums = [lacking(split, term) for term in right]
        place = partial(_sharding, mesh, split)

        def of_parts(*parts: jax.Array) -> list[jax.Array]:
            # The mesh of the caller must not reach the arrays of one device.
            with jax.sharding.use_abstract_mesh(AbstractMesh((), ())):
                return _add_up(call(*parts), sums)

        return every, of_parts, [*map(place, right)], (*map(place, left),)

    return partitioned(call, partition, *rule(left, right, sizes))


def factor_sizes(left: Terms, shapes: Sequence[Sequence[int]]) -> dict[str, int]:
    """The sizes of all factors, from the shapes of the operands."""
    axes = {
        axis: size
        for term, shape in zip(left, shapes, strict=True)
        for axis, size in zip(term, shape, strict=True)
    }
    sizes = {axis: size for axis, size in axes.items() if "*" not in axis}
    for axis, size in axes.items():
        if "*" in axis:
            major, minor = axis.split("*")
            sizes[minor] = size // sizes[major]
    return sizes


def rule(left: Terms, right: Terms, sizes: Sizes) -> tuple[str, dict[str, Any]]:
    """Shardy's rule for an operation, and the keywords that belong to it."""
    compounds: dict[str, int] = {}

    def dimension(axis: str) -> str:
        # A factor of size one is not allowed beside another.
        factors = [factor for factor in axis.split("*") if sizes[factor] > 1]
        if len(factors) < 2:
            return factors[0] if factors else axis.split("*")[0]
        compounds.update({factors[1]: sizes[factors[1]]})
        return f"({' '.join(factors)})"

    sides = [
        ", ".join(" ".join(map(dimension, term)) for term in terms)
        for terms in (left, right)
    ]
    return " -> ".join(sides), {"need_replication_factors": WHOLE, **compounds}


def name_splits(
    arrays: Sequence[Any], axes: MeshAxes
) -> tuple[AbstractMesh, AbstractMesh, list[Names]]:
    """A name for each split of each axis of some arrays.

    Returns:
        The mesh that XLA splits over, that of all devices, and the names of the axes of
        the former that split each axis of each array. Among all orders of mesh axes,
        the one that names most splits. What has no name counts as not split.
    """
    starts = [_starts(array) for array in arrays]

    def named(mesh: AbstractMesh) -> list[Names]:
        return [
            [_named(mesh, *pair) for pair in zip(start, array.shape, strict=True)]
            for start, array in zip(starts, arrays, strict=True)
        ]

    found = [(mesh, every, named(mesh)) for mesh, every in _meshes(axes)]
    return max(found, key=lambda each: sum(names != () for s in each[2] for names in s))


def _meshes(axes: MeshAxes) -> Iterator[tuple[AbstractMesh, AbstractMesh]]:
    """The mesh of the axes that may be split, and of all, in every order of primes."""
    for orders in product(
        *[_orders(_primes(size)) if is_free else [(size,)] for size, is_free in axes]
    ):
        parts = [
            (f"axis{i}_{j}", size, is_free)
            for i, (order, (_, is_free)) in enumerate(zip(orders, axes, strict=True))
            for j, size in enumerate(order)
        ]
        free = {name: size for name, size, is_free in parts if is_free}
        every = {name: size for name, size, _ in parts}
        yield _mesh(free), _mesh(every)


def _mesh(axes: Sizes) -> AbstractMesh:
    return AbstractMesh(tuple(axes.values()), tuple(axes))


def _starts(array: Any) -> Any:
    """Where the part of each device starts along each axis of an array."""
    try:
        places = array.sharding.devices_indices_map(array.shape)
    except ValueError:  # The parts are not all of one size.
        return np.zeros((array.ndim, array.sharding.num_devices), int)
    parts = [places[device] for device in range(len(places))]
    return np.transpose([[part.start or 0 for part in parts_of] for parts_of in parts])


def _named(mesh: AbstractMesh, start: Any, size: int) -> tuple[str, ...]:
    """The mesh axes that split an axis, from where each device's part of it starts."""
    start = np.reshape(start, mesh.axis_sizes)
    firsts = np.eye(start.ndim, dtype=int)  # the device next to device 0 along each
    steps = {
        name: int(start[tuple(first)])
        for name, first in zip(mesh.axis_names, firsts, strict=True)
    }
    names = sorted(filter(steps.get, steps), key=steps.__getitem__, reverse=True)
    along = dict(zip(mesh.axis_names, np.indices(start.shape), strict=True))
    expected = np.zeros_like(start)
    for name in names:
        size //= mesh.shape[name]
        expected += along[name] * size
    return tuple(names) if (expected == start).all() else ()


def _primes(number: int) -> list[int]:
    for prime in range(2, number + 1):
        if number % prime == 0:
            return [prime, *_primes(number // prime)]
    return []


def _orders(numbers: Sequence[int]) -> Iterator[tuple[int, ...]]:
    if not numbers:
        yield ()
    for first in sorted(set(numbers)):
        rest = list(numbers)
        rest.remove(first)
        for order in _orders(rest):
            yield (first, *order)


def divide(terms: Terms, splits: Sequence[Names], sizes: Sizes, mesh: Sizes) -> Split:
    """Which mesh axes split which factor.

    Args:
        terms: the axes of all operands and results.
        splits: the mesh axes that split each of them. Where two disagree, the first
            one counts.
        sizes: of the factors.
        mesh: the sizes of the mesh axes.
    """
    split: Split = {factor: () for factor in sizes}
    for term, spec in zip(terms, splits, strict=True):
        for axis, names in zip(term, spec, strict=True):
            for name in names:
                if not any(name in taken for taken in split.values()):
                    _take(name, axis, split, sizes, mesh)
    return split


def _take(name: str, axis: str, split: Split, sizes: Sizes, mesh: Sizes) -> None:
    for factor in axis.split("*"):
        left = sizes[factor] // prod(mesh[taken] for taken in split[factor])
        if factor not in WHOLE and left % mesh[name] == 0:
            split[factor] += (name,)
            return
        if left > 1:  # The next factor's turn comes when this one is used up.
            return


def lacking(split: Split, term: Sequence[str]) -> tuple[str, ...]:
    """The mesh axes over which a result with the axes `term` is to be summed."""
    own = {factor for axis in term for factor in axis.split("*")}
    return tuple(
        name for factor, names in split.items() if factor not in own for name in names
    )


def of_result(operands: Sequence[Any]) -> NamedSharding:
    """How the result is sharded, where the operands' shardings are part of their types.

    Along each axis like the first operand that is split along it.
    """
    left, (term,) = _dimensions.terms("forward")
    found: dict[str, Any] = {}
    taken: set[str] = set()
    for axes, operand in zip(left, operands, strict=False):
        for axis, names in zip(axes, operand.sharding.spec, strict=True):
            own = set(_as_tuple(names))
            if axis in term and axis not in found and own and not own & taken:
                found[axis] = names
                taken |= own
    meshes = [operand.sharding.mesh for operand in operands]
    mesh = next((mesh for mesh in meshes if not mesh.empty), meshes[0])
    return NamedSharding(mesh, PartitionSpec(*map(found.get, term)))


def is_split(array: Any, axis: int) -> bool:
    """Whether the type of an array says that an axis is split."""
    return bool(_as_tuple(jax.typeof(array).sharding.spec[axis]))


def _sharding(mesh: Any, split: Split, term: Sequence[str]) -> NamedSharding:
    axes = [
        tuple(name for factor in axis.split("*") for name in split[factor])
        for axis in term
    ]
    return NamedSharding(mesh, PartitionSpec(*[names or None for names in axes]))


def _add_up(
    results: Sequence[jax.Array], sums: Sequence[tuple[str, ...]]
) -> list[jax.Array]:
    """Sums every result over its mesh axes, with as few reductions as possible."""
    found = list(results)
    kinds = [(names, array.dtype) for names, array in zip(sums, results, strict=True)]
    for names, dtype in dict.fromkeys(kinds):
        if not names:
            continue
        at = [i for i, kind in enumerate(kinds) if kind == (names, dtype)]
        if len(at) == 1:
            found[at[0]] = jax.lax.psum(found[at[0]], names)
            continue
        flat = jax.lax.concatenate([found[i].reshape(-1) for i in at], 0)
        flat, start = jax.lax.psum(flat, names), 0
        for i in at:
            size = found[i].size
            found[i] = flat[start : start + size].reshape(found[i].shape)
            start += size
    return found


def _as_tuple(names: Any) -> tuple[str, ...]:
    if names is None or names == PartitionSpec.UNCONSTRAINED:
        return ()
    return names if isinstance(names, tuple) else (names,)
