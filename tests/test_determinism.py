"""The promise: the same bits for every number of threads, from run to run, and from
calls that run at once, which never wait for each other.

The number of threads is set when jax starts, so each number has its own process: this
file run as a program prints one digest per problem and result.
"""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import combinations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda
from tests.support import cases
from tests.support.implementations import ROOT

LEVELS = ((20, 44), (10, 22), (5, 11))
RIG = cases.Shape((LEVELS,) * 4, batch=2, anchors=120, points=7, channels=128, groups=8)
PROBLEMS = {  # each more than a million multiply-adds, so that the work is split
    "rig": replace(RIG, locate=cases.clustered),
    "few anchors, many points": cases.Shape(
        ((LEVELS[0],),), anchors=3, points=700, channels=256, locate=cases.inside
    ),
    "more samples than rows": cases.Shape(
        ((LEVELS[1],),) * 2,
        batch=2,
        anchors=7,
        points=400,
        channels=128,
        groups=8,
        locate=cases.inside,
    ),
    "one anchor": cases.Shape(
        (LEVELS,) * 2, anchors=1, points=300, channels=256, locate=cases.inside
    ),
    "same rows again and again": cases.Shape(
        ((LEVELS[2],),) * 3,
        anchors=200,
        points=20,
        channels=96,
        locate=cases.coincident,
    ),
    "shared rows": cases.Shape(
        (LEVELS,) * 3, anchors=150, points=6, channels=64, layout="shared"
    ),
    "narrow": cases.Shape((LEVELS,) * 3, anchors=400, points=50, channels=6, groups=3),
    "odd": cases.Shape((LEVELS,) * 3, anchors=150, points=9, channels=37, groups=1),
}
ARGUMENTS = {"feature_maps": 0, "sample_locations": 3, "weight": 4}
SUBSETS = [wanted for n in (1, 2, 3) for wanted in combinations(ARGUMENTS, n)]


@cache
def program(wanted):
    """(inputs, cotangent) -> the result and the wanted gradients, jitted."""
    positions = [ARGUMENTS[name] for name in wanted]

    def both(inputs, cotangent):
        def call(*chosen):
            arguments = list(inputs)
            for position, array in zip(positions, chosen, strict=True):
                arguments[position] = array
            return jda.deformable_aggregation(*arguments, implementation="cpu")

        out, pull = jax.vjp(call, *(inputs[position] for position in positions))
        return out, *pull(cotangent)

    return jax.jit(both)


@jax.jit
def tangent(inputs, tangents):
    def call(features, locations, weight):
        arrays = features, *inputs[1:3], locations, weight
        return jda.deformable_aggregation(
            *arrays, implementation="cpu", differentiation="both"
        )

    return jax.jvp(call, (inputs[0], *inputs[3:]), tuple(tangents))[1]


def digest(arrays):
    return [hashlib.sha256(np.asarray(array).tobytes()).hexdigest() for array in arrays]


@cache
def problem(name, dtype=np.float32):
    wide = np.float64 if dtype == np.float64 else np.float32
    inputs = cases.narrowed(cases.make(PROBLEMS[name], 3, wide), dtype)
    return inputs, cases.make_cotangent(inputs)


def every_digest():
    found = {
        f"{name}: {' '.join(wanted)}": digest(program(wanted)(*problem(name)))
        for name in PROBLEMS
        for wanted in SUBSETS
    }
    full = program(SUBSETS[-1])
    for name, dtype in product(("rig", "odd"), (np.float32, jnp.bfloat16, jnp.float16)):
        inputs, cotangent = problem(name, dtype)
        moved = tangent(inputs, cases.make_tangents(inputs))
        key = f"{name} in {np.dtype(dtype)}, with a tangent"
        found[key] = digest([*full(inputs, cotangent), moved])
    jax.config.update("jax_enable_x64", True)
    for name in PROBLEMS:
        found[f"{name} in float64"] = digest(full(*problem(name, np.float64)))
    return found


def in_a_process(what, threads):
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, what],
        cwd=ROOT,
        env=os.environ | {"NPROC": str(threads), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def only_native(implementation):
    if implementation != "cpu":
        pytest.skip("bits are promised by the native kernels alone")


@pytest.fixture(scope="module")
def on_one_thread():
    return in_a_process("digests", 1)


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_bits_do_not_depend_on_the_number_of_threads(threads, on_one_thread):
    assert in_a_process("digests", threads) == on_one_thread


def test_bits_of_another_run(on_one_thread):
    assert in_a_process("digests", 1) == on_one_thread


@pytest.mark.parametrize("name", PROBLEMS)
def test_bits_of_repeated_calls(name, on_one_thread):
    for wanted in SUBSETS:
        expected = on_one_thread[f"{name}: {' '.join(wanted)}"]
        for _ in range(5):
            assert digest(program(wanted)(*problem(name))) == expected


def test_bits_of_calls_at_once(on_one_thread):
    """Every problem from eight Python threads, mixed."""
    full = SUBSETS[-1]

    def one(name):
        return digest(program(full)(*problem(name)))

    names = list(PROBLEMS) * 8
    expected = [on_one_thread[f"{name}: {' '.join(full)}"] for name in names]
    for name in PROBLEMS:
        one(name)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, names)) == expected


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_calls_at_once_never_wait_for_each_other(threads):
    """More calls than threads, whose inputs are still computing when they start."""
    assert in_a_process("crowd", threads) == "all the same"


def crowd():
    inputs, cotangent = problem("rig")
    features = jnp.asarray(inputs.feature_maps)
    big = jnp.ones((600, 600))

    @jax.jit
    def slow_one(scale):
        for _ in range(3):
            scale = scale @ big / 600
        return scale[0, 0]

    @jax.jit
    def both(features, cotangent):
        call = partial(jda.deformable_aggregation, implementation="cpu")
        out, pull = jax.vjp(lambda f: call(f, *inputs[1:]), features)
        (grad,) = pull(cotangent)
        return out.sum(), grad.sum()

    def several(_):
        waiting = [both(features * slow_one(big), cotangent) for _ in range(6)]
        return {tuple(map(float, result)) for result in waiting}

    expected = several(0)
    with ThreadPoolExecutor(8) as pool:
        results = set().union(*pool.map(several, range(16)))
    return "all the same" if results == expected and len(results) == 1 else "different"


if __name__ == "__main__":
    answer = {"digests": every_digest, "crowd": crowd}[sys.argv[1]]()
    print(json.dumps(answer))
