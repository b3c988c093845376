"""How Sphinx makes the site: `make docs`.

Its pages are the Markdown files that a code host shows too, where they lie; only what
Sphinx alone understands is in this folder. The home page is README.md.
"""

import re
import tomllib
from pathlib import Path

from jax.typing import ArrayLike
from sphinx.util.typing import stringify_annotation

import jda

ROOT = Path(__file__).parents[2]
CONTENTS = Path(__file__).with_name("contents.md")
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = METADATA.get("urls", {}).get("Repository")

project = "jda"
author = "The jda authors"
copyright = author
version = release = jda.__version__

root_doc = "README"
include_patterns = ["*.md", "docs/**.md", "emulator/**.md", "notebooks/*.ipynb"]
exclude_patterns = [".*", "build", "shared", "**/contents.md"]

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]
myst_enable_extensions = ["alert", "html_image"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # they are committed with their results; a test runs them
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has them
SHORT = {stringify_annotation(ArrayLike, "smart"): "ArrayLike", "<factory>": "..."}
nitpick_ignore_regex = [  # what other packages document, and shorthands within jda
    ("py:.*", r"(collections|jax|jnp|matplotlib|np|npt|numpy|typing)\..*"),
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
