"""From points in space to locations in images."""

import jax
import jax.numpy as jnp

# Products of coordinates and matrices are never rounded to the short formats that
# accelerators prefer: a pixel is one part in a thousand of what is subtracted there.
EXACT = jax.lax.Precision.HIGHEST
NEAREST = 1e-5  # metres; depth is clamped to it, so that no gradient is infinite


def project_points(
    points: jax.Array, projection_mat: jax.Array, image_wh: jax.Array
) -> jax.Array:
    """Locations of points in every camera, in the layout of the operator.

    Points behind a camera are divided by a tiny depth, which takes them out of the
    image; there the gradient of the depth is zero.

    Args:
        points: [bs, anchor, pts, 3].
        projection_mat: from points to (x, y, 1) * depth in pixels [bs, cam, 4, 4].
        image_wh: (width, height) in pixels [bs, cam, 2].

    Returns:
        (x, y), 0 at the upper left and 1 at the lower right corner of the image
        [bs, anchor, pts, cam, 2].
    """
    turn, shift = projection_mat[..., :3, :3], projection_mat[..., :3, 3]
    seen = jnp.einsum("bkij,bapj->bapki", turn, points, precision=EXACT)
    seen = seen + shift[:, None, None]
    depth = jnp.maximum(seen[..., 2:], NEAREST)
    return seen[..., :2] / depth / image_wh[:, None, None]
