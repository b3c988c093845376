"""How Sphinx makes the site: `make docs`.

Its pages are the Markdown files that a code host shows too, where they lie; only what
Sphinx alone understands is in this folder. The home page is README.md.
"""

import base64
import re
import tomllib
from pathlib import Path

import nbformat
from jax.typing import ArrayLike
from sphinx.util.typing import stringify_annotation

import jda

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CONTENTS = HERE / "contents.md"
FIRST = ("quickstart", "seeing_it", "transformations")  # of the notebooks
PICTURES = ROOT / "build" / "site-pictures"
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = METADATA.get("urls", {}).get("Repository")

project = "jda"
author = "The jda authors"
copyright = author
version = release = jda.__version__

root_doc, gallery_doc = "README", "docs/site/gallery"
include_patterns = ["*.md", "docs/**.md", "emulator/**.md", "notebooks/*.ipynb"]
exclude_patterns = [".*", "build", "shared", "**/contents.md"]

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]
myst_enable_extensions = ["alert", "html_image"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # they are committed with their results; a test runs them
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_mock_imports = ["torch"]  # large, and jda.torch is read here, not called
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has them
SHORT = {stringify_annotation(ArrayLike, "smart"): "ArrayLike", "<factory>": "..."}
nitpick_ignore_regex = [  # what other packages document, and shorthands within jda
    ("py:.*", r"(collections|jax|jnp|matplotlib|np|npt|numpy|torch|typing)\..*"),
    ("py:.*", r"(Any|Array|ArrayLike|Callable|Figure|Floats|Iterable|Iterator)"),
    ("py:.*", r"(Sequence|.*\b_\w+\.\w+)"),
]

html_theme = "furo"
html_title = f"jda {version}"
html_extra_path = ["index.html"]
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_show_sourcelink = False
html_copy_source = False

LINK = re.compile(r"(?<!!)\[([^\]\[]+)\]\(([^)#\s:]+)\)")


def on_source_read(app, docname, source):
    """Makes pages of files that are written for a code host."""
    page = Path(app.env.doc2path(docname))
    if page.suffix != ".md":
        return

    def of_the_site(link):
        """A link to a file that is no page: to the code host, if there is one."""
        text, target = link.groups()
        path = (page.parent / target).resolve()
        if not path.exists() or app.env.path2doc(str(path)) in app.env.found_docs:
            return link[0]
        where = path.relative_to(ROOT)
        return f"[{text}]({REPOSITORY}/blob/main/{where})" if REPOSITORY else text

    source[0] = LINK.sub(of_the_site, source[0])
    if docname == root_doc:  # a code host would show the table of contents as code
        source[0] += CONTENTS.read_text()
    if docname == gallery_doc:
        source[0] += gallery()


def gallery():
    """A table of all notebooks: a picture, the title, how it begins."""
    order = {name: rank for rank, name in enumerate(FIRST)}
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    paths.sort(key=lambda path: order.get(path.stem, len(order)))
    names = "".join(f"/notebooks/{path.stem}\n" for path in paths)
    toctree = f"\n```{{toctree}}\n:hidden:\n:titlesonly:\n\n{names}```\n"
    return toctree + "\n| | |\n| --- | --- |\n" + "".join(map(row, paths))


def row(path):
    """A notebook's row of the gallery."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = (output for cell in cells for output in cell.get("outputs", ()))
    data = (output.get("data", {}) for output in outputs)
    picture = next(each["image/png"] for each in data if "image/png" in each)
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / f"{path.stem}.png").write_bytes(base64.b64decode(picture))
    title, start = cells[0].source.split("\n\n")[:2]
    text = f"[{title.removeprefix('# ')}](/notebooks/{path.name})<br>"
    text += LINK.sub(r"\1", start).replace("\n", " ")
    return f"| ![{title}](/build/site-pictures/{path.stem}.png) | {text} |\n"


def on_skip_member(app, what, name, member, skip, options):
    """Leaves out fields of named tuples, which the class describes."""
    is_field = (member.__doc__ or "").startswith("Alias for field number")
    return True if is_field else None


def on_signature(app, what, name, obj, options, signature, returned):
    """Shortens what Python spells out."""
    for long, short in SHORT.items():
        signature = signature and signature.replace(long, short)
    return signature, returned


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", on_source_read)
    app.connect("autodoc-skip-member", on_skip_member)
    app.connect("autodoc-process-signature", on_signature)
