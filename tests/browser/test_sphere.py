"""The sphere: grabbed, spun, swiped, turned by keys and sliders; what the cross sees is what spear_core says."""

import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser
from torch import Tensor

from spear_widgets.sparsity.directions import look
from spear_widgets.sparsity.sphere import SphereExplorer
from tests.browser.stages import FRAME, StagePage, on_page

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(120)]

SAMPLES = range(3)


def view(turn: float, tilt: float) -> Tensor:
    """Axes of an eye that looks at the sphere: right, up and towards the eye, as rows, shape (3, 3).

    Args:
        turn: degrees around the vertical axis.
        tilt: degrees above the equator, −90 to 90.
    """
    a, t = np.deg2rad(turn), np.deg2rad(tilt)
    towards = [np.cos(t) * np.cos(a), np.cos(t) * np.sin(a), np.sin(t)]
    right = [-np.sin(a), np.cos(a), 0.0]
    up = [-np.sin(t) * np.cos(a), -np.sin(t) * np.sin(a), np.cos(t)]
    return torch.tensor([right, up, towards], dtype=torch.float64)


@pytest.fixture(scope="module")
def sphere() -> SphereExplorer:
    return SphereExplorer()


@pytest.fixture
def page(browser: Browser, sphere: SphereExplorer) -> Iterator[StagePage]:
    with on_page(browser, sphere.live, touch=True) as shown:
        yield shown


@pytest.fixture
def calm(browser: Browser, sphere: SphereExplorer) -> Iterator[StagePage]:
    """For readers who want no motion: nothing flies, nothing goes on by itself."""
    with on_page(browser, sphere.live, calm=True) as shown:
        yield shown


def direction(page: StagePage) -> torch.Tensor:
    return torch.tensor(page.numbers("state.q"), dtype=torch.float64)


def agrees(page: StagePage, sphere: SphereExplorer) -> None:
    """Entries, zeros and sample are those of spear_core for the q that is shown, and q is in the middle."""
    q = direction(page)
    wanted = look(sphere.stage, q)
    assert torch.allclose(torch.tensor(page.numbers("state.entries"), dtype=torch.float64), wanted.entries)
    assert page.numbers("state.zero") == wanted.zero.tolist()
    assert page.told["zeros"] == wanted.zeros
    assert page.told["sample"] == (-1 if wanted.sample is None else wanted.sample)
    eye = torch.tensor(page.js("state.shown"), dtype=torch.float64)
    assert torch.allclose(eye @ q, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), atol=1e-12)
    assert torch.allclose(eye @ eye.T, torch.eye(3, dtype=torch.float64), atol=1e-12)


def ball(page: StagePage) -> tuple[float, float, float]:
    at = page.js("state.at.ball")
    return at["x"], at["y"], at["radius"]


def on_screen(page: StagePage, sphere: SphereExplorer, sample: int) -> tuple[float, float]:
    """Where the direction of a sample, or its opposite, is in front."""
    eye = torch.tensor(page.js("state.shown"), dtype=torch.float64)
    right, up, towards = (eye @ sphere.stage.true_directions[:, sample]).tolist()
    x, y, radius = ball(page)
    sign = 1 if towards > 0 else -1
    return x + sign * right * radius, y - sign * up * radius


def angle(first: torch.Tensor, second: torch.Tensor) -> float:
    return math.degrees(math.acos(min(1, abs(float(first @ second)))))


def aside(sphere: SphereExplorer, sample: int, degrees: float) -> tuple[float, float]:
    """Turn and tilt so far above a sample."""
    q = sphere.stage.true_directions[:, sample].tolist()
    return math.degrees(math.atan2(q[1], q[0])), math.degrees(math.asin(q[2])) - degrees


# ---------------------------------------------------------------- by hand
@pytest.mark.parametrize("hand", ["drag", "swipe"])
def test_what_is_grabbed_follows_the_hand(page: StagePage, sphere: SphereExplorer, hand: str):
    x, y, radius = ball(page)
    before = torch.tensor(page.js("state.shown"), dtype=torch.float64)
    start, end = (x - 0.3 * radius, y + 0.1 * radius), (x + 0.2 * radius, y - 0.3 * radius)
    touched = before.T @ torch.tensor([-0.3, -0.1, math.sqrt(0.9)], dtype=torch.float64)
    page.js("Object.defineProperty(state, 'spin', { get: () => null, set() {} })")  # dropped at rest
    getattr(page, hand)(start, end, 12)
    now = torch.tensor(page.js("state.eye"), dtype=torch.float64) @ touched
    assert now[:2].tolist() == pytest.approx([0.2, 0.3], abs=0.01)
    agrees(page, sphere)


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_is_dragged_to_the_cross_and_snaps(page: StagePage, sphere: SphereExplorer, sample: int):
    x, y, _ = ball(page)
    start = on_screen(page, sphere, sample)
    mouse = page.page.mouse
    mouse.move(*page.at(*start))
    mouse.down()
    mouse.move(*page.at(x + 1, y + 2), steps=8)
    page.page.wait_for_timeout(200)  # at rest: no throw
    assert page.page.evaluate("document.querySelector('.spear-stage').stage.state.glow > 0")
    mouse.up()
    assert page.told["sample"] == sample
    assert abs(float(direction(page) @ sphere.stage.true_directions[:, sample])) == pytest.approx(
        1, abs=1e-15
    )
    assert page.told["found"] == [i == sample for i in SAMPLES]
    assert f"exactly the direction of sample {sample + 1}" in page.said
    agrees(page, sphere)
    page.drag((x, y), (x + 14, y), 4)
    assert page.told["sample"] == -1 and page.told["found"][sample]


