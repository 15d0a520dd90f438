"""A real browser without a window, for tests of pages."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Opened(NamedTuple):
    """A page as a browser has it."""

    html: str
    """The document, after all that it may have done to itself."""
    complaints: list[str]
    """Lines of its console: errors, what the page's own rules refused, and what could not be loaded."""
    screenshot: Path


def open_page(page: Path, folder: Path, *, dark: bool = False, size: tuple[int, int] = (1200, 1600)) -> Opened:
    """Open a file in Chromium; the test is skipped where there is none. `folder` is for its profile and a picture."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium here")
    screenshot = folder / f"{page.stem}{'-dark' if dark else ''}.png"
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={size[0]},{size[1]}", "--virtual-time-budget=3000",
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    outputs = []
    for action in ("--dump-dom", f"--screenshot={screenshot}"):
        ended = subprocess.run(
            [program, *options, action, page.resolve().as_uri()],
            capture_output=True, text=True, timeout=60, env=environment,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        outputs.append(ended)
    console = [line for ended in outputs for line in ended.stderr.splitlines() if re.search(r"CONSOLE", line)]
    return Opened(outputs[0].stdout, console, screenshot)
