"""The promise: the operator behaves like any function of JAX under its transformations.

Each check runs one use of the operator and the same use of a plain formulation in
jax.numpy, which JAX transforms by itself; under jax.vmap, the formulation is called
once for every element. `calls` counts the operations in the lowered program.
"""

import itertools
import re
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from tests.support import cases
from tests.support.cases import FLOATS
from tests.support.implementations import through

SHAPE = cases.Shape(cases.TWO_CAMERAS, batch=2, anchors=3, points=2, channels=4)
SMALL = cases.Shape((((2, 3),),), anchors=2, points=2, channels=2, groups=1)
SUBSETS = [s for size in range(1, 6) for s in itertools.combinations(range(5), size)]
FLOAT_SUBSETS = [s for s in SUBSETS if set(s) <= set(FLOATS)]
DOORS = ("cpu-reverse", "cpu-both", "reference-both")


def plain(features, shapes, starts, locations, weight):
    """The operator in a few lines of jax.numpy that JAX can transform in any way."""
    visible = ((locations > 0) & (locations < 1)).all(-1)[..., None]
    size = shapes.astype(features.dtype)[None, None, None]
    pixel = locations[..., None, :] * size - 0.5
    corner = jnp.floor(pixel)
    c, group = features.shape[-1], weight.shape[-1]
    total: Any = 0.0
    for offset in itertools.product((0.0, 1.0), repeat=2):
        at = corner + jnp.array(offset, features.dtype)[None, None, None, None, None]
        inside = ((at >= 0) & (at < size)).all(-1) & visible
        part = jnp.where(inside, (1 - jnp.abs(pixel - at)).prod(-1), 0.0)
        h, w = at[..., 0].astype(jnp.int32), at[..., 1].astype(jnp.int32)
        row = starts[None, None, None] + h * shapes[None, None, None, ..., 1] + w
        values = jax.vmap(lambda f, r: f[r])(features, jnp.where(inside, row, 0))
        values = values.reshape(*row.shape, group, c // group)
        total += jnp.einsum("bapksgd,bapksg->bagd", values, part[..., None] * weight)
    return total.reshape(*total.shape[:2], c)


def loss(function):
    return lambda *arrays: jnp.sin(function(*arrays)).sum()


plain_result = jax.jit(plain)
plain_gradients = jax.jit(jax.grad(loss(plain), FLOATS))


@pytest.fixture(params=DOORS)
def operator(request):
    return through(request.param)


@pytest.fixture(params=["cpu-both", "reference-both"])
def both(request):
    return through(request.param)


def make(shape, seed=3):
    return [jnp.asarray(array) for array in cases.make(shape, seed, np.float64)]


@pytest.fixture
def inputs(float64):
    return make(SHAPE)


@pytest.fixture
def small(float64):
    return make(SMALL, 5)


def same(ours, expected):
    ours, expected = jax.tree.leaves(ours), jax.tree.leaves(expected)
    assert len(ours) == len(expected)
    for got, right in zip(ours, expected, strict=True):
        assert got.shape == right.shape and got.dtype == right.dtype
        np.testing.assert_allclose(got, right, rtol=1e-9, atol=1e-9)


def agree(use, function, inputs):
    """`use` gives the same with the operator and with the plain formulation."""
    ours, expected = (jax.jit(partial(use, f)) for f in (function, plain))
    same(ours(*inputs), expected(*inputs))


def of_floats(function, inputs):
    """`function` of the floating arguments alone."""
    _, shapes, starts, _, _ = inputs
    return lambda f, locations, weight: function(f, shapes, starts, locations, weight)


def floats(inputs):
    return [inputs[i] for i in FLOATS]


def directions(inputs):
    """Tangents of the floating arguments."""
    return [
        jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
        for x in floats(inputs)
    ]


def calls(function, *arrays):
    """How many calls of the CPU kernels the lowered program has."""
    text = jax.jit(function).lower(*arrays).as_text()
    return text.count("@jda_cpu_forward"), text.count("@jda_cpu_backward")


# Batching


def stacked(inputs, which, count=3):
    """Arguments with a leading axis at `which`, other values for every element."""
    arrays = list(inputs)
    for i in which:
        step = 0 if i in (1, 2) else 0.01
        arrays[i] = jnp.stack([arrays[i] * (1 + step * n) for n in range(count)])
    return arrays, tuple(0 if i in which else None for i in range(5))


def elements(arrays, axes):
    """The arguments of every element, one after the other."""
    count = next(
        array.shape[axis]
        for array, axis in zip(arrays, axes, strict=True)
        if axis is not None
    )
    for n in range(count):
        yield [
            array if axis is None else jnp.take(array, n, axis)
            for array, axis in zip(arrays, axes, strict=True)
        ]


def one_by_one(function, arrays, axes):
    found = [function(*element) for element in elements(arrays, axes)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


SOME = [(0,), (3,), (4,), (3, 4), (0, 3, 4), (1, 2, 3)]
OF_DOORS = {"cpu-both": SUBSETS, "cpu-reverse": SOME, "reference-both": SOME[1::3]}


@pytest.mark.parametrize(
    ("door", "which"),
    [(door, which) for door, subsets in OF_DOORS.items() for which in subsets],
)
def test_vmap_and_its_gradients_over_any_subset(door, which, inputs):
    function = through(door)
    arrays, axes = stacked(inputs, which)

    @jax.jit
    def program(*arrays):
        of_vmap = jax.grad(loss(jax.vmap(function, axes)), FLOATS)
        under_vmap = jax.vmap(jax.grad(loss(function), FLOATS), axes)
        return jax.vmap(function, axes)(*arrays), under_vmap(*arrays), of_vmap(*arrays)

    result, under_vmap, of_vmap = program(*arrays)
    same(result, one_by_one(plain_result, arrays, axes))
    each = one_by_one(plain_gradients, arrays, axes)
    same(under_vmap, each)
    same(of_vmap, [x if i in which else x.sum(0) for i, x in zip(FLOATS, each)])  # noqa: B905


def test_vmap_over_other_maps_for_every_element(operator, inputs):
    features, shapes, starts, locations, weight = inputs
    transposed = jnp.stack([shapes, shapes[..., ::-1]])
    axes = (None, 0, None, None, None)
    arrays = (features, transposed, starts, locations, weight)
    result = jax.jit(jax.vmap(operator, axes))(*arrays)
    same(result, one_by_one(plain_result, arrays, axes))
    assert np.abs(result[0] - result[1]).max() > 0.1, "the maps must matter"


IN_AXES = [(0,) * 5, (None, None, None, 2, -1), (-1, 3, 2, -3, 1), (1, -1, None, -6, 4)]


@pytest.mark.parametrize("out_axes", [0, 1, -1])
@pytest.mark.parametrize("in_axes", IN_AXES, ids=str)
def test_vmap_over_inner_and_negative_axes(in_axes, out_axes, inputs):
    arrays = [
        array
        if axis is None
        else jnp.stack([array] * 2, axis)
        * (1 if i in (1, 2) else jnp.array([1, 0.9]).reshape(_along(axis, array)))
        for i, (array, axis) in enumerate(zip(inputs, in_axes, strict=True))
    ]
    mapped = jax.vmap(through("cpu-both"), in_axes, out_axes)
    expected = one_by_one(plain_result, arrays, in_axes)
    same(jax.jit(mapped)(*arrays), jnp.moveaxis(expected, 0, out_axes))


def _along(axis, array):
    shape = [1] * (array.ndim + 1)
    shape[axis] = 2
    return shape


def test_nested_vmap(kernels, inputs):
    features, shapes, starts, locations, weight = inputs
    arrays = (
        jnp.stack([features, features * 2]),
        shapes,
        starts,
        jnp.stack([locations, locations * 0.9, locations * 0.8]),
        weight,
    )
    over_features, over_locations = (0, *[None] * 4), (None, None, None, 0, None)
    for outer, inner in itertools.permutations((over_features, over_locations)):

        def mapped(function, outer=outer, inner=inner):
            return jax.vmap(jax.vmap(function, inner), outer)

        expected = one_by_one(
            lambda *x, inner=inner: one_by_one(plain_result, x, inner), arrays, outer
        )
        same(jax.jit(mapped(kernels))(*arrays), expected)
        assert calls(mapped(kernels), *arrays) == (1, 0)
        agree(lambda f, *x, m=mapped: jax.grad(loss(m(f)), FLOATS)(*x), kernels, arrays)


def test_vmap_with_a_name_and_a_collective(kernels, inputs):
    arrays, axes = stacked(inputs, (3,))

    def summed(*arrays):
        return jax.lax.psum(kernels(*arrays), "sets")

    result = jax.jit(jax.vmap(summed, axes, axis_name="sets"))(*arrays)
    same(result[0], one_by_one(plain_result, arrays, axes).sum(0))


QUERY_SETS = [(3,), (4,), (3, 4)]
WIDE = cases.Shape((((16, 16),),), batch=2, anchors=3, points=2, channels=16)


def largest(text):
    """Elements of the largest array in a lowered program."""
    shapes = re.findall(r"tensor<((?:\d+x)+)f64>", text)
    return max(prod(map(int, shape.split("x")[:-1])) for shape in shapes)


@pytest.mark.parametrize("which", QUERY_SETS, ids=str)
def test_query_sets_share_feature_maps(which, kernels, float64):
    """One call each way, and no array larger than the feature maps."""
    arrays, axes = stacked(make(WIDE), which)
    mapped = jax.vmap(kernels, axes)
    # The default would give one feature gradient for every set.
    shared = kernels.keywords["differentiation"] == "both"
    gradient = jax.grad(loss(mapped), FLOATS if shared else (3, 4))
    assert calls(mapped, *arrays) == (1, 0)
    assert calls(gradient, *arrays) == (1, 1)
    for function in (mapped, gradient):
        lowered = jax.jit(function).lower(*arrays)
        assert largest(lowered.as_text()) == arrays[0].size
        memory = lowered.compile().memory_analysis()
        assert memory.temp_size_in_bytes < arrays[0].nbytes / 2


# Derivatives


@pytest.mark.parametrize("which", FLOAT_SUBSETS, ids=str)
def test_forward_mode(which, both, inputs):
    dots = dict(zip(FLOATS, directions(inputs), strict=True))

    def use(function, *arrays):
        def call(*values):
            given = dict(zip(which, values, strict=True))
            return function(*[given.get(i, array) for i, array in enumerate(arrays)])

        primals, tangents = [arrays[i] for i in which], [dots[i] for i in which]
        linear = jax.linearize(call, *primals)[1]
        return jax.jvp(call, primals, tangents), linear(*tangents)

    agree(use, both, inputs)


def test_forward_mode_of_vmap(both, inputs):
    arrays, axes = stacked(inputs, (3, 4))

    def use(function, *arrays):
        mapped = of_floats(jax.vmap(function, axes), arrays)
        return jax.jvp(mapped, floats(arrays), directions(arrays))

    agree(use, both, arrays)
    if both.keywords["implementation"] == "cpu":
        text = jax.jit(partial(use, both)).lower(*arrays).as_text()
        assert text.count("@jda_cpu_forward") == text.count("@jda_cpu_tangent") == 1
        assert largest(text) == max(x.size for x in arrays)


@pytest.mark.parametrize("mapped", [(0,), (3,)], ids=str)
@pytest.mark.parametrize("which", [(0,), (0, 4)], ids=str)
def test_vmap_of_forward_mode(which, mapped, inputs):
    """The last tangent may be that of the feature maps, which have no anchors."""
    arrays, axes = stacked(inputs, mapped)

    def push(function, *arrays):
        def call(*values):
            given = dict(zip(which, values, strict=True))
            return function(*[given.get(i, array) for i, array in enumerate(arrays)])

        primals = tuple(arrays[i] for i in which)
        return jax.jvp(call, primals, primals)[1]

    got = jax.jit(jax.vmap(partial(push, through("cpu-both")), axes))(*arrays)
    same(got, one_by_one(jax.jit(partial(push, plain)), arrays, axes))


@pytest.mark.parametrize("door", ["cpu-reverse", "reference-reverse"])
def test_forward_mode_of_the_default_says_what_to_do(door, inputs):
    call = of_floats(through(door), inputs)
    values = floats(inputs)
    batched = [values[0][None], *values[1:]]
    message = 'pass differentiation="both"'
    for use in (
        lambda: jax.jvp(call, values, values),
        lambda: jax.jit(lambda *x: jax.jvp(call, x, x))(*values),
        lambda: jax.jvp(jax.jit(call), values, values),
        lambda: jax.jacfwd(call)(*values),
        lambda: jax.linearize(call, *values)[1](*values),
        lambda: jax.jvp(jax.vmap(call, (0, None, None)), batched, batched),
    ):
        with pytest.raises(TypeError, match=message):
            use()


def test_jacobians(both, small):
    def use(function, *arrays):
        call = of_floats(function, arrays)
        forward = jax.jacfwd(call, (0, 1, 2))(*floats(arrays))
        backward = jax.jacrev(call, (0, 1, 2))(*floats(arrays))
        return forward, backward

    agree(use, both, small)


def test_transposed_linearization(both, small):
    """The product with J'J, of which Gauss and Newton make steps."""

    def use(function, *arrays):
        _, linear = jax.linearize(of_floats(function, arrays), *floats(arrays))
        transposed = jax.linear_transpose(linear, *floats(arrays))
        return transposed(linear(*directions(arrays)))

    agree(use, both, small)


def forward_over_reverse(call, values, dots):
    return jax.jvp(jax.grad(call, (0, 1, 2)), values, dots)[1]


def reverse_over_reverse(call, values, dots):
    def along(*values):
        return sum(map(jnp.vdot, jax.grad(call, (0, 1, 2))(*values), dots))

    return jax.grad(along, (0, 1, 2))(*values)


def reverse_over_forward(call, values, dots):
    def slope(*values):
        return jax.jvp(call, values, tuple(dots))[1]

    return jax.grad(slope, (0, 1, 2))(*values)


ORDERS = [
    ("cpu-reverse", forward_over_reverse),
    ("cpu-reverse", reverse_over_reverse),
    ("cpu-both", forward_over_reverse),
    ("cpu-both", reverse_over_reverse),
    ("cpu-both", reverse_over_forward),
    ("reference-both", forward_over_reverse),
]


@pytest.mark.parametrize(
    ("door", "product"), ORDERS, ids=lambda x: getattr(x, "__name__", x)
)
def test_hessian_vector_products(door, product, small):
    def use(function, *arrays):
        call = loss(of_floats(function, arrays))
        return product(call, floats(arrays), directions(arrays))

    agree(use, through(door), small)


def test_second_order_without_jit(small):
    call = loss(of_floats(through("cpu-reverse"), small))
    product = partial(reverse_over_reverse, call)
    arguments = floats(small), directions(small)
    same(product(*arguments), jax.jit(product)(*arguments))


def test_hessian(kernels, small):
    def use(function, *arrays):
        call = loss(of_floats(function, arrays))
        return jax.hessian(call, (0, 1, 2))(*floats(arrays))

    agree(use, kernels, small)


def test_third_order(small):
    features, _, _, _, weight = small

    def use(function, *arrays):
        def of_locations(x):
            return loss(of_floats(function, arrays))(features, x, weight)

        def second(x):
            return jnp.sin(jax.grad(lambda x: jax.grad(of_locations)(x).sum())(x)).sum()

        return jax.grad(second)(arrays[3])

    agree(use, through("cpu-reverse"), small)


def test_gradient_through_control_flow(kernels, inputs):
    def scanned(function, features, shapes, starts, locations, weight):
        def step(carry, x):
            return carry + loss(function)(features, shapes, starts, x, weight), None

        return jax.lax.scan(step, 0.0, jnp.stack([locations, locations * 0.9]))[0]

    def branched(function, features, shapes, starts, locations, weight):
        def branch(x):
            return loss(function)(features, shapes, starts, x, weight)

        return jax.lax.cond(locations.sum() > 0, branch, jnp.sum, locations)

    agree(
        lambda d, *x: [jax.grad(partial(use, d), 3)(*x) for use in (scanned, branched)],
        kernels,
        inputs,
    )


def test_forward_mode_through_control_flow_and_checkpoint(both, inputs):
    def use(function, *arrays):
        call = of_floats(function, arrays)
        features, locations, weight = floats(arrays)

        def program(locations):
            kept = jax.checkpoint(call)(features, locations, weight)
            chosen = jax.lax.cond(
                locations.sum() > 0,
                lambda x: call(features, x, weight),
                lambda _: kept,
                locations,
            )
            return chosen + kept

        return jax.jvp(program, [locations], [locations])

    agree(use, both, inputs)


def test_gradient_under_checkpoint(kernels, inputs):
    agree(lambda d, *x: jax.grad(jax.checkpoint(loss(d)), FLOATS)(*x), kernels, inputs)


def test_other_gradients_of_one_trace(kernels, inputs):
    """JAX caches what it traces, and must not take one set of gradients for another."""
    expected = dict(zip(FLOATS, plain_gradients(*inputs), strict=True))
    kept = jax.checkpoint(loss(kernels))
    for wanted in ((0,), FLOATS, (3,), (4, 0), FLOATS, (0,)):
        same(jax.grad(kept, wanted)(*inputs), [expected[i] for i in wanted])


@pytest.mark.parametrize("size", ["batch", "anchors", "points"])
def test_zero_sizes_under_vmap(size, operator, float64):
    shape = cases.Shape(cases.TWO_CAMERAS, **{size: 0})
    arrays, axes = stacked(make(shape, 0), (3,))
    agree(lambda d, *x: jax.grad(loss(jax.vmap(d, axes)), FLOATS)(*x), operator, arrays)


def test_unused_gradients_are_eliminated(kernels, inputs):
    """Nobody asks for the other two gradients here, but the pull-back has all three."""

    def features_alone(*inputs):
        result, pull_back = jax.vjp(kernels, *inputs)
        return pull_back(result)[0]

    lowered = jax.jit(features_alone).lower(*inputs).as_text()
    (call,) = (line for line in lowered.splitlines() if "@jda_cpu_backward" in line)
    assert call.count("tensor<0xf64>") == 2


def test_shard_map(operator, inputs):
    mesh = jax.make_mesh((1,), ("i",), axis_types=(AxisType.Auto,))
    spec = [PartitionSpec()] * 3 + [PartitionSpec(None, "i")] * 2
    mapped = jax.shard_map(
        operator, mesh=mesh, in_specs=tuple(spec), out_specs=PartitionSpec(None, "i")
    )
    same(jax.jit(jax.grad(loss(mapped), FLOATS))(*inputs), plain_gradients(*inputs))
