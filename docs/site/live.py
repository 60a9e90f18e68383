"""What moves on the site, made by the notebooks' own explorers: stages as pages, other explorers as players.

A stage needs no kernel: it is stored as it is. Of any other explorer a player stores the picture and the words at each
position of its main slider, and of one choice beside it; `site.js` plays them and computes nothing.
"""

import html
import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as W
import nbformat

from spear_widgets.kit import drawing
from spear_widgets.kit.base import Explorer

CALL = re.compile(r"explore\.(\w+)\([^()]*\)")
MOST_POSITIONS = 25  # of a slider; of a longer one, so many, evenly spread
MOST_CHOICES = 7  # likewise, of the choice beside it
# the control that carries the lesson, and one choice beside it; of an explorer that is not here, the last slider
MAIN: dict[str, tuple[str, str | None]] = {
    "PeelExplorer": ("terms", "data"),
    "PatternExplorer": ("batch_size", "data"),
    "DrawExplorer": ("draw", "data"),
    "ThresholdExplorer": ("threshold", "data"),
    "StageExplorer": ("zeros", None),
    "CollectExplorer": ("batch_size", None),
    "SwapExplorer": ("position", "ranking"),
    "OddsExplorer": ("batch_size", "kind"),
    "RejectionExplorer": ("threshold", "kind"),
    "FailureExplorer": ("doublings", "batch_size"),
    "WallExplorer": ("batch_size", None),
    "SearchExplorer": ("batch_size", "activation"),
    "ReachExplorer": ("width", None),
    "DefenceExplorer": ("knob", "defence"),
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


def write_stage(explorer: Explorer, path: Path) -> dict[str, Any]:
    """A stage as a page; returns what the page around it must know."""
    assert explorer.live is not None
    page = explorer.live.page().replace(
        "<title>SPEAR</title>", f"<title>{html.escape(explorer.title)}</title>"
    )
    path.write_text(page.replace("</html>\n", AROUND), encoding="utf-8")
    return {
        "kind": "stage",
        "heading": heading(explorer),
        "title": f"{explorer.title}: {explorer.description}",
    }


def steps(control: W.Widget, most: int) -> list[tuple[str, Any]]:
    """Positions of a control, as (text, value); at most so many, its present one among them."""
    if hasattr(control, "options"):
        every = [option if isinstance(option, tuple) else (str(option), option) for option in control.options]
    else:
        count = round((control.max - control.min) / control.step)
        values = [control.min + k * control.step for k in range(count + 1)]
        every = [(f"{value:g}", type(control.value)(round(value, 9))) for value in values]
    if len(every) <= most:
        return every
    now = min(range(len(every)), key=lambda k: every[k][1] != control.value)
    kept = {round(k * (len(every) - 1) / (most - 1)) for k in range(most)} | {now}
    return [every[k] for k in sorted(kept)]


def main_controls(explorer: Explorer) -> tuple[str, str | None]:
    """The control that is played, and the choice beside it."""
    if type(explorer).__name__ in MAIN:
        return MAIN[type(explorer).__name__]
    sliders = [name for name, control in explorer.control.items() if hasattr(control, "step")]
    return sliders[-1], None


def at(explorer: Explorer, **values: Any) -> str:
    """Set an explorer; returns its words, or the error that it would show."""
    try:
        explorer.set(**values)
    except Exception as error:
        explorer.fail(error)
        return explorer.status.value
    return explorer.caption.value


def write_player(explorer: Explorer, folder: Path) -> dict[str, Any]:
    """All positions of an explorer as pictures; returns what the page around them must know."""
    main, choice = main_controls(explorer)
    chooser = explorer.control.get(choice or "")
    choices = steps(chooser, MOST_CHOICES) if chooser is not None else [("", None)]
    first = [text for text, value in choices].index(
        next(
            (text for text, value in choices if chooser is not None and value == chooser.value), choices[0][0]
        )
    )
    start = explorer.values[main]
    rows, height = [], 0
    folder.mkdir(parents=True, exist_ok=True)
    for row, (_, chosen) in enumerate(choices):
        if choice:
            at(explorer, **{choice: chosen})
        explorer._drawn.clear()  # sheets as high as this choice needs
        row_steps = steps(explorer.control[main], MOST_POSITIONS)
        row_words = []
        for column, (_, value) in enumerate(row_steps):
            row_words.append(at(explorer, **{main: value}))
            picture = explorer.static_picture()
            height = max(height, picture.height // drawing.SCALE)
            picture.save(folder / f"{row}-{column}.webp", quality=80, method=3)
        now = [value for _, value in row_steps]
        rows.append(
            {
                "names": [text for text, _ in row_steps],
                "words": row_words,
                "start": now.index(start) if start in now else 0,
            }
        )
    return {
        "kind": "player",
        "heading": heading(explorer),
        "description": explorer.description,
        "height": height,
        "label": explorer.control[main].description or main,
        "choice": chooser.description if chooser is not None else None,
        "choices": [text for text, _ in choices],
        "first": first,
        "rows": rows,
    }


def write(notebooks: list[Path], target: Path) -> dict[str, dict[str, Any]]:
    """Write everything that moves in some notebooks into a folder; returns what is in it, by name."""
    target.mkdir(parents=True, exist_ok=True)
    known: dict[str, dict[str, Any]] = {}
    for found in [found for path in notebooks for found in explorers(path)]:
        explorer = found.make()
        if explorer.live is not None:
            known[found.name] = write_stage(explorer, target / f"{found.name}.html")
        else:
            known[found.name] = write_player(explorer, target / found.name)
        (target / "live.json").write_text(json.dumps(known), encoding="utf-8")
        print(f"{found.name}: {found.call}", flush=True)
    return known
