"""A real JupyterLab in a real browser, for tests and for benchmarks/widget_latency.py.

    with lab_server([*notebooks]) as server, sync_playwright() as playwright:
        browser = launch(playwright)
        lab = Lab(browser, server)
        lab.open_notebook("00_start_here.ipynb")
        lab.run_all()
        lab.widget("spear-stepper").move_slider(0, "End")

The server runs on copies of the notebooks, with its own settings, on a free port, and its kernels use the
interpreter that runs this. Everything that goes wrong in the page, the console, the kernel or a widget's
status line is collected; `lab.check()` raises with all of it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from playwright.sync_api import Browser, ConsoleMessage, Locator, Playwright
from playwright.sync_api import Error as Gone

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(__file__).parent / "screenshots"
BROWSER_HINT = (
    "no Chromium or Chrome found: install one (on Debian: apt-get install chromium), "
    "or set SPEAR_BROWSER to its path"
)
START_TIMEOUT = 90.0
RUN_TIMEOUT = 300.0
QUIET_TIMEOUT = 180.0

# Chromium without its calls home; no sandbox, since containers run as root.
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# What JupyterLab itself writes to the console, whatever the notebook does.
CONSOLE_NOISE = ("favicon", "source map", "ResizeObserver loop")
LOG_ERRORS = ("Traceback (most recent call last)", "Error in callback", "Kernel died", "| ERROR |", "[E ")

CONTROLS = """
    .noUi-handle, input:not([type=file]):not([disabled]):not([readonly]), select:not([disabled]),
    textarea:not([disabled]):not([readonly]), button:not([disabled], .spear-skip), canvas[tabindex],
    [role=slider][tabindex]
"""


def find_browser() -> str | None:
    """Path of an installed Chromium or Chrome, or None."""
    named = os.environ.get("SPEAR_BROWSER")
    if named:
        return named
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"):
        found = shutil.which(name)
        if found:
            return found
    mac = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    return str(mac) if mac.exists() else None


def launch(playwright: Playwright) -> Browser:
    """The installed browser, headless."""
    path = find_browser()
    if path is None:
        raise FileNotFoundError(BROWSER_HINT)
    return playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)


# ---------------------------------------------------------------- the server
@dataclass(frozen=True)
class Server:
    url: str
    log: Path
    token: str  # without which it answers nobody

    def errors(self, since: int = 0) -> list[str]:
        """Lines of the server's and the kernels' log that report an error, from byte `since` on."""
        text = self.log.read_bytes()[since:].decode("utf-8", "replace")
        return [f"log: {line}" for line in text.splitlines() if any(sign in line for sign in LOG_ERRORS)]


@contextlib.contextmanager
def lab_server(notebooks: Sequence[Path]) -> Iterator[Server]:
    """JupyterLab on copies of `notebooks` and of docs/, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="spear-lab-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        folder = home / "files" / "notebooks"
        folder.mkdir(parents=True)
        for parent in {path.parent for path in notebooks}:
            shutil.copytree(
                parent,
                folder,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns(".*", "*.ipynb", "__pycache__"),
            )
        for path in notebooks:
            shutil.copy(path, folder)
        if (ROOT / "docs").exists():
            shutil.copytree(ROOT / "docs", home / "files" / "docs")
        write_settings(home / "settings")

        port = free_port()
        url = f"http://127.0.0.1:{port}"
        log = home / "server.log"
        token = secrets.token_hex(16)
        with log.open("wb") as stream:
            process = subprocess.Popen(
                server_command(port, home / "files"),
                cwd=home,
                env=server_environment(home) | {"JUPYTER_TOKEN": token},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                wait_for(url + "/api", process, log)
                yield Server(url, log, token)
            finally:
                stop(process)


def server_command(port: int, folder: Path) -> list[str]:
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder,
        "LabApp.expose_app_in_browser": True,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.news_url": "None",
        "LabApp.extension_manager": "readonly",
        "MultiKernelManager.default_kernel_name": "python3",
    }
    flags = [f"--{key}={value}" for key, value in options.items()]
    return [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *flags]


def server_environment(home: Path) -> dict[str, str]:
    own = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    environment = {**os.environ, **{key: str(home / value) for key, value in own.items()}}
    environment["JUPYTER_PREFER_ENV_PATH"] = "1"
    paths = [str(ROOT), str(ROOT / "widgets"), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment.pop("MPLBACKEND", None)
    return environment


def write_settings(folder: Path) -> None:
    """No news, no update notice, and every cell in the page at once (no windowing)."""
    settings = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},
        "docmanager-extension/plugin": {"autosave": False},
    }
    for name, content in settings.items():
        path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-3000:]}")


