"""Sparse4D v3 in JAX: its operator, its layer, and its whole head.

Pure functions on trees of parameters that have the names of PyTorch's state dict.
"""

from jda.sparse4d import decoder, layer
from jda.sparse4d.boxes import Detections, decode
from jda.sparse4d.config import DecoderConfig, LayerConfig
from jda.sparse4d.decoder import Outputs
from jda.sparse4d.functional import (
    deformable_aggregation_function,
    deformable_aggregation_function_v2,
    feature_maps_format,
)
from jda.sparse4d.instance_bank import State, init_state, reset
from jda.sparse4d.motion import Motion, ego_motion, sequence_motion
from jda.sparse4d.operations import Metas
from jda.sparse4d.weights import (
    params_from_state_dict,
    state_dict_from_params,
    trainable,
)

__all__ = [
    "DecoderConfig",
    "Detections",
    "LayerConfig",
    "Metas",
    "Motion",
    "Outputs",
    "State",
    "decode",
    "decoder",
    "deformable_aggregation_function",
    "deformable_aggregation_function_v2",
    "ego_motion",
    "feature_maps_format",
    "init_state",
    "layer",
    "params_from_state_dict",
    "reset",
    "sequence_motion",
    "state_dict_from_params",
    "trainable",
]
