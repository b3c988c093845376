"""The promise: what pages and docstrings show runs; what the Chinese page says is so.

A new page is a new test: nothing has to be listed.
"""

import importlib.util
import re
import shlex
import subprocess

import jax
import pytest

import jda
from tests.support import pages
from tests.support.implementations import ROOT, require_module

CHINESE = ROOT / "docs" / "zh-CN.md"
FIRST = ("README.md", "README.zh-CN.md", "docs/zh-CN.md")
ELSEWHERE = {  # what these pages promise has tests of its own, which run them
    "docs/porting.md": "test_porting_guide.py",
    "docs/sharding.md": "eight_devices/guide.py",
    "docs/sparse4d.md": "test_sparse4d.py",
    "docs/transformations.md": "test_life_in_jax.py",
    "emulator/driver/README.md": "test_emulated_driver.py",
}
NEEDED = {
    "docs/recipes.md": ("equinox", "flax", "optax", "torch"),
    "docs/torch.md": ("torch",),
    "jda/torch.py": ("torch",),
}
WITH_PYTHON = [page for page in pages.pages() if pages.blocks(page, "python")]
LANGUAGES = {"python", "sh", "text"}  # text: formulas, reports, what needs a card
OTHERS = {"emulator/README.md": {"cpp"}}  # test_emulator.py compiles it


@pytest.mark.parametrize("page", sorted({*WITH_PYTHON} - {*ELSEWHERE}))
def test_a_page_runs(page):
    for name in NEEDED.get(page, ()):
        require_module(name)
    names = pages.run(page)
    if page in FIRST:
        assert any(isinstance(value, jax.Array) for value in names.values())


@pytest.mark.parametrize(("page", "test"), ELSEWHERE.items())
def test_a_page_runs_elsewhere(page, test):
    assert page in WITH_PYTHON
    assert f'"{page}"' in (ROOT / "tests" / test).read_text()


@pytest.mark.parametrize("module", pages.modules())
def test_docstrings_run(module):
    for name in NEEDED.get(module, ()):
        require_module(name)
    assert pages.run_docstrings(module) > 1


@pytest.mark.parametrize("page", pages.pages())
def test_every_block_has_a_test(page):
    languages = {language for language, _ in pages.all_blocks(page)}
    if page.startswith("docs/site/"):
        languages -= {"{toctree}", "{eval-rst}"}
    assert languages <= LANGUAGES | OTHERS.get(page, set())


def commands() -> list[list[str]]:
    lines = "\n".join(b for page in pages.pages() for b in pages.blocks(page, "sh"))
    return [shlex.split(line, comments=True) for line in lines.splitlines()]


def test_make_targets_exist():
    targets = {word[1] for word in commands() if word[:1] == ["make"]}
    assert {"demo", "test"} <= targets
    dry = ["make", "-n", *sorted(targets)]
    subprocess.run(dry, cwd=ROOT, check=True, capture_output=True)


def test_programs_exist():
    modules = {word[2] for word in commands() if word[1:2] == ["-m"]}
    assert "benchmarks.run" in modules
    assert all(importlib.util.find_spec(module) for module in modules)


@pytest.mark.parametrize("page", pages.pages())
def test_links_lead_somewhere(page):
    path = ROOT / page
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    files = [link for link in links if "://" not in link]
    assert files or page not in FIRST
    assert not [link for link in files if not (path.parent / link).exists()]


def test_the_reference_has_every_public_name():
    """Of `jda`; the other public modules are on its pages as a whole."""
    pages = (ROOT / "docs" / "site" / "api").glob("*.md")
    text = "".join(page.read_text() for page in pages)
    listed = set(re.findall(r"^\.\. \w+:: (jda\.[\w.]+)", text, re.MULTILINE))
    assert {f"jda.{name}" for name in jda.__all__} <= listed
    assert {"jda.plot", "jda.sparse4d"} <= listed


def test_the_chinese_page_quotes_messages_that_exist():
    """Of the errors in its last table, the part before any value."""
    sources = "".join(
        path.read_text()
        for folder in ("jda", "csrc")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".cc", ".h")
    )
    joined = re.sub(r"[\"']\s*\n?\s*f?[\"']", "", sources)  # literals that follow
    table = CHINESE.read_text().split("## 常见报错")[1]
    quoted = re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)
    assert len(quoted) == 8
    for message in quoted:
        start = re.split(r"\.\.\.|=6|c=256|\[k|207001|aclrtMalloc|Ascend910B", message)
        longest = max(start, key=len).strip()
        assert longest in joined, longest
