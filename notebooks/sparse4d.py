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
# # Sparse4D: a layer, its weights, a few training steps, and typical mistakes
#
# `jda.sparse4d.layer` is the deformable feature aggregation of Sparse4D v3: instances
# place key points in their boxes, look at them in all cameras, and weigh what they
# find. Here it learns a small task: boxes that lie beside their vehicles are to be
# moved onto them, by what six cameras see.

# %%
import dataclasses
import sys
import textwrap

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jda
from jda import plot, sparse4d

sys.path.append("../examples")
from scene import HEIGHT, WIDTH, footprint, pyramid, street

cameras, vehicles, images, maps = street(seed=3, step=4)
names = [camera.name for camera in cameras]
packed = jda.pack_feature_maps(pyramid(maps, 4), layout="bkhwc")


def matrix(camera):
    """From points in the car's axes to (x, y, 1) * depth in pixels [4, 4]."""
    turn = camera.intrinsics @ camera.rotation
    shift = -turn @ camera.position
    return np.block([[turn, shift[:, None]], [np.zeros((1, 3)), 1]])


projection_mat = np.stack([matrix(camera) for camera in cameras])[None].astype("f")
image_wh = np.full((1, len(cameras), 2), [WIDTH, HEIGHT], np.float32)

count = len(vehicles.yaw)
truth = np.concatenate(  # anchors [1, anchor, 11]
    [
        vehicles.centre,
        np.log(vehicles.size),
        np.stack([np.sin(vehicles.yaw), np.cos(vehicles.yaw)], axis=-1),
        np.zeros((count, 3)),
    ],
    axis=-1,
)[None].astype(np.float32)
packed

# %% [markdown]
# ## Weights from PyTorch
#
# A tree of parameters *is* the PyTorch module's state dict, its names split at the
# dots. Here is such a dict, of NumPy arrays; tensors are taken too, as they come out of
# `torch.load(...)["state_dict"]`.

# %%
config = sparse4d.LayerConfig(
    embed_dims=32, num_groups=8, attn_drop=0, mask_invisible=True
)
drawn = sparse4d.layer.init(jax.random.key(0), config)
checkpoint = sparse4d.state_dict_from_params(drawn, prefix="head.layers.1.")
{name: array.shape for name, array in checkpoint.items()}

# %%
loaded = sparse4d.params_from_state_dict(checkpoint, config, prefix="head.layers.1.")
back = sparse4d.state_dict_from_params(loaded, prefix="head.layers.1.")
all(np.array_equal(back[name], array) for name, array in checkpoint.items())

# %% [markdown]
# What does not fit is an error that says what.

# %%
name = "head.layers.1.weights_fc.weight"
lacking = {other: array for other, array in checkpoint.items() if other != name}
transposed = checkpoint | {name: checkpoint[name].T}
for wrong in (lacking, transposed):
    try:
        sparse4d.params_from_state_dict(wrong, config, prefix="head.layers.1.")
    except ValueError as error:
        print(error)

# %% [markdown]
# ## A few training steps
#
# Each step moves the box of every vehicle by up to two metres along x and y. A linear
# map makes 32 channels of the four that a camera has, the layer looks, and two more
# linear maps tell how far the vehicle is along and across the box. All of it is trained
# together, in steps along the sign of an averaged gradient.


# %%
def linear(key, out, into):
    """[out, into], as PyTorch has it."""
    return jax.random.normal(key, (out, into)) * into**-0.5


keys = jax.random.split(jax.random.key(1), 4)
params = {
    "backbone": linear(keys[0], 32, 4),
    "embed": linear(keys[1], 32, 11),
    "layer": loaded,
    "hidden": linear(keys[2], 64, 64),
    "move": 0.1 * linear(keys[3], 2, 64),
}


def channels(params):
    """The maps with 32 channels instead of four."""
    maps = packed.feature_maps @ params["backbone"].T
    return dataclasses.replace(packed, feature_maps=maps)


def instances(params, anchor):
    """What is known of an anchor before it looks: where and how it is."""
    return (anchor / jnp.array([20, 5, 1, *8 * [1]])) @ params["embed"].T


def apply(params, anchor):
    """The anchors, moved."""
    seen = channels(params)
    feature = instances(params, anchor)
    geometry = (projection_mat, image_wh)
    found = sparse4d.layer.apply(
        params["layer"], config, feature, anchor, feature, seen, *geometry
    )
    along, across = jnp.moveaxis(
        jax.nn.relu(found @ params["hidden"].T) @ params["move"].T, -1, 0
    )
    sin, cos = anchor[..., 6], anchor[..., 7]
    x, y = cos * along - sin * across, sin * along + cos * across
    return anchor.at[..., :2].add(jnp.stack([x, y], axis=-1))


def displaced(key, copies):
    """All vehicles' anchors, copies times over, each moved by up to two metres."""
    many = jnp.tile(truth, (1, copies, 1))
    shift = jax.random.uniform(key, (1, many.shape[1], 2), minval=-2, maxval=2)
    return many.at[..., :2].add(shift), many


def loss(params, key):
    anchor, right = displaced(key, copies=8)
    return jnp.mean(jnp.abs(apply(params, anchor) - right)[..., :2])


STEPS = 1000


