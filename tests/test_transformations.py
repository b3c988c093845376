"""The promise: the operator behaves like any function of JAX under its transformations.

Each check runs one use of the operator and the same use of a plain formulation in
jax.numpy, which JAX transforms by itself. `calls` counts the operations in the lowered
program.
"""

import itertools
from functools import partial

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jda

SHAPE = cases.Shape(cases.TWO_CAMERAS, batch=2, anchors=3, points=2, channels=4)
FLOATS = (0, 3, 4)
SUBSETS = [s for size in range(1, 6) for s in itertools.combinations(range(5), size)]
FLOAT_SUBSETS = [s for s in SUBSETS if set(s) <= set(FLOATS)]


def plain(features, shapes, starts, locations, weight):
    """The operator in a few lines of jax.numpy that JAX can transform in any way."""
    visible = ((locations > 0) & (locations < 1)).all(-1)[..., None]
    size = shapes.astype(features.dtype)[None, None, None]
    pixel = locations[..., None, :] * size - 0.5
    corner = jnp.floor(pixel)
    c, group = features.shape[-1], weight.shape[-1]
    total = 0.0
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


@pytest.fixture
def inputs(float64):
    return [jnp.asarray(array) for array in cases.make(SHAPE, 3, np.float64)]


@pytest.fixture(params=["reverse", "both"])
def operator(request, implementation):
    return partial(
        jda.deformable_aggregation,
        implementation=implementation,
        differentiation=request.param,
    )


@pytest.fixture
def both(implementation):
    return partial(
        jda.deformable_aggregation,
        implementation=implementation,
        differentiation="both",
    )


def loss(function):
    return lambda *arrays: jnp.sin(function(*arrays)).sum()


def of_floats(function, inputs):
    """`function` of the floating arguments alone."""
    _, shapes, starts, _, _ = inputs
    return lambda f, locations, weight: function(f, shapes, starts, locations, weight)


def agree(use, function, atol=1e-9):
    """`use` gives the same with the operator and with the plain formulation."""
    ours, expected = jax.tree.leaves(use(function)), jax.tree.leaves(use(plain))
    assert len(ours) == len(expected)
    for got, right in zip(ours, expected, strict=True):
        assert got.shape == right.shape and got.dtype == right.dtype
        np.testing.assert_allclose(got, right, rtol=1e-9, atol=atol)


def calls(function, *arrays):
    """How many calls of the CPU kernels the lowered program has."""
    text = jax.jit(function).lower(*arrays).as_text()
    return text.count("@jda_cpu_forward"), text.count("@jda_cpu_cotangent")


def stacked(inputs, which, count=3):
    """Arguments with a leading axis at `which`, other values for every element."""
    arrays = list(inputs)
    for i in which:
        step = 0 if i in (1, 2) else 0.01
        arrays[i] = jnp.stack([arrays[i] * (1 + step * n) for n in range(count)])
    return arrays, tuple(0 if i in which else None for i in range(5))


@pytest.mark.parametrize("which", SUBSETS, ids=str)
def test_vmap_over_any_subset(which, both, inputs):
    arrays, axes = stacked(inputs, which)
    agree(lambda d: jax.jit(jax.vmap(d, axes))(*arrays), both)


@pytest.mark.parametrize("which", [(0,), (3,), (4,), (3, 4), (0, 3, 4), (1, 2, 3)])
def test_gradient_of_vmap_and_vmap_of_gradient(which, operator, inputs):
    arrays, axes = stacked(inputs, which)
    agree(
        lambda d: jax.jit(jax.vmap(jax.grad(loss(d), FLOATS), axes))(*arrays), operator
    )
    agree(
        lambda d: jax.jit(jax.grad(loss(jax.vmap(d, axes)), FLOATS))(*arrays), operator
    )


def test_vmap_over_other_maps_for_every_element(operator, inputs):
    features, shapes, starts, locations, weight = inputs
    transposed = jnp.stack([shapes, shapes[..., ::-1]])
    axes = (None, 0, None, None, None)
    arrays = (features, transposed, starts, locations, weight)
    agree(lambda d: jax.vmap(d, axes)(*arrays), operator)


