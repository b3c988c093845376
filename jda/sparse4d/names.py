"""Names and shapes of every parameter, as PyTorch's state dict has them.

A tree of parameters is the state dict with its names split at the dots, nothing else:
``layers.3.layers.0.weight`` is ``params["layers"]["3"]["layers"]["0"]["weight"]``.
"""

from jda.sparse4d.boxes import ANCHOR_DIMS, ENCODER_LOOPS, PARTS
from jda.sparse4d.config import DecoderConfig, LayerConfig
from jda.sparse4d.nn import mlp_layers
from jda.sparse4d.sampling_weights import CAMERA_LOOPS

Shapes = dict[str, tuple[int, ...]]

REGRESSION_LOOPS = (2, 2)
BRANCH_LOOPS = (1, 2)
FROZEN = ("fix_scale", "instance_feature")  # last parts of names


def of_layer(config: LayerConfig) -> Shapes:
    """Of one deformable feature aggregation."""
    c = config.embed_dims
    found: Shapes = {"kps_generator.fix_scale": (len(config.fix_scale), 3)}
    if config.num_learnable_pts:
        name = "kps_generator.learnable_fc"
        found |= _linear(name, c, 3 * config.num_learnable_pts)
    logits = config.num_levels * config.num_pts * config.num_groups
    if config.use_camera_embed:
        found |= _mlp("camera_encoder", 12, c, CAMERA_LOOPS)
    else:
        logits *= config.num_cams
    found |= _linear("weights_fc", c, logits)
    return found | _linear("output_proj", c, c)


def of_decoder(config: DecoderConfig) -> Shapes:
    """Of the whole head."""
    c = config.embed_dims
    found: Shapes = {
        "instance_bank.anchor": (config.num_anchor, ANCHOR_DIMS),
        "instance_bank.instance_feature": (config.num_anchor, c),
        "instance_bank.anchor_handler.fix_scale": (1, 3),
        "fc_before.weight": (2 * c, c),
        "fc_after.weight": (c, 2 * c),
    }
    for (name, part), out in zip(PARTS.items(), config.anchor_embed_dims, strict=True):
        width = part.stop - part.start
        found |= _mlp(f"anchor_encoder.{name}", width, out, ENCODER_LOOPS)
    for number, operation in enumerate(config.operations):
        found |= _prefixed(f"layers.{number}", _of_operation(config, operation))
    return found


def is_frozen(name: str) -> bool:
    """Whether upstream's training leaves a parameter as it is."""
    return name.rpartition(".")[2] in FROZEN


def _of_operation(config: DecoderConfig, operation: str) -> Shapes:
    c, wide, hidden = (
        config.embed_dims,
        2 * config.embed_dims,
        config.feedforward_channels,
    )
    into = config.layer.output_dims
    if operation == "deformable":
        return of_layer(config.layer)
    if operation == "norm":
        return _norm("", c)
    if operation == "ffn":
        layers = _linear("layers.0.0", into, hidden) | _linear("layers.1", hidden, c)
        return _norm("pre_norm", into) | layers | _linear("identity_fc", into, c)
    if operation == "refine":
        return _of_refinement(c, config.num_classes)
    found: Shapes = {
        "attn.in_proj_weight": (3 * wide, wide),
        "attn.in_proj_bias": (3 * wide,),
    }
    return found | _linear("attn.out_proj", wide, wide)


def _of_refinement(c: int, num_classes: int) -> Shapes:
    found = _mlp("layers", c, c, REGRESSION_LOOPS)
    found |= _linear("layers.10", c, ANCHOR_DIMS) | {"layers.11.scale": (ANCHOR_DIMS,)}
    for branch, out in (("cls_layers", num_classes), ("quality_layers", 2)):
        found |= _mlp(branch, c, c, BRANCH_LOOPS) | _linear(f"{branch}.6", c, out)
    return found


def _mlp(name: str, into: int, out: int, loops: tuple[int, int]) -> Shapes:
    found: Shapes = {}
    for number, layer in enumerate(mlp_layers(*loops)):
        if layer == "linear":
            found |= _linear(f"{name}.{number}", into if number == 0 else out, out)
        elif layer == "norm":
            found |= _norm(f"{name}.{number}", out)
    return found


def _linear(name: str, into: int, out: int) -> Shapes:
    return _prefixed(name, {"weight": (out, into), "bias": (out,)})


def _norm(name: str, c: int) -> Shapes:
    return _prefixed(name, {"weight": (c,), "bias": (c,)})


def _prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}" if prefix else name: x for name, x in shapes.items()}
