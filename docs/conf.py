"""The site of ``make docs``: README's first sections, the pages of this folder, and the reference
from docstrings.
"""

import re
from importlib.metadata import version as installed
from typing import Any

from sphinx.application import Sphinx

project = "Gestalt"
author = "Gestalt maintainers"
release = version = installed("gestalt-grouping")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples/plugin_terms"]
html_theme = "furo"
html_title = f"Gestalt {release}"
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]
highlight_language = "text"

myst_heading_anchors = 4  # headings are link targets, as on GitHub
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.header"]  # a page of the reference may begin below its first level

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True


def relink(text: str) -> str:
    """Point links to pages outside this folder to the pages of the site that include them."""
    pages = r"\]\((?:\.\./)?(?:experiments/)?(CHANGELOG|LOG|NOTICE)\.md"
    return re.sub(pages, lambda link: f"]({link[1].lower()}.md", text)


def setup(app: Sphinx) -> None:
    """Have links changed in every page, and in what a page includes."""

    def change(*names_and_content: Any) -> None:
        content = names_and_content[-1]
        content[0] = relink(content[0])

    app.connect("source-read", change)
    app.connect("include-read", change)
