"""The promise: whatever JAX offers to programs works with the operator inside them.

Compilation ahead of time, export, caches, checkpoints, control flow, strict and
debugging modes. Transformations are next door, in test_transformations.py.
"""

import re
import subprocess
import sys
import textwrap
from functools import partial

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import jda
from tests.support import cases, oracle, pages
from tests.support.cases import FLOATS
from tests.support.implementations import through

INPUTS = cases.case("two cameras")
JUDGED = cases.judged_case("two cameras")
DOORS = ("cpu-reverse", "cpu-both", "reference-reverse")


@pytest.fixture(params=DOORS)
def operator(request):
    return through(request.param)


@pytest.fixture
def _cpu_kernels():
    through("cpu-reverse")


@pytest.fixture
def arrays():
    return tuple(map(jnp.asarray, INPUTS))


def loss(function):
    return lambda *arrays: jnp.vdot(function(*arrays), JUDGED.cotangent)


def is_right(out):
    oracle.assert_within(out, JUDGED.out, JUDGED.out_scale)


def are_right(grads):
    cases.assert_gradients_within(grads, JUDGED)


def targets(text):
    return re.findall(r"custom_call @(jda\w+)", text)


# Ahead of time


def test_eval_shape(operator, arrays):
    out = jax.eval_shape(operator, *arrays)
    assert (out.shape, out.dtype) == (JUDGED.out.shape, np.float32)
    grads = jax.eval_shape(jax.grad(loss(operator), FLOATS), *arrays)
    assert [grad.shape for grad in grads] == [INPUTS[i].shape for i in FLOATS]


def test_compiled_ahead_of_time(operator, arrays):
    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
    is_right(jax.jit(operator).lower(*shapes).compile()(*arrays))
    gradient = jax.jit(jax.grad(loss(operator), FLOATS))
    are_right(gradient.lower(*shapes).compile()(*arrays))


CHECKS = [jax.export.DisabledSafetyCheck.custom_call(name) for name in jda.CUSTOM_CALLS]


@pytest.mark.usefixtures("_cpu_kernels")
def test_export_needs_the_switch_for_custom_calls(arrays):
    with pytest.raises(ValueError, match="custom_call @jda_cpu_forward"):
        jax.export.export(jax.jit(jda.deformable_aggregation))(*arrays)


def test_export_and_back(operator, arrays):
    """Called and differentiated after the round trip."""
    export = jax.export.export(jax.jit(operator), disabled_checks=CHECKS)
    found = jax.export.deserialize(export(*arrays).serialize(vjp_order=1))
    is_right(found.call(*arrays))
    are_right(jax.grad(loss(found.call), FLOATS)(*arrays))


@pytest.mark.usefixtures("_cpu_kernels")
def test_export_for_the_cpu_and_for_ascend(arrays):
    def both_ways(*arrays):
        return jax.value_and_grad(loss(jda.deformable_aggregation), FLOATS)(*arrays)

    export = jax.export.export(
        jax.jit(both_ways), platforms=("cpu", "ascend"), disabled_checks=CHECKS
    )
    exported = export(*arrays)
    assert set(targets(exported.mlir_module())) == {
        "jda_cpu_forward",
        "jda_cpu_backward",
        "jda_ascend_forward",
        "jda_ascend_backward",
    }
    found = jax.export.deserialize(exported.serialize())
    assert found.platforms == ("cpu", "ascend")
    are_right(found.call(*arrays)[1])


def test_export_for_any_batch_anchors_points_and_rows(operator, arrays):
    b, n, a, p = jax.export.symbolic_shape("b, n, a, p")
    features, shapes, starts, locations, weight = (
        jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays
    )
    any_size = (
        features.update(shape=(b, n, *features.shape[2:])),
        shapes,
        starts,
        locations.update(shape=(b, a, p, *locations.shape[3:])),
        weight.update(shape=(b, a, p, *weight.shape[3:])),
    )

    def gradient(function):
        return jax.jit(jax.grad(lambda *x: function(*x).sum(), FLOATS))

    exported = jax.export.export(gradient(operator), disabled_checks=CHECKS)(*any_size)
    found = jax.export.deserialize(exported.serialize())
    more = cases.make(cases.Shape(cases.TWO_CAMERAS, batch=1, anchors=7, points=4))
    for inputs in (arrays, more):
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
            found.call(*inputs),
            gradient(jda.deformable_aggregation)(*inputs),
        )


