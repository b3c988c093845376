# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Transformations and devices
#
# One small problem goes through JAX's transformations: key points have slipped off the
# lamps that they belong to, all by the same shift. Which one was it? Each colour is the
# points of one anchor. After that: what a backward pass keeps, and the same operator on
# eight devices.
#
# The eight devices are virtual ones of this machine's CPU. JAX has to be told of them
# before it starts.

# %%
import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jda
from jda import plot

jax.config.update("jax_num_cpu_devices", 8)

LAMPS = jnp.array([(0.3, 0.25), (0.6, 0.5), (0.4, 0.8)])  # (y, x)

down, right = (jnp.arange(24) + 0.5) / 24, (jnp.arange(48) + 0.5) / 48
pixels = jnp.stack(jnp.meshgrid(down, right, indexing="ij"), axis=-1)[:, :, None]
image = jnp.exp(-30 * jnp.sum((pixels - LAMPS) ** 2, axis=-1))  # a channel a lamp
packed = jda.pack_feature_maps([image[None, None]], layout="bkhwc")

spread = 0.08 * jax.random.normal(jax.random.key(0), (3, 9, 2))
home = (LAMPS[:, None] + spread)[None, :, :, None]  # [bs, anchor, pts, cam, 2]
weight = jnp.full((*home.shape[:4], 1, 1), 1 / 9)  # [..., scale, group]


def features(shift):
    """Of the three anchors [anchor, c], all of whose points are shifted by (y, x)."""
    aggregate = jda.deformable_aggregation
    return aggregate(*packed, home + shift, weight, differentiation="both")[0]


def loss(shift):
    """How far the features are from those of the points that did not slip."""
    return jnp.sum((features(shift) - features(jnp.zeros(2))) ** 2)


slipped = jnp.array([0.16, -0.13])
seen = [image.sum(axis=-1)]
figure = plot.key_points(home + slipped, seen, highlight=range(3), names=["slipped"])

# %% [markdown]
# ## jit, vmap, grad
#
# The picture below is the loss for 41 × 41 shifts. `jax.vmap` folds all of them into
# the anchors of a single call. Gradient descent walks from the slipped points towards
# the answer, in steps against the gradient; `jax.lax.scan` puts them into one program.
#
# ## Forward mode
#
# Two numbers are sought, and nine features depend on them. So `jax.jacfwd` needs two
# tangents where reverse mode would need nine cotangents. With the Jacobian of the
# features each step solves a small least-squares problem (Gauss–Newton), and few steps
# are enough. Forward mode needs `differentiation="both"`, as `features` has it.


# %%
def descend(shift, _):
    return shift - 0.012 * jax.grad(loss)(shift), shift


def gauss_newton(shift, _):
    off = (features(shift) - features(jnp.zeros(2))).ravel()
    jacobian = jax.jacfwd(features)(shift).reshape(-1, 2)
    return shift - jnp.linalg.lstsq(jacobian, off)[0], shift


ys, xs = jnp.linspace(-0.25, 0.25, 41), jnp.linspace(-0.25, 0.25, 41)
shifts = jnp.stack(jnp.meshgrid(ys, xs, indexing="ij"), axis=-1)
landscape = jax.jit(jax.vmap(jax.vmap(loss)))(shifts)
paths = {
    "gradient descent": jax.lax.scan(descend, slipped, length=20)[1],
    "Gauss–Newton": jax.lax.scan(gauss_newton, slipped, length=6)[1],
}

figure, axes = plt.subplots(figsize=(6.4, 5.2), layout="constrained")
drawn = axes.pcolormesh(xs, ys, landscape, cmap=plot.SIZE, shading="gouraud", vmin=0)
for (name, path), colour in zip(paths.items(), ["white", plot.POINT], strict=True):
    axes.plot(*path.T[::-1], "o-", color=colour, markersize=4, label=name)
axes.plot(0, 0, "*", color="lime", markersize=12, label="the answer")
axes.set(xlabel="shift in x", ylabel="shift in y")
axes.invert_yaxis()
axes.legend(facecolor="0.3", labelcolor="white")
figure.colorbar(drawn, label="loss")
print({name: len(path) for name, path in paths.items()}, "steps")
print({name: f"{loss(path[-1]):.1e}" for name, path in paths.items()}, "loss at last")

# %% [markdown]
# ## What each of them becomes
#
# How often a program calls our kernels can be read from it. The 1,681 losses of the
# landscape are one call, and so are both columns of the Jacobian. A function that is
# mapped has no more calls than it had before.


