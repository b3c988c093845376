"""The code of pages and docstrings, found by sybil, and run as a reader would run it.

A page is a Markdown file, named by its path from the root of the tree. Its blocks of
Python are one program: what one block defines, the next one may use.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import jax
from sybil import Document, Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer
from sybil.parsers.rest import DocTestParser

from tests.support.implementations import ROOT

BLOCKS = RawFencedCodeBlockLexer(re.compile(r"(?P<language>.*)\n"))


def pages() -> list[str]:
    """Every page of the tree."""
    patterns = ("*.md", "docs/**/*.md", "emulator/**/*.md")
    found = (path for pattern in patterns for path in ROOT.glob(pattern))
    return sorted(str(path.relative_to(ROOT)) for path in found)


def modules() -> list[str]:
    """Every module of the package whose docstrings have examples."""
    found = (p for p in (ROOT / "jda").rglob("*.py") if ">>> " in p.read_text())
    return sorted(str(path.relative_to(ROOT)) for path in found)


def blocks(page: str, language: str) -> list[str]:
    """The blocks of one language."""
    return [text for word, text in all_blocks(page) if word == language]


def all_blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every block."""
    found = BLOCKS(Document((ROOT / page).read_text(), page))
    return [(each.lexemes["language"], str(each.lexemes["source"])) for each in found]


@cache
def run(page: str, *, strict: bool = False) -> dict[str, Any]:
    """What the Python of a page has defined in the end.

    Pages are written for JAX as most have it. With ``strict``, its Python is run with
    this suite's strict promotion of dtypes and ranks all the same.
    """
    document = Sybil([PythonCodeBlockParser()]).parse(ROOT / page)
    with ExitStack() as stack:
        if not strict:
            stack.enter_context(_as_most_have_it())
        _evaluate(document)
    return document.namespace


def run_docstrings(module: str) -> int:
    """Runs the examples of a module's docstrings and says how many lines they have.

    They begin with nothing but what they import, as in a reader's interpreter.
    """
    document = Sybil([DocTestParser()]).parse(ROOT / module)
    assert isinstance(document, PythonDocStringDocument)
    document.pop_evaluator(document.import_document)
    with _as_most_have_it():
        return _evaluate(document)


def _evaluate(document: Document) -> int:
    examples = list(document)
    for example in examples:
        example.evaluate()
    return len(examples)


@contextmanager
def _as_most_have_it() -> Iterator[None]:
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield
