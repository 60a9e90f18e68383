"""What all tests share, and how two processes share them out."""

import re

import pytest
from hypothesis import settings
from nbval.plugin import IPyNbCell

from tests.browser.lab import find_browser

# the same examples in every run: a check that fails once in twenty runs teaches people to look away
settings.register_profile("steady", derandomize=True)
settings.load_profile("steady")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The browser first, since it takes longest. What it runs and compares, nbval runs again where all is thorough."""
    if find_browser():
        for item in items:
            if isinstance(item, IPyNbCell):
                item.add_marker("thorough")
    items.sort(key=lambda item: item.get_closest_marker("browser") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object | None:
    """With `--dist loadfile`: a file to a process; and in the browser, whose file takes longest, a notebook."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            opened = re.match(r"tests/browser/.*\b(\d\d_\w+)\]$", nodeid)
            return opened[1] if opened else super()._split_scope(nodeid)

    return Scheduling(config, log)
