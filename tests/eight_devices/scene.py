"""A problem that divides by eight along every axis, and the right answers."""

import re
from collections import Counter
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jda
from tests.support import cases, oracle
from tests.support.cases import FLOATS

MAPS = tuple(((2 + k % 3, 4), (1, 2)) for k in range(8))
INPUTS = cases.make(
    cases.Shape(MAPS, batch=8, anchors=8, points=8, channels=16, groups=8), seed=5
)
COTANGENT = cases.make_cotangent(INPUTS)

# One way to split each axis of the operator over a mesh axis: the five operands.
SPLITS = {
    "batch": lambda x: (P(x), P(), P(), P(x), P(x)),
    "anchor": lambda x: (P(), P(), P(), P(None, x), P(None, x)),
    "group": lambda x: (P(None, None, x), P(), P(), P(), P(*5 * [None], x)),
    "point": lambda x: (P(), P(), P(), P(None, None, x), P(None, None, x)),
    "camera": lambda x: (P(), P(x), P(x), P(*3 * [None], x), P(*3 * [None], x)),
}
RESULTS = {  # and the result that comes of it
    "batch": lambda x: P(x),
    "anchor": lambda x: P(None, x),
    "group": lambda x: P(None, None, x),
    "point": lambda _: P(),
    "camera": lambda _: P(),
}


@cache
def judged() -> cases.Judgement:
    return cases.judge(INPUTS)


def mesh(sizes, names, **kinds):
    count = int(np.prod(sizes))
    return Mesh(np.array(jax.devices()[:count]).reshape(sizes), names, **kinds)


def put(arrays, specs, mesh):
    pairs = zip(arrays, specs, strict=True)
    return [jax.device_put(array, NamedSharding(mesh, spec)) for array, spec in pairs]


def forward(*inputs, **keywords):
    return jda.deformable_aggregation(*inputs, **keywords)


def pull_back(*inputs, operator=forward, bar=COTANGENT):
    """The gradients alone, without a forward call."""

    def of_floats(features, locations, weight):
        return operator(features, *inputs[1:3], locations, weight)

    return jax.vjp(of_floats, *[inputs[i] for i in FLOATS])[1](jnp.asarray(bar))


def push_forward(*inputs, operator=None):
    operator = operator or (lambda *x: forward(*x, differentiation="both"))

    def of_floats(features, locations, weight):
        return operator(features, *inputs[1:3], locations, weight)

    floats = tuple(inputs[i] for i in FLOATS)
    return jax.jvp(of_floats, floats, floats)[1]


@cache
def pushed():
    """The tangent as one device computes it."""
    return np.asarray(jax.jit(push_forward)(*INPUTS))


def curvature(*inputs):
    """The product of the Hessian of a loss with the arguments themselves."""

    def loss(features, locations, weight):
        return jnp.sin(forward(features, *inputs[1:3], locations, weight)).sum()

    floats = tuple(inputs[i] for i in FLOATS)
    return jax.jvp(jax.grad(loss, (0, 1, 2)), floats, floats)[1]


@cache
def curved():
    """The same as one device computes it."""
    return jax.tree.map(np.asarray, jax.jit(curvature)(*INPUTS))


def run(function, arguments):
    """What a function returns, and how often its program communicates in which way."""
    program = jax.jit(function).lower(*arguments).compile()
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    found = re.findall(rf" ({kinds})(?:-start)?\(", program.as_text())
    return program(*arguments), dict(Counter(found))


def reductions(count):
    """Nothing but so many reductions."""
    return {"all-reduce": count} if count else {}


def assert_forward(out):
    oracle.assert_within(out, judged().out, judged().out_scale)


def assert_gradients(grads):
    cases.assert_gradients_within(grads, judged())


def assert_tangent(tangent):
    np.testing.assert_allclose(tangent, pushed(), rtol=0, atol=3e-4)


def assert_curvature(found):
    for got, right in zip(found, curved(), strict=True):
        atol = 1e-4 * np.abs(right).max()
        np.testing.assert_allclose(got, right, rtol=0, atol=atol)
