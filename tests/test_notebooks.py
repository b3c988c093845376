"""The promise: every notebook runs, and what is committed is made from its source."""

import pytest

from tests.support.implementations import ROOT

jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")

SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
MOST_BYTES = 1_000_000  # of a notebook with its pictures

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def cells(notebook) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def outputs(notebook) -> list:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def complaints(notebook) -> list:
    """Errors and warnings: a reader should see neither."""
    return [
        output
        for output in outputs(notebook)
        if output.output_type == "error" or output.get("name") == "stderr"
    ]


def test_there_are_notebooks():
    names = {path.stem for path in SOURCES}
    told = {"quickstart", "seeing_it", "transformations", "ascend", "sparse4d"}
    assert names == told


@each_source
def test_a_notebook_runs(source):
    notebook = jupytext.read(source)
    place = {"metadata": {"path": str(source.parent)}}
    patience = {"timeout": None, "startup_timeout": 600, "iopub_timeout": 600}
    nbclient.NotebookClient(notebook, resources=place, **patience).execute()
    assert outputs(notebook)


@each_source
def test_the_committed_notebook_is_of_its_source(source):
    committed = source.with_suffix(".ipynb")
    notebook = jupytext.read(committed)
    assert cells(notebook) == cells(jupytext.read(source)), "run `make notebooks`"
    assert not complaints(notebook)
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert committed.stat().st_size < MOST_BYTES