@pytest.mark.usefixtures("_cpu_kernels")
def test_other_processes_take_what_this_one_leaves(tmp_path, arrays):
    """An exported program, and the compilation cache that each fills for the next."""
    gradient = jax.jit(jax.grad(loss(jda.deformable_aggregation), FLOATS))
    exported = jax.export.export(gradient, disabled_checks=CHECKS)(*arrays)
    (tmp_path / "exported").write_bytes(exported.serialize())
    np.savez(tmp_path / "inputs", *INPUTS)
    program = """
        import sys
        import jax, jax.export, jax.monitoring, jax.numpy as jnp, numpy as np
        folder = sys.argv[1]
        jax.config.update("jax_compilation_cache_dir", folder + "/cache")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        hits = []
        jax.monitoring.register_event_listener(
            lambda event, **_: hits.append(event.endswith("cache_hits"))
        )
        import jda
        jda.implementations()  # loads the kernels that the exported program calls
        with np.load(folder + "/inputs.npz") as stored:
            inputs = [jnp.asarray(stored[name]) for name in stored.files]
        out = jax.jit(jda.deformable_aggregation).lower(*inputs).compile()(*inputs)
        with open(folder + "/exported", "rb") as file:
            grads = jax.export.deserialize(file.read()).call(*inputs)
        np.savez(folder + "/results", out, *grads)
        print(sum(hits))
    """
    hits = []
    for _ in range(2):
        command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        hits.append(int(done.stdout))
        with np.load(tmp_path / "results.npz") as stored:
            out, *grads = (stored[name] for name in stored.files)
        is_right(out)
        are_right(grads)
    assert hits[0] == 0 and hits[1] >= 2, hits


# Memory


def features_replaced(function):
    """A step that writes features of the same shape: it may take the old ones' place.

    The step is one of gradient descent.
    """

    def step(features, *rest):
        return features - jax.grad(loss(function))(features, *rest)

    return step


def test_donated_features_are_overwritten(kernels, arrays):
    step = jax.jit(features_replaced(kernels), donate_argnums=0)
    memory = step.lower(*arrays).compile().memory_analysis()
    assert memory.alias_size_in_bytes == arrays[0].nbytes
    donated = jnp.array(arrays[0])
    got = step(donated, *arrays[1:])
    assert donated.is_deleted()
    gradient = INPUTS.feature_maps.astype(np.float64) - np.asarray(got, np.float64)
    np.testing.assert_allclose(
        gradient, JUDGED.grads.feature_maps, rtol=1e-5, atol=1e-5
    )


POLICIES = {  # and how often the forward kernel is called for a value and a gradient
    None: 2,
    "nothing_saveable": 2,
    "everything_saveable": 1,
    "dots_saveable": 2,
    "the result by name": 1,
}


@pytest.mark.parametrize("policy", POLICIES)
def test_checkpoint_policies(policy, kernels, arrays):
    def squared(*arrays):
        return jnp.square(checkpoint_name(kernels(*arrays), "aggregated")).sum()

    policies = jax.checkpoint_policies
    if policy == "the result by name":
        chosen = policies.save_only_these_names("aggregated")
    else:
        chosen = policy and getattr(policies, policy)
    kept = jax.checkpoint(squared, policy=chosen)
    program = jax.jit(jax.value_and_grad(kept, FLOATS))
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
        program(*arrays),
        jax.value_and_grad(squared, FLOATS)(*arrays),
    )
    forward = ["jda_cpu_forward"] * POLICIES[policy]
    called = targets(program.lower(*arrays).as_text())
    assert called == [*forward, "jda_cpu_backward"]


