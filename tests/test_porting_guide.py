"""The promise: what docs/porting.md says runs, and its assertions hold."""

import re
from pathlib import Path

import jax
import numpy as np

import jda

GUIDE = Path(__file__).parents[1] / "docs" / "porting.md"


def test_the_guide_runs():
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.M)
    assert len(blocks) == 10
    names = {}
    # The page is written for JAX as most have it, not for this suite's strictness.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exec("\n".join(blocks), names)
    assert np.isfinite(names["softmax"]).all()
    assert np.asarray(names["with_depth"]).any()
    np.testing.assert_allclose(names["boxes"], names["features"], rtol=1e-6, atol=1e-6)


def test_every_name_of_the_guide_exists():
    text = GUIDE.read_text()
    names = set(re.findall(r"`jda\.([a-z0-9_.]+)", text))
    assert len(names) > 8
    for name in names:
        found = jda
        for part in name.split("."):
            __import__("jda.sparse4d")
            found = getattr(found, part)