def test_vmap_over_inner_axes(operator, inputs):
    features, shapes, starts, locations, weight = inputs
    arrays = (
        features,
        shapes,
        starts,
        jnp.stack([locations, locations * 0.9], 2),
        jnp.stack([weight, weight * 2], -1),
    )
    agree(lambda d: jax.vmap(d, (None, None, None, 2, -1), 1)(*arrays), operator)


def test_nested_vmap(operator, inputs):
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
        agree(
            lambda d, o=outer, i=inner: jax.vmap(jax.vmap(d, i), o)(*arrays), operator
        )


def test_vmap_over_query_sets_is_one_call(implementation, inputs):
    if implementation != "cpu":
        pytest.skip("counts calls of the CPU kernels")
    arrays, axes = stacked(inputs, (3,))
    both = partial(jda.deformable_aggregation, differentiation="both")
    mapped = jax.vmap(both, axes)
    assert calls(mapped, *arrays) == (1, 0)
    assert calls(jax.grad(loss(mapped), FLOATS), *arrays) == (1, 1)
    text = jax.jit(jax.grad(loss(mapped), FLOATS)).lower(*arrays).as_text()
    bs, num_feat, c = arrays[0].shape
    assert f"tensor<{bs}x{num_feat}x{c}xf64>" in text
    assert f"tensor<{3 * bs}x{num_feat}x{c}xf64>" not in text


@pytest.mark.parametrize("which", FLOAT_SUBSETS, ids=str)
def test_forward_mode(which, both, inputs):
    rng = np.random.default_rng(0)
    primals = [inputs[i] for i in which]
    dots = [jnp.asarray(rng.standard_normal(x.shape)) for x in primals]

    def of_which(function):
        def call(*values):
            given = dict(zip(which, values, strict=True))
            return function(*[given.get(i, array) for i, array in enumerate(inputs)])

        return call

    agree(lambda d: jax.jvp(of_which(d), primals, dots), both)
    agree(lambda d: jax.linearize(of_which(d), *primals)[1](*dots), both)


def test_forward_mode_of_the_default_says_what_to_do(implementation, inputs):
    function = partial(jda.deformable_aggregation, implementation=implementation)
    call = of_floats(function, inputs)
    values = [inputs[i] for i in FLOATS]
    message = 'pass differentiation="both"'
    for use in (
        lambda: jax.jvp(call, values, values),
        lambda: jax.jit(lambda *x: jax.jvp(call, x, x))(*values),
        lambda: jax.jvp(jax.jit(call), values, values),
        lambda: jax.jacfwd(call)(*values),
        lambda: jax.linearize(call, *values)[1](*values),
        lambda: jax.jvp(jax.vmap(call, (0, None, None)), *[_batched(values)] * 2),
    ):
        with pytest.raises(TypeError, match=message):
            use()


def _batched(values):
    return [values[0][None], *values[1:]]


def small(float64):
    shape = cases.Shape((((2, 3),),), anchors=2, points=2, channels=2, groups=1)
    return [jnp.asarray(array) for array in cases.make(shape, 5, np.float64)]


def test_jacobians(both, float64):
    inputs = small(float64)
    for jacobian in (jax.jacfwd, jax.jacrev):

        def use(function, jacobian=jacobian):
            call = of_floats(function, inputs)
            return jax.jit(jacobian(call, (0, 1, 2)))(*[inputs[i] for i in FLOATS])

        agree(use, both)


def hessian_vector_products(function, inputs, forward_over_reverse_only):
    call = loss(of_floats(function, inputs))
    values = [inputs[i] for i in FLOATS]
    dots = [jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape) for x in values]
    gradient = jax.grad(call, (0, 1, 2))
    products = [jax.jvp(gradient, values, dots)[1]]

    def along(*values):
        pairs = zip(gradient(*values), dots, strict=True)
        return sum(jnp.vdot(grad, dot) for grad, dot in pairs)

    products.append(jax.grad(along, (0, 1, 2))(*values))
    if not forward_over_reverse_only:

        def slope(*values):
            return jax.jvp(call, values, tuple(dots))[1]

        products.append(jax.grad(slope, (0, 1, 2))(*values))
    return products


