"""Parameters from and to PyTorch's state dicts, bit by bit."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jda.sparse4d import names
from jda.sparse4d.config import DecoderConfig, LayerConfig
from jda.sparse4d.nn import Params


def params_from_state_dict(
    state_dict: Mapping[str, Any],
    config: LayerConfig | DecoderConfig,
    prefix: str = "",
) -> Params:
    """The parameters of a layer or of a head.

    Args:
        state_dict: arrays or tensors by name, say ``torch.load(...)["state_dict"]``.
        config: of the layer, or of the whole head.
        prefix: of the names that are meant, ``"head."`` in a checkpoint of the whole
            detector; all others are passed over.

    Returns:
        The tree that ``init`` gives, with the dtypes of the state dict.

    Raises:
        ValueError: if a name is missing or unknown, or a shape is another one.
        TypeError: for float64 without ``jax_enable_x64``.
    """
    found = {
        name.removeprefix(prefix): value
        for name, value in state_dict.items()
        if name.startswith(prefix)
    }
    shapes = shapes_of(config)
    _check_names(set(found), set(shapes), prefix)
    arrays = {name: _array(prefix + name, found[name]) for name in shapes}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(
                f"state_dict[{prefix + name!r}] has shape {arrays[name].shape}, the "
                f"configuration needs {shape}"
            )
    return tree(arrays)


def state_dict_from_params(params: Params, prefix: str = "") -> dict[str, np.ndarray]:
    """The state dict of a tree of parameters, as numpy arrays of one's own.

    For PyTorch: ``{name: torch.from_numpy(x) for name, x in ...items()}``.

    Args:
        params: of a layer or of a decoder.
        prefix: in front of every name.

    Returns:
        Arrays of the parameters' shapes and dtypes, by the names that PyTorch gives.
    """
    return {prefix + name: np.array(x) for name, x in flat(params).items()}


def trainable(params: Params) -> Params:
    """For each parameter whether upstream trains it: a mask for an optimiser.

    It does not train ``fix_scale`` and ``instance_feature``. Gradients do not reach
    them (``LayerConfig.freeze``); an optimiser that decays weights has to be told:
    ``optax.multi_transform({True: optax.adamw(1e-4), False: optax.set_to_zero()},
    trainable(params))``.

    Args:
        params: of a layer or of a decoder.

    Returns:
        A tree like ``params`` with a bool in place of each array.
    """
    return tree({name: not names.is_frozen(name) for name in flat(params)})


def frozen(params: Params) -> Params:
    """The same parameters, with no gradient to those that are not trained."""

    def leaf(value: jax.Array, is_trained: bool) -> jax.Array:
        return value if is_trained else jax.lax.stop_gradient(value)

    found: Params = jax.tree.map(leaf, params, trainable(params))
    return found


def shapes_of(config: LayerConfig | DecoderConfig) -> names.Shapes:
    """Name and shape of every parameter."""
    of = names.of_layer if isinstance(config, LayerConfig) else names.of_decoder
    call: Callable[[Any], names.Shapes] = of
    return call(config)


def tree(leaves: Mapping[str, Any]) -> Params:
    """Nested dicts from names with dots."""
    root: Params = {}
    for name, leaf in leaves.items():
        *path, last = name.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[last] = leaf
    return root


def flat(params: Params, prefix: str = "") -> dict[str, Any]:
    """Names with dots from nested dicts."""
    found: dict[str, Any] = {}
    for part, value in params.items():
        name = prefix + part
        found |= flat(value, name + ".") if isinstance(value, dict) else {name: value}
    return found


def _check_names(given: set[str], needed: set[str], prefix: str) -> None:
    for what, some in (("lacks", needed - given), ("has unknown", given - needed)):
        if some:
            shown = ", ".join(prefix + name for name in sorted(some)[:5])
            more = f" and {len(some) - 5} more" if len(some) > 5 else ""
            raise ValueError(f"state_dict {what} {shown}{more}")


def _array(name: str, value: Any) -> jax.Array:
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu().numpy()
    value = np.asarray(value)
    if jax.dtypes.canonicalize_dtype(value.dtype) != value.dtype:
        raise TypeError(
            f"state_dict[{name!r}] has dtype {value.dtype}, which JAX keeps only with "
            "jax_enable_x64; convert it first"
        )
    return jnp.asarray(value)
