"""The promise: what the first pages show runs, and what the Chinese page says is so."""

import re

import jax
import pytest

import jda
from tests.support.implementations import ROOT

CHINESE = ROOT / "docs" / "zh-CN.md"
PAGES = {"README.md": 1, "README.zh-CN.md": 1, "docs/zh-CN.md": 1}


@pytest.mark.parametrize(("page", "count"), PAGES.items())
def test_a_page_runs(page, count):
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.M)
    assert len(blocks) == count
    names: dict[str, object] = {}
    # Pages are written for JAX as most have it, not for this suite's strictness.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exec("\n".join(blocks), names)
    assert any(isinstance(value, jax.Array) for value in names.values())


@pytest.mark.parametrize(
    "page", [*PAGES, "CONTRIBUTING.md", "docs/development.md", "docs/sharp_bits.md"]
)
def test_links_lead_somewhere(page):
    path = ROOT / page
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    files = [link for link in links if "://" not in link]
    assert files
    missing = [link for link in files if not (path.parent / link).exists()]
    assert not missing


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
