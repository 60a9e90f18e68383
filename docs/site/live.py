"""What moves on the site, made by the notebooks' own explorers: stages as pages, other explorers as players.

A stage needs no kernel: it is stored as it is, once for each choice that is offered above it. Any other explorer
becomes a player (`players.py`). `site.js` shows them and computes nothing.
"""

import html
import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from docs.site import players
from spear_widgets.kit.base import Explorer
from spear_widgets.start.full_run import FullRun

CALL = re.compile(r"explore\.(\w+)\([^()]*\)")
# the choice above a stage, each of whose options is stored; what its other controls do needs Python
CHOICES: dict[str, str] = {
    "FullRun": "data",
    "Machine": "data",
    "GhostExplorer": "data",
    "DialExplorer": "data",
    "CircleExplorer": "seen",
    "WellsExplorer": "activation",
    "RaceExplorer": "batch_size",
}
# What a stage's page says to the page around it, and hears from it: its height, and whether it is dark there.
AROUND = """<script>
addEventListener("message", event => {
    if (event.data?.scheme) document.documentElement.style.colorScheme = event.data.scheme;
});
new ResizeObserver(() => parent.postMessage({ height: document.documentElement.offsetHeight }, "*"))
    .observe(document.documentElement);
</script>
</html>
"""


@dataclass(frozen=True)
class Found:
    """An explorer that a cell of a notebook shows.

    Attributes:
        notebook: stem of its file.
        cell: the cell's id.
        call: the expression that makes it.
    """

    notebook: str
    cell: str
    call: str

    @property
    def name(self) -> str:
        """Of its files on the site."""
        return f"{self.notebook[:2]}-{self.cell}"

    def make(self) -> Explorer:
        """A new one."""
        explorer: Explorer = eval(self.call, {"explore": room(self.notebook)})
        return explorer


def room(notebook: str) -> Any:
    """The module that a notebook calls `explore`."""
    path = Path(__file__).resolve().parents[2] / "notebooks" / f"{notebook}.ipynb"
    sources = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    imported = re.search(r"from (spear_widgets\.\w+) import .*\bexplore\b", sources)
    return importlib.import_module(f"{imported[1]}.explore") if imported else None


def explorers(path: Path) -> list[Found]:
    """The explorers of a notebook, in order."""
    explore, found = room(path.stem), []
    for cell in nbformat.read(path, as_version=4).cells:
        for call in CALL.finditer(cell.source) if cell.cell_type == "code" else ():
            kind = getattr(explore, call[1], None)
            if isinstance(kind, type) and issubclass(kind, Explorer):
                found.append(Found(path.stem, cell.id, call[0]))
    return found


def heading(explorer: Explorer) -> str:
    """Title and ribbon, as HTML."""
    return f"<b>{html.escape(explorer.title)}</b> {explorer.ribbon.html if explorer.ribbon else ''}"


def chosen_from(explorer: Explorer) -> str | None:
    """The choice above a stage: the twins where its notebook begins with a pair, else what `CHOICES` says."""
    if explorer.values.get("twins", "none") != "none":
        return "twins"
    name = CHOICES.get(type(explorer).__name__)
    return name if name in explorer.control else None


def write_stage(explorer: Explorer, folder: Path) -> dict[str, Any]:
    """A stage as pages, one for each choice; returns what the page around them must know."""
    name = chosen_from(explorer)
    every = players.steps(explorer.control[name]) if name else [("", None)]
    first = next((k for k, (_, value) in enumerate(every) if name and value == explorer.values[name]), 0)
    folder.mkdir(parents=True, exist_ok=True)
    words = []
    for k, (_, value) in enumerate(every):
        if name and k != first:
            explorer.set(**{name: value})
            if isinstance(explorer, FullRun):
                explorer.run_now()
        elif name:
            explorer.reset()
        (folder / f"{k}.html").write_text(page(explorer), encoding="utf-8")
        words.append(explorer.caption.value)
    explorer.reset()
    return {
        "kind": "stage",
        "title": f"{explorer.title}: {explorer.description}",
        "choice": explorer.control[name].description if name else None,
        "choices": [text for text, _ in every],
        "first": first,
        "words": words,
    }


def page(explorer: Explorer) -> str:
    """A stage's page, which tells the page around it how high it is."""
    assert explorer.live is not None
    title = f"<title>{html.escape(explorer.title)}</title>"
    return explorer.live.page().replace("<title>SPEAR</title>", title).replace("</html>\n", AROUND)


def missing(explorer: Explorer, shown: set[str | None]) -> list[str]:
    """What the explorer has in a notebook and not here: other controls, and its buttons."""
    controls = [c.description for name, c in explorer.control.items() if name not in shown and c.description]
    upload = ["a picture of your own"] if isinstance(explorer, FullRun) else []
    return [*controls, *upload]


def write(notebooks: list[Path], target: Path, most: int | None = None) -> dict[str, dict[str, Any]]:
    """Write everything that moves in some notebooks into a folder; returns what is in it, by name.

    Args:
        notebooks: their files.
        target: the folder.
        most: at most so many positions of each control; by default all.
    """
    target.mkdir(parents=True, exist_ok=True)
    known: dict[str, dict[str, Any]] = {}
    for found in [found for path in notebooks for found in explorers(path)]:
        explorer = found.make()
        if explorer.live is not None:
            about, shown = write_stage(explorer, target / found.name), {chosen_from(explorer)}
        else:
            about, shown = (
                players.write_player(explorer, target / found.name, most),
                {*players.main_controls(explorer)},
            )
        known[found.name] = about | {"heading": heading(explorer), "missing": missing(explorer, shown)}
        (target / "live.json").write_text(json.dumps(known), encoding="utf-8")
        print(f"{found.name}: {found.call}", flush=True)
    return known
