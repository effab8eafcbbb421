"""A real headless Chromium, driven by Playwright; without one the tests here are skipped, visibly."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


def settled(page, milliseconds: int) -> None:
    """Wait by the page's own clock, behind what is due there until then, and until its texts are drawn."""
    page.evaluate("(ms) => new Promise((done) => setTimeout(done, ms))", milliseconds)
    page.evaluate("() => window.viewer && window.viewer.drawn")


@pytest.fixture(scope="module")
def browser():
    """Per file: while it is there its event loop runs, and nothing else in the process can start one."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright (pip install playwright)")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=300_000)
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Open a file: a page that has read its index. At the end it must have asked for nothing and reported no
    error.
    """

    @contextmanager
    def opening(path, hash_="", *, viewer=True, **options):
        context = browser.new_context(viewport={"width": 1280, "height": 860}, **options)
        page, wrong, asked = context.new_page(), [], []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"dialog {dialog.message}"))
        page.on("popup", lambda popup: wrong.append(f"popup {popup.url}"))
        page.on("request", lambda request: asked.append(request.url))
        page.set_default_timeout(300_000)
        page.goto(path.as_uri() + hash_)
        if viewer:
            page.wait_for_selector("body[data-ready=yes]")
            settled(page, 0)
        yield page
        assert wrong == []
        assert [url.partition("#")[0] for url in asked] == [path.as_uri()], "the page fetched something"
        context.close()

    return opening


@pytest.fixture(scope="session")
def axe():
    """The serious and critical findings of axe-core in what is shown: (rule, elements)."""
    module = pytest.importorskip("axe_playwright_python", reason="no axe (pip install axe-playwright-python)")
    source = next(Path(module.__file__).parent.rglob("axe.min.js")).read_text()

    def found(page):
        page.evaluate(f"() => {{ {source} }}")
        result = page.evaluate("() => axe.run({resultTypes: ['violations']})")
        return [
            (v["id"], [node["html"][:200] for node in v["nodes"]][:5])
            for v in result["violations"]
            if v["impact"] in ("serious", "critical")
        ]

    return found