# %%
def kernels(function, *arguments):
    text = jax.jit(function).lower(*arguments).as_text()
    return dict(Counter(re.findall(r"custom_call @(jda\w+)", text)))


for name, function, argument in [
    ("features", features, slipped),
    ("vmap", jax.vmap(jax.vmap(features)), shifts),
    ("grad", jax.grad(lambda shift: features(shift).sum()), slipped),
    ("jacfwd", jax.jacfwd(features), slipped),
    ("vmap of jacfwd", jax.vmap(jax.vmap(jax.jacfwd(features))), shifts),
    ("jacrev", jax.jacrev(features), slipped),
]:
    print(f"{name:>15}: {kernels(function, argument)}")

# %% [markdown]
# ## Checkpoints: what is kept for the backward pass
#
# Six layers at the sizes of Sparse4D v3, which are compiled here but do not run. Each
# computes its weights from the features. The operator keeps its arguments for the
# backward pass, so that the weights of all layers are kept, and what led to them. With
# `jax.checkpoint` a layer keeps its input alone, and its backward pass computes the
# rest again, the aggregation too, unless its result has a name and the policy keeps it.

# %%
bs, cam, anchor, pts, c, group, scale = 1, 6, 900, 13, 256, 8, 4
of_frame = jax.eval_shape(
    lambda *maps: jda.pack_feature_maps(maps, layout="bkchw"),
    *(
        jax.ShapeDtypeStruct((bs, cam, c, 64 >> s, 176 >> s), "float32")
        for s in range(scale)
    ),
)


def decoder(params, feature, locations, maps, policy):
    def layer(feature, param):
        logits = (feature @ param).reshape(bs, anchor, pts * cam * scale, group)
        shape = (bs, anchor, pts, cam, scale, group)
        weight = jax.nn.softmax(logits, axis=2).reshape(shape)
        found = jda.deformable_aggregation(*maps, locations, weight)
        return feature + jnp.tanh(checkpoint_name(found, "aggregated")), None

    return jnp.sum(jax.lax.scan(policy(layer), feature, params)[0] ** 2)


keep = jax.checkpoint_policies.save_only_these_names("aggregated")
policies = {
    "no checkpoint": lambda layer: layer,
    "checkpoint": jax.checkpoint,
    'checkpoint, "aggregated" kept': functools.partial(jax.checkpoint, policy=keep),
}
arguments = [
    jax.ShapeDtypeStruct(shape, "float32")
    for shape in [
        (6, c, pts * cam * scale * group),
        (bs, anchor, c),
        (bs, anchor, pts, cam, 2),
    ]
]
megabytes, calls = [], []
for policy in policies.values():
    gradient = jax.jit(jax.grad(functools.partial(decoder, policy=policy)))
    program = gradient.lower(*arguments, of_frame).compile()
    megabytes.append(program.memory_analysis().temp_size_in_bytes / 1e6)
    calls.append(program.as_text().count('custom_call_target="jda_cpu_forward"'))

figure, axes = plt.subplots(figsize=(7.5, 2), layout="constrained")
bars = axes.barh(list(policies), megabytes, color="tab:blue")
labels = [f"forward calls of a layer: {count}" for count in calls]
axes.bar_label(bars, labels, padding=4)
axes.set(xlabel="temporary memory of the gradient [MB]", xlim=(0, 1.6 * megabytes[0]))
axes.invert_yaxis()

# %% [markdown]
# The layers are a `jax.lax.scan`, and that matters on the CPU: outside of a loop XLA
# finds there that both computations are the same, makes one of them again, and keeps
# what the checkpoint was to spare.

# %% [markdown]
# ## Eight devices
#
# Arrays are split over devices, and the operator is called as on one device. Here the
# anchors are split. In the picture each cell stands for a whole array, and what is
# filled lies on that device: the result and the gradients of what is split stay split,
# and every device holds the feature maps and their gradient.

# %%
mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
bs, cam, anchor, pts, c, group = 8, 8, 16, 4, 32, 8
random = np.random.default_rng(0)
pyramid = [
    random.normal(size=(bs, cam, c, *size)).astype("f") for size in [(8, 11), (4, 6)]
]
maps, spatial_shape, scale_start_index = jda.pack_feature_maps(pyramid, layout="bkchw")
locations = random.uniform(size=(bs, anchor, pts, cam, 2)).astype("f")
weight = random.normal(size=(bs, anchor, pts, cam, 2, group)).astype("f")
arrays = (maps, locations, weight)


