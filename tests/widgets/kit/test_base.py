"""The frame of all explorers: merged changes, errors in words, reset, static view, long jobs."""

import asyncio
import io
import logging
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from traitlets import TraitError

from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.canvas import Canvas, Pixels
from spear_widgets.kit.job import Job
from spear_widgets.kit.kept import BUTTON, BUTTON_TEXT, VIEW
from spear_widgets.kit.page import page


class Square(base.Explorer):
    """A grey square; seven is an error."""

    name = "square"
    title = "A square"
    description = "A square that is as grey as the slider says."

    def __init__(self):
        super().__init__(
            {"grey": controls.slider("grey", 2, 0, 10), "tone": controls.dropdown("tone", ["a", "b"])}
        )
        self.seen: list[int] = []
        self.refresh()

    def update(self):
        if self.values["grey"] == 7:
            raise ValueError("grey must not be <7>, got 7")
        self.seen.append(self.values["grey"])
        grey = 25 * self.values["grey"]
        self.show("picture", Image.new("RGB", (20, 20 + 2 * self.values["grey"]), (grey, grey, grey)))
        self.say(f"grey {self.values['grey']}")


@pytest.fixture
def square() -> Square:
    return Square()


def test_follows_its_controls(square: Square):
    before = square.picture["picture"].value
    square.control["grey"].value = 5
    assert square.seen == [2, 5]
    assert square.caption.value == "grey 5"
    assert square.picture["picture"].value != before


def test_first_last_and_back_out_of_order(square: Square):
    for grey in (0, 10, 3, 10, 0):
        square.control["grey"].value = grey
        assert square.seen[-1] == grey
    square.reset()
    assert square.values == {"grey": 2, "tone": "a"}
    assert square.seen[-1] == 2


def test_reset_draws_once(square: Square):
    square.set(grey=9, tone="b")
    runs = square.runs
    square.reset()
    assert square.runs == runs + 1


def test_set_draws_once(square: Square):
    square.set(grey=9, tone="b")
    assert square.seen == [2, 9]


def test_bad_control_values_are_refused(square: Square):
    with pytest.raises(TraitError):
        square.set(tone="c")
    with pytest.raises(TraitError):
        square.set(grey="many")
    with pytest.raises(KeyError):
        square.set(size=3)
    square.set(grey=99)  # a slider stops at its end
    assert square.values["grey"] == 10


def test_a_failed_set_leaves_the_controls_alive(square: Square):
    with pytest.raises(TraitError):
        square.set(tone="c")
    square.control["grey"].value = 4
    assert square.seen[-1] == 4


def test_an_error_is_shown_in_words_and_logged_with_its_traceback(square: Square, caplog):
    shown = square.picture["picture"].value
    with caplog.at_level(logging.ERROR):
        square.control["grey"].value = 7
    assert square.status.value == "Error: grey must not be &lt;7&gt;, got 7"
    assert caplog.records[0].exc_info[0] is ValueError
    assert square.picture["picture"].value == shown, "the last good picture stays"
    square.control["grey"].value = 6
    assert square.status.value == ""


def test_an_error_is_raised_where_the_handler_is_called_directly(square: Square):
    with square.quietly():
        square.control["grey"].value = 7
    with pytest.raises(ValueError, match="got 7"):
        square.refresh()


def test_a_button_shows_its_errors(square: Square, caplog):
    def fail():
        raise RuntimeError("no such step")

    square.button("fail", fail).click()
    assert square.status.value == "Error: no such step"


@pytest.mark.parametrize("pause", [0.0, 0.002])
def test_ten_quick_moves_are_at_most_two_runs_and_the_last_is_shown(square: Square, pause: float):
    async def move():
        square.runs = 0
        for grey in (1, 2, 3, 4, 5, 6, 8, 9, 10, 3):
            square.control["grey"].value = grey
            if pause == 0.0:
                await asyncio.sleep(0)
        await asyncio.sleep(10 * base.MERGE_SECONDS)

    asyncio.run(move())
    assert square.runs <= 2
    assert square.seen[-1] == 3
    assert square.caption.value == "grey 3"


