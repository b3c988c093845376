"""Everything that computes the operator, as functions without arguments.

A peer maps the name of a task to a function that does it and waits for the results:

    forward            out
    forward+backward   out and all three gradients
    backward           all three gradients alone
    features           the gradient of the feature maps alone
    tangent            the tangent of out, for tangents of all three arguments
"""

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jda
from benchmarks.moving import moving_peer, packing_peer
from benchmarks.problems import FLOATS, Inputs, is_visible

Peer = dict[str, Callable[[], object]]


def naive_jnp(
    feature_maps: jax.Array,
    spatial_shape: jax.Array,
    scale_start_index: jax.Array,
    sample_locations: jax.Array,
    weight: jax.Array,
) -> jax.Array:
    """The operator as one writes it down first: four gathers of everything."""
    bs, _, c = feature_maps.shape
    group = weight.shape[-1]
    size = spatial_shape.astype(jnp.float32)
    visible = ((sample_locations > 0) & (sample_locations < 1)).all(-1)
    pixel = sample_locations[..., None, :] * size - 0.5  # [b, a, p, k, s, 2]
    corner = jnp.floor(pixel)
    part = pixel - corner
    corner = corner.astype(jnp.int32)
    batch = jnp.arange(bs).reshape(bs, 1, 1, 1, 1)
    total = jnp.zeros(())
    for i in (0, 1):
        for j in (0, 1):
            h, w = corner[..., 0] + i, corner[..., 1] + j
            inside = (h >= 0) & (h < spatial_shape[..., 0])
            inside &= (w >= 0) & (w < spatial_shape[..., 1])
            inside &= visible[..., None]
            row = scale_start_index + h * spatial_shape[..., 1] + w
            feature = feature_maps[batch, jnp.where(inside, row, 0)]
            near_h = part[..., 0] if i else 1 - part[..., 0]
            near_w = part[..., 1] if j else 1 - part[..., 1]
            near = jnp.where(inside, near_h * near_w, 0.0)
            grouped = feature.reshape(*row.shape, group, c // group)
            total += (grouped * (weight * near[..., None])[..., None]).sum((2, 3, 4))
    return total.reshape(*total.shape[:2], c)


Operator = Callable[..., jax.Array]


def jax_tasks(operator: Operator, forward_mode: Operator) -> dict[str, Any]:
    """Jitted functions of (*arguments, cotangent, *tangents)."""

    def of(function: Operator, wanted: tuple[int, ...], args: Any) -> Any:
        def of_wanted(*values: jax.Array) -> jax.Array:
            given = dict(zip(wanted, values, strict=True))
            return function(*(given.get(i, x) for i, x in enumerate(args[:5])))

        return of_wanted, tuple(args[i] for i in wanted)

    def pull_back(
        wanted: tuple[int, ...], with_value: bool, *args: jax.Array
    ) -> object:
        function, values = of(operator, wanted, args)
        out, pull = jax.vjp(function, *values)
        return (out, *pull(args[5])) if with_value else pull(args[5])

    def push_forward(*args: jax.Array) -> object:
        function, values = of(forward_mode, FLOATS, args)
        return (jax.jvp(function, values, args[6:])[1],)

    return {
        "forward": jax.jit(lambda *args: (operator(*args[:5]),)),
        "forward+backward": jax.jit(partial(pull_back, FLOATS, True)),
        "backward": jax.jit(partial(pull_back, FLOATS, False)),
        "features": jax.jit(partial(pull_back, FLOATS[:1], False)),
        "tangent": jax.jit(push_forward),
    }


def tasks_of(name: str) -> dict[str, Any]:
    if name == "naive jnp":
        return jax_tasks(naive_jnp, naive_jnp)
    implementation = "reference" if name == "reference" else "cpu"
    ours = partial(jda.deformable_aggregation, implementation=implementation)
    return jax_tasks(ours, partial(ours, differentiation="both"))


MOVING = {"moving": moving_peer, "packing": packing_peer}
HALF = {"jda, bfloat16": jnp.bfloat16, "jda, float16": jnp.float16}


def operands(name: str, inputs: Inputs) -> list[jax.Array]:
    """Arguments, cotangent and tangents, in the precision of the peer."""
    arrays = [jnp.asarray(x) for x in inputs]
    for i in (0, 4, 5):
        arrays[i] = arrays[i].astype(HALF.get(name, jnp.float32))
    tangents = [jnp.flip(arrays[i]) for i in FLOATS]
    return jax.block_until_ready([*arrays, *tangents])


def jax_peer(name: str, inputs: Inputs) -> Peer:
    arrays = operands(name, inputs)

    def run(task: Callable[..., object]) -> object:
        return jax.block_until_ready(task(*arrays))

    return {k: partial(run, task) for k, task in tasks_of(name).items()}


def depth_peer(inputs: Inputs, bins: int = 64) -> Peer:
    """Aggregation with depth, and the gradients of all five arguments."""
    rng = np.random.default_rng(1)
    bs, rows, _ = inputs.feature_maps.shape
    probabilities = rng.random((bs, rows, bins), np.float32)
    depth = bins * rng.random(inputs.sample_locations.shape[:-1], np.float32)
    given = [jnp.asarray(x) for x in (*inputs[:5], probabilities, depth)]
    wanted = (*FLOATS, 5, 6)
    operator = partial(
        jda.family.deformable_aggregation_with_depth, coordinate_order="yx"
    )

    @jax.jit
    def both(cotangent: jax.Array, *arguments: jax.Array) -> object:
        def of_wanted(*values: jax.Array) -> jax.Array:
            found = dict(zip(wanted, values, strict=True))
            return operator(*(found.get(i, x) for i, x in enumerate(arguments)))

        out, pull = jax.vjp(of_wanted, *(arguments[i] for i in wanted))
        return out, pull(cotangent)

    forward, cotangent = jax.jit(operator), jnp.asarray(inputs.cotangent)
    return {
        "forward": lambda: jax.block_until_ready(forward(*given)),
        "forward+backward": lambda: jax.block_until_ready(both(cotangent, *given)),
    }


def temporaries(name: str, inputs: Inputs) -> dict[str, int]:
    """Bytes that XLA sets aside besides arguments and results, by task."""
    found, arrays = {}, operands(name, inputs)
    for task, function in tasks_of(name).items():
        memory = function.lower(*arrays).compile().memory_analysis()
        found[task] = int(memory.temp_size_in_bytes)
    return found


def grid_samples(inputs: Inputs) -> Callable[..., Any]:
    """The operator by grid_sample over every camera and scale.

    grid_sample gives samples just outside of a map a part of its border; the operator
    gives them nothing. Weights are multiplied by the visibility to compute the same.
    """
    import torch

    visible = torch.tensor(is_visible(inputs))[..., None, None]
    bs, anchor, _pts, cam, scale, group = inputs.weight.shape
    c = inputs.feature_maps.shape[-1]
    starts, shapes = inputs.scale_start_index, inputs.spatial_shape

    def forward(features, locations, weight):
        weight = weight * visible
        out = torch.zeros(bs, anchor, group, c // group)
        grid = locations.flip(-1) * 2 - 1
        for k in range(cam):
            for s in range(scale):
                h, w = map(int, shapes[k, s])
                start = int(starts[k, s])
                rows = features[:, start : start + h * w]
                maps = rows.reshape(bs, h, w, c).permute(0, 3, 1, 2)
                sampled = torch.nn.functional.grid_sample(
                    maps, grid[:, :, :, k], align_corners=False
                )
                sampled = sampled.unflatten(1, (group, c // group))
                share = weight[:, :, :, k, s]
                out = out + torch.einsum("bgdap,bapg->bagd", sampled, share)
        return out.reshape(bs, anchor, c)

    return forward


def jda_torch(inputs: Inputs) -> Callable[..., Any]:
    """The operator on tensors, through jda.torch."""
    import torch

    import jda.torch

    shapes, starts = map(torch.tensor, (inputs.spatial_shape, inputs.scale_start_index))

    def forward(features, locations, weight):
        return jda.torch.deformable_aggregation(
            features, shapes, starts, locations, weight
        )

    return forward


TORCH = {"torch": grid_samples, "jda.torch": jda_torch}


def torch_peer(name: str, inputs: Inputs) -> Peer:
    """On two threads or as NPROC says."""
    import torch

    torch.set_num_threads(int(os.environ.get("NPROC", "2")))
    forward = TORCH[name](inputs)
    # JAX's memory: NumPy's begins anywhere, and what PyTorch makes has small pages.
    *floats, cotangent = (
        torch.utils.dlpack.from_dlpack(jnp.asarray(inputs[i])) for i in (*FLOATS, 5)
    )

    def forward_only():
        with torch.no_grad():
            return (forward(*floats).numpy(),)

    def both():
        leaves = [x.detach().requires_grad_() for x in floats]
        out = forward(*leaves)
        grads = torch.autograd.grad(out, leaves, cotangent)
        return tuple(x.numpy() for x in (out.detach(), *grads))

    return {"forward": forward_only, "forward+backward": both}


def make_peer(name: str, inputs: Inputs) -> Peer:
    if name in TORCH:
        return torch_peer(name, inputs)
    if name == "limits":
        from benchmarks import limits

        return limits.peer(inputs)
    if name in MOVING:
        return MOVING[name](inputs)
    if name == "jda with depth":
        return depth_peer(inputs)
    return jax_peer(name, inputs)


def sampled(results: Iterable[Any]) -> list[np.ndarray]:
    """At most a million elements of each result, to compare peers."""
    found = []
    for result in results:
        flat = np.asarray(result, np.float32).ravel()
        found.append(flat[:: max(1, flat.size // 1_000_000)])
    return found
