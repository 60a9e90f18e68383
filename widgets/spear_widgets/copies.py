"""A reader's own copy of the notebooks, with the capstone's messages and the pages that the notebooks link to."""

import json
import re
from importlib.resources.abc import Traversable
from pathlib import Path

from spear_widgets.kit.shipped import shipped
from spear_widgets.kit.solutions import FOR_STUDENTS

SOLUTION = re.compile(r"<details>\s*<summary>Solution</summary>.*?</details>", re.DOTALL)
PAGES = ("accessibility.md", "certificate.md", "ethics.md")  # of docs, which a wheel carries as well
NOTE = """The notebooks in this folder show no solutions of the exercises as long as this file lies beside them.
"""


def copy(folder: Path, *, for_students: bool = False) -> tuple[list[str], list[str]]:
    """Copy all that belongs to the notebooks into a folder, made if need be; what is there is never overwritten.

    Args:
        folder: where to.
        for_students: without the solutions of exercises, neither stored nor, as long as a note lies there, shown.

    Returns the names of the notebooks that were copied, and of those that were there.

    Raises:
        NotADirectoryError: `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"DIR must be a folder, or a name for one, got a file: {folder}")
    names: dict[bool, list[str]] = {True: [], False: []}
    for source in _listed(shipped("notebooks"), ".ipynb"):
        text = source.read_text(encoding="utf-8").replace("](../docs/", "](docs/")
        written = _write(folder / source.name, (without_solutions(text) if for_students else text).encode())
        names[written].append(source.name)
    for source in _listed(shipped("notebooks/capstone"), ".npz"):
        _write(folder / "capstone" / source.name, source.read_bytes())
    for name in PAGES:
        text = (shipped("docs") / name).read_text(encoding="utf-8").replace("](../notebooks/", "](../")
        _write(folder / "docs" / name, text.encode())
    if for_students:
        _write(folder / FOR_STUDENTS, NOTE.encode())
    return names[True], names[False]


def without_solutions(notebook: str) -> str:
    """A notebook, as JSON, without the solutions that its stored outputs hold."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            for kind in ("text/html", "text/markdown"):
                if kind in output.get("data", {}):
                    output["data"][kind] = SOLUTION.sub("", "".join(output["data"][kind]))
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _listed(folder: Traversable, kind: str) -> list[Traversable]:
    return sorted(
        (source for source in folder.iterdir() if source.name.endswith(kind)), key=lambda source: source.name
    )


def _write(target: Path, content: bytes) -> bool:
    """Write a file that is not there yet; whether it was written."""
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return True
