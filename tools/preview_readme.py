"""Take the README's pictures, docs/demo.svg and docs/page.png: part of ``make previews``."""

from __future__ import annotations

import io
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from typing_extensions import override

from demo import demonstrate
from support.browser import CHROMIUM, Visit, chromium
from support.harness import DIGITS, ROOT, RunningServer, digit_files, repserve

DOCS = ROOT / "docs"
COLUMNS = 112
TABLE_SECONDS = 8.0
PAGE_WIDTH = 1000
LOAD_SECONDS = 25
PROGRESS = re.compile(r" +[\d.]+ s ")
FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


class _Recorder(Console):
    """Records everything but the progress of a measurement, which a terminal shows in place."""

    @override
    def print(self, *objects: Any, **options: Any) -> None:
        if not PROGRESS.match(str(objects[0]) if objects else ""):
            super().print(*objects, **options)


def capture_demo() -> None:
    """Run the demo and save its output, with the reader's own fonts."""
    console = _Recorder(record=True, width=COLUMNS, file=io.StringIO(), markup=False)
    console.print("$ make demo", highlight=False)
    if status := demonstrate(console, TABLE_SECONDS):
        raise SystemExit(status)
    template = re.sub(r"\s*@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    template = template.replace("Fira Code, monospace", FONTS)
    console.save_svg(str(DOCS / "demo.svg"), title="make demo", code_format=template, unique_id="demo")


def capture_page() -> None:
    """Classify three images on the page while the bench loads the server, and save what it shows."""
    arguments = ("--model-control-mode", "explicit", "--model", "repvgg_digits")
    with tempfile.TemporaryDirectory() as folder, RunningServer(*arguments) as server, chromium() as browser:
        visit = Visit(browser, server.http_url, width=PAGE_WIDTH)
        load = subprocess.Popen(
            [
                *(repserve(), "bench", "run", "--server", server.address, "--model", "repvgg_digits"),
                *("--images", str(DIGITS / "validation" / "images"), "--output", str(Path(folder) / "report.json")),
                *("--seconds", str(LOAD_SECONDS)),
            ],
            stdout=subprocess.DEVNULL,
        )
        load.wait()
        visit.page.set_input_files("#files", [str(file) for file in digit_files()[10:13]])
        visit.page.locator(".answer li").nth(14).wait_for()
        picture = Image.open(io.BytesIO(visit.page.screenshot(full_page=True)))
        picture.convert("RGB").quantize(256).save(DOCS / "page.png", optimize=True)


def main() -> None:
    """Run the command."""
    if CHROMIUM is None:
        raise SystemExit("the picture of the web page needs Chromium: apt-get install chromium")
    capture_page()
    capture_demo()


if __name__ == "__main__":
    main()
