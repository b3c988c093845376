"""Deformable aggregation for JAX.

For every anchor, sample key points in several cameras and feature-map scales, weight
the samples per channel group, and sum them into one feature per anchor.
"""

from jda import family, fused, reference, sparse4d
from jda._implementations import CUSTOM_CALLS, Implementation, implementations
from jda._operator import deformable_aggregation
from jda._version import __version__
from jda.diagnosis import Diagnosis, Finding, diagnose, visible
from jda.fused import npu_deformable_aggregation
from jda.packing import (
    PackedFeatureMaps,
    pack_feature_maps,
    unpack_feature_maps,
)

__all__ = [
    "CUSTOM_CALLS",
    "Diagnosis",
    "Finding",
    "Implementation",
    "PackedFeatureMaps",
    "__version__",
    "deformable_aggregation",
    "diagnose",
    "family",
    "fused",
    "implementations",
    "npu_deformable_aggregation",
    "pack_feature_maps",
    "reference",
    "sparse4d",
    "unpack_feature_maps",
    "visible",
]
