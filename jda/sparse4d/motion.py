"""Times and poses of a sequence, on the host and in float64.

Seconds since 1970 and coordinates of a city lose their small digits in float32: what
the decoder gets are differences, taken here with numpy.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Motion(NamedTuple):
    """From the frame before to this one.

    Attributes:
        time_interval: seconds since the frame before [bs], float32.
        T_temp2cur: from the vehicle's frame of then to that of now [bs, 4, 4], float32.
    """

    time_interval: np.ndarray
    T_temp2cur: np.ndarray


def ego_motion(
    timestamp: npt.ArrayLike,
    T_global: npt.ArrayLike,
    previous_timestamp: npt.ArrayLike | None = None,
    previous_T_global: npt.ArrayLike | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> Motion:
    """The motion since the frame before; none without one.

    Args:
        timestamp: seconds [bs].
        T_global: from the vehicle's frame to the world [bs, 4, 4].
        previous_timestamp: that of the frame before.
        previous_T_global: that of the frame before.
        dtype: of the result; the arithmetic is float64.

    Returns:
        :class:`Motion`.

    Raises:
        ValueError: if only one of ``previous_timestamp`` and ``previous_T_global`` is
            given.
    """
    if (previous_timestamp is None) != (previous_T_global is None):
        of_time = previous_timestamp is None
        missing = "previous_timestamp" if of_time else "previous_T_global"
        raise ValueError(
            f"{missing} is missing: give both previous_timestamp and "
            "previous_T_global, or none"
        )
    now, pose = np.asarray(timestamp, np.float64), np.asarray(T_global, np.float64)
    then = now if previous_timestamp is None else np.asarray(previous_timestamp)
    before = pose if previous_T_global is None else np.asarray(previous_T_global)
    turn = np.linalg.inv(pose) @ before.astype(np.float64)
    return Motion((now - then.astype(np.float64)).astype(dtype), turn.astype(dtype))


def sequence_motion(
    timestamp: npt.ArrayLike, T_global: npt.ArrayLike, dtype: npt.DTypeLike = np.float32
) -> Motion:
    """The motions of a sequence, for ``lax.scan``; none for its first frame.

    Args:
        timestamp: seconds [frames, bs].
        T_global: from the vehicle's frame to the world [frames, bs, 4, 4].
        dtype: of the result.

    Returns:
        [frames, bs] and [frames, bs, 4, 4].
    """
    times, poses = np.asarray(timestamp, np.float64), np.asarray(T_global, np.float64)
    then = np.concatenate([times[:1], times[:-1]])
    before = np.concatenate([poses[:1], poses[:-1]])
    return ego_motion(times, poses, then, before, dtype)