def test_it_snaps_within_a_degree_and_not_farther(calm: StagePage, sphere: SphereExplorer):
    for sample in SAMPLES:
        for degrees, snaps in [(0.7, True), (0.9, False), (-0.7, True), (-0.9, False)]:
            turn, tilt = aside(sphere, sample, degrees)
            calm.js("stage.change(() => stage.scene.controls[0].set(state, argument))", turn)
            calm.js("stage.change(() => stage.scene.controls[1].set(state, argument))", tilt)
            assert calm.told["sample"] == (sample if snaps else -1)
            agrees(calm, sphere)


def throw(page: StagePage, x: float, y: float) -> None:
    """Let go in motion: all in one task of the page, so that no wait on a busy machine lets the hand come to rest."""
    x, y = page.at(x, y)
    page.page.evaluate(
        """([x, y]) => {
            const canvas = document.querySelector('canvas');
            canvas.setPointerCapture = () => {}; // no real pointer is down
            for (const [type, step] of [["pointerdown", 0], ["pointermove", 1], ["pointermove", 2], ["pointerup", 2]]) {
                const init = { clientX: x + 45 * step, clientY: y + 15 * step, button: 0, bubbles: true };
                canvas.dispatchEvent(new PointerEvent(type, init));
            }
        }""",
        [x, y],
    )


def test_a_thrown_ball_spins_on_and_comes_to_rest(page: StagePage, sphere: SphereExplorer):
    x, y, _ = ball(page)
    throw(page, x, y)
    dropped = torch.tensor(
        page.page.evaluate("Array.from(document.querySelector('.spear-stage').stage.state.q)")
    )
    page.settle(20)
    assert angle(direction(page), dropped.double()) > 5
    agrees(page, sphere)


def test_it_turns_smoothly(page: StagePage):
    x, y, _ = ball(page)
    throw(page, x, y)
    assert page.frame_seconds(0.6) <= FRAME


def test_without_motion_it_stays_where_it_is_dropped(calm: StagePage, sphere: SphereExplorer):
    x, y, radius = ball(calm)
    calm.drag((x, y), (x + 0.3 * radius, y), 3)
    assert calm.js("state.spin") is None
    calm.click("Sample 3 to the middle")
    assert calm.told["sample"] == 2
    agrees(calm, sphere)


def test_a_grabbed_ball_stops(page: StagePage):
    x, y, _ = ball(page)
    page.drag((x, y), (x + 90, y), 3)
    page.page.mouse.down()
    assert page.js("state.spin") is None
    page.page.mouse.up()


# ---------------------------------------------------------------- by keys and controls
def test_keys_walk_over_the_ball_and_reach_a_sample(calm: StagePage, sphere: SphereExplorer):
    q = direction(calm)
    calm.press("ArrowRight")
    assert angle(q, direction(calm)) == pytest.approx(1, abs=1e-6)
    calm.press("PageDown")
    agrees(calm, sphere)
    x, y, radius = ball(calm)
    for _ in range(4):  # towards sample 3, as one sees it
        px, py = on_screen(calm, sphere, 2)
        across, down = ((math.degrees(math.asin((a - b) / radius))) for a, b in ((px, x), (py, y)))
        calm.press(*["ArrowRight" if across > 0 else "ArrowLeft"] * round(abs(across)))
        calm.press(*["ArrowDown" if down > 0 else "ArrowUp"] * round(abs(down)))
        if calm.told["sample"] == 2:
            break
    assert calm.told["sample"] == 2
    agrees(calm, sphere)
    calm.press("ArrowLeft")
    assert calm.told["sample"] == -1, "a step must leave the sample again"
    calm.press("1")
    assert calm.told["sample"] == 0


def test_sliders_turn_and_tilt_in_fine_steps(page: StagePage, sphere: SphereExplorer):
    x, y, radius = ball(page)
    page.drag((x, y + 0.5 * radius), (x + 0.5 * radius, y), 6)  # the head is no longer upright
    for turn, tilt in [(-180, -89.5), (180, 89.5), (0, 0), (44.5, -30)]:
        page.slide("turn", turn)
        page.slide("tilt", tilt)
        eye = torch.tensor(page.js("state.eye"), dtype=torch.float64)
        assert torch.allclose(eye, view(turn, tilt), atol=1e-9), "upright again"
        agrees(page, sphere)


