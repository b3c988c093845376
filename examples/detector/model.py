"""Images to boxes: a few convolutions, a pyramid of features, and Sparse4D's head."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jda
from detector.world import CLASSES, MOST_TRUTH, RIG, Frame
from jda import sparse4d

Params = dict[str, Any]


@dataclass(frozen=True)
class ModelConfig:
    """Sizes; the defaults learn in minutes on two CPU cores."""

    channels: int = 64
    stem: tuple[int, int] = (16, 32)  # channels at strides 2 and 4
    groups: int = 4
    anchors: int = 100
    kept: int = 60  # instances carried from frame to frame
    decoders: int = 3
    levels: int = 3  # strides 4, 8 and 16 of the image

    def __post_init__(self) -> None:
        """Every box needs an instance."""
        if self.anchors < MOST_TRUTH:
            raise ValueError(
                f"anchors={self.anchors}, at least {MOST_TRUTH} are needed"
            )

    @property
    def head(self) -> sparse4d.DecoderConfig:
        c = self.channels
        return sparse4d.DecoderConfig(
            layer=sparse4d.LayerConfig(
                embed_dims=c,
                num_groups=self.groups,
                num_levels=self.levels,
                num_cams=len(RIG),
                num_learnable_pts=6,
                attn_drop=0.0,
                mask_invisible=True,
            ),
            num_classes=len(CLASSES),
            num_anchor=self.anchors,
            num_temp_instances=self.kept,
            num_decoder=self.decoders,
            anchor_embed_dims=(c // 2, c // 8, c // 8, c // 4),
            num_heads=self.groups,
            feedforward_channels=2 * c,
            dropout=0.0,
            swap_yaw=False,
        )


def init(key: jax.Array, config: ModelConfig, anchor: jax.Array) -> Params:
    """Parameters; ``anchor`` [anchors, 11] is where the head starts to look."""
    for_backbone, for_head = jax.random.split(key)
    head = sparse4d.decoder.init(for_head, config.head)
    head["instance_bank"]["anchor"] = jnp.asarray(anchor, jnp.float32)
    return {"backbone": _init_backbone(for_backbone, config), "head": head}


def _init_backbone(key: jax.Array, config: ModelConfig) -> Params:
    c, (two, four) = config.channels, config.stem
    sizes = {"stride2": (5, 5, two), "stride4": (3, two, four), "level0": (3, four, c)}
    for level in range(1, config.levels):
        sizes[f"level{level}"] = 3, c, c
    for level in range(config.levels):
        sizes[f"lateral{level}"] = 1, c, c
        sizes[f"distance{level}"] = 1, c, 1
    keys = jax.random.split(key, len(sizes))
    return {
        name: {
            "kernel": jax.nn.initializers.he_normal()(key, (k, k, *channels)),
            "bias": jnp.zeros(channels[-1]),
        }
        for key, (name, (k, *channels)) in zip(keys, sizes.items(), strict=True)
    }


def backbone(params: Params, config: ModelConfig, images: jax.Array) -> list[jax.Array]:
    """Images [n, h, w, 3] to features [n, h / stride, w / stride, channels]."""
    x = jnp.concatenate([4 * images - 2, _places(images)], axis=-1)
    x = _convolve(params["stride2"], x, 2)
    x = _convolve(params["stride4"], x, 2)
    levels = [_convolve(params["level0"], x, 1)]
    for level in range(1, config.levels):
        levels.append(_convolve(params[f"level{level}"], levels[-1], 2))
    pyramid: list[jax.Array] = []
    for level in reversed(range(config.levels)):
        x = _convolution(params[f"lateral{level}"], levels[level], 1)
        if pyramid:
            x = x + pyramid[0].repeat(2, axis=1).repeat(2, axis=2)
        pyramid.insert(0, x)
    return pyramid


def _places(images: jax.Array) -> jax.Array:
    """Where each pixel is [n, h, w, 2], from -1 to 1.

    A few convolutions see little of an image, and how far away the ground is depends on
    how low in the image it is.
    """
    height, width = images.shape[1:3]
    y, x = jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width)
    places = jnp.stack(jnp.meshgrid(y, x, indexing="ij"), axis=-1)
    return jnp.broadcast_to(places, (len(images), *places.shape))


def _convolution(params: Params, x: jax.Array, stride: int) -> jax.Array:
    y = jax.lax.conv_general_dilated(
        x,
        params["kernel"],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + params["bias"]


def _convolve(params: Params, x: jax.Array, stride: int) -> jax.Array:
    return jax.nn.relu(_convolution(params, x, stride))


class Result(NamedTuple):
    """What the model says of all frames."""

    outputs: sparse4d.Outputs  # [frame, ...]
    log_distance: list[jax.Array]  # of every pixel of each level [frame, b, cam, h, w]


def apply(
    params: Params,
    config: ModelConfig,
    frames: Frame,
    *,
    training: bool = False,
    implementation: str | None = None,
) -> Result:
    """What the model says of each frame, with what it saw in those before.

    Without ``training``, of the last decoder and of the one before the memory comes in.
    """
    lead = frames.images.shape[:3]
    maps = backbone(params["backbone"], config, jax.lax.collapse(frames.images, 0, 3))
    log_distance = [
        _convolution(params["backbone"][f"distance{level}"], x, 1)[..., 0]
        for level, x in enumerate(maps)
    ]
    pyramid, log_distance = (
        [x.reshape(*lead, *x.shape[1:]) for x in each] for each in (maps, log_distance)
    )

    def step(state, frame):
        outputs, state = sparse4d.decoder.apply(
            params["head"],
            config.head,
            jda.pack_feature_maps(frame[0], layout="bkhwc"),
            frame[1],
            state,
            training=training,
            implementation=implementation,
        )
        return state, outputs

    state = sparse4d.init_state(config.head, lead[1])
    _, outputs = jax.lax.scan(step, state, (pyramid, frames.metas))
    return Result(outputs, log_distance)
