"""A notebook that was saved with its outputs: running, reopened, with a new kernel, never trusted."""

import shutil
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Browser

from tests.browser.lab import Lab, Server, lab_server
from tests.browser.scratch import write_scratch_notebooks

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(300)]

WIDGETS = 3  # a stage, a chart, a question

# Of each output that is seen: what it is, what it says, and its pictures that have not loaded.
SEEN = """() => [...document.querySelectorAll('.jp-NotebookPanel .jp-OutputArea-child')]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().height > 0)
    .map(e => {
        const live = e.querySelector('.jupyter-widgets > *'), kind = e.querySelector('[data-mime-type]');
        const broken = [...e.querySelectorAll('img')].some(image => image.complete && !image.naturalWidth);
        return [live ? 'widget' : e.querySelector('.kept-run') ? 'button' : kind?.dataset.mimeType ?? 'words',
            e.innerText.trim(), broken];
    })"""
# From now on, the kinds of outputs that any frame shows.
WATCH = f"""() => {{
    window.watched = new Set();
    const look = () => {{ ({SEEN})().forEach(([kind]) => watched.add(kind)); requestAnimationFrame(look); }};
    look();
}}"""
OPEN = """async () => {
    const panel = await jupyterapp.commands.execute('docmanager:open',
        {path: 'notebooks/kept.ipynb', factory: 'Notebook', kernel: {name: 'python3'}});
    await panel.context.ready;
    await panel.sessionContext.ready;
    window.spear = {panel, errors: [], executed: 0};
}"""


def seen(lab: Lab) -> list[str]:
    """Kinds of the outputs that are seen; none of them says that something is missing."""
    found = lab.page.evaluate(SEEN)
    assert not [words for _, words, broken in found if broken or "not found" in words or "Loading" in words]
    assert not lab.page.locator(".jupyter-widgets-disconnected:visible").count()
    return [kind for kind, _, _ in found]


def wait_for(lab: Lab, kind: str, count: int) -> None:
    """Until so many outputs of a kind are seen."""
    lab.page.wait_for_function(
        f"([kind, count]) => ({SEEN})().filter(([k]) => k === kind).length === count",
        arg=[kind, count],
        timeout=90_000,
    )


STOOD_IN = ["button", "image/png", "button", "image/png", "button", "text/html"]


@pytest.fixture(scope="module")
def saved(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Lab]]:
    """A server with a notebook that was run and saved, and the window in which that was done."""
    paths = write_scratch_notebooks(tmp_path_factory.mktemp("kept"))
    with (
        lab_server([path for path in paths if path.stem == "kept"]) as server,
        closing(Lab(browser, server, 1366, 768)) as lab,
    ):
        lab.open_notebook("kept.ipynb")
        lab.page.evaluate(WATCH)
        lab.run_all()
        lab.page.evaluate("spear.panel.context.save()")
        yield server, lab


def test_while_it_runs_only_what_lives_is_seen(saved: tuple[Server, Lab]):
    _, lab = saved
    assert seen(lab) == ["widget"] * WIDGETS
    assert lab.page.evaluate("[...watched]") == ["widget"], "a frame showed what stands for a widget"


# The chart: its corner's colour, its pixels and the page's pixels across.
CHART = """async () => {
    const image = document.querySelector('.spear-wall img'), canvas = document.createElement('canvas');
    try { await image.decode(); } catch { return [[], 0, 0]; } // it was replaced meanwhile
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    return [[...context.getImageData(4, 4, 1, 1).data.slice(0, 3)], image.naturalWidth,
        image.getBoundingClientRect().width];
}"""


def test_a_chart_is_sharp_and_follows_the_theme(saved: tuple[Server, Lab]):
    _, lab = saved
    try:
        for theme, paper in (("dark", 17), ("light", 255)):
            lab.set_theme(theme)
            deadline = time.monotonic() + 60
            while (found := lab.page.evaluate(CHART))[0] != [paper] * 3:
                assert time.monotonic() < deadline, f"{theme}: the chart's ground is {found[0]}"
                lab.page.wait_for_timeout(100)
            assert found[1] >= 2 * found[2] > 1200, "two pixels of the picture for one of the page"
    finally:
        lab.set_theme("light")


def test_a_new_kernel_and_the_button(saved: tuple[Server, Lab]):
    _, lab = saved
    lab.page.evaluate("spear.panel.sessionContext.restartKernel()")
    wait_for(lab, "widget", 0)
    assert seen(lab) == STOOD_IN
    lab.page.get_by_role("button", name="Run this notebook").first.click()
    wait_for(lab, "widget", WIDGETS)
    assert seen(lab) == ["widget"] * WIDGETS


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "never trusted"])
def test_reopened(browser: Browser, saved: tuple[Server, Lab], trusted: bool):
    server, _ = saved
    if not trusted:
        shutil.rmtree(server.log.parent / "data", ignore_errors=True)
        notebook = server.log.parent / "files" / "notebooks" / "kept.ipynb"
        text = notebook.read_text(encoding="utf-8")  # signed as it was
        notebook.write_text(text.replace('"nbformat_minor": 5', '"nbformat_minor": 4'), encoding="utf-8")
    with closing(Lab(browser, server, 1366, 768)) as lab:
        lab.page.evaluate(OPEN)
        wait_for(lab, "button", WIDGETS)
        wait_for(
            lab, "text/plain", 0 if trusted else WIDGETS
        )  # without trust, what the view is stands in words
        assert [kind for kind in seen(lab) if kind != "text/plain"] == STOOD_IN
        lab.page.get_by_role("button", name="Run this notebook").first.click()
        if not trusted:
            lab.page.get_by_role("button", name="Run Once").click()  # JupyterLab asks
        wait_for(lab, "widget", WIDGETS)
        assert seen(lab) == ["widget"] * WIDGETS
        lab.page.evaluate("spear.panel.sessionContext.shutdown()")


def test_its_page_shows_the_pictures(saved: tuple[Server, Lab]):
    from nbconvert import HTMLExporter

    server, _ = saved
    page, _ = HTMLExporter().from_filename(str(server.log.parent / "files" / "notebooks" / "kept.ipynb"))
    context = saved[1].context.browser.new_context()
    try:
        shown = context.new_page()
        shown.set_content(page)
        assert shown.locator("img:visible").count() == WIDGETS - 1
        assert not shown.get_by_role("button", name="Run this notebook").count()
    finally:
        context.close()
