"""The site, from the stored notebooks: a folder of pages that needs neither kernel nor network.

    python docs/site/build.py              # into build/site
    python docs/site/build.py --keep       # the same, with what moves as it was made last time

Needs the extra [site].
"""

import argparse
import importlib.util
import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "widgets")]

from docs.site import live, pages  # noqa: E402

HERE = Path(__file__).parent
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"


def mathjax(target: Path) -> None:
    """MathJax and its fonts, out of the package that brings them; a tenth of it is used."""
    found = importlib.util.find_spec("sphinx-mathjax-offline")
    assert found is not None and found.origin is not None
    source = Path(found.origin).parent / "static" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "tex-chtml.js", target)
    fonts = Path("output", "chtml", "fonts")
    shutil.copytree(source / fonts, target / fonts, dirs_exist_ok=True)


def main() -> int:
    """Build it; returns Sphinx's exit status."""
    from sphinx.cmd.build import main as sphinx

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="do not make again what moves")
    keep = parser.parse_args().keep
    moving = SOURCE / "extra" / "live"
    if keep and (moving / "live.json").exists():
        known = json.loads((moving / "live.json").read_text(encoding="utf-8"))
    else:
        shutil.rmtree(SOURCE, ignore_errors=True)
        known = live.write(pages.NOTEBOOKS, moving)
    pages.gather(SOURCE, known)
    for name in ("index.md", "api.md"):
        shutil.copy(HERE / name, SOURCE)
    (SOURCE / "static").mkdir(exist_ok=True)
    for name in ("site.css", "site.js"):
        shutil.copy(HERE / name, SOURCE / "static")
    mathjax(SOURCE / "static" / "mathjax")
    shutil.rmtree(SITE, ignore_errors=True)
    return int(
        sphinx(["-q", "-b", "html", "-c", str(HERE), str(SOURCE), str(SITE), "-d", str(SOURCE / ".trees")])
    )


if __name__ == "__main__":
    sys.exit(main())
