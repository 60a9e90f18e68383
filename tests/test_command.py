"""`spear-tutorial`: what it copies, what it passes on, and that JupyterLab opens on the copy."""

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from spear_widgets.__main__ import main
from spear_widgets.copies import copy

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))


def test_start_copies_all_notebooks_and_overwrites_none(tmp_path, capsys):
    folder = tmp_path / "a" / "folder"
    assert main(["start", str(folder), "--copy-only"]) == 0
    assert f"{len(NAMES)} notebooks copied" in capsys.readouterr().out
    assert [path.name for path in sorted(folder.glob("*.ipynb"))] == NAMES
    for name in NAMES:
        original = (NOTEBOOKS / name).read_text(encoding="utf-8")
        assert (folder / name).read_text(encoding="utf-8") == original.replace("](../docs/", "](docs/")
    with_them = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} - set(NAMES)
    assert {path.split("/")[0] for path in with_them} == {"capstone", "docs"}
    (folder / NAMES[0]).write_text("a reader's work")
    (folder / NAMES[1]).unlink()
    assert copy(folder) == ([NAMES[1]], [NAMES[0], *NAMES[2:]])
    assert (folder / NAMES[0]).read_text() == "a reader's work"


def test_a_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["start", str(tmp_path / "file"), "--copy-only"]) == 2
    assert "DIR must be a folder" in capsys.readouterr().err


def test_progress_tells_of_the_exercises_in_a_folder(tmp_path, capsys):
    assert main(["progress", str(tmp_path)]) == 0
    assert "0 of " in capsys.readouterr().out
    assert main(["progress", str(tmp_path / "none")]) == 2
    assert "DIR must be a folder with notebooks" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["begin"]])
def test_what_is_no_command_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "spear-tutorial: error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("demo", "spear-tutorial demo "),
        ("invert", "spear-tutorial invert "),
        ("diagnose", "spear-tutorial diagnose "),
    ],
)
def test_the_attack_itself_has_its_own_options(command, usage, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0 and f"usage: {usage}" in capsys.readouterr().out


def test_demo_writes_the_picture(tmp_path, capsys):
    assert main(["demo", "-b", "3", "--size", "16", "-o", str(tmp_path / "story.png")]) == 0
    assert "3 of 3 exact" in capsys.readouterr().out and (tmp_path / "story.png").exists()


def read(url: str, token: str) -> dict:
    request = urllib.request.Request(url, headers={"Authorization": f"token {token}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_start_opens_jupyterlab_on_the_copy(tmp_path):
    """Other options go to JupyterLab, which serves the folder of the copies and nothing above it."""
    token, port = secrets.token_hex(16), 18_000 + secrets.randbelow(2_000)
    options = ["--no-browser", f"--port={port}"]
    command = [sys.executable, "-m", "spear_widgets", "start", str(tmp_path / "mine"), *options]
    log = tmp_path / "log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=os.environ | {"JUPYTER_TOKEN": token}
        )
        try:
            while "is running at" not in log.read_text():
                assert server.poll() is None, log.read_text()
                time.sleep(0.2)
            found = read(f"http://127.0.0.1:{port}/api/contents", token)
        finally:
            server.terminate()
            server.wait(30)
    names = sorted(entry["name"] for entry in found["content"])
    assert [name for name in names if name.endswith(".ipynb")] == NAMES and "capstone" in names