def stop(process: subprocess.Popen) -> None:
    """Ends the server and its kernels."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# ---------------------------------------------------------------- the page
class Lab:
    """One browser window with JupyterLab in it."""

    def __init__(self, browser: Browser, server: Server, width: int = 1280, height: int = 900) -> None:
        self.server = server
        self.log_start = server.log.stat().st_size
        self.page_errors: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.page_errors.append(f"page: {error}"))
        self.page.on("console", self._on_console)
        self.page.goto(f"{server.url}/lab?reset&token={server.token}", timeout=START_TIMEOUT * 1000)
        self.page.wait_for_function("window.jupyterapp?.started", timeout=START_TIMEOUT * 1000)
        self.page.evaluate("jupyterapp.restored.then(() => jupyterapp.shell.collapseLeft())")
        self.name = ""
        self.ran: NotebookNode | None = None  # the notebook as it was when all cells had run

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(noise in message.text for noise in CONSOLE_NOISE):
            self.page_errors.append(f"console: {message.text} ({message.location.get('url', '')})")

    def open_notebook(self, name: str) -> None:
        """Opens the copy of notebooks/`name` with a fresh kernel, and listens to that kernel."""
        self.name = name.removesuffix(".ipynb")
        self.page.evaluate(
            """async path => {
                const panel = await jupyterapp.commands.execute(
                    'docmanager:open', {path, factory: 'Notebook', kernel: {name: 'python3'}});
                await panel.context.ready;
                await panel.sessionContext.ready;
                jupyterapp.shell.mode = 'single-document';
                window.spear = {panel, errors: [], executed: 0};
                const kernel = panel.sessionContext.session.kernel;
                await kernel.info;
                kernel.iopubMessage.connect((_, message) => {
                    const {content, header} = message;
                    if (header.msg_type === 'execute_input') spear.executed += 1;
                    if (header.msg_type === 'error')
                        spear.errors.push(`kernel: ${content.ename}: ${content.evalue}`);
                    // JupyterLab asks for widgets before the first cell has loaded ipywidgets.
                    if (header.msg_type === 'stream' && content.name === 'stderr'
                            && !content.text.startsWith('No such comm'))
                        spear.errors.push(`kernel stderr: ${content.text}`);
                });
            }""",
            f"notebooks/{name}",
        )

    def run_all(self, timeout: float = RUN_TIMEOUT) -> None:
        """Runs every cell; raises unless JupyterLab and the kernel say that all ran and nothing complained."""
        self.page.evaluate(
            """() => {
                spear.ran = null;
                spear.executed = 0;
                jupyterapp.commands.execute('notebook:run-all-cells').then(
                    result => { spear.ran = String(result); }, error => { spear.ran = `failed: ${error}`; });
            }"""
        )
        self.page.wait_for_function("spear.ran !== null", timeout=timeout * 1000)
        ran = self.page.evaluate("spear.ran")
        self.wait_quiet()
        self.check(f"run all said {ran}")
        if ran != "true":
            raise AssertionError(f"{self.name}: notebook:run-all-cells must say true, said {ran}")
        executed, cells = self.page.evaluate(
            """[spear.executed, spear.panel.content.widgets.filter(
                cell => cell.model.type === 'code' && cell.model.sharedModel.source.trim()).length]"""
        )
        if executed != cells:
            raise AssertionError(f"{self.name}: the kernel must run {cells} cells, ran {executed}")
        saved = self.page.evaluate("JSON.stringify(spear.panel.context.model.toJSON())")
        self.ran = nbformat.reads(saved, as_version=4)

    def uncover(self) -> None:
        """Shows, without an answer, whatever is covered until a question is answered."""
        for button in self.page.locator(".spear-veil > .spear-skip").all():
            button.click()
        self.wait_quiet()

    def wait_quiet(self, timeout: float = QUIET_TIMEOUT) -> None:
        """Until the kernel has been idle, and the page painted, for a tenth of a second."""
        self.page.evaluate(
            """async timeout => {
                const kernel = spear.panel.sessionContext.session.kernel, start = performance.now();
                let since = start;
                while (performance.now() - since < 100) {
                    await new Promise(requestAnimationFrame);
                    if (kernel.status !== 'idle' || kernel.hasPendingInput) since = performance.now();
                    if (performance.now() - start > timeout)
                        throw new Error(`kernel is ${kernel.status} after ${timeout / 1000} s`);
                }
            }""",
            timeout * 1000,
        )

    def errors(self) -> list[str]:
        """Everything that went wrong so far: page, console, kernel, log, cells, status lines."""
        found = [*self.page_errors, *self.server.errors(self.log_start)]
        found += self.page.evaluate(
            """() => !window.spear ? [] : [
                ...spear.errors,
                ...[...document.querySelectorAll('.jp-Notebook [data-mime-type$="vnd.jupyter.error"]')]
                    .map(e => 'cell: ' + e.textContent.slice(0, 500)),
                ...[...document.querySelectorAll('.spear-status')].map(e => e.textContent.trim())
                    .filter(text => /^error/i.test(text)).map(text => 'status line: ' + text),
                ...[...document.querySelectorAll('.jp-Notebook .jupyter-widgets-error-widget')]
                    .map(e => 'widget: ' + e.textContent.slice(0, 200)),
            ]"""
        )
        return found

    def check(self, after: str) -> None:
        found = self.errors()
        if found:
            self.screenshot("failed")
            raise AssertionError("\n".join([f"{self.name}, after {after}:", *found]))

    # -------------------------------------------------------- widgets
    def widgets(self) -> list[Widget]:
        """The outermost boxes whose class begins with `spear-`, in page order."""
        count = self.page.evaluate(
            """() => {
                const own = e => [...e.classList].some(c => c.startsWith('spear-'));
                const all = [...document.querySelectorAll('.jp-Notebook .jp-OutputArea [class*="spear-"]')];
                const outer = all.filter(own).filter(e => {
                    for (let p = e.parentElement; p && !p.matches('.jp-OutputArea'); p = p.parentElement)
                        if (own(p)) return false;
                    return true;
                });
                outer.forEach((e, i) => e.setAttribute('data-spear-widget', i));
                return outer.length;
            }"""
        )
        return [Widget(self, self.page.locator(f"[data-spear-widget='{i}']")) for i in range(count)]

    def widget(self, css_class: str) -> Widget:
        """The first widget with this class, e.g. `spear-stepper`."""
        return Widget(self, self.page.locator(f".jp-Notebook .jp-OutputArea .{css_class}").first)

    # -------------------------------------------------------- looks
    def set_theme(self, theme: str) -> None:
        """`light` or `dark`."""
        name = f"JupyterLab {theme.capitalize()}"
        self.page.evaluate(
            "name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name
        )
        light = "true" if theme == "light" else "false"
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")

    def set_width(self, width: int) -> None:
        """Page width in pixels, with a height that shows the whole notebook from its first cell on."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.evaluate("spear.panel.content.activeCellIndex = 0")
        self.page.wait_for_timeout(200)
        height = self.page.evaluate(
            "Math.max(800, spear.panel.node.querySelector('.jp-WindowedPanel-outer').scrollHeight)"
        )
        self.page.set_viewport_size({"width": width, "height": min(int(height) + 120, 16000)})
        # running all cells scrolls to the last one, and JupyterLab lets one scroll past it: an empty page
        self.page.evaluate("spear.panel.node.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
        self.page.wait_for_timeout(200)

    def screenshot(self, name: str) -> Path:
        SCREENSHOTS.mkdir(exist_ok=True)
        path = SCREENSHOTS / f"{self.name}-{name}.png"
        self.page.screenshot(path=path)
        return path

    def close_notebook(self) -> None:
        """Ends the notebook's kernel, closes it unsaved, and forgets what went wrong in it."""
        self.page.evaluate(
            """async () => {
                // what a stage has to tell, it tells within a tenth of a second; without its page it tells nothing
                await new Promise(done => setTimeout(done, 150));
                const session = window.spear?.panel.sessionContext.session?.id;
                window.spear?.panel.dispose();
                if (session) await jupyterapp.serviceManager.sessions.shutdown(session);
                delete window.spear;
            }"""
        )
        self.page_errors.clear()
        self.log_start = self.server.log.stat().st_size

    def close(self) -> None:
        """Ends the notebook's kernel and closes the window."""
        with contextlib.suppress(Exception):
            self.page.evaluate("jupyterapp.serviceManager.sessions.shutdownAll()")
        self.context.close()


class Widget:
    """One widget in the page: its controls, its picture, its status line."""

    def __init__(self, lab: Lab, root: Locator) -> None:
        self.lab = lab
        self.page = lab.page
        self.root = root

    @property
    def name(self) -> str:
        classes = self.root.evaluate("e => [...e.classList].filter(c => c.startsWith('spear-'))")
        return " ".join(classes)

    @property
    def status(self) -> str:
        line = self.root.locator(".spear-status")
        return line.first.inner_text().strip() if line.count() else ""

    def picture(self) -> str:
        """A hash of the bytes of all pictures that the widget shows now."""
        content = self.root.evaluate(
            """async root => {
                const parts = [];
                for (const e of root.querySelectorAll('img, canvas, svg')) {
                    if (e.tagName === 'CANVAS') parts.push(e.toDataURL());
                    else if (e.tagName === 'IMG') {
                        try {
                            const bytes = new Uint8Array(await (await fetch(e.src)).arrayBuffer());
                            parts.push(String.fromCharCode(...bytes.slice(0, 64)) + bytes.length + ':'
                                + bytes.reduce((h, b) => (h * 31 + b) % 4294967291, 7));
                        } catch { parts.push('replaced meanwhile'); }
                    } else parts.push(e.outerHTML);
                }
                return parts.join('|');
            }"""
        )
        return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()

    def wait_image_change(self, before: str, timeout: float = 30.0) -> str:
        """Waits until the pictures differ from `before` (a `picture()`); returns the new hash."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            now = self.picture()
            if now != before:
                return now
            self.page.wait_for_timeout(20)
        raise AssertionError(f"{self.lab.name}: picture of {self.name} did not change in {timeout:g} s")

    def screenshot(self, name: str) -> Path:
        SCREENSHOTS.mkdir(exist_ok=True)
        path = SCREENSHOTS / f"{self.lab.name}-{name}.png"
        self.root.screenshot(path=path)
        return path

    def overflow(self) -> float:
        """By how many pixels the widget, or something visible in it, is wider than its output area."""
        return self.root.evaluate(
            """root => {
                const area = root.closest('.jp-OutputArea-output').getBoundingClientRect();
                const parts = root.querySelectorAll('img, canvas, svg, button, select, .noUi-target');
                const edges = [root, ...parts]
                    .filter(e => e.checkVisibility()).map(e => e.getBoundingClientRect().right);
                return Math.max(0, ...edges.map(right => right - area.right));
            }"""
        )

    # -------------------------------------------------------- controls
    def controls(self) -> list[Control]:
        """Everything in the widget that takes input and is visible now, in page order."""
        marks = self.root.evaluate(
            """(root, selector) => {
                window.spearControls ??= 0;
                return [...root.querySelectorAll(selector), ...(root.matches(selector) ? [root] : [])]
                    .filter(e => e.checkVisibility())
                    .map(e => {
                        e.dataset.spearControl ??= window.spearControls++;
                        const box = e.closest('.jupyter-widgets');
                        const label = e.getAttribute('aria-label')
                            || box?.querySelector('.widget-label')?.textContent
                            || e.textContent || e.title || '';
                        const tag = e.tagName.toLowerCase();
                        const kind = e.classList.contains('noUi-handle') ? 'slider'
                            : tag === 'input' ? (e.type === 'range' ? 'range' : e.type)
                            : tag;
                        return [e.dataset.spearControl, kind, label.trim()];
                    });
            }""",
            CONTROLS,
        )
        return [
            Control(self, self.page.locator(f"[data-spear-control='{mark}']"), kind, label, mark)
            for mark, kind, label in marks
        ]

    def sliders(self) -> list[Control]:
        return [c for c in self.controls() if c.kind in ("slider", "range")]

    def move_slider(self, which: int, key: str) -> None:
        """Presses a key (`Home`, `End`, `ArrowRight`, …) on a slider and waits for the kernel."""
        self.sliders()[which].press(key)
        self.lab.wait_quiet()

    def drag_slider(self, which: int, fraction: float) -> None:
        """Drags a slider by mouse to a fraction of its track and waits for the kernel."""
        self.sliders()[which].drag(fraction)
        self.lab.wait_quiet()


Steps = Callable[["Control"], Iterator[str]]


def while_there(steps: Steps) -> Steps:
    """Ends the steps when the control goes while it is reached for, as a Stop button does, or those of a new batch."""

    @functools.wraps(steps)
    def guarded(control: Control) -> Iterator[str]:
        try:
            yield from steps(control)
        except Gone:  # or it was not reached in time
            if control.usable():
                raise

    return guarded


@dataclass(frozen=True)
class Control:
    """One slider handle, button, drop-down, box or canvas; `kind` is its type, `mark` its number in the page."""

    widget: Widget
    at: Locator
    kind: str
    label: str
    mark: str

    def usable(self) -> bool:
        """Whether it is still there: controls may be hidden, disabled or replaced by what others did."""
        return self.at.count() == 1 and self.at.is_visible() and self.at.is_enabled()

    def press(self, key: str) -> None:
        self.at.focus()
        self.widget.page.keyboard.press(key)

    def track(self) -> dict[str, float]:
        """The slider's track, in page coordinates, scrolled into view."""
        self.at.scroll_into_view_if_needed()
        box = self.at.evaluate(
            """e => {
                const r = (e.closest('.noUi-base') ?? e).getBoundingClientRect();
                return {x: r.x, y: r.y, width: r.width, height: r.height};
            }"""
        )
        return box

    def point(self, fraction: float) -> tuple[float, float]:
        box = self.track()
        if box["height"] > 2 * box["width"]:
            return box["x"] + box["width"] / 2, box["y"] + box["height"] * (1 - fraction)
        inset = min(2.0, box["width"] / 10)
        return box["x"] + inset + (box["width"] - 2 * inset) * fraction, box["y"] + box["height"] / 2

    def drag(self, fraction: float) -> None:
        mouse = self.widget.page.mouse
        self.at.scroll_into_view_if_needed()
        box = self.at.bounding_box()
        if box is None:
            return
        start = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        x, y = self.point(fraction)
        if self.kind == "range":
            mouse.move(*self.point(0.5))
        else:
            mouse.move(*start)
        mouse.down()
        mouse.move((start[0] + x) / 2, (start[1] + y) / 2)
        mouse.move(x, y)
        mouse.up()

    def drive(self, how: str, limit: int | None = None) -> int:
        """Moves it `by_keyboard` or `by_mouse`, at most so many steps; after each, nothing may have gone wrong."""
        steps = self.by_keyboard() if how == "keyboard" else self.by_mouse()
        count = 0
        for step in itertools.islice(steps, limit):
            self.widget.lab.wait_quiet()
            self.widget.lab.check(f"{step} on {self.kind} {self.label!r} of {self.widget.name}")
            count += 1
        return count

    @while_there
    def by_keyboard(self) -> Iterator[str]:
        """Each step does one thing by keyboard and yields its name: first, last, and back out of order."""
        if self.kind in ("slider", "range"):
            steps = ["End", "Home", "ArrowRight", "ArrowRight", "End", "ArrowLeft", "PageDown", "PageUp"]
        elif self.kind == "select":
            steps = ["End", "Home", "ArrowDown"]
        elif self.kind in ("checkbox", "button"):
            steps = ["Space", "Space"]
        elif self.kind == "radio":
            steps = ["Space", "ArrowDown", "ArrowUp"]
        elif self.kind == "canvas":
            steps = ["ArrowRight", "ArrowUp", "ArrowLeft", "Home", "End"]
        else:
            steps = ["ControlOrMeta+a", "1", "Enter"]
        for key in steps:
            if not self.usable():
                return
            self.press(key)
            yield key

    @while_there
    def by_mouse(self) -> Iterator[str]:
        """The same by mouse: a drag, both ends, two places between."""
        if self.kind in ("slider", "range"):
            if self.usable():
                self.drag(0.85)
                yield "drag to 0.85"
            for fraction in (1.0, 0.0, 0.71, 0.37):
                if not self.usable():
                    return
                self.widget.page.mouse.click(*self.point(fraction))
                yield f"click at {fraction:g}"
        elif self.kind == "select":
            count = self.at.locator("option").count()
            for index in dict.fromkeys([count - 1, 0, count // 2]):
                if not self.usable():
                    return
                self.at.select_option(index=index)
                yield f"choose {index}"
        elif self.kind == "canvas":
            for fraction in (0.25, 0.75):
                if not self.usable():
                    return
                self.drag(fraction)
                yield f"drag to {fraction:g}"
        else:
            for _ in range(2 if self.kind in ("checkbox", "button") else 1):
                if not self.usable():
                    return
                self.at.click()
                yield "click"
