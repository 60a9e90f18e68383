"""Fixtures: one JupyterLab, one browser and one window for all tests of this folder."""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.lab import BROWSER_HINT, ROOT, Lab, Server, find_browser, lab_server, launch
from tests.browser.scratch import write_scratch_notebooks

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def require_browser() -> None:
    if find_browser() is None:
        if os.environ.get("SPEAR_REQUIRE_BROWSER"):
            pytest.fail(BROWSER_HINT, pytrace=False)
        pytest.skip(BROWSER_HINT)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    require_browser()
    scratch = write_scratch_notebooks(tmp_path_factory.mktemp("scratch"))
    with lab_server([*NOTEBOOKS, *scratch]) as running:
        yield running


def started() -> Iterator[Browser]:
    """A browser, for as long as a fixture is needed."""
    require_browser()
    with sync_playwright() as playwright, closing(launch(playwright)) as running:
        yield running


# Not for the whole session: a running Playwright keeps an event loop in this thread, which tests of other
# folders would meet.
browser = pytest.fixture(scope="package", name="browser")(started)


@pytest.fixture(scope="package")
def window(browser: Browser, server: Server) -> Iterator[Lab]:
    """JupyterLab without a notebook. Its page takes as long to load as a notebook to run, so it stays."""
    with closing(Lab(browser, server)) as lab:
        yield lab


@pytest.fixture(scope="module")
def opened(request: pytest.FixtureRequest, window: Lab) -> Iterator[Lab]:
    """The window with the notebook that the test is parametrised with, run from top to bottom, with nothing covered."""
    try:
        window.open_notebook(request.param.name)
        window.run_all()
        window.uncover()
        yield window
    finally:
        window.close_notebook()
        window.set_theme("light")  # cheap while no notebook is open
