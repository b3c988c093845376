"""The promise: what can compute the operator here is told, and a missing one fails."""

import html
import re
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

import jda
from jda.ffi import cpu
from tests.support import cases

INPUTS = cases.case("two cameras")


def test_all_are_listed_in_order():
    found = jda.implementations()
    assert list(found) == ["reference", "cpu", "ascend"]
    for name, implementation in found.items():
        assert implementation.name == name
        assert implementation.detail
        assert name in str(implementation) and implementation.detail in str(
            implementation
        )


def test_a_notebook_shows_a_table():
    found = jda.implementations()
    shown = found._repr_html_()
    assert shown.count("<tr>") == 1 + len(found)
    for name, implementation in found.items():
        assert f"<tr><th>{name}</th>" in shown
        assert html.escape(implementation.detail) in shown


def test_the_reference_is_always_there():
    reference = jda.implementations()["reference"]
    assert reference.available
    assert "not available" not in str(reference)


def test_a_loaded_library_tells_its_path_and_instructions(implementation):
    detail = jda.implementations()[implementation].detail
    if implementation == "cpu":
        assert cpu.LIBRARY in detail
        assert re.search(r"(avx512|avx2|baseline) instructions$", detail)


@pytest.fixture
def _no_library(monkeypatch):
    monkeypatch.setattr(cpu, "LIBRARY", "libjda_missing.so")
    cpu._load.cache_clear()
    jax.clear_caches()
    yield
    cpu._load.cache_clear()
    jax.clear_caches()


@pytest.mark.usefixtures("_no_library")
def test_without_the_library_the_reference_serves():
    found = jda.implementations()["cpu"]
    assert not found.available
    assert "libjda_missing.so" in found.detail
    result = jda.deformable_aggregation(*INPUTS)
    expected = jda.reference.deformable_aggregation(*INPUTS)
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("_no_library")
def test_a_missing_one_fails_when_it_is_lowered():
    def call(*inputs):
        return jda.deformable_aggregation(*inputs, implementation="cpu")

    assert jax.eval_shape(call, *INPUTS).shape == (2, 5, 8)
    for attempt in (call, jax.jit(call), jax.jit(call).lower):
        with pytest.raises(
            RuntimeError, match=r"'cpu' is not available: .*libjda_missing"
        ):
            attempt(*INPUTS)


def test_the_names_are_one_function():
    assert jda.npu_deformable_aggregation is jda.deformable_aggregation
    assert jda.fused.npu_deformable_aggregation is jda.deformable_aggregation


def python(source):
    """Runs a program of its own, which starts with nothing loaded."""
    command = [sys.executable, "-c", textwrap.dedent(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_does_nothing():
    python(
        """
        import jda
        from jax._src import xla_bridge
        assert not xla_bridge.backends_are_initialized()
        assert jda.ffi.cpu._load.cache_info().currsize == 0
        """
    )


def test_an_unknown_instruction_set_is_an_error():
    """Not another set, and not the reference, whose speed would be a riddle."""
    python(
        """
        import os
        os.environ["JDA_CPU_ISA"] = "avx3"
        import jda
        for _ in range(2):
            try:
                jda.implementations()
            except ValueError as error:
                assert str(error) == (
                    "JDA_CPU_ISA is 'avx3'; it may be 'baseline', 'avx2' or 'avx512'"
                )
            else:
                raise AssertionError("no error")
        """
    )


def test_an_empty_instruction_set_is_none():
    widest, empty = (
        python(
            f"""
            import os
            os.environ.pop("JDA_CPU_ISA", None)
            {change}
            import jda
            print(jda.implementations()["cpu"])
            """
        )
        for change in ("", 'os.environ["JDA_CPU_ISA"] = ""')
    )
    assert empty == widest


def test_threads_that_load_at_once_agree():
    python(
        """
        from concurrent.futures import ThreadPoolExecutor
        import jda
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: jda.implementations(), range(32)))
        assert all(implementations == found[0] for implementations in found)
        assert jda.ffi.cpu._load.cache_info().misses == 1
        """
    )
