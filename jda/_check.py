"""All errors about arguments.

They name the argument, what was got and what is allowed, and are raised while a
function is traced.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jda import _compat
from jda._dimensions import AXES, FLOATING, INDEX, NAMES, Operands

COORDINATE_ORDERS = ("yx", "xy")
DIFFERENTIATIONS = ("reverse", "both")
_F32, _F64 = jnp.dtype(jnp.float32), jnp.dtype(jnp.float64)
LOCATIONS = {  # dtype of the feature maps: that of the locations
    _F32: _F32,
    _F64: _F64,
    jnp.dtype(jnp.bfloat16): _F32,
    jnp.dtype(jnp.float16): _F32,
}
WEIGHTS = {  # those of the weights
    dtype: (dtype, _F32) if dtype.itemsize == 2 else (dtype,) for dtype in LOCATIONS
}
MOST_ROWS = np.iinfo(np.int32).max


def choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Checks an argument that is one of a few words."""
    if value not in allowed:
        words = ", ".join(map(repr, allowed))
        raise ValueError(f"{name}={value!r} is unknown, allowed are {words}")


def arrays(arguments: Operands, coordinate_order: str) -> Operands:
    """The five arguments as arrays, checked: dtypes, shapes and values of the maps."""
    named = arguments._asdict().items()
    found = Operands(*[_as_array(name, value) for name, value in named])
    _devices(found._asdict())
    shapes(found._asdict(), coordinate_order)
    maps(found.spatial_shape, found.scale_start_index, found.feature_maps.shape[1])
    return found


def packed(
    feature_maps: Any, spatial_shape: Any, scale_start_index: Any
) -> tuple[jax.Array, npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    """The packed triple with index arrays whose values are known, checked."""
    arrays: list[Any] = [
        array("feature_maps", feature_maps),
        static("spatial_shape", spatial_shape),
        static("scale_start_index", scale_start_index),
    ]
    given = dict(zip(Operands._fields, arrays, strict=False))
    _ranks(given)
    _pair("spatial_shape", arrays[1], "(H, W)")
    _sizes(given)
    maps(arrays[1], arrays[2], arrays[0].shape[1])
    return arrays[0], arrays[1], arrays[2]


def array(name: str, value: Any) -> jax.Array:
    """An argument as an array of JAX."""
    return value if isinstance(value, jax.Array) else _converted(jnp, name, value)


def static(name: str, value: Any) -> npt.NDArray[np.int32]:
    """An index array of known values, as int32 and never written."""
    if _compat.is_traced(value):
        raise TypeError(
            f"{name} is traced, but the shapes of the maps depend on its values; "
            "close over it instead of passing it through jax.jit"
        )
    array = _converted(np, name, value)
    integers(name, array)
    found: npt.NDArray[np.int32] = array.astype(np.int32)
    if np.any(found != array):
        value = array[found != array].flat[0]
        raise ValueError(f"{name} has the value {value}, allowed are those of int32")
    found.flags.writeable = False
    return found


def _as_array(name: str, value: Any) -> Any:
    # Index arrays stay in numpy, where their values can be read under jit too.
    if name in INDEX and not isinstance(value, jax.Array):
        return _converted(np, name, value)
    return array(name, value)


def _converted(library: Any, name: str, value: Any) -> Any:
    if value is None or isinstance(value, str | bytes):
        raise TypeError(f"{name} is {value!r}, it must be an array")
    try:
        return library.asarray(value)
    # Whatever a foreign type raises: it knows nothing of the argument's name.
    except Exception as error:
        kind = type(value).__name__
        raise TypeError(
            f"{name} is a {kind} of which no array can be made: {error}"
        ) from error


def _devices(given: dict[str, Any]) -> None:
    """Arrays that were put on devices must share these; others follow them."""
    known: tuple[str, Any] | None = None
    for name, array in given.items():
        if not _is_committed(array):
            continue
        known = known or (name, array.sharding.device_set)
        first, devices = known
        if array.sharding.device_set != devices:
            here, there = map(_listed, (array.sharding.device_set, devices))
            raise ValueError(
                f"{name} is on {here} but {first} is on {there}; put them on the same "
                "devices by jax.device_put"
            )


def _is_committed(array: Any) -> bool:
    is_concrete = isinstance(array, jax.Array) and not _compat.is_traced(array)
    return is_concrete and bool(array.committed)


def _listed(devices: Any) -> str:
    return ", ".join(sorted(map(str, devices)))


def shapes(given: dict[str, Any], coordinate_order: str) -> None:
    """Checks all that is known of the operator's arrays without their values."""
    _index_dtypes(given)
    floating_dtypes(*((name, given[name]) for name in FLOATING))
    _ranks(given)
    _pair("spatial_shape", given["spatial_shape"], "(H, W)")
    pair = f"({', '.join(coordinate_order)})"
    _pair("sample_locations", given["sample_locations"], pair)
    _sizes(given)
    groups("weight", given["weight"].shape[-1], given["feature_maps"].shape[-1])


def _index_dtypes(given: dict[str, Any]) -> None:
    for name in INDEX:
        integers(name, given[name])


def integers(name: str, array: Any) -> None:
    """Checks the dtype of an index array."""
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name} has dtype {array.dtype}, allowed are integers")


