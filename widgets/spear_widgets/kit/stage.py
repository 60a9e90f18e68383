"""A stage: a canvas that the page draws by itself, from arrays that Python sends once, and that a reader can touch.

What it shows is one ES module, the same in JupyterLab, in other notebooks and on a plain page; `stage.js` says what
such a module consists of. Python computes the numbers; the page adds geometry, nothing that decides.
"""

import base64
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from torch import Tensor

PLAIN = {
    "bool": "uint8",
    "int64": "int32",
    "float16": "float32",
}  # kinds of numbers that the page does not have
IMPORT = re.compile(r'^(import (\{[^}]*\}) from "(\..+)";)$', re.MULTILINE)
EXPORT = re.compile(r"^export (?:const|let|class|function) (\w+)", re.MULTILINE)


class Stage(anywidget.AnyWidget):
    """What the page draws, and what a reader has done there.

    Attributes:
        data: what the module draws: numbers, texts, lists, and arrays; see `put`.
        value: what the reader has set, as the module tells it; empty before the first touch.
        still: PNG that stands for the stage where there is no kernel.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    value = traitlets.Dict().tag(sync=True)

    def __init__(self, module: Path, name: str = "") -> None:
        """Make a stage; `put` something on it.

        Args:
            module: path of its ES module.
            name: of its stored picture beside the module, without suffix; by default the module's own.
        """
        self.module = module
        self.still_path = module.with_name(f"{name or module.stem}.png")
        self._puts = 0
        super().__init__(_esm=bundled(module))

    def put(self, **data: Any) -> None:
        """Send data: arrays and tensors, and what JSON can say. The stage begins anew, with the same ones, too."""
        self.value = {}
        self._puts += 1  # the page hears of a change only
        self.data = packed(data | {"puts": self._puts})

    @property
    def still(self) -> bytes:
        """The stored picture, made by the module itself in a browser."""
        return self.still_path.read_bytes()

    def page(self) -> str:
        """The stage as a page of its own, which needs neither kernel nor network."""
        document: str = PAGE.replace("$MODULE", _as_script(bundled(self.module)))
        return document.replace("$DATA", _as_script(json.dumps(_in_text(self.data))))


def packed(value: Any) -> Any:
    """Arrays and tensors as {dtype, shape, bytes}, which travel as they are, wherever they stand in lists and dicts."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        value = np.ascontiguousarray(value, PLAIN.get(value.dtype.name))
        return {"dtype": str(value.dtype), "shape": list(value.shape), "bytes": value.tobytes()}
    if isinstance(value, Mapping):
        return {str(key): packed(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [packed(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


@cache
def bundled(module: Path) -> str:
    """A module with the files that it imports, each once, in front of it: a notebook loads one module at a time."""
    parts: dict[Path, str] = {}
    names: dict[Path, str] = {}

    def visit(path: Path) -> str:
        source = path.read_text(encoding="utf-8")
        for line, what, where in IMPORT.findall(source):
            needed = (path.parent / where).resolve()
            if needed not in parts:
                body = visit(needed)
                names[needed] = f"module_{len(names)}"
                given = ", ".join(EXPORT.findall(body))
                body = EXPORT.sub(lambda found: found[0].removeprefix("export "), body)
                parts[needed] = f"const {names[needed]} = (() => {{\n{body}\nreturn {{ {given} }};\n}})();"
            source = source.replace(line, f"const {what} = {names[needed]};")
        return source

    own = visit(module.resolve())
    return "\n".join([*parts.values(), own])


def _in_text(value: Any) -> Any:
    """Bytes as base64, for JSON."""
    if isinstance(value, (bytes, memoryview)):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: _in_text(entry) for key, entry in value.items()}
    return [_in_text(entry) for entry in value] if isinstance(value, list) else value


def _as_script(text: str) -> str:
    """A text as a JavaScript string that no browser takes for the end of its script."""
    return json.dumps(text).replace("</", "<\\/")


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SPEAR</title>
<style>
    :root { color-scheme: light dark; }
    body { margin: 12px; background: light-dark(#fff, #111); color: light-dark(#1a1a1a, #e8e8e8); }
</style>
<main id="here"></main>
<script type="module">
const data = JSON.parse($DATA, (key, value) => value?.base64 === undefined ? value
    : new DataView(Uint8Array.from(atob(value.base64), c => c.charCodeAt(0)).buffer));
const values = { data, value: {} }, model = {
    get: name => values[name], set: (name, value) => { values[name] = value; }, save_changes() {}, on() {}, off() {},
};
const url = URL.createObjectURL(new Blob([$MODULE], { type: "text/javascript" }));
const { default: module } = await import(url);
module.render({ model, el: document.getElementById("here") });
</script>
</html>
"""
