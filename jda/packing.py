"""Pyramids of per-scale arrays, to and from the arrays that the operator takes.

The maps are packed camera by camera and, within a camera, scale by scale, which is the
order of Sparse4D; each map is row-major over (h, w).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from jda import _check, _compat, _pack
from jda._dimensions import INDEX, Operands
from jda._table import of_maps

LAYOUTS = ("bkchw", "bkhwc", "bchw", "bhwc")
P = ParamSpec("P")
R = TypeVar("R")
NAMES = Operands._fields[:3]
LABELS = {"b": "bs", "k": "cam", "c": "c", "h": "h", "w": "w"}


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, eq=False, repr=False)
class PackedFeatureMaps:
    """The first three arguments of :func:`jda.deformable_aggregation`.

    A sequence of the three, which ``*packed`` unpacks, and ``dataclasses.replace``
    gives one with other feature maps. To JAX it is a pytree whose only leaf is
    ``feature_maps``. The index arrays are static: part of the structure, by value. So
    ``jax.grad``, ``jax.vmap``, casts by ``jax.tree.map`` and donation see the feature
    maps alone, and under ``jax.jit`` the values of the index arrays are still known;
    other values are another structure, for which JAX compiles again. What goes with a
    pytree leaf by leaf, such as a sharding, is one thing for the whole of it.

    Attributes:
        feature_maps: all maps, flattened and concatenated [bs, num_feat, c].
        spatial_shape: (H, W) of each map, int32 [cam, scale, 2]. Given as any integers
            whose values are known.
        scale_start_index: first row of each map, int32 [cam, scale]. Given likewise.

    Raises:
        TypeError: if an index array is traced or is not of integers.
        ValueError: if the value of an index array is beyond int32.
    """

    feature_maps: jax.Array
    spatial_shape: npt.NDArray[np.int32]
    scale_start_index: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        """Makes numpy arrays of the index arrays, which nobody can write to."""
        for name in INDEX:
            static = _check.static(name, getattr(self, name))
            object.__setattr__(self, name, static)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.feature_maps, self.spatial_shape, self.scale_start_index))

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name}={_described(getattr(self, name))}" for name in NAMES
        )
        return f"PackedFeatureMaps({shapes})"

    def _repr_html_(self) -> str:
        rows = (
            [f"{h} × {w} from row {start}" for (h, w), start in zip(*each, strict=True)]
            for each in zip(self.spatial_shape, self.scale_start_index, strict=True)
        )
        return of_maps(f"feature_maps: {_described(self.feature_maps)}", rows)

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """The leaf, and the index arrays as something that can be compared."""
        indices = self.spatial_shape, self.scale_start_index
        static = tuple((index.shape, index.tobytes()) for index in indices)
        key = jax.tree_util.GetAttrKey("feature_maps")
        return ((key, self.feature_maps),), static

    @classmethod
    def tree_unflatten(cls, static: Any, leaves: Any) -> "PackedFeatureMaps":
        """The inverse; JAX may put anything in the place of the leaf."""
        indices = [np.frombuffer(data, np.int32).reshape(dims) for dims, data in static]
        return cls(*leaves, *indices)


def reminds_to_unpack(function: Callable[P, R]) -> Callable[P, R]:
    """Says what to do where a packed triple is given for the three arguments."""

    @functools.wraps(function)
    def reminding(*args: P.args, **kwargs: P.kwargs) -> R:
        for packed in (*args, *kwargs.values()):
            if isinstance(packed, PackedFeatureMaps):
                raise TypeError(
                    "feature_maps is a PackedFeatureMaps, which stands for three "
                    f"arguments; unpack it: {function.__name__}(*packed, ...)"
                )
        return function(*args, **kwargs)

    return reminding


def pack_feature_maps(
    maps: Sequence[ArrayLike] | Sequence[Sequence[ArrayLike]], layout: str = "bkchw"
) -> PackedFeatureMaps:
    """Packs pyramids of feature maps into the first three arguments of the operator.

    Works under ``jax.jit`` and is differentiable. The index arrays are static numpy
    arrays.

    Args:
        maps: for cameras of equal sizes a sequence with one array for each scale; for
            cameras of different sizes a sequence with, for each group of cameras or
            for each camera, the sequence of its scales. All have the same number of
            scales.
        layout: the axes of one array. ``"bkchw"`` [bs, cam, c, h, w] or ``"bkhwc"``
            [bs, cam, h, w, c] for a pyramid of all cameras, or one for each group of
            cameras, as Sparse4D nests them; ``"bchw"`` [bs, c, h, w] or ``"bhwc"``
            [bs, h, w, c] for a pyramid of each camera. Layouts that end in c are packed
            without a transposition. bs, cam and c may be zero.

    Returns:
        A :class:`PackedFeatureMaps`.

    Raises:
        ValueError: if ``layout`` is unknown, there are no maps, shapes do not fit, or
            there are more rows than int32 can count.
        TypeError: if dtypes differ.

    Example:
        >>> import jax.numpy as jnp
        >>> import jda
        >>> scales = [jnp.ones((1, 6, 8, 16, 44)), jnp.ones((1, 6, 8, 8, 22))]
        >>> packed = jda.pack_feature_maps(scales, layout="bkchw")
        >>> packed.feature_maps.shape, packed.spatial_shape[0].tolist()
        ((1, 5280, 8), [[16, 44], [8, 22]])
    """
    _check.choice("layout", layout, LAYOUTS)
    pyramids = _pyramids(maps, layout)
    spatial_shape = np.concatenate([_spatial_shape(p, layout) for p in pyramids])
    starts = _starts(spatial_shape)
    feature_maps = _packed([list(pyramid.values()) for pyramid in pyramids], layout)
    return PackedFeatureMaps(feature_maps, spatial_shape.astype(np.int32), starts)


def unpack_feature_maps(
    packed: PackedFeatureMaps | tuple[ArrayLike, ArrayLike, ArrayLike],
    layout: str = "bkchw",
) -> list[jax.Array] | list[list[jax.Array]]:
    """The inverse of :func:`pack_feature_maps`.

    Args:
        packed: feature maps [bs, num_feat, c] and the concrete index arrays of the
            operator; maps may lie in any order and share rows.
        layout: as in :func:`pack_feature_maps`.

    Returns:
        One array for each scale, or, in a layout without k, a list of these for each
        camera.

    Raises:
        ValueError: if ``layout`` is unknown, a map lies outside of the feature maps, or
            ``layout`` wants cameras of equal sizes and they are not.
        TypeError: if the index arrays are traced.
    """
    _check.choice("layout", layout, LAYOUTS)
    feature_maps, spatial_shape, scale_start_index = _check.packed(*packed)
    cameras = [
        [
            _map(feature_maps, size, start, layout)
            for size, start in zip(sizes, starts, strict=True)
        ]
        for sizes, starts in zip(
            spatial_shape.tolist(), scale_start_index.tolist(), strict=True
        )
    ]
    if "k" not in layout:
        return cameras
    if not cameras:
        raise ValueError("spatial_shape has cam=0, so that no scale has a size")
    if np.any(spatial_shape != spatial_shape[:1]):
        raise ValueError(
            f"layout={layout!r} needs cameras of equal sizes, but spatial_shape has "
            f"different ones; use {layout.replace('k', '')!r}"
        )
    return [jnp.stack(scale, axis=1) for scale in zip(*cameras, strict=True)]


Pyramid = dict[str, jax.Array]  # the scales of some cameras, by their names in errors


def _pyramids(maps: Sequence[Any], layout: str) -> list[Pyramid]:
    """The pyramid of each camera or group of cameras, checked."""
    maps = list(maps)
    is_nested = "k" not in layout or (
        bool(maps) and all(isinstance(each, list | tuple) for each in maps)
    )
    groups = list(map(list, maps)) if is_nested else [maps]
    if not groups or not groups[0]:
        raise ValueError("maps is empty, at least one feature map is needed")
    found: list[Pyramid] = []
    for k, scales in enumerate(groups):
        if len(scales) != len(groups[0]):
            raise ValueError(
                f"maps[{k}] has {len(scales)} scales but maps[0] has "
                f"{len(groups[0])}, all cameras must have the same number"
            )
        of_group = f"maps[{k}]" if is_nested else "maps"
        names = [f"{of_group}[{s}]" for s in range(len(scales))]
        found.append(
            {n: _check.array(n, x) for n, x in zip(names, scales, strict=True)}
        )
    _check_sizes(found, layout)
    return found


def _check_sizes(pyramids: list[Pyramid], layout: str) -> None:
    known: dict[str, tuple[str, Any]] = {}
    for pyramid in pyramids:
        known.pop("k", None)  # groups may have as many cameras as they like
        for name, scale in pyramid.items():
            if scale.ndim != len(layout):
                expected = ", ".join(LABELS[axis] for axis in layout)
                raise ValueError(
                    f"{name} has shape {scale.shape}, expected [{expected}]"
                )
            sizes = dict(zip(layout, scale.shape, strict=True))
            for axis in "hw":
                if sizes.pop(axis) == 0:
                    raise ValueError(f"{name} has {axis}=0, maps must have pixels")
            for axis, size in sizes.items():
                first, right = known.setdefault(axis, (name, size))
                if size != right:
                    raise ValueError(
                        f"{name} has {LABELS[axis]}={size} but {first} has "
                        f"{LABELS[axis]}={right}, they must be equal"
                    )
            first, dtype = known.setdefault("dtype", (name, scale.dtype))
            if scale.dtype != dtype:
                raise TypeError(
                    f"{name} has dtype {scale.dtype} but {first} has dtype {dtype}, "
                    "they must be equal"
                )


def _spatial_shape(pyramid: Pyramid, layout: str) -> npt.NDArray[np.int64]:
    """(H, W) of each map of some cameras [cam, scale, 2]."""
    axes = [layout.index(axis) for axis in "hw"]
    sizes = [[scale.shape[axis] for axis in axes] for scale in pyramid.values()]
    cam = next(iter(pyramid.values())).shape[1] if "k" in layout else 1
    return np.repeat(np.asarray([sizes], np.int64), cam, axis=0)


# One dispatch for an eager call, and no trace of it in a caller's jaxpr.
@functools.partial(jax.jit, inline=_compat.INLINE, static_argnames="layout")
def _packed(groups: list[list[jax.Array]], layout: str) -> jax.Array:
    maps = [scale for scales in groups for scale in scales]
    if "k" not in layout:
        maps = [jnp.expand_dims(scale, 1) for scale in maps]
    side = layout.replace("k", "").index("h") + 1
    flat = [jax.lax.collapse(scale, side, side + 2) for scale in maps]
    is_last = layout.endswith("c")
    return _pack.packed(flat, channels_last=is_last, scales=len(groups[0]))


def _starts(spatial_shape: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    rows = spatial_shape.prod(axis=-1)
    if rows.sum() > _check.MOST_ROWS:
        raise ValueError(
            f"maps have num_feat={rows.sum()}, at most {_check.MOST_ROWS} rows can be "
            "addressed by the int32 scale_start_index"
        )
    ends = rows.cumsum().reshape(rows.shape)
    starts: npt.NDArray[np.int32] = (ends - rows).astype(np.int32)
    return starts


def _map(
    feature_maps: jax.Array, size: list[int], start: int, layout: str
) -> jax.Array:
    height, width = size
    rows = feature_maps[:, start : start + height * width]
    scale = rows.reshape(rows.shape[0], height, width, rows.shape[-1])
    return jnp.moveaxis(scale, -1, layout.replace("k", "").index("c"))


def _described(leaf: Any) -> str:
    """Shape and dtype, where JAX has not put something else into a leaf's place."""
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        return repr(leaf)
    return f"{leaf.dtype}{list(leaf.shape)}"
