"""Programs as text: what a function becomes for a platform, and what it calls."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import jda
from tests.support.cases import FLOATS


def gradient(*inputs: Any, wanted: Sequence[int] = FLOATS, **keywords: Any) -> Any:
    """Gradients of the sum of squares of the operator's result."""

    def loss(*inputs: Any) -> jax.Array:
        return jnp.square(jda.deformable_aggregation(*inputs, **keywords)).sum()

    return jax.grad(loss, wanted)(*inputs)


def lower(function: Callable[..., Any], *platforms: str, inputs: Sequence[Any]) -> str:
    traced = jax.jit(function).trace(*map(jnp.asarray, inputs))
    return traced.lower(lowering_platforms=platforms).as_text()


def targets(text: str) -> list[str]:
    """The targets of our custom calls, in order."""
    return re.findall(r"custom_call @(jda\w+)", text)
