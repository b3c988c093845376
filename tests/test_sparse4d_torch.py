"""The parts of Sparse4D v3 against an independent formulation in PyTorch.

Weights are drawn there and converted, as somebody does who ports a model; the
formulation computes in float64.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jda
from jda import sparse4d
from jda.sparse4d import boxes, instance_bank
from jda.sparse4d.attention import decoupled_attention
from jda.sparse4d.feedforward import feed_forward
from jda.sparse4d.refinement import classify, estimate_quality, refine
from jda.sparse4d.weights import tree
from tests.support.implementations import require_module

torch = require_module("torch")
torch_sparse4d = require_module("tests.support.torch_sparse4d")

SMALL = sparse4d.LayerConfig(
    embed_dims=32, num_groups=4, num_levels=2, num_cams=3, num_learnable_pts=2
)
V3 = sparse4d.LayerConfig()
SIZES = {2: ((9, 14), (4, 7)), 4: ((64, 176), (32, 88), (16, 44), (8, 22))}
C = 32


def randomised(module):
    """Every weight large enough to matter, those that start at zero included."""
    torch.manual_seed(0)
    for name, parameter in module.named_parameters():
        spread = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
        centre = float(parameter.ndim == 1 and not name.endswith("bias"))
        with torch.no_grad():
            parameter.copy_(centre + spread * torch.randn_like(parameter))
    return module


def converted(module) -> dict:
    return tree({k: jnp.asarray(v.numpy()) for k, v in module.state_dict().items()})


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype("f")


def anchors(batch: int, number: int) -> np.ndarray:
    """Boxes around the origin; sine and cosine of no particular length."""
    spread = np.float32([20, 20, 1, 0.2, 0.2, 0.2, 1, 1, 2, 2, 0.1])
    return normal(batch, number, 11, seed=3) * spread


def rig(batch: int, cameras: int) -> tuple[np.ndarray, np.ndarray]:
    """Cameras that look around, and the sizes of their images."""
    yaw = 2 * np.pi * np.arange(cameras) / cameras
    matrices = np.zeros((batch, cameras, 4, 4), np.float32)
    for k, (sin, cos) in enumerate(zip(np.sin(yaw), np.cos(yaw), strict=True)):
        right, ahead = [cos, sin, 0, 0.1], [-sin, cos, 0, -0.8]
        pinhole = np.array([[420, 0, 352], [0, 420, 140], [0, 0, 1]])
        matrices[:, k, :3] = pinhole @ np.array([right, [0, 0, -1, 0.6], ahead])
        matrices[:, k, 3, 3] = 1
    sizes = np.broadcast_to(np.float32([704, 256]), (batch, cameras, 2))
    return matrices * (1 + 1e-3 * normal(*matrices.shape)), sizes


def both(
    module, ours: Callable, arguments: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Results and gradients of all arguments and weights, here and there."""
    module = randomised(module)
    params = converted(module)
    arrays = [jnp.asarray(x) for x in arguments]
    results, backward = jax.vjp(jax.jit(ours), params, *arrays)
    cotangents = [normal(*x.shape, seed=9) for x in jax.tree.leaves(results)]
    structure = jax.tree.structure(results)
    of_params, *of_arguments = backward(
        jax.tree.unflatten(structure, list(map(jnp.asarray, cotangents)))
    )

    module = module.double()
    tensors = [
        torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in arguments
    ]
    wanted = module(*tensors)
    wanted = [wanted] if torch.is_tensor(wanted) else list(wanted)
    loss = sum(
        (x * torch.tensor(y)).sum() for x, y in zip(wanted, cotangents, strict=True)
    )
    loss.backward()
    gradients = sparse4d.state_dict_from_params(of_params)
    named = {k: p.grad for k, p in module.named_parameters() if p.requires_grad}
    found = [*jax.tree.leaves(results), *of_arguments, *(gradients[k] for k in named)]
    there = [*wanted, *(x.grad for x in tensors), *named.values()]
    return list(map(np.asarray, found)), [x.detach().numpy() for x in there]


def assert_close(found, wanted, tolerance: float = 5e-6) -> None:
    for x, y in zip(found, wanted, strict=True):
        largest = np.abs(y).max()
        assert largest > 0
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * largest)


def layer_of(config: sparse4d.LayerConfig) -> Callable:
    def ours(params, feature, anchor, embed, projection_mat, image_wh, *maps):
        return sparse4d.layer.apply(
            params,
            config,
            feature,
            anchor,
            embed,
            jda.pack_feature_maps(maps, layout="bkchw"),
            projection_mat,
            image_wh,
        )

    return ours


def layer_there(config: sparse4d.LayerConfig):
    class Reordered(torch_sparse4d.Layer):  # type: ignore[name-defined]
        def forward(self, feature, anchor, embed, matrices, sizes, *maps):
            return super().forward(feature, anchor, embed, maps, matrices, sizes)

    return Reordered(config)


