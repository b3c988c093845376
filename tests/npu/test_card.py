"""The promise: on a real card the kernels compute what the oracle says."""

import ml_dtypes
import numpy as np
import pytest

from tests.support import cases, on_card


@pytest.mark.parametrize("name", cases.ZOO)
def test_zoo(name):
    on_card.check_zoo(name)


@pytest.mark.parametrize("dtype", (ml_dtypes.bfloat16, np.float16))
@pytest.mark.parametrize("name", cases.ZOO)
def test_zoo_of_16_bits(name, dtype):
    on_card.check_16_bits(name, dtype)


@pytest.mark.parametrize("name", cases.BOTH_ORDERS)
def test_other_order(name):
    on_card.check_other_order(name)


def test_threads():
    on_card.check_threads()


def test_training():
    on_card.check_training(steps=100)


def test_determinism(monkeypatch):
    on_card.check_determinism(monkeypatch)
