"""Markdown as a page that needs no network: formulas are drawn here, styles stand in the page, and it prints well."""

import base64
import html
import io
import re
from functools import cache

import mistune
from matplotlib import mathtext, rc_context
from matplotlib.font_manager import FontProperties

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
pre, code { font: 14px/1.45 ui-monospace, monospace; background: #f3f3f3; }
pre { padding: .6rem .8rem; overflow-x: auto; white-space: pre-wrap; }
table { border-collapse: collapse; } th, td { border: 1px solid #999; padding: .2rem .6rem; text-align: left; }
p.formula { text-align: center; font-size: 1.15em; }
blockquote { margin: .8rem 0; padding: .1rem 1rem; border-left: 4px solid #009e73; }
.room { border: 1px dashed #999; border-radius: 4px; margin: .6rem 0 1.4rem; }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #1c1c1c; } pre, code { background: #2c2c2c; }
  img.formula { filter: invert(1); } }
@media print { body { font-size: 11pt; margin: 0; max-width: none; color: #000; background: #fff; }
  pre, code { font-size: 9.5pt; background: #fff; } pre { border: 1px solid #bbb; } img.formula { filter: none; }
  h2 { break-after: avoid; } section { break-inside: avoid; } @page { margin: 18mm; } }
"""
POINTS, EM = 12, 10.5  # letters of a formula, and how large those of the text are in the same measure
# what TeX has and matplotlib has not, or writes otherwise
SAME = {
    r"\\(le|ge)(?![a-z])": r"\\\1q",
    r"\\lt(?![a-z])": "<",
    r"\\[tdl]?frac(\d)(\d)": r"\\frac{\1}{\2}",
    r"\\[td]frac": r"\\frac",
    r"\\[lr]Vert": r"\\Vert",
    r"\\operatorname": r"\\mathrm",
    r"\\!|\\[bB]igg?[lr]?(?![a-z])": "",
    r"\\(mathbf|mathbb|bar|hat)\s+(\w)": r"\\\1{\2}",
}


def page(title: str, body: str, style: str = "") -> str:
    """A whole page in HTML."""
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>{body}</body></html>\n"
    )


def as_html(markdown: str) -> str:
    """Markdown with tables and formulas ($…$ and $$…$$) as HTML."""
    render = mistune.create_markdown(renderer=_Renderer(escape=False), plugins=["table", "math"])
    return str(render(markdown))


@cache
def formula(tex: str) -> str:
    """A formula as a picture, whose text alternative is the formula.

    Raises:
        ValueError: if matplotlib cannot set it, with the formula.
    """
    drawn = tex
    for written, plain in SAME.items():
        drawn = re.sub(written, plain, drawn)
    picture = io.BytesIO()
    try:
        with rc_context({"svg.hashsalt": "", "mathtext.fontset": "stix", "savefig.transparent": True}):
            depth = mathtext.math_to_image(
                f"${drawn}$", picture, prop=FontProperties(size=POINTS), format="svg"
            )
    except ValueError as error:
        raise ValueError(f"a formula must be one that matplotlib can set, got {tex!r}: {error}") from error
    found = re.search(rb'height="([\d.]+)pt"', picture.getvalue())
    assert found is not None
    size = f"height:{float(found[1]) / EM:.2f}em;vertical-align:{-depth / EM:.2f}em"
    data = base64.b64encode(picture.getvalue()).decode()
    alt = html.escape(tex, quote=True)
    return f"<img class='formula' alt='{alt}' style='{size}' src='data:image/svg+xml;base64,{data}'>"


class _Renderer(mistune.HTMLRenderer):
    def inline_math(self, text: str) -> str:
        return formula(text)

    def block_math(self, text: str) -> str:
        return f"<p class='formula'>{formula(text.strip())}</p>\n"