def test_a_checkpoint_in_a_loop_saves_memory(kernels, arrays):
    *others, weight = arrays

    def temporary_bytes(policy):
        def layer(weight, _):
            share = jax.nn.softmax(weight, axis=(2, 3, 4))
            return weight * jnp.tanh(kernels(*others, share)).mean(), None

        def total(weight):
            return jax.lax.scan(policy(layer), weight, length=8)[0].sum()

        program = jax.jit(jax.grad(total)).lower(weight).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(jax.checkpoint) < 0.7 * temporary_bytes(lambda f: f)


# Control flow


def test_loops_and_branches(operator, arrays):
    features, shapes, starts, locations, weight = arrays

    def call(locations):
        return operator(features, shapes, starts, locations, weight)

    @jax.jit
    def program(locations):
        several = jnp.stack([locations] * 3)
        scanned = jax.lax.scan(lambda c, x: (c, call(x)), None, several)[1]
        mapped = jax.lax.map(call, several, batch_size=2)
        chosen = jax.lax.cond(locations.size > 0, call, lambda x: -call(x), locations)
        start = 0, jnp.zeros_like(chosen)
        repeated = jax.lax.while_loop(
            lambda carry: carry[0] < 3,
            lambda carry: (carry[0] + 1, call(locations)),
            start,
        )[1]
        return [*scanned, *mapped, chosen, repeated]

    for out in program(locations):
        is_right(out)


# Modes


def test_strict_promotion_of_dtypes_and_ranks(kernels, arrays):
    """Derivatives of second order included."""

    def slope(locations):
        given = (*arrays[:3], locations, arrays[4])
        return jnp.sin(jax.grad(loss(kernels), 3)(*given)).sum()

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        is_right(jax.jit(kernels)(*arrays))
        are_right(jax.jit(jax.grad(loss(kernels), FLOATS))(*arrays))
        assert np.isfinite(jax.jit(jax.grad(slope))(arrays[3])).all()


def test_float32_stays_float32_where_float64_is_allowed(operator, float64):
    """Python integers and float constants are 64 bits wide here."""
    shapes, starts = INPUTS.spatial_shape.tolist(), INPUTS.scale_start_index.tolist()

    def call(features, locations, weight):
        return operator(features, shapes, starts, locations, weight)

    values = [jnp.asarray(INPUTS[i]) for i in FLOATS]
    out, pull_back = jax.vjp(jax.jit(call), *values)
    grads = pull_back(jnp.asarray(JUDGED.cotangent))
    assert {array.dtype for array in (out, *grads)} == {np.dtype(np.float32)}
    is_right(out)
    are_right(grads)


def test_debug_nans(operator, arrays):
    """NaN where it is legal raises no alarm; NaN in what is sampled does."""
    unseen = arrays[3].at[:, 0].set(jnp.nan)
    with jax.debug_nans(True):
        program = jax.jit(jax.value_and_grad(loss(operator), FLOATS))
        jax.block_until_ready(program(*arrays))
        jax.block_until_ready(jax.jit(operator)(*arrays[:3], unseen, arrays[4]))
        with pytest.raises(FloatingPointError, match="nan"):
            jax.jit(operator)(jnp.full_like(arrays[0], jnp.nan), *arrays[1:])


def test_no_tracer_leaks(kernels, arrays):
    with jax.checking_leaks():
        is_right(jax.jit(kernels)(*arrays))
        are_right(jax.jit(jax.grad(loss(kernels), FLOATS))(*arrays))
        jax.jit(jax.vmap(kernels, (None, None, None, 0, None)))(
            *arrays[:3], arrays[3][None], arrays[4]
        )


def test_without_jit(operator, arrays):
    with jax.disable_jit():
        is_right(operator(*arrays))
        are_right(jax.grad(loss(operator), FLOATS)(*arrays))


def test_one_trace_for_many_steps(kernels, arrays):
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(features_replaced(kernels), n=1))
    features = arrays[0]
    for _ in range(3):
        features = step(features, *arrays[1:])


# What a profiler shows


def op_names(text):
    return re.findall(r'op_name="([^"]*)"', text)


