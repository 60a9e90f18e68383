"""Small notebooks, written at test time, on which the harness shows that it finds what it looks for."""

from pathlib import Path

from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook

SOUND = """
import io

import ipywidgets as w
from IPython.display import display
from PIL import Image

slider = w.IntSlider(3, 0, 10, description="grey")
choice = w.Dropdown(options=["a", "b", "c"], description="choice")
check = w.Checkbox(description="check")
button = w.Button(description="Reset")
picture = w.Image(width=100)
status = w.HTML().add_class("spear-status")


def show(change=None):
    buffer = io.BytesIO()
    Image.new("L", (100, 100), 25 * slider.value).save(buffer, "png")
    picture.value = buffer.getvalue()
    status.value = f"value {slider.value}"


show()
slider.observe(show, "value")
button.on_click(lambda _: setattr(slider, "value", 3))
display(w.VBox([slider, choice, check, button, picture, status]).add_class("spear-scratch"))
"""

FAULTY = """
import ipywidgets as w
from IPython.display import display

raising = w.IntSlider(3, 0, 10, description="raises")
complaining = w.IntSlider(3, 0, 10, description="complains")
status = w.HTML().add_class("spear-status")


def complain(change):
    status.value = "Error: must be odd, got an even number"


raising.observe(lambda change: 1 / 0, "value")
complaining.observe(complain, "value")
display(w.VBox([raising, complaining, status]).add_class("spear-scratch"))
"""

WIDE = """
import ipywidgets as w
from IPython.display import display

button = w.Button(description="wide", layout=w.Layout(width="3000px", flex="0 0 auto"))
display(w.HBox([button]).add_class("spear-scratch"))
"""

KEPT = """
from spear_widgets.kit.predict import Prediction
from spear_widgets.sparsity.dial import DialExplorer
from spear_widgets.theory.wall import WallExplorer

display(DialExplorer())
display(WallExplorer())
Prediction("Is it so, or is it not?", ["it is", "it is not"], "it is", "Because it is so.")
"""

VEILED = """
from IPython.display import display

from spear_widgets.kit.predict import Prediction
from spear_widgets.sparsity.dial import DialExplorer

asked = Prediction("Is it so, or is it not?", ["it is", "it is not"], "it is", "Because it is so.")
display(asked)
display(asked.then(DialExplorer()))
display(asked.then(DialExplorer.still()))
"""

RAISES = '{}["missing"]'


def write_scratch_notebooks(folder: Path) -> list[Path]:
    paths = []
    sources = {
        "sound": SOUND,
        "faulty": FAULTY,
        "wide": WIDE,
        "kept": KEPT,
        "veiled": VEILED,
        "raises": RAISES,
    }
    for name, source in sources.items():
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        paths.append(folder / f"{name}.ipynb")
        write(new_notebook(cells=[new_code_cell(source.strip())], metadata=metadata), paths[-1])
    return paths