def test_moves_that_waited_for_a_slow_run_are_merged():
    class Slow(Square):
        def update(self):
            super().update()
            import time

            time.sleep(0.05)

    slow = Slow()

    async def messages():
        # a kernel hands over what has queued up one message a turn
        loop = asyncio.get_running_loop()
        await asyncio.sleep(3 * base.MERGE_SECONDS)
        slow.runs = 0
        for grey in (1, 2, 3, 4, 5, 6, 8, 9, 10, 4):
            loop.call_soon(setattr, slow.control["grey"], "value", grey)
        await asyncio.sleep(0.3)

    asyncio.run(messages())
    assert slow.runs <= 2
    assert slow.seen[-1] == 4


def test_single_moves_are_drawn_at_once(square: Square):
    async def move():
        await asyncio.sleep(3 * base.MERGE_SECONDS)
        square.control["grey"].value = 8
        return list(square.seen)

    assert asyncio.run(move())[-1] == 8


def picture_of_square(square: Square) -> Image.Image:
    return square.static_picture()


def test_static_view(square: Square):
    data, metadata = square._repr_mimebundle_()
    assert data["text/plain"] == Square.description
    assert metadata == {"image/png": {"alt": Square.description, "width": drawing.WIDTH}}
    shown = Image.open(io.BytesIO(data["image/png"])).convert("RGB")
    assert shown.crop((0, 0, 20, 20)).tobytes() == picture_of_square(square).crop((0, 0, 20, 20)).tobytes()
    words = np.asarray(shown)[28:]
    assert (words < 128).any(), "the sentence must stand below the picture"
    assert "application/vnd.jupyter.widget-view+json" in data


def test_handles_for_browser_tests(square: Square):
    assert "spear-square" in square._dom_classes
    assert "spear-status" in square.status._dom_classes


def test_threads_are_restored_after_a_run(square: Square):
    before = torch.get_num_threads()
    with pytest.raises(ValueError):
        square.set(grey=7)
    assert torch.get_num_threads() == before


# ---------------------------------------------------------------- long jobs
def counting(total: int, log: list[int], at: dict | None = None):
    for i in range(total):
        if at and i in at:
            at[i]()
        log.append(i)
        yield (i + 1) / total


def test_a_job_without_an_event_loop_runs_to_its_end(square: Square):
    job, log, done = Job(square), [], []
    job.start(counting(5, log), lambda: done.append(True))
    assert log == [0, 1, 2, 3, 4]
    assert done == [True]
    assert not job.running
    assert job.layout.visibility == "hidden"


def test_a_job_stopped_midway_keeps_what_there_is(square: Square):
    job, log, done = Job(square), [], []
    job.start(counting(100, log, {3: job.stop}), lambda: done.append(len(log)))
    assert log == [0, 1, 2, 3]
    assert done == [4]
    assert not job.running


def test_a_job_hears_its_stop_button_while_it_works(square: Square, monkeypatch):
    monkeypatch.setattr("spear_widgets.kit.job.SLICE_SECONDS", 0.0)
    job, log = Job(square), []

    async def go():
        job.start(counting(10_000, log))
        await asyncio.sleep(0.01)
        assert job.running and job.layout.visibility == "visible"
        job.stop_button.click()
        await asyncio.sleep(0.01)

    asyncio.run(go())
    assert 0 < len(log) < 10_000
    assert not job.running


def test_a_resting_job_leaves_the_page_alone_between_its_steps(square: Square):
    job, log, others = Job(square), [], []

    async def go():
        job.start(counting(4, log), rest=0.1)
        while job.running:
            others.append(len(log))
            await asyncio.sleep(0.002)

    asyncio.run(go())
    assert log == [0, 1, 2, 3]
    assert all(others.count(step) >= 3 for step in (1, 2, 3))
    began = time.monotonic()
    job.start(counting(4, log), rest=0.02)  # without an event loop it rests, too
    assert len(log) == 8 and time.monotonic() - began >= 0.08


def test_a_second_job_takes_over_from_the_first(square: Square, monkeypatch):
    monkeypatch.setattr("spear_widgets.kit.job.SLICE_SECONDS", 0.0)
    job, first, second, done = Job(square), [], [], []

    async def go():
        job.start(counting(10_000, first), lambda: done.append("first"))
        await asyncio.sleep(0.005)
        job.start(counting(5, second), lambda: done.append("second"))
        await asyncio.sleep(0.05)

    asyncio.run(go())
    assert len(first) < 10_000
    assert second == [0, 1, 2, 3, 4]
    assert done == ["second"]
    assert not job.running


