"""The six pictures of the report in docs/pictures, made from a finished quickstart's report: docs/pictures/*.png.

    nemo-cot run experiment=quickstart
    python benchmarks/pictures.py [runs/quickstart/report/report.html]

Needs a Chromium, playwright and Pillow (pip install 'nemo-cot[test]' pillow).
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).resolve().parents[1] / "docs/pictures"
WIDE, PHONE = (1180, 760), (390, 800)


def side_by_side(page: Page) -> None:
    """A right sample of the trained model beside one of the base model."""
    page.select_option("#f-verdict", label="right")
    page.locator("#list .name").nth(1).click()
    page.select_option("#f-verdict", label="all")
    page.select_option("#o-with", label="base")


PICTURES = {
    "report-summary": ("summary", WIDE, "light", None),
    "report-results": ("results", WIDE, "light", None),
    "report-traces": ("traces", WIDE, "light", side_by_side),
    "report-data": ("data", WIDE, "light", None),
    "report-training-dark": ("training", (1180, 700), "dark", None),
    "report-phone": ("summary", PHONE, "light", None),
}
"""By file: tab, size, colours, and what is done first."""


def main() -> None:
    """Write them all, with 64 colours each."""
    report = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart/report/report.html").resolve()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (tab, (width, height), colours, first) in PICTURES.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=colours)
            page = context.new_page()
            page.goto(f"{report.as_uri()}#{tab}")
            page.wait_for_selector("body[data-ready=yes]")
            if first:
                first(page)
            image = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(64)
            image.save(FOLDER / f"{name}.png", optimize=True)
            context.close()


if __name__ == "__main__":
    main()
