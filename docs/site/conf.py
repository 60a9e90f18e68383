"""How Sphinx makes the site; `build.py` calls it."""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "widgets")]

import spear_core  # noqa: E402

project = "SPEAR, step by step"
author = "The SPEAR tutorial authors"
copyright = author
release = spear_core.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["extra", "static"]
language = "en"

nb_execution_mode = "off"  # what is stored is shown
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

# formulas are set by files of the site's own
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}

default_role = "literal"  # single backquotes in docstrings are code
autodoc_typehints = "signature"
autodoc_member_order = "bysource"

html_theme = "sphinx_book_theme"
html_title = project
html_favicon = str(ROOT / "docs" / "site" / "icon.svg")
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
html_theme_options = {"use_download_button": False, "use_fullscreen_button": False, "show_navbar_depth": 1}


def plain_returns(
    app: object, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """What is returned is a sentence; napoleon takes what stands before a colon in it for a type."""
    for k, line in enumerate(lines[:-1]):
        if line.strip() == "Returns:":
            lines[k + 1] = lines[k + 1].replace(": ", " – ", 1)


def setup(app: Any) -> None:
    """Before napoleon."""
    app.connect("autodoc-process-docstring", plain_returns, priority=400)
