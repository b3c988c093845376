"""The promise: what docs/porting.md says runs, and its assertions hold."""

import pkgutil
import re

import numpy as np

from tests.support import pages
from tests.support.implementations import ROOT

GUIDE = "docs/porting.md"


def test_the_guide_runs():
    names = pages.run(GUIDE)
    assert np.isfinite(names["softmax"]).all()
    assert np.asarray(names["with_depth"]).any()
    np.testing.assert_allclose(names["boxes"], names["features"], rtol=1e-6, atol=1e-6)


def test_every_name_of_the_guide_exists():
    text = (ROOT / GUIDE).read_text()
    names = set(re.findall(r"`jda\.([a-z0-9_.]+)", text))
    assert len(names) > 8
    for name in names:
        pkgutil.resolve_name(f"jda.{name}")
