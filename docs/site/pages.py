"""The pages of the site: notebooks whose outputs are plain HTML, and Markdown whose links stay on the site.

A saved notebook shows a widget as a button, a view and what stands for the view (`kit/kept.py`). Only the last is of
use here, and where something moves (`live.py`), that is put in its place. Pictures become files with their text
alternatives.
"""

import base64
import html
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image

from docs.site import live
from spear_widgets.kit.kept import VIEW
from spear_widgets.kit.veil import Veil

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXTS = [
    *(
        ROOT / "docs" / f"{name}.md"
        for name in ("accessibility", "certificate", "ethics", "gradients", "install")
    ),
    ROOT / "docs" / "reach.md",
    ROOT / "teaching" / "INSTRUCTORS.md",
]
PAGES = {path.relative_to(ROOT) for path in (*NOTEBOOKS, *TEXTS)}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:)([^)#\s]*)(#[^)\s]*)?\)")
QUESTION = "<p><b>Predict.</b>"
ASKED = re.compile(r"^(\w+) = questions\.", re.MULTILINE)  # the name of a question
WAITS = re.compile(r"\b(\w+)\.then\(")  # and of the one that must be answered before
UNANSWERED = "Not answered yet."  # what an exercise says before it has an answer
RUN = '<a href="../docs/install.html">Run the notebook</a>'
STAGE_HEIGHT = 700  # CSS pixels, until the stage has told its own


def gather(target: Path, known: dict[str, dict[str, Any]]) -> None:
    """Write the sources of all pages into a folder.

    Args:
        target: the folder.
        known: what moves, by name, as `live.write` returns it.
    """
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        names = {found.cell: found.name for found in live.explorers(path)}
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = on_site(cell.source, path, target)
                continue
            moving = known.get(names.get(cell.id, ""))
            cell.outputs = shown(cell, names.get(cell.id, ""), moving, target / "extra" / "pictures", path)
        place = target / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, place)
    for path in TEXTS:
        place = target / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(on_site(path.read_text(encoding="utf-8"), path, target), encoding="utf-8")


def on_site(text: str, page: Path, target: Path) -> str:
    """Markdown whose links lead to pages of the site; a link to a file that is none becomes its text."""

    def link(found: re.Match[str]) -> str:
        picture, words, where, anchor = found.groups()
        aim = (page.parent / where).resolve() if where else page
        try:
            aim = aim.relative_to(ROOT)
        except ValueError:
            return words
        if picture:
            copy = target / aim
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / aim, copy)
            return found[0]
        if aim not in PAGES:
            return words if (ROOT / aim).exists() else found[0]
        return f"[{words}]({where}{(anchor or '').lower()})"

    return LINK.sub(link, text)


def shown(
    cell: nbformat.NotebookNode, name: str, moving: dict[str, Any] | None, pictures: Path, page: Path
) -> list[nbformat.NotebookNode]:
    """The outputs of a cell as the site shows them."""
    kept: list[nbformat.NotebookNode] = []
    veiled = stands_in = False
    for output in cell.outputs:
        data = output.get("data", {})
        if "kept-run" in data.get("text/html", ""):
            continue
        if VIEW in data:
            stands_in, veiled = True, Veil.title in data["text/plain"]
            continue
        if data.get("text/html", "").startswith(QUESTION):
            found = ASKED.search(cell.source)
            question = asked(data["text/html"], found[1] if found else "")
            output = nbformat.v4.new_output("display_data", data | {"text/html": question})
        elif UNANSWERED in data.get("text/html", ""):
            to_answer = f'<p class="spear-more">Python judges your answer. {RUN}</p>'
            output = nbformat.v4.new_output("display_data", {"text/html": to_answer})
        elif "image/png" in data:
            file = pictures / f"{page.stem}-{cell.id}-{len(kept)}.webp"
            tag = picture(data["image/png"], output.metadata.get("image/png", {}), file)
            inside = figure(name, moving, tag) if stands_in and moving else tag
            data = {
                "text/html": covered(inside, WAITS.findall(cell.source)[0]) if veiled else inside,
                "text/plain": data.get("text/plain", ""),
            }
            output = nbformat.v4.new_output("display_data", data)
        kept.append(output)
        veiled = stands_in = False
    return kept


def picture(png: str, about: dict[str, Any], file: Path) -> str:
    """A stored picture as a file, and the tag that shows it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(base64.b64decode(png))) as drawn:
        drawn.convert("RGB").save(file, quality=85, method=4)
        width = about.get("width", drawn.width)
        height = round(drawn.height * width / drawn.width)
    alt = html.escape(about.get("alt", ""))
    return (
        f'<img class="spear-picture" src="../pictures/{file.name}" alt="{alt}"'
        f' width="{width}" height="{height}" loading="lazy">'
    )


def covered(inside: str, waits: str) -> str:
    """What answers a question, closed until the reader has answered it, or opens it without."""
    return (
        f'<details class="spear-veil" data-waits="{waits}"><summary>Covered until you have answered the question'
        f" above. Show without answering</summary>{inside}</details>"
    )


def asked(question: str, name: str) -> str:
    """A question and its answer, as stored, to which `site.js` adds what one needs to give an answer."""
    return f'<div class="spear-predict" data-asks="{name}">{question}</div>'


def figure(name: str, moving: dict[str, Any], still: str) -> str:
    """Something that moves; without scripts, its stored picture."""
    stage = moving["kind"] == "stage"
    kept = (
        ("choice", "choices", "first", "words") if stage else ("label", "choice", "choices", "first", "rows")
    )
    about = json.dumps({key: moving[key] for key in kept}).replace(
        "</", "<\\/"
    )  # no browser takes it for an end
    inside = _frame(name, moving, still) if stage else _sheet(name, moving)
    return (
        f'<figure class="spear-{"live" if stage else "player"}" id="{name}">'
        f"<figcaption>{moving['heading']}</figcaption>{inside}{_more(moving['missing'])}"
        f'<script type="application/json">{about}</script></figure>'
    )


def _frame(name: str, moving: dict[str, Any], still: str) -> str:
    first, title = moving["first"], html.escape(moving["title"])
    words = f'<div class="spear-words" aria-live="polite">{moving["words"][first]}</div>'
    return (
        f'<iframe src="../live/{name}/{first}.html" title="{title}" loading="lazy" height="{STAGE_HEIGHT}"></iframe>'
        f"<noscript>{still}</noscript>{words if any(moving['words']) else ''}"
    )


def _sheet(name: str, moving: dict[str, Any]) -> str:
    row, alt = moving["rows"][moving["first"]], html.escape(moving["description"])
    photographs, *charts = row["frames"][row["start"]]
    tags = [
        f'<img src="../live/{name}/{k}.webp" alt="" width="960" loading="lazy">'
        for k in (*charts, photographs)
    ]
    on_top = tags.pop() if photographs >= 0 else ""
    return (
        f'<div class="spear-wide"><div class="spear-sheet" role="img" aria-label="{alt}"'
        f' style="aspect-ratio: 960 / {moving["height"]}">'
        f'<div class="spear-charts">{tags[0]}</div>{on_top}</div></div>'
        f'<div class="spear-words" aria-live="polite">{row["words"][row["start"]]}</div>'
    )


def _more(missing: list[str]) -> str:
    """What needs Python, in a sentence."""
    if not missing:
        return ""
    listed = ", ".join(html.escape(words) for words in missing)
    return f'<p class="spear-more">Only with Python: {listed}. {RUN}</p>'
