"""The wheel: what it holds, and that the tutorial runs from it where there is no checkout."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from spear_core import __version__

ROOT = Path(__file__).resolve().parents[1]
TARGET = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"][
    "targets"
]["wheel"]
STORED = r"(?:results|cases)\(\"(\w+)\", \"(\w+)\"\)"  # how a measurement is asked for
# chapters that show measurements; what they run besides takes a minute or two each
CHAPTERS = sorted(path.name for path in (ROOT / "notebooks").glob("0[5-8]_*.ipynb"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory) -> dict[str, str]:
    """An environment for subprocesses in which nothing of the project is but the installed wheel."""
    folder = tmp_path_factory.mktemp("installed")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, str(folder), str(wheel)], check=True, timeout=120)
    return {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def files(place: str) -> set[str]:
    """What git would keep of a folder or file of the repository: no caches, nothing that begins with a dot."""
    found = [path.relative_to(ROOT) for path in [ROOT / place, *(ROOT / place).rglob("*")] if path.is_file()]
    return {
        path.as_posix()
        for path in found
        if path.suffix != ".pyc" and not any(part.startswith(".") for part in path.parts)
    }


def inside(name: str) -> str:
    """Where the wheel has a file of the repository."""
    for place, packaged in sorted(
        TARGET["sources"].items(), reverse=True
    ):  # the longer of two that fit first
        if name.startswith(f"{place}/"):
            return f"{packaged}/{name.removeprefix(place + '/')}".lstrip("/")
    return name


def test_it_holds_packages_notebooks_and_measurements_and_nothing_else(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"spear_core", "widgets/spear_widgets", "notebooks", "benchmarks/results"} <= {
        *TARGET["only-include"]
    }
    assert all(files(place) for place in TARGET["only-include"])
    wanted = {inside(name) for place in TARGET["only-include"] for name in files(place)}
    assert {"spear_core/py.typed", "spear_widgets/shipped/notebooks/00_start_here.ipynb"} <= wanted
    assert {name.partition("/")[0] for name in wanted} == {"spear_core", "spear_widgets"}
    assert {name for name in names if f"{__version__}.dist-info" not in name} == wanted
    described = {name.partition(".dist-info/")[2] for name in names if ".dist-info/" in name}
    assert {"METADATA", "RECORD", "entry_points.txt", "licenses/LICENSE", "licenses/CREDITS.md"} <= described


def test_start_copies_from_it_and_every_measurement_is_there(elsewhere: dict[str, str], tmp_path: Path):
    sources = [*(ROOT / "widgets").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]
    asked = {
        pair
        for path in sources
        for pair in re.findall(STORED, path.read_text(encoding="utf-8").replace("\\", ""))
    }
    assert {script for script, _ in asked} >= {"defences", "scale", "theory"}
    code = f"""
import spear_core, spear_widgets
from spear_widgets.__main__ import main
from spear_widgets.kit.stored import results
print(spear_core.__file__, spear_widgets.__file__)
main(["start", "here", "--copy-only"])
for script, part in {sorted(asked)}:
    assert results(script, part), part
"""
    python = [sys.executable, "-c", code]
    done = subprocess.run(python, cwd=tmp_path, env=elsewhere, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    places, told = done.stdout.splitlines()
    assert all(place.startswith(elsewhere["PYTHONPATH"]) for place in places.split())
    names = {path.name for path in (tmp_path / "here").iterdir()}
    assert names >= {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert "notebooks copied, 0 were there" in told


def test_the_command_is_installed_with_it(elsewhere: dict[str, str], tmp_path: Path):
    script = Path(elsewhere["PYTHONPATH"]) / "bin" / "spear-tutorial"
    if not script.exists():  # where scripts go is the platform's business
        script = script.with_name("spear-tutorial.exe")
    done = subprocess.run(
        [sys.executable, str(script), "demo", "-b", "3", "--size", "16"]
        if script.suffix != ".exe"
        else [script, "demo"],
        cwd=tmp_path,
        env=elsewhere,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "3 of 3 exact" in done.stdout and (tmp_path / "recovered.png").exists()


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapters_with_measurements_run_from_it(elsewhere: dict[str, str], tmp_path: Path, chapter: str):
    """In an empty folder; a cell that raises fails the test."""
    notebook = nbformat.read(ROOT / "notebooks" / chapter, as_version=4)
    where = nbformat.v4.new_code_cell("import spear_core; print(spear_core.__file__)")
    notebook.cells.append(where)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute(env=elsewhere)
    assert notebook.cells[-1].outputs[0].text.startswith(elsewhere["PYTHONPATH"])
