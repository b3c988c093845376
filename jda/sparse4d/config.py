"""Hyper-parameters, under Sparse4D's names; the defaults are those of Sparse4D v3.

The configurations are frozen and hashable: static arguments of ``jax.jit``.
"""

from dataclasses import dataclass, field

from jda import _check

RESIDUAL_MODES = ("cat", "add", "none")
OPERATIONS = ("temp_gnn", "gnn", "norm", "deformable", "ffn", "refine")
_SIDE = 0.45  # of the size of the box, from its centre
FIX_SCALE = (
    (0.0, 0.0, 0.0),
    (_SIDE, 0.0, 0.0),
    (-_SIDE, 0.0, 0.0),
    (0.0, _SIDE, 0.0),
    (0.0, -_SIDE, 0.0),
    (0.0, 0.0, _SIDE),
    (0.0, 0.0, -_SIDE),
)


@dataclass(frozen=True)
class LayerConfig:
    """One deformable feature aggregation.

    Attributes:
        embed_dims: channels of an instance; ``num_groups`` divides it.
        num_groups: groups of channels, each with weights of its own.
        num_levels: scales of the feature maps.
        num_cams: cameras.
        num_learnable_pts: key points whose offsets the feature of the instance sets.
        fix_scale: offsets of the other key points, in sizes of the box. Only ``init``
            reads them: the table is a parameter, and that of a checkpoint counts.
        attn_drop: share of the (camera, key point) pairs dropped in training.
        proj_drop: drop-out after the output projection in training.
        use_camera_embed: whether the weights depend on the camera's matrix.
        residual_mode: ``"cat"`` gives (result, feature), ``"add"`` their sum,
            ``"none"`` the result alone.
        mask_invisible: whether pairs outside of the image are left out of the softmax.
        freeze: whether no gradient reaches the parameters that upstream's training
            leaves as they are; see :func:`jda.sparse4d.trainable`.
    """

    embed_dims: int = 256
    num_groups: int = 8
    num_levels: int = 4
    num_cams: int = 6
    num_learnable_pts: int = 6
    fix_scale: tuple[tuple[float, float, float], ...] = FIX_SCALE
    attn_drop: float = 0.15
    proj_drop: float = 0.0
    use_camera_embed: bool = True
    residual_mode: str = "cat"
    mask_invisible: bool = False
    freeze: bool = True

    def __post_init__(self) -> None:
        """Checks what upstream leaves to an error of shapes, or to none."""
        _check.choice("residual_mode", self.residual_mode, RESIDUAL_MODES)
        _divides("num_groups", self.num_groups, "embed_dims", self.embed_dims)
        _rate("attn_drop", self.attn_drop)
        _rate("proj_drop", self.proj_drop)
        if self.num_learnable_pts < 0:
            raise ValueError(
                f"num_learnable_pts={self.num_learnable_pts}, it must not be negative"
            )

    @property
    def num_pts(self) -> int:
        """Key points of an anchor."""
        return len(self.fix_scale) + self.num_learnable_pts

    @property
    def output_dims(self) -> int:
        """Channels of the layer's result."""
        return self.embed_dims * (2 if self.residual_mode == "cat" else 1)


@dataclass(frozen=True)
class DecoderConfig:
    """The whole head.

    Attributes:
        layer: the deformable feature aggregation of every decoder.
        num_classes: classes; 10 in nuScenes.
        num_anchor: instances of a frame.
        num_temp_instances: instances carried from frame to frame; 0 for none.
        num_decoder: decoders; each ends with a refinement.
        num_single_frame_decoder: decoders before the cached instances come in; -1 for
            never.
        anchor_embed_dims: channels of the embedding of an anchor's centre, size, yaw
            and velocity. Together they are ``layer.embed_dims``.
        num_heads: heads of the attention between instances.
        feedforward_channels: hidden channels of the feed-forward network.
        dropout: of the attention (its probabilities and its output) and of the
            feed-forward network, in training.
        confidence_decay: what a cached confidence keeps from frame to frame.
        default_time_interval: seconds assumed where there is no usable earlier frame.
        max_time_interval: seconds beyond which an earlier frame is not used.
        operation_order: the operations one by one, or None for those of v3.
        swap_yaw: upstream's motion of an anchor leaves cosine and sine in each other's
            place. Its weights were trained with that.
        reset_on_gap: whether a gap beyond ``max_time_interval`` starts an element's
            sequence afresh. Upstream's still attends to the cached instances.
    """

    layer: LayerConfig = field(default_factory=LayerConfig)
    num_classes: int = 10
    num_anchor: int = 900
    num_temp_instances: int = 600
    num_decoder: int = 6
    num_single_frame_decoder: int = 1
    anchor_embed_dims: tuple[int, int, int, int] = (128, 32, 32, 64)
    num_heads: int = 8
    feedforward_channels: int = 1024
    dropout: float = 0.1
    confidence_decay: float = 0.6
    default_time_interval: float = 0.5
    max_time_interval: float = 2.0
    operation_order: tuple[str, ...] | None = None
    swap_yaw: bool = True
    reset_on_gap: bool = False

    def __post_init__(self) -> None:
        """Checks what otherwise fails late, or not at all."""
        _divides("num_heads", self.num_heads, "2 * embed_dims", 2 * self.embed_dims)
        if sum(self.anchor_embed_dims) != self.embed_dims:
            raise ValueError(
                f"anchor_embed_dims={self.anchor_embed_dims} add up to "
                f"{sum(self.anchor_embed_dims)}, they must add up to embed_dims="
                f"{self.embed_dims}"
            )
        if not 0 <= self.num_temp_instances <= self.num_anchor:
            raise ValueError(
                f"num_temp_instances={self.num_temp_instances}, allowed are 0 to "
                f"num_anchor={self.num_anchor}"
            )
        _rate("dropout", self.dropout)
        if not -1 <= self.num_single_frame_decoder <= self.num_decoder:
            raise ValueError(
                f"num_single_frame_decoder={self.num_single_frame_decoder}, allowed "
                f"are -1 to num_decoder={self.num_decoder}"
            )
        for operation in self.operations:
            _check.choice("operation_order", operation, OPERATIONS)
        refinements = self.operations.count("refine")
        if refinements != self.num_decoder or self.operations[-1:] != ("refine",):
            raise ValueError(
                f"operation_order has {refinements} refinements, it must have "
                f"num_decoder={self.num_decoder} and end with one"
            )

    @property
    def embed_dims(self) -> int:
        """Channels of an instance."""
        return self.layer.embed_dims

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations in order; their positions number the parameters.

        Of v3: the instances that start have nothing to tell each other yet, so that
        the first decoder does without attention between them.
        """
        if self.operation_order is not None:
            return self.operation_order
        alone = ("gnn", "norm", "deformable", "ffn", "norm", "refine")
        temporal = ("temp_gnn", *alone)
        single = self.num_single_frame_decoder
        if single < 0:
            single = self.num_decoder
        return (alone * single + temporal * (self.num_decoder - single))[2:]


def _rate(name: str, value: float) -> None:
    """Of drop-out: what is kept is divided by 1 - value."""
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value}, it must be in [0, 1)")


def _divides(name: str, divisor: int, whole_name: str, whole: int) -> None:
    if divisor < 1 or whole % divisor:
        raise ValueError(f"{name}={divisor} does not divide {whole_name}={whole}")