def test_a_sample_can_be_found_and_left_by_a_slider(calm: StagePage, sphere: SphereExplorer):
    turn, tilt = aside(sphere, 1, 3)
    calm.slide("turn", round(2 * turn) / 2)
    calm.slide("tilt", round(2 * tilt) / 2)
    calm.page.get_by_role("slider", name="tilt").focus()
    seen = []
    for _ in range(14):
        calm.page.keyboard.press("ArrowRight")
        agrees(calm, sphere)
        seen.append(calm.told["sample"])
    assert seen[0] == seen[-1] == -1 and 1 in seen


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_buttons_face_a_sample(page: StagePage, sphere: SphereExplorer, sample: int):
    page.click(f"Sample {sample + 1} to the middle")
    agrees(page, sphere)
    assert page.told["sample"] == sample
    silent = sphere.stage.output_grads[sample] == 0
    alive = (sphere.stage.output_grads != 0).any(dim=0)
    assert page.told["zeros"] == int((silent & alive).sum()) > 20


def test_no_other_control_touches_q(page: StagePage, sphere: SphereExplorer):
    page.click("Sample 1 to the middle")
    before, said = page.numbers("state.q"), page.said
    for count in (2, 17, 64):
        page.slide("circles", count)
        assert page.told["count"] == count
        assert (page.numbers("state.q"), page.said) == (before, said)
        agrees(page, sphere)
    page.page.get_by_label("mark the samples").check()
    assert page.told["marked"] and page.numbers("state.q") == before and page.said == said
    page.page.get_by_label("mark the samples").uncheck()
    page.page.mouse.move(*page.at(300, 200))
    assert page.numbers("state.q") == before and page.told["sample"] == 0
    page.click("Start again")
    assert page.told["found"] == [False] * 3 and page.told["sample"] == -1
    agrees(page, sphere)


# ---------------------------------------------------------------- what lights up
def test_circles_at_the_pointer_light_up_with_their_bars(page: StagePage, sphere: SphereExplorer):
    x, y, radius = ball(page)
    eye = torch.tensor(page.js("state.shown"), dtype=torch.float64)
    spot = torch.tensor([0.3, 0.4, math.sqrt(0.75)], dtype=torch.float64)
    page.page.mouse.move(*page.at(x + 0.3 * radius, y - 0.4 * radius))
    rows = torch.tensor(page.numbers("state.rows"), dtype=torch.float64).reshape(-1, 3) @ eye.T
    off = (rows @ spot).abs() / rows.norm(dim=1)
    lit = [int(i) for i in page.numbers("state.hit")]
    # a circle that is nearer than the reach on the ball is also nearer on the screen
    assert set((off < 0.8 * 4 / radius).nonzero().flatten().tolist()) <= set(lit)
    assert all(off[i] < 4 / radius * 2 for i in lit)
    bars = page.js("state.at.bars")
    page.page.mouse.move(*page.at(bars["x"] + 10.5 * bars["width"] / len(rows), bars["y"] + 20))
    assert page.numbers("state.hit") == [10]
    page.page.mouse.move(*page.at(1, 1))
    assert page.numbers("state.hit") == []


def test_circles_that_the_cross_passes_light_up(page: StagePage):
    before = page.numbers("state.entries")
    page.slide("tilt", 20)
    after = page.numbers("state.entries")
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a * b < 0]
    assert changed
    assert [i for i, lit in enumerate(page.numbers("state.lit")) if lit > 0] == changed


def test_nothing_jumps(browser: Browser, sphere: SphereExplorer):
    for width in (336, 934, 1600):
        with on_page(browser, sphere.live, width=width, calm=True) as page:
            heights = set()
            for act in [
                lambda: page.click("Sample 2 to the middle"),
                lambda: page.page.get_by_label("mark the samples").check(),
                lambda: page.slide("turn", -163.5),
                lambda: page.slide("tilt", -87.5),
                lambda: page.slide("circles", 2),
                lambda: page.click("Start again"),
            ]:
                act()
                page.settle()
                heights.add(page.page.locator(".spear-stage").bounding_box()["height"])
            assert len(heights) == 1, width


def test_a_second_view_shows_what_the_reader_had_set(calm: StagePage, sphere: SphereExplorer):
    calm.click("Sample 2 to the middle")
    calm.slide("circles", 17)
    calm.page.get_by_label("mark the samples").check()
    again = "stage.scene.begin(state, stage.scene.told(state))"
    kept = calm.js(f"[state, {again}].map(s => JSON.stringify([stage.scene.told(s), Array.from(s.entries)]))")
    told = [json.loads(text)[0] for text in kept]
    assert told[0] == told[1] and told[0]["sample"] == 1 and told[0]["count"] == 17
    assert json.loads(kept[0])[1] == pytest.approx(json.loads(kept[1])[1], abs=1e-15)
