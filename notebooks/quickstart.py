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
# # Quickstart: pack, sample, aggregate, differentiate
#
# Two cameras look at a red, a green and a blue lamp. Their images, at two scales, are
# the feature maps, with one channel for each colour. `jda.pack_feature_maps` puts all
# maps into one array and remembers the size and the start of each.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import jda
from jda import plot

LAMPS = [[(0.3, 0.2), (0.6, 0.5), (0.4, 0.8)], [(0.6, 0.7), (0.3, 0.4), (0.7, 0.2)]]


def image(lamps, height, width):
    """What a camera sees of lamps at (y, x): [height, width, 3]."""
    y = (jnp.arange(height)[:, None, None] + 0.5) / height
    x = (jnp.arange(width)[None, :, None] + 0.5) / width
    down, right = jnp.array(lamps).T
    return jnp.exp(-40 * ((y - down) ** 2 + (x - right) ** 2))


pyramid = [
    jnp.stack([image(lamps, *size) for lamps in LAMPS])[None]  # [bs, cam, h, w, c]
    for size in [(32, 64), (16, 32)]
]
packed = jda.pack_feature_maps(pyramid, layout="bkhwc")
packed

# %% [markdown]
# Each of five anchors has nine key points around a centre in each camera. The
# coordinates are (y, x), from (0, 0) at the upper left to (1, 1) at the lower right.
# Anchors 0, 1 and 2 lie on the red, the green and the blue lamp; the other two do not.
# The colours of the points only tell the anchors apart.

# %%
centres = jnp.array([[*a, (0.9, 0.1), (0.1, 0.95)] for a in LAMPS])  # [cam, anchor, 2]
spread = 0.08 * jax.random.normal(jax.random.key(0), (1, 5, 9, 2, 2))
locations = centres.swapaxes(0, 1)[None, :, None] + spread  # [bs, anchor, pts, cam, 2]

figure = plot.key_points(locations, pyramid[0][0], highlight=range(5))

# %% [markdown]
# Samples that count are those with 0 < y < 1 and 0 < x < 1. Here every one that counts
# gets the same weight, and the weights of an anchor sum to one. Then the feature of an
# anchor is the mean colour under its key points.

# %%
counts = jda.visible(locations)  # [bs, anchor, pts, cam]
share = counts / counts.sum((2, 3), keepdims=True) / len(pyramid)
weight = jnp.broadcast_to(share[..., None, None], (*share.shape, 2, 1))  # scale, group

features = jda.deformable_aggregation(*packed, locations, weight)  # [bs, anchor, c]

figure, axes = plt.subplots(figsize=(6, 1.6), layout="constrained")
axes.imshow(features / features.max(), aspect="auto")
axes.set(xticks=range(5), yticks=[], xlabel="anchor", title="features as colours")
print(jax.device_get(features).round(2))

# %% [markdown]
# All of it can be differentiated. A gradient with respect to the packed maps is packed
# in the same way, so that it can be drawn: it is zero wherever no sample fell.


# %%
@jax.jit
def loss(packed, locations, weight):
    features = jda.deformable_aggregation(*packed, locations, weight)
    return jnp.sum((features - jnp.array([1.0, 0.0, 0.0])) ** 2)  # all should be red


gradient = jax.grad(loss, argnums=(0, 1, 2))(packed, locations, weight)
figure = plot.heat_maps(gradient[0], label="mean |gradient|", log=True)

# %% [markdown]
# The gradients of locations and weights have the shapes of these. What JAX does with
# functions works as usual: `loss` above is compiled, and `jax.vmap` maps over it.

# %%
[array.shape for array in gradient[1:]]

# %% [markdown]
# Which implementations this machine has; the best one that serves it was taken.

# %%
{name: found.available for name, found in jda.implementations().items()}
