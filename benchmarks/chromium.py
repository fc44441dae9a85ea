"""Chromium without a window, driven by Selenium: Debian's two packages, which fit each other.

Nothing is downloaded: where the packages are missing they are installed, if that can be done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

PACKAGES = ("chromium", "chromium-driver")
INSTALL_SECONDS = 400
# A browser that calls nobody, and asks for nothing that a container does not have.
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking", "--no-proxy-server"),
    *("--disable-component-update", "--disable-sync", "--disable-extensions"),
    "--disable-features=OptimizationHints,MediaRouter,Translate",
)
# On a machine that is busy a start may take longer than the driver waits.
STARTS = 3


class NoChromium(Exception):
    """Raised where there is none and none can be installed."""


@contextmanager
def chromium(directory: Path) -> Iterator[Chrome]:
    """A browser while the context lasts; its profile is left in the directory.

    Raises NoChromium; WebDriverException when it does not start.
    """
    _install()
    driver = _start(directory, STARTS)
    try:
        yield driver
    finally:
        driver.quit()


def _install() -> None:
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoChromium("needs chromium and chromium-driver, or root and apt to install them")
    for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", "-q", *command], capture_output=True, timeout=INSTALL_SECONDS, check=False
        )
        if done.returncode:
            raise NoChromium(f"chromium cannot be installed: {done.stderr.decode()[-500:]}")


def _start(directory: Path, tries: int) -> Chrome:
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    options.page_load_strategy = "eager"
    for flag in (*FLAGS, f"--user-data-dir={directory}/profile-{tries}"):
        options.add_argument(flag)
    service = Service(shutil.which("chromedriver"), log_output=subprocess.DEVNULL)
    try:
        return Chrome(options, service)
    except WebDriverException:
        service.stop()
        if tries == 1:
            raise
    return _start(directory, tries - 1)
