"""The command line: the whole story, exact by default, without loading what it does not need."""

import signal
import subprocess
import sys
import time

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


def test_no_file_is_overwritten_unasked_or_unsaid(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recovered.png").write_text("a holiday")
    for name in ("recovered-2.png", "recovered-3.png"):
        assert main(["-b", "2", "--size", "8"]) == 0
        assert f"Picture: {name}\n" in capsys.readouterr().out
    assert (tmp_path / "recovered.png").read_text() == "a holiday"
    assert main(["-b", "2", "--size", "8", "-o", "recovered.png"]) == 0
    assert "Picture: recovered.png, in place of the file that was there" in capsys.readouterr().out


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--device", "toaster"], "--device must be one that is here, got toaster"),
        (["--device", "cuda:99"], "--device must be one that is here, got cuda:99"),
        (["--output", "story.xyz"], "--output must be the name of a picture"),
        (["--output", "."], "--output must be the name of a picture"),
        (["--output", "{file}/story.png"], "must be a folder"),
        (["--data", "wine"], "data must be pictures, got table rows"),
        (["--seed", str(2**70)], "--seed must be a number of 64 bits"),
        (["--depth", "0"], "depth"),
        (["--size", "0"], "size"),
    ],
)
def test_what_cannot_work_is_refused_before_the_search(tmp_path, capsys, monkeypatch, arguments, message):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("spear_core.attack.invert.invert", lambda *_, **__: pytest.fail("searched"))
    arguments = [argument.replace("{file}", str(tmp_path / "file")) for argument in arguments]
    assert main(["-b", "3", "-o", str(tmp_path / "none.png"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_request_to_end_is_an_interruption(tmp_path):
    """Sent in the middle of a search that would take hours: the best so far is written, flagged."""
    arguments = ["-b", "40", "--method", "sampling", "--size", "16", "-o", str(tmp_path / "story.png")]
    command = [sys.executable, "-m", "spear_core", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while "draws" not in process.stderr.read(40):  # of the progress bar
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "interrupted" in told and "0 of 40 exact" in told
    assert (tmp_path / "story.png").exists()


def test_an_interruption_before_the_search_has_nothing_to_show(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("spear_core.client.data.load", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["-o", str(tmp_path / "story.png")]) == 130
    assert "interrupted before there was a result" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_the_story_loads_nothing_that_it_does_not_need(tmp_path):
    code = (
        # older releases of torch load sympy with the first layer that anybody makes
        "import sys, torch; torch.nn.Linear(1, 1, device='meta'); before = set(sys.modules); "
        "from spear_core.__main__ import main; "
        f"main(['-o', {str(tmp_path / 'story.png')!r}]); "
        f"print([name for name in {SLOW_TO_IMPORT} if name in {{*sys.modules}} - before], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
