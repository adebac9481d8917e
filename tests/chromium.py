"""Finds a Chromium: named by OPCOD_CHROMIUM, on the path, or downloaded by Playwright.

`python -m tests.chromium` prints its path, or fails where there is none.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DOWNLOADED = ("chromium-*/chrome-linux*/chrome", "chromium-*/chrome-mac*/*.app/Contents/MacOS/*", "chromium-*/chrome-win*/chrome.exe")


def find_chromium() -> str | None:
    """Path of an executable Chromium, or None."""
    named = os.environ.get("OPCOD_CHROMIUM")
    if named:
        return named
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    caches = [Path.home() / ".cache/ms-playwright", Path.home() / "Library/Caches/ms-playwright"]
    if os.environ.get("PLAYWRIGHT_BROWSERS_PATH"):
        caches.insert(0, Path(os.environ["PLAYWRIGHT_BROWSERS_PATH"]))
    return next((str(path) for cache in caches for pattern in DOWNLOADED for path in sorted(cache.glob(pattern))), None)


if __name__ == "__main__":
    path = find_chromium()
    print(path or "No Chromium found.")
    sys.exit(path is None)
