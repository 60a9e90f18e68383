"""The command line: the whole story, exact by default, without loading what it does not need."""

import subprocess
import sys

import pytest
import torch
from PIL import Image

from spear_core.__main__ import main

SLOW_TO_IMPORT = ("matplotlib", "scipy.stats", "sklearn", "sympy", "torchvision")


@pytest.fixture(autouse=True)
def _threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_by_default_24_photographs_come_back_as_one_picture(tmp_path, capsys):
    path = tmp_path / "folder" / "story.png"
    assert main(["-o", str(path)]) == 0
    told = capsys.readouterr().out
    assert "24 of 24 samples, certified exact" in told
    assert "24 of 24 exact" in told
    assert str(path) in told
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.height > 4 * 2 * 96  # four bands of two lines of tiles


@pytest.mark.parametrize("method", ["sampling", "halfspace", "consistency"])
def test_every_method_tells_the_story(tmp_path, capsys, method):
    path = tmp_path / "story.png"
    assert main(["-b", "4", "--method", method, "--size", "16", "-o", str(path)]) == 0
    assert "4 of 4 exact" in capsys.readouterr().out
    assert path.exists()


def test_a_search_that_finds_nothing_leaves_grey_tiles(tmp_path, capsys):
    path = tmp_path / "story.png"
    assert (
        main(["-b", "20", "--method", "sampling", "--time-limit", "0", "--size", "16", "-o", str(path)]) == 0
    )
    assert "0 of 20 exact" in capsys.readouterr().out
    with Image.open(path) as picture:
        assert picture.getpixel((20, picture.height - 80)) == (200, 200, 200)


def test_bad_input_is_named_and_gives_status_2(tmp_path, capsys):
    assert main(["-b", "0", "-o", str(tmp_path / "none.png")]) == 2
    assert "batch_size must be at least 1, got 0" in capsys.readouterr().err


@pytest.mark.slow
def test_the_story_loads_nothing_that_it_does_not_need(tmp_path):
    code = (
        "import sys; from spear_core.__main__ import main; "
        f"main(['-o', {str(tmp_path / 'story.png')!r}]); "
        f"print([name for name in {SLOW_TO_IMPORT} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