def floating_dtypes(features: Any, locations: Any, weights: Any) -> None:
    """Checks what belongs together; each is the name of an argument and its array."""
    first, dtype = features[0], features[1].dtype
    if dtype not in LOCATIONS:
        *most, last = map(str, LOCATIONS)
        raise TypeError(
            f"{first} has dtype {dtype}, allowed are {', '.join(most)} and {last}"
        )
    for (name, array), allowed in (
        (locations, (LOCATIONS[dtype],)),
        (weights, WEIGHTS[dtype]),
    ):
        if array.dtype not in allowed:
            raise TypeError(
                f"{name} has dtype {array.dtype}, it must have dtype "
                f"{' or '.join(map(str, allowed))} where {first} has dtype {dtype}"
            )


def real(name: str, array: Any) -> None:
    """Checks that an array of any precision has numbers without imaginary parts."""
    kinds = jnp.floating, jnp.integer
    if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
        raise TypeError(
            f"{name} has dtype {array.dtype}, allowed are floats and integers"
        )


def _ranks(given: dict[str, Any]) -> None:
    for name, array in given.items():
        dims = getattr(AXES, name).split()
        if array.ndim != len(dims):
            expected = ", ".join(NAMES.get(dim, "2") for dim in dims)
            raise ValueError(f"{name} has shape {array.shape}, expected [{expected}]")


def _pair(name: str, array: Any, meaning: str) -> None:
    if array.shape[-1] != 2:
        raise ValueError(
            f"{name} has shape {array.shape}, its last axis must have size 2: {meaning}"
        )


def _sizes(given: dict[str, Any]) -> None:
    sizes: dict[str, tuple[int, str]] = {}
    for name, array in given.items():
        for dim, size in zip(getattr(AXES, name).split(), array.shape, strict=True):
            known, where = sizes.setdefault(dim, (size, name))
            if size != known:
                label = NAMES[dim]
                raise ValueError(
                    f"{name} has {label}={size} but {where} has {label}={known}, they "
                    "must be equal"
                )
    num_feat, _ = sizes["n"]
    if isinstance(num_feat, int) and num_feat > MOST_ROWS:
        raise ValueError(
            f"feature_maps has num_feat={num_feat}, at most {MOST_ROWS} rows can be "
            "addressed by the int32 scale_start_index"
        )


def groups(name: str, group: int, c: int) -> None:
    """Checks the last axis of the weights."""
    if group == 0:
        raise ValueError(f"{name} has group=0, at least one channel group is needed")
    if c % group:
        raise ValueError(f"{name} has group={group}, which does not divide c={c}")


def maps(spatial_shape: Any, scale_start_index: Any, num_feat: Any) -> None:
    """Checks the values of the index arrays, where they can be read."""
    if not isinstance(num_feat, int):  # a symbolic size of jax.export
        return
    if _is_readable(spatial_shape) and _is_readable(scale_start_index):
        shapes, starts = np.asarray(spatial_shape), np.asarray(scale_start_index)
        wide = shapes.astype(np.int64), starts.astype(np.int64)
        _map_values(wide[0].tobytes(), wide[1].tobytes(), starts.shape, num_feat)


def _is_readable(array: Any) -> bool:
    """Concrete values are read, also where JAX is still computing them."""
    if _compat.is_traced(array):
        return False
    if isinstance(array, jax.Array):
        return array.is_fully_addressable or array.is_fully_replicated
    return True


@functools.lru_cache(maxsize=64)  # the same few pyramids come with every call
def _map_values(
    shapes: bytes, starts: bytes, cam_scale: tuple[int, int], num_feat: int
) -> None:
    size = np.frombuffer(shapes, np.int64).reshape(*cam_scale, 2)
    first = np.frombuffer(starts, np.int64).reshape(cam_scale)
    for k, s in np.ndindex(cam_scale):
        (h, w), start = size[k, s].tolist(), int(first[k, s])
        if h <= 0 or w <= 0:
            raise ValueError(
                f"spatial_shape[{k}, {s}] is ({h}, {w}), both sizes must be positive"
            )
        if start < 0:
            raise ValueError(
                f"scale_start_index[{k}, {s}] is {start}, it must not be negative"
            )
        if start + h * w > num_feat:
            raise ValueError(
                f"scale_start_index[{k}, {s}] is {start} and spatial_shape[{k}, {s}] "
                f"is ({h}, {w}), so that the map ends at row {start + h * w}, but "
                f"feature_maps has num_feat={num_feat}"
            )