def forward(maps, locations, weight):
    index = (spatial_shape, scale_start_index)
    return jda.deformable_aggregation(maps, *index, locations, weight)


backward = jax.grad(lambda *arrays: forward(*arrays).sum(), argnums=(0, 1, 2))


def put(mesh, *specs):
    pairs = zip(arrays, specs, strict=True)
    return [jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in pairs]


NAMES = ("feature_maps", "sample_locations", "weight")


def show(split, forward=forward, backward=backward):
    """Where the arrays of a call lie, its result, and its gradients."""
    gradients = jax.jit(backward)(*split)
    return plot.placement(
        dict(zip(NAMES, split, strict=True))
        | {"result": jax.jit(forward)(*split)}
        | {f"gradient of {n}": g for n, g in zip(NAMES, gradients, strict=True)}
    )


by_anchors = (P(), P(None, "x"), P(None, "x"))
figure = show(put(mesh, *by_anchors))

# %% [markdown]
# ## The communication
#
# What the devices send each other can be read from the compiled program. Splitting the
# batch costs nothing. Splitting another axis costs at most one reduction each way, of
# what its devices share. Feature rows are the exception: a sample may read any row, so
# that all of them are gathered first. [docs/sharding.md](../docs/sharding.md) has the
# whole table.


# %%
def communication(function, arguments):
    """The collectives of a program, each with the arrays that come out of it."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    found = re.findall(r"= (.*) (all-\w+|reduce-scatter|collective-permute)\(", text)
    shapes = [(kind, re.findall(r"f32(\[[\d,]+\])", made)) for made, kind in found]
    return [f"{kind} of {' and '.join(made)}" for kind, made in shapes] or ["nothing"]


splits = {
    "batch": (P("x"), P("x"), P("x")),
    "anchors": by_anchors,
    "channel groups": (P(None, None, "x"), P(), P(*5 * [None], "x")),
    "cameras": (P(), P(*3 * [None], "x"), P(*3 * [None], "x")),
    "feature rows": (P(None, "x"), P(), P()),
}
for name, specs in splits.items():
    for way, function in {"forward": forward, "backward": backward}.items():
        print(f"{name:>15} {way:>9}:", *communication(function, put(mesh, *specs)))

# %% [markdown]
# Several axes may be split at once. With two devices for the batch and four for the
# anchors, a gradient of feature maps is added up over the four that share it.

# %%
two = jax.make_mesh((2, 4), ("batch", "anchor"), axis_types=2 * (AxisType.Auto,))
by_both = put(two, P("batch"), P("batch", "anchor"), P("batch", "anchor"))
figure = show(by_both)
print("backward:", *communication(backward, by_both))

# %% [markdown]
# ## Feature maps too large for one device
#
# With `jax.shard_map` the communication is what one writes. Each device holds the rows
# of its own cameras and no others, forward and backward, and one sum makes the result.
# Rows are packed camera by camera, so that splitting them evenly splits the cameras. A
# device counts its rows from zero, hence the subtraction.


# %%
@functools.partial(
    jax.shard_map,
    mesh=mesh,
    in_specs=(P(None, "x"), P("x"), P("x"), *2 * [P(*3 * [None], "x")]),
    out_specs=P(),
)
def of_own_cameras(maps, spatial_shape, scale_start_index, locations, weight):
    index = (spatial_shape, scale_start_index - scale_start_index[0, 0])
    return jax.lax.psum(
        jda.deformable_aggregation(maps, *index, locations, weight), "x"
    )


def over_cameras(maps, locations, weight):
    return of_own_cameras(maps, spatial_shape, scale_start_index, locations, weight)


pull_back = jax.grad(lambda *arrays: over_cameras(*arrays).sum(), argnums=(0, 1, 2))
by_cameras = put(mesh, P(None, "x"), P(*3 * [None], "x"), P(*3 * [None], "x"))
figure = show(by_cameras, over_cameras, pull_back)
print("forward:", *communication(over_cameras, by_cameras))
print("backward:", *communication(pull_back, by_cameras))

# %% [markdown]
# However arrays were split, the result is that of one device, but for rounding.

# %%
alone = forward(*arrays)
results = {name: jax.jit(forward)(*put(mesh, *specs)) for name, specs in splits.items()}
results["shard_map"] = jax.jit(over_cameras)(*by_cameras)
for name, result in results.items():
    print(f"{name:>15}: {np.abs(result - alone).max() / np.abs(alone).max():.0e}")