def step(carry, number_and_key):
    params, average = carry
    number, key = number_and_key
    value, grads = jax.value_and_grad(loss)(params, key)
    rate = 0.003 * (1 - number / STEPS)
    ahead = jax.tree.map(lambda m, g: jnp.sign(0.9 * m + 0.1 * g), average, grads)
    params = jax.tree.map(lambda p, sign: p - rate * sign, params, ahead)
    average = jax.tree.map(lambda m, g: 0.98 * m + 0.02 * g, average, grads)
    return (params, average), value


keys = jax.random.split(jax.random.key(2), STEPS)
carry = (params, jax.tree.map(jnp.zeros_like, params))
(trained, _), losses = jax.lax.scan(step, carry, (jnp.arange(STEPS), keys))

figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
axes.plot(losses, color=plot.POINT)
axes.set(xlabel="step", ylabel="mean |error| of x, y [m]", ylim=(0, None))
print(f"mean: {losses[:20].mean():.2f} m at first, {losses[-20:].mean():.2f} m at last")

# %% [markdown]
# The boxes of a draw that training did not see, from above, before and after the layer
# moved them. A line leads from the centre of a box to that of its vehicle.

# %%
before, right = displaced(jax.random.key(3), copies=1)
after = apply(trained, before)

figure, panels = plt.subplots(2, figsize=(9, 3.8), layout="constrained", sharex=True)
for axes, anchor, title in zip(
    panels, (before, after), ("before", "after"), strict=True
):
    for corners in footprint(vehicles):
        axes.fill(*corners.T, color="0.85")
    from_, to = anchor[0, :, :2], right[0, :, :2]
    axes.plot(*np.stack([from_, to]).transpose(2, 0, 1), color="0.5", linewidth=1)
    off = np.linalg.norm(from_ - to, axis=-1)
    scale = {"cmap": plot.SIZE, "vmin": 0, "vmax": 2.8}
    drawn = axes.scatter(*from_.T, c=off, s=30, edgecolor="0.4", zorder=3, **scale)
    axes.set(aspect="equal", ylabel="y [m]", title=f"{title}: {off.mean():.2f} m off")
axes.set(xlabel="x [m]")
bar = figure.colorbar(drawn, ax=panels, label="distance to the vehicle [m]")

# %% [markdown]
# ## What the layer looks at
#
# `sparse4d.layer.samples` tells where the key points of the moved boxes are, and what
# each sample weighs in each group. Here is the mean over groups, summed over scales.

# %%
feature = instances(trained, after)
locations, weight = sparse4d.layer.samples(
    trained["layer"], config, feature, after, feature, projection_mat, image_wh
)  # locations are (x, y), Sparse4D's order
figure = plot.key_points(
    locations,
    0.6 + 0.4 * images.mean(axis=-1),
    coordinate_order="xy",
    values=weight[0].sum(axis=-2).mean(axis=-1),
    label="weight",
    names=names,
)

# %% [markdown]
# ## Typical mistakes
#
# Most mistakes in a call are silent: arrays have the right shapes, and the model does
# not learn. `jda.diagnose` looks at the values. Of the call as it is:

# %%
maps, spatial_shape, scale_start_index = channels(trained)
call = {
    "feature_maps": maps,
    "spatial_shape": spatial_shape,
    "scale_start_index": scale_start_index,
    "sample_locations": locations,
    "weight": weight,
}
jda.diagnose(**call, coordinate_order="xy")

# %% [markdown]
# And with one mistake each. Not every one is found: where a box is outside of most
# images, locations from -1 to 1 look like others. The picture below shows it.

# %%
in_pixels = locations * image_wh[0]
per_scale = weight / weight.sum(axis=4, keepdims=True).clip(1e-9)
nothing_seen = jnp.full_like(weight, -jnp.inf)
first_exchanged = spatial_shape.copy()
first_exchanged[:, 0] = first_exchanged[:, 0, ::-1]
starts_anew = scale_start_index.copy()
starts_anew[3:] -= starts_anew[3, 0] - 100

mistakes = {
    "coordinate_order forgotten": {"coordinate_order": "yx"},
    "locations in pixels": {"sample_locations": in_pixels},
    "locations as of grid_sample": {"sample_locations": 2 * locations - 1},
    "(W, H) of the first scale": {"spatial_shape": first_exchanged},
    "starts of the second three cameras": {"scale_start_index": starts_anew},
    "softmax over scales alone": {"weight": per_scale},
    "softmax of nothing but -inf": {"weight": jax.nn.softmax(nothing_seen, axis=2)},
    "a depth of the wrong sign": {"sample_locations": -jnp.abs(locations)},
}
for mistake, changed in mistakes.items():
    print(f"{mistake}:")
    diagnosis = jda.diagnose(**(call | {"coordinate_order": "xy"} | changed))
    findings = diagnosis.findings or ["nothing looks wrong"]
    for finding in findings:
        print(textwrap.indent(textwrap.fill(f"- {finding}", 86), "  "))

# %%
front = names.index("front")
readings = {
    "as it is": locations,
    "coordinate_order forgotten": locations[..., ::-1],
    "as of grid_sample": 2 * locations - 1,
}
figure = plot.key_points(
    jnp.stack([reading[:, :, :, front] for reading in readings.values()], axis=3),
    [images[front]] * len(readings),
    coordinate_order="xy",
    names=list(readings),
)
