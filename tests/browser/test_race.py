"""The race: numbers are the kernel's runs at their own times, by any hand, at fifty frames a second."""

import statistics
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from spear_core.study import metrics
from spear_widgets.scale.races import EXACT, RaceExplorer
from tests.browser.stages import FRAME, StagePage, on_page

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def race() -> RaceExplorer:
    return RaceExplorer()


@pytest.fixture
def page(browser: Browser, race: RaceExplorer) -> Iterator[StagePage]:
    with on_page(browser, race.live, touch=True) as shown:
        yield shown


def medians(race: RaceExplorer, seconds: float) -> list[float | None]:
    """Of every attack, computed here from what the kernel had after so many seconds."""
    state, found = race.state, []
    for name, frames in {**state.guesses, EXACT: state.exact[None]}.items():
        past = [frame for frame, when in enumerate(state.times[name].tolist()) if when <= seconds]
        if not past and name == EXACT:
            found.append(None)
            continue
        score = metrics.compare(frames[past[-1] if past else 0], state.stage.batch.inputs)
        found.append(statistics.median(score.psnr.tolist()))
    return found


def test_medians_are_those_of_the_kernels_runs(page: StagePage, race: RaceExplorer):
    assert page.told["seconds"] == 0 and page.told["medians"][2] is None
    assert page.told["medians"][:2] == pytest.approx(medians(race, 0)[:2], abs=1e-6)
    end = page.js("state.end")
    assert end == pytest.approx(max(float(times[-1]) for times in race.state.times.values()))
    for share in (0.1, 0.37, 0.8, 1.0):
        page.slide("time", share * end)
        told = page.told
        assert told["medians"] == pytest.approx(medians(race, told["seconds"]), abs=1e-6)
        dlg, cosine, exact = (f"{value:.0f} dB" for value in told["medians"])
        assert f"DLG, L-BFGS {dlg}, cosine + TV, Adam {cosine}, exact inversion {exact}" in page.said


def test_the_exact_batch_is_there_at_once_and_the_only_one_proven(page: StagePage, race: RaceExplorer):
    when, end = float(race.state.times[EXACT][0]), page.js("state.end")
    assert when < 0.1 * end
    page.slide("time", 0.1 * end)
    assert page.told["medians"][2] >= metrics.EXACT_DB > max(page.told["medians"][:2])
    assert "The last one is proven, from the gradient and b alone; a guess never is." in page.said
    assert page.js("state.lanes.map(lane => lane.certified)") == [False, False, True]


def test_what_is_not_certified_is_not_called_proven(browser: Browser, race: RaceExplorer):
    doubtful = RaceExplorer()
    lanes = [lane | {"certified": False} for lane in doubtful.live.data["lanes"]]
    doubtful.live.data = doubtful.live.data | {"lanes": lanes}
    with on_page(browser, doubtful.live) as page:
        page.press("End")
        assert "could not be proven here" in page.said


def test_errors_of_the_exact_batch_are_black_and_those_of_guesses_are_not(page: StagePage):
    page.press("End")
    page.page.get_by_label("show errors, × 20").check()
    assert "Black is no difference in any 8-bit pixel" in page.said
    brightest = page.js(
        """state.at.lanes.slice(1).map(lane => {
            const side = state.at.side - 8, context = stage.canvas.getContext("2d");
            const pixels = context.getImageData(lane.x + 4, lane.pictures + 4, side, side);
            return pixels.data.filter((_, i) => i % 4 < 3).reduce((a, b) => Math.max(a, b));
        })"""
    )
    assert brightest[2] == 0 and min(brightest[:2]) > 20


# ---------------------------------------------------------------- hands
@pytest.mark.parametrize("hand", ["drag", "swipe"])
def test_time_is_dragged_in_the_chart(page: StagePage, hand: str):
    chart, end = page.js("state.at.chart"), page.js("state.end")
    y = chart["y"] + chart["height"]
    getattr(page, hand)((chart["x"], y), (chart["x"] + chart["width"] / 2, y))
    assert page.told["seconds"] == pytest.approx(end / 2, abs=end / 100)
    page.press("Home", "ArrowRight")
    assert page.told["seconds"] == pytest.approx(end / 50)


def test_a_photograph_is_followed_by_pointer_and_keys(page: StagePage):
    lane, side = page.js("state.at.lanes[2]"), page.js("state.at.side")
    page.page.mouse.move(*page.at(lane["x"] + side / 2, lane["pictures"] + side + 20 + side / 2))
    assert page.js("state.sample") == 2
    page.page.mouse.move(*page.at(lane["x"], 4))
    assert page.js("state.sample") == -1
    page.press("ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp", "ArrowUp")
    assert page.js("state.sample") == 3


def test_it_plays_in_real_time(page: StagePage):
    end = page.js("state.end")
    page.page.get_by_label("speed").select_option(label="1/20 of real time")
    page.press("Space")
    assert page.frame_seconds(3.0) <= FRAME
    gone = page.page.evaluate("document.querySelector('.spear-stage').stage.state.t")
    assert 0.05 < gone < 0.6, "three seconds, at a twentieth of their speed"
    page.page.get_by_label("speed").select_option(label="4 × real time")
    page.page.wait_for_function("!document.querySelector('.spear-stage').stage.state.playing")
    assert page.told["seconds"] == end


@pytest.mark.parametrize("b", [1, 2])
def test_other_batches_fit_as_well(browser: Browser, b: int):
    race = RaceExplorer()
    race.set(batch_size=b)
    for width in (336, 934):
        with on_page(browser, race.live, width=width) as page:
            page.press("End")
            assert page.height() <= 560 and page.overflow() <= 0
            assert page.told["medians"][2] == pytest.approx(min(999, medians(race, 99)[2]))
