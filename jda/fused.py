"""The operator under the name that code written for ``mx_driving`` looks for.

``npu_deformable_aggregation`` is :func:`jda.deformable_aggregation` itself. Note its
default ``coordinate_order="yx"``: a model ported from ``mx_driving`` or Sparse4D puts x
first and must pass ``coordinate_order="xy"``.
"""

from jda._operator import deformable_aggregation as npu_deformable_aggregation

__all__ = ["npu_deformable_aggregation"]
