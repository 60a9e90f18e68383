"""The site, from the stored notebooks: a folder of pages that needs neither kernel nor network.

    python docs/site/build.py              # into build/site
    python docs/site/build.py --keep       # the same, with what moves as it was made last time

Needs the extra [site].
"""

import argparse
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "widgets")]

from docs.site import live, pages, players  # noqa: E402

HERE = Path(__file__).parent
FILM = "00-00-film"
CHAPTER = re.compile(r"^\| (\d\d [^|]*[^| ]) +(\|.*\|)$", re.MULTILINE)  # a row of the README's table


def mathjax(target: Path) -> None:
    """MathJax and its fonts, out of the package that brings them; a tenth of it is used."""
    found = importlib.util.find_spec("sphinx-mathjax-offline")
    assert found is not None and found.origin is not None
    source = Path(found.origin).parent / "static" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "tex-chtml.js", target)
    fonts = Path("output", "chtml", "fonts")
    shutil.copytree(source / fonts, target / fonts, dirs_exist_ok=True)


def darkening() -> str:
    """The matrix that turns a chart's colours over, as an SVG filter wants it: rows of red, green, blue, alpha, 1."""
    rows = [players.DARK.matrix[k : k + 4] for k in (0, 4, 8)]
    colours = [f"{r:.5g} {g:.5g} {b:.5g} 0 {shift / 255:.5g}" for r, g, b, shift in rows]
    return ", ".join([*colours, "0 0 0 1 0"])


def front(known: dict[str, dict[str, Any]]) -> str:
    """The first page: its text, the film that moves, and the README's table of notebooks, with links."""
    film = pages.figure(FILM, known[FILM], "").replace('"../', '"')
    rows = CHAPTER.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    paths = {path.name[:2]: path.relative_to(ROOT).as_posix() for path in pages.NOTEBOOKS}
    table = "\n".join(f"| [{name}]({paths[name[:2]]}) {rest}" for name, rest in rows)
    text = (HERE / "index.md").read_text(encoding="utf-8")
    return text.replace("$FILM", film).replace("$CHAPTERS", table)


def main() -> int:
    """Build it; returns Sphinx's exit status."""
    from sphinx.cmd.build import main as sphinx

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="do not make again what moves")
    parser.add_argument("--into", type=Path, default=ROOT / "build", metavar="DIR", help="by default, build")
    parser.add_argument(
        "--most", type=int, metavar="N", help="at most so many positions of a control, for tests"
    )
    chosen = parser.parse_args()
    source, site = chosen.into.resolve() / "site-source", chosen.into.resolve() / "site"
    moving, static = source / "extra" / "live", source / "static"
    if chosen.keep and (moving / "live.json").exists():
        known = json.loads((moving / "live.json").read_text(encoding="utf-8"))
    else:
        shutil.rmtree(source, ignore_errors=True)
        known = live.write(pages.NOTEBOOKS, moving, chosen.most)
    pages.gather(source, known)
    shutil.copy(HERE / "api.md", source)
    (source / "index.md").write_text(front(known), encoding="utf-8")
    static.mkdir(exist_ok=True)
    shutil.copy(HERE / "site.css", static)
    script = (HERE / "site.js").read_text(encoding="utf-8").replace("$DARK", darkening())
    (static / "site.js").write_text(script, encoding="utf-8")
    mathjax(static / "mathjax")
    shutil.rmtree(site, ignore_errors=True)
    folders = ["-D", f"html_static_path={static}", "-D", f"html_extra_path={source / 'extra'}"]
    trees = ["-d", str(source / ".trees")]
    return int(sphinx(["-q", "-b", "html", "-c", str(HERE), *folders, *trees, str(source), str(site)]))


if __name__ == "__main__":
    sys.exit(main())
