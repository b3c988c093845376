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
# # Seeing it: six cameras, their key points, and where gradients lead
#
# A street with traffic, rendered from six cameras on one car by
# [examples/scene.py](../examples/scene.py). The feature maps are what a very good
# network would find: the colour of each pixel, and whether a vehicle is there.

# %%
import io
import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image as Shown
from PIL import Image

import jda
from jda import plot

sys.path.append("../examples")
from scene import project, pyramid, street

cameras, vehicles, images, maps = street(seed=3, step=4)
names = [camera.name for camera in cameras]
scales = pyramid(maps, 4)
packed = jda.pack_feature_maps(scales, layout="bkhwc")
packed

# %% [markdown]
# ## Where key points land
#
# One anchor for each vehicle, with seven key points: the middle and one on each face.
# They are projected into all cameras; most fall outside of most images and cost
# nothing. Four anchors are marked, in one colour each.

# %%
faces = np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])
points = vehicles.centre[:, None] + 0.45 * vehicles.size[:, None] * faces
locations = np.stack([project(each, points)[0] for each in cameras], axis=2)[None]
locations = locations.astype(np.float32)  # [1, anchor, pts, cam, 2], (y, x)

nearest = np.argsort(np.linalg.norm(vehicles.centre, axis=1))[:4]
figure = plot.key_points(locations, images, highlight=nearest, names=names)

# %% [markdown]
# ## Heat maps, for each camera and scale
#
# `jda.plot.heat_maps` draws packed maps. Here it shows the last channel: how much of a
# pixel is covered by vehicles.

# %%
WIDE = {"font.size": 18, "figure.dpi": 65}  # a picture of six columns is shown small

with plt.rc_context(WIDE):
    figure = plot.heat_maps(
        packed, reduce=lambda c: c[..., 3], label="share of vehicles", names=names
    )

# %% [markdown]
# A gradient is drawn in the same way. This is how much the vehicle channel of the
# features depends on each pixel: bright where key points are, empty elsewhere.

# %%
counts = jda.visible(locations)
share = counts / counts.sum(axis=(2, 3), keepdims=True).clip(1) / len(scales)
weight = jnp.broadcast_to(share[..., None, None], (*share.shape, len(scales), 1))


def vehicles_found(packed, locations, weight):
    return jda.deformable_aggregation(*packed, locations, weight)[..., 3].sum()


gradient = jax.grad(vehicles_found)(packed, locations, weight)
with plt.rc_context(WIDE):
    figure = plot.heat_maps(
        gradient, label="mean |gradient|", log=True, images=images, names=names
    )

# %% [markdown]
# ## A wrong order of coordinates
#
# Read as (x, y) the same locations are legal, and nothing fails. But the points of a
# vehicle no longer lie on it.

# %%
figure = plot.key_points(
    locations, images, coordinate_order="xy", highlight=nearest, names=names
)

# %% [markdown]
# `jda.diagnose` looks at the arguments of a call and tells what looks wrong: nothing in
# the right order, and in the wrong one that it is wrong. The share of samples that
# count is the same in both.

# %%
print(jda.diagnose(*packed, locations, weight))

# %%
print(jda.diagnose(*packed, locations, weight, coordinate_order="xy"))

# %% [markdown]
# ## Key points that walk down their gradient
#
# Ninety points start anywhere in the front camera. The loss is low where vehicles are,
# and points step against its gradient with respect to the locations. The coarse scales
# draw them from afar. Inside of a vehicle, and where none is near, the gradient is zero
# and a point stays.

# %%
STEPS = 48
front = jda.pack_feature_maps([scale[:, 1:2] for scale in scales], layout="bkhwc")
start = jax.random.uniform(
    jax.random.key(0), (1, 90, 1, 1, 2), minval=jnp.array([0.3, 0.0])
)
even = jnp.full((1, 90, 1, 1, 4, 1), 0.25)


def step(locations, length):
    slope = jax.grad(lambda x: -vehicles_found(front, x, even))(locations)
    steepness = jnp.linalg.norm(slope, axis=-1, keepdims=True)
    return locations - length * slope / (steepness + 0.01), locations


_, path = jax.lax.scan(step, start, jnp.linspace(0.012, 0.001, STEPS))


def frame(locations):
    figure = plot.key_points(locations, images[1:2], names=names[1:2])
    figure.set_dpi(180)
    figure.canvas.draw()
    drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    plt.close(figure)
    return drawn.quantize(64)


first, *others = map(frame, path[::2])
film = io.BytesIO()
first.save(film, "png", save_all=True, append_images=others, duration=120, loop=0)
Shown(film.getvalue(), format="png")