def test_a_failing_job_says_so(square: Square, caplog):
    def broken():
        yield 0.5
        raise RuntimeError("out of directions")

    job = Job(square)
    with pytest.raises(RuntimeError, match="out of directions"):
        job.start(broken())
    assert not job.running

    async def go():
        job.start(broken())
        await asyncio.sleep(0.01)

    asyncio.run(go())
    assert square.status.value == "Error: out of directions"
    assert not job.running


# ---------------------------------------------------------------- drawing
def test_colours_of_signed_numbers():
    colours = drawing.signed_colours(np.array([-1.0, 0.0, 1.0]))
    assert colours[1].tolist() == [255, 255, 255]
    assert colours[0][2] > colours[0][0], "blue below zero"
    assert colours[2][0] > colours[2][2], "orange above zero"
    assert (drawing.signed_colours(np.zeros((2, 3))) == 255).all()


def test_picture_grid_shows_the_pixels():
    pictures = np.zeros((3, 2, 2, 3))
    pictures[1] = 1
    grid = np.asarray(drawing.picture_grid(pictures, side=20))
    assert grid.shape[1] == (3 * 28 + 8) * drawing.SCALE
    assert grid[18 * drawing.SCALE, 18 * drawing.SCALE].tolist() == [0, 0, 0]
    assert grid[18 * drawing.SCALE, 46 * drawing.SCALE].tolist() == [255, 255, 255]
    with pytest.raises(ValueError, match=r"must be \(k, H, W, 3\), got \(2, 2\)"):
        drawing.picture_grid(np.zeros((2, 2)))


def test_picture_grid_takes_what_a_guess_may_be():
    pictures = np.array([np.nan, -4.0, 9.0]).repeat(12).reshape(3, 2, 2, 3)
    assert drawing.picture_grid(pictures, columns=2, labels=["a"], frames=[None, drawing.BLUE]).size[0] > 0


def test_a_canvas_redraws_what_moves():
    canvas = Canvas(200, 100)
    axes = canvas.figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    (dot,) = axes.plot([0.25], [0.5], "s", color="black", markersize=20)
    canvas.moving(dot)
    first = np.asarray(canvas.image())[:: drawing.SCALE, :: drawing.SCALE]
    dot.set_data([0.75], [0.5])
    second = np.asarray(canvas.image())[:: drawing.SCALE, :: drawing.SCALE]
    assert first[50, 50].sum() == 0 and second[50, 150].sum() == 0
    assert second[50, 50].sum() == 3 * 255, "the old place is clean"


def test_pictures_and_words_go_where_the_axes_say():
    canvas = Canvas(200, 100)
    axes = canvas.figure.add_axes((0.5, 0.0, 0.5, 0.5))
    axes.axis("off")
    assert canvas.pixel(axes, 0, 1) == pytest.approx((100, 50))
    ball = Pixels(20, 0, zorder=1)
    ball.picture = Image.fromarray(np.array([[[255, 0, 0]], [[0, 0, 255]]], dtype=np.uint8))
    canvas.figure.add_artist(ball)
    canvas.moving(ball)
    picture, scale = canvas.image(), drawing.SCALE
    bottom = picture.height - 1
    assert picture.getpixel((20, bottom)) == (255, 0, 0), "the lowest line is the first"
    assert picture.getpixel((20, bottom - 1)) == (0, 0, 255)
    canvas.inset(picture, axes, np.array([[[0.0, 1.0, 0.0]], [[0.0, 0.0, np.nan]]]))
    assert picture.getpixel((150 * scale, 60 * scale)) == (0, 255, 0)
    assert picture.getpixel((150 * scale, 90 * scale)) == (0, 0, 0)
    assert picture.getpixel((99 * scale, 60 * scale)) == (255, 255, 255)
    before = np.asarray(picture).copy()
    drawing.write(picture, (10, 30), "here", paper="#ff0000")
    changed = (np.asarray(picture) != before).any(axis=2).nonzero()
    assert changed[0].max() < 36 * scale and 5 * scale <= changed[1].min() and changed[1].max() < 80 * scale


def test_samples_stay_apart_without_colour():
    looks = {(drawing.colour(i), drawing.marker(i)) for i in range(12)}
    assert len(looks) == 12
    assert len({drawing.marker(i) for i in range(12)}) == 12


def test_paragraphs_break_between_words_and_fit():
    one, many = drawing.paragraph("a word"), drawing.paragraph("a word " * 60)
    assert one.width == many.width == drawing.WIDTH * drawing.SCALE
    assert many.height % one.height == 0
    assert many.height >= 3 * one.height
    assert (np.asarray(many)[:, -8:] == 255).all()