def layer_arguments(config: sparse4d.LayerConfig, batch: int, number: int) -> list:
    c, cameras = config.embed_dims, config.num_cams
    instances = (batch, number, c)
    maps = [normal(batch, cameras, c, *size) for size in SIZES[config.num_levels]]
    given = normal(*instances), anchors(batch, number), normal(*instances, seed=1)
    return [*given, *rig(batch, cameras), *maps]


VARIANTS = {
    "v3": {},
    "added": {"residual_mode": "add"},
    "no residual": {"residual_mode": "none"},
    "no camera embedding": {"use_camera_embed": False},
    "fixed points only": {"num_learnable_pts": 0},
    "one point": {"num_learnable_pts": 0, "fix_scale": ((0.0, 0.0, 0.0),)},
    "invisible masked": {"mask_invisible": True},
    "invisible masked, no camera embedding": {
        "mask_invisible": True,
        "use_camera_embed": False,
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_layer(variant):
    config = replace(SMALL, **VARIANTS[variant])
    arguments = layer_arguments(config, batch=2, number=11)
    found, wanted = both(layer_there(config), layer_of(config), arguments)
    assert_close(found[:1], wanted[:1])
    assert_close(found[1:], wanted[1:], tolerance=1e-4)  # kinks, and tiny depths


def test_layer_at_v3_shape():
    """Gradients jump where a sample changes the pixels that it lies between."""
    arguments = layer_arguments(V3, batch=1, number=900)
    found, wanted = both(layer_there(V3), layer_of(V3), arguments)
    quantiles = (
        np.quantile(np.abs(x - y) / np.abs(y).max(), [0.99, 0.999])
        for x, y in zip(found, wanted, strict=True)
    )
    (_, of_result), *of_gradients = quantiles
    assert of_result <= 2e-5
    assert max(most for most, _ in of_gradients) <= 1e-4


def test_encoder():
    module = torch_sparse4d.Encoder(16, 4, 4, 8)
    assert_close(*both(module, boxes.encode, [anchors(2, 7)]), tolerance=2e-5)


def test_feed_forward():
    module = torch_sparse4d.FeedForward(2 * C, 3 * C, C)
    assert_close(*both(module, feed_forward, [normal(2, 7, 2 * C)]))


@pytest.mark.parametrize("masked", [False, True])
def test_attention(masked):
    mask = np.random.default_rng(0).random((2, 9)) < 0.6 if masked else None
    module = torch_sparse4d.Attention(C, 4)
    module.forward = partial(
        module.forward, mask=None if mask is None else torch.tensor(mask)
    )

    def ours(params, query, key, value):
        return decoupled_attention(
            params,
            params["fc_after"],
            4,
            query,
            key,
            value,
            None if mask is None else jnp.asarray(mask),
        )

    arguments = [normal(2, 7, 2 * C), normal(2, 9, 2 * C), normal(2, 9, 2 * C, seed=1)]
    assert_close(*both(module, ours, arguments))


def test_refinement():
    def ours(params, feature, anchor, embed, interval):
        moved = refine(params, feature, anchor, embed, interval)
        quality = estimate_quality(params, feature, embed)
        return moved, classify(params, feature), quality

    interval = np.float32([0.5, -0.4])
    arguments = [normal(2, 7, C), anchors(2, 7), normal(2, 7, C, seed=1), interval]
    assert_close(*both(torch_sparse4d.Refinement(C, 5), ours, arguments))


@pytest.mark.parametrize("swap_yaw", [True, False])
def test_motion_of_anchors(swap_yaw):
    """Corners of a box go where its motion takes them; the swap is upstream's."""
    anchor, interval = anchors(2, 5), np.float32([0.5, -0.3])
    turn = np.linalg.qr(normal(2, 2, 2))[0]
    motion = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    motion[:, :2, :2], motion[:, :3, 3] = turn, normal(2, 3)
    moved = instance_bank.move(*map(jnp.asarray, (anchor, motion, interval)), swap_yaw)
    centre = anchor[..., :3] + anchor[..., 8:] * interval[:, None, None]
    wanted = np.concatenate(
        [
            np.einsum("bij,bnj->bni", motion[:, :3, :3], centre)
            + motion[:, None, :3, 3],
            anchor[..., 3:6],
            np.einsum("bij,bnj->bni", turn, anchor[..., [7, 6]])[..., ::-1],
            np.einsum("bij,bnj->bni", motion[:, :3, :3], anchor[..., 8:]),
        ],
        axis=-1,
    )
    if swap_yaw:
        wanted[..., [6, 7]] = wanted[..., [7, 6]]
    assert_close([moved], [wanted])


def test_tensors_as_state_dict():
    """A module's own state dict goes in and comes back bit by bit."""
    module = randomised(torch_sparse4d.Layer(SMALL))
    params = sparse4d.params_from_state_dict(module.state_dict(), SMALL)
    back = sparse4d.state_dict_from_params(params)
    other = torch_sparse4d.Layer(SMALL)
    other.load_state_dict({name: torch.from_numpy(x) for name, x in back.items()})
    for name, x in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], x)