def test_hessian_vector_products(implementation, float64):
    inputs = small(float64)
    for differentiation in ("reverse", "both"):
        function = partial(
            jda.deformable_aggregation,
            implementation=implementation,
            differentiation=differentiation,
        )
        reverse = differentiation == "reverse"
        agree(lambda d, r=reverse: hessian_vector_products(d, inputs, r), function)


def test_hessian(operator, float64):
    inputs = small(float64)
    values = [inputs[i] for i in FLOATS]
    agree(
        lambda d: jax.jit(jax.hessian(loss(of_floats(d, inputs)), (0, 1, 2)))(*values),
        operator,
    )


def test_third_order(operator, float64):
    inputs = small(float64)
    features, _, _, locations, weight = inputs

    def use(function):
        of_locations = lambda x: loss(of_floats(function, inputs))(features, x, weight)  # noqa: E731
        first = lambda x: jax.grad(of_locations)(x).sum()  # noqa: E731
        second = lambda x: jnp.sin(jax.grad(first)(x)).sum()  # noqa: E731
        return jax.grad(second)(locations)

    agree(use, operator)


def test_gradient_through_control_flow(operator, inputs):
    features, shapes, starts, locations, weight = inputs

    def scanned(function):
        def step(carry, x):
            return carry + loss(function)(features, shapes, starts, x, weight), None

        return lambda x: jax.lax.scan(step, 0.0, jnp.stack([x, x * 0.9]))[0]

    def branched(function):
        def branch(x):
            return loss(function)(features, shapes, starts, x, weight)

        return lambda x: jax.lax.cond(x.sum() > 0, branch, jnp.sum, x)

    agree(lambda d: jax.jit(jax.grad(scanned(d)))(locations), operator)
    agree(lambda d: jax.jit(jax.grad(branched(d)))(locations), operator)


def test_gradient_under_checkpoint(operator, inputs):
    agree(lambda d: jax.grad(jax.checkpoint(loss(d)), FLOATS)(*inputs), operator)
    agree(lambda d: jax.jit(jax.grad(jax.checkpoint(loss(d)), 3))(*inputs), operator)


def test_other_gradients_of_one_trace(operator, inputs):
    """JAX caches what it traces, and must not take one set of gradients for another."""
    for wanted in (0, FLOATS, 3, (4, 0), FLOATS, 0):
        agree(
            lambda d, w=wanted: jax.grad(jax.checkpoint(loss(d)), w)(*inputs), operator
        )


def test_eager_without_jit(operator, inputs):
    with jax.disable_jit():
        ours = operator(*inputs)
    np.testing.assert_allclose(ours, plain(*inputs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", ["batch", "anchors", "points"])
def test_zero_sizes_under_vmap(size, operator, float64):
    shape = cases.Shape(cases.TWO_CAMERAS, **{size: 0})
    inputs = [jnp.asarray(array) for array in cases.make(shape, 0, np.float64)]
    arrays, axes = stacked(inputs, (3,))
    agree(lambda d: jax.grad(loss(jax.vmap(d, axes)), FLOATS)(*arrays), operator)


def test_unused_gradients_are_eliminated(implementation, inputs):
    """Nobody asks for the other two gradients here, but the pull-back has all three."""
    if implementation != "cpu":
        pytest.skip("reads the results of the CPU kernel")

    def features_alone(*inputs):
        result, pull_back = jax.vjp(jda.deformable_aggregation, *inputs)
        return pull_back(result)[0]

    lowered = jax.jit(features_alone).lower(*inputs).as_text()
    (call,) = (line for line in lowered.splitlines() if "@jda_cpu_cotangent" in line)
    assert call.count("tensor<0xf64>") == 2


def test_shard_map(operator, inputs):
    mesh = jax.make_mesh((1,), ("i",), axis_types=(AxisType.Auto,))
    spec = [PartitionSpec()] * 3 + [PartitionSpec(None, "i")] * 2

    def use(function):
        mapped = jax.shard_map(
            function,
            mesh=mesh,
            in_specs=tuple(spec),
            out_specs=PartitionSpec(None, "i"),
        )
        return jax.jit(jax.value_and_grad(loss(mapped), FLOATS))(*inputs)

    ours, expected = use(operator), jax.value_and_grad(loss(plain), FLOATS)(*inputs)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), ours, expected
    )