def test_what_is_stored_is_in_full_colour_and_not_large():
    many = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)  # 2,000 colours
    stored = Image.open(io.BytesIO(drawing.stored(drawing.enlarged(many, 100, 80))))
    assert stored.size == (100 * drawing.SCALE, 80 * drawing.SCALE)
    assert len(np.unique(np.asarray(stored).reshape(-1, 3), axis=0)) > 1900
    lines = np.random.default_rng(0).integers(0, 255, (600, 800, 3), dtype=np.uint8)
    assert Image.open(io.BytesIO(drawing.stored(Image.fromarray(lines)))).size == (400, 300)


def test_a_caption_stands_below_its_picture():
    shown = drawing.captioned(Image.new("RGB", (30, 40), drawing.BLUE), "A blue rectangle.")
    assert shown.getpixel((5, 5)) == (0, 0x72, 0xB2)
    assert shown.height > 40


# ---------------------------------------------------------------- the page around the pictures
DARK = drawing.Look((17, 17, 17), True)


@pytest.fixture
def dark() -> Iterator[None]:
    before = drawing.page()
    drawing.set_page(DARK)
    yield
    drawing.set_page(before)


def test_colours_on_a_dark_page(dark):
    assert drawing.tint(drawing.PAPER) == "#ffffff", "what is not asked to be for the page may be stored"
    with drawing.on_page():
        assert drawing.tint(drawing.PAPER) == "#111111"
        ink, blue, orange = (rgb(drawing.tint(c)) for c in (drawing.INK, drawing.BLUE, drawing.ORANGE))
        assert min(ink) > 200
        assert blue[2] > blue[1] > blue[0] and orange[0] > orange[1] > orange[2], "hues stay"
        assert sum(blue) > sum(rgb(drawing.BLUE)), "and grow lighter"
        assert drawing.tint(f"{drawing.PAPER}d8") == "#111111d8"
        with drawing.page_is_paper(), drawing.on_page():
            assert drawing.tint(drawing.PAPER) == "#ffffff"


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_photographs_stay_as_they_are_on_a_dark_page(dark):
    photo = np.random.default_rng(0).random((1, 4, 4, 3))
    with drawing.on_page():
        grid = drawing.picture_grid(photo, side=40)
    inside = grid.crop([drawing.SCALE * end for end in (8, 8, 48, 48)])
    assert np.array_equal(
        np.asarray(inside.resize((4, 4), Image.Resampling.NEAREST)), drawing.as_bytes(photo)[0]
    )
    assert grid.getpixel((1, 1)) == DARK.paper


def test_a_new_page_is_drawn_for_and_what_is_stored_stays_light(square: Square):
    before = drawing.page()
    try:
        page().seen = {"paper": list(DARK.paper), "dark": True}
        shown = Image.open(io.BytesIO(square.picture["picture"].value))
        assert shown.getpixel((100, 5)) == DARK.paper, "the picture's sheet is in the page's colour"
        stored = Image.open(io.BytesIO(square._repr_mimebundle_()[0]["image/png"]))
        assert stored.getpixel((100, 5)) == (255, 255, 255)
        shown = Image.open(io.BytesIO(square.picture["picture"].value))
        assert shown.getpixel((100, 5)) == DARK.paper
    finally:
        drawing.set_page(before)


def test_a_picture_never_gets_lower_while_it_is_used(square: Square):
    square.set(grey=9)
    high = square.static_picture().height
    square.set(grey=1)
    assert square.static_picture().height == high > 20
    square.reset()
    assert square.static_picture().height < high


# ---------------------------------------------------------------- in a saved notebook
def test_a_widget_is_shown_as_a_button_its_view_and_its_picture(square: Square, monkeypatch):
    shown: list[tuple[dict, dict]] = []
    monkeypatch.setattr(
        "spear_widgets.kit.kept.display",
        lambda data, metadata=None, raw=False: shown.append((data, metadata)),
    )
    square._ipython_display_()
    (button, _), (view, _), (picture, metadata) = shown
    assert button == {"text/html": BUTTON, "text/plain": BUTTON_TEXT}
    assert set(view) == {VIEW, "text/plain"} and view["text/plain"] == "With controls: A square"
    assert set(picture) == {"image/png", "text/plain"} and picture["text/plain"] == square.description
    assert metadata == {"image/png": {"alt": square.description, "width": drawing.WIDTH}}