def test_a_profiler_shows_the_operator_and_the_scopes_around_it(operator, arrays):
    def scoped(*arrays):
        with jax.named_scope("decoder"):
            return jnp.square(operator(*arrays)).sum()

    program = jax.jit(jax.grad(scoped, FLOATS)).lower(*arrays).compile()
    names = op_names(program.as_text())
    assert any(re.search("decoder.*/deformable_aggregation_forward", n) for n in names)
    backward = "transpose.*decoder.*/deformable_aggregation_backward"
    assert any(re.search(backward, name) for name in names)


def test_the_guide_runs():
    names = pages.run("docs/transformations.md", strict=True)
    assert names["out"].shape == (1, 10, 32)


# Ascend: programs for a card, which are lowered here and not run


def squares(function):
    return lambda *arrays: jnp.square(function(*arrays)).sum()


def over_locations(arrays):
    return *arrays[:3], jnp.stack([arrays[3]] * 2), arrays[4]


SETS = (None, None, None, 0, None)
FORWARD, COTANGENT = "jda_ascend_forward", "jda_ascend_backward"
ON_ASCEND = {  # a use, and the calls that the program makes
    "vmap": (lambda f, x: jax.vmap(f, SETS)(*over_locations(x)), [FORWARD]),
    "grad of vmap": (
        lambda f, x: jax.grad(squares(jax.vmap(f, SETS)))(*over_locations(x)),
        [FORWARD, COTANGENT],
    ),
    "vmap over maps": (
        lambda f, x: jax.vmap(f, (None, 0, None, None, None))(
            x[0], jnp.stack([x[1]] * 2), *x[2:]
        ),
        [FORWARD],
    ),
    "checkpoint": (
        lambda f, x: jax.value_and_grad(jax.checkpoint(squares(f)))(*x),
        [FORWARD, FORWARD, COTANGENT],
    ),
    "scan": (
        lambda f, x: jax.lax.scan(
            lambda c, at: (c, f(*x[:3], at, x[4])), None, over_locations(x)[3]
        )[1],
        [FORWARD],
    ),
    "map": (
        lambda f, x: jax.lax.map(
            lambda at: f(*x[:3], at, x[4]), over_locations(x)[3], batch_size=2
        ),
        [FORWARD],
    ),
    "cond": (
        lambda f, x: jax.lax.cond(
            x[3].sum() > 0, f, lambda *x: jnp.zeros_like(x[0], shape=(2, 5, 8)), *x
        ),
        [FORWARD],
    ),
    "while_loop": (
        lambda f, x: jax.lax.while_loop(
            lambda c: c.sum() > 0, lambda c: c - f(*x), jnp.zeros((2, 5, 8))
        ),
        [FORWARD],
    ),
    "jacrev": (lambda f, x: jax.jacrev(f)(*x), [COTANGENT]),
    "forward over reverse": (
        lambda f, x: jax.jvp(
            lambda w: jax.grad(squares(f), 4)(*x[:4], w), [x[4]], [x[4]]
        ),
        [FORWARD, COTANGENT, COTANGENT],
    ),
    "reverse over reverse": (
        lambda f, x: jax.grad(squares(jax.grad(squares(f))), 4)(*x),
        [FORWARD, COTANGENT, COTANGENT],
    ),
}


@pytest.mark.parametrize("differentiation", ["reverse", "both"])
@pytest.mark.parametrize("use", ON_ASCEND)
def test_programs_for_an_ascend_card_call_its_kernels(use, differentiation, arrays):
    function = partial(jda.deformable_aggregation, differentiation=differentiation)
    program, expected = ON_ASCEND[use]
    traced = jax.jit(partial(program, function)).trace(arrays)
    text = traced.lower(lowering_platforms=("ascend",)).as_text()
    assert targets(text) == expected


def test_a_program_for_an_ascend_card_keeps_the_scopes(arrays):
    def scoped(*arrays):
        with jax.named_scope("decoder"):
            return jax.grad(squares(jda.deformable_aggregation))(*arrays)

    traced = jax.jit(scoped).trace(*arrays)
    text = traced.lower(lowering_platforms=("ascend",)).as_text(debug_info=True)
    assert re.search("decoder.*deformable_aggregation_backward", text)
