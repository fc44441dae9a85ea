"""A browser's window with the page in it, as a person sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.endpoint.user import until

SECONDS = 60.0
_ROWS = """
return [...document.querySelectorAll("#rows tr")].map((row) => Object.fromEntries(
  [...row.children].map((cell) => [cell.dataset.column, cell.textContent])));
"""
_TEXTS = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent);"
_SHOWN = """
return [...document.querySelectorAll(arguments[0])].some((one) => one.checkVisibility());
"""
_KNOWS = """
const [expression, done] = arguments;
import("/ui/page.js").then(({ board, state }) => {
  const found = { board, state };
  done(expression.split(".").reduce((at, name) => at[name], found));
});
"""


class Window:
    """The window. What it is asked is what is there at the moment; ``shows`` waits."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self.size(1440, 1000)

    def open(self, url: str) -> None:
        """Go to the page; returns when it is connected."""
        self.driver.get(f"{url}/ui")
        self.shows("#link", "Live")

    def leave(self) -> None:
        """Go elsewhere, which ends the page's connection. What it complained of is an error."""
        complaints = self.driver.execute("getLog", {"type": "browser"})["value"]
        self.driver.get("about:blank")
        bad = [one["message"] for one in complaints if one["source"] != "network"]
        assert not bad, bad

    def size(self, width: int, height: int) -> None:
        """Be as large as this."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        """``dark`` or ``light``."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    # --- what is there --------------------------------------------------------------------------

    def run(self, script: str, *arguments: Any) -> Any:
        """What JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def knows(self, what: str) -> Any:
        """A value of the page's own, such as ``board.rows.size``."""
        return self.driver.execute_async_script(_KNOWS, what)

    def texts(self, selector: str) -> list[str]:
        """Of all elements that match."""
        found: list[str] = self.run(_TEXTS, selector)
        return found

    def visible(self, selector: str) -> bool:
        """Whether an element that matches can be seen."""
        return bool(self.run(_SHOWN, selector))

    def rows(self) -> list[dict[str, str]]:
        """The rows of models that there are as elements: text by column."""
        found: list[dict[str, str]] = self.run(_ROWS)
        return found

    def targets(self) -> list[str]:
        """The models of these rows."""
        return [row["target"] for row in self.rows()]

    # --- what people do -------------------------------------------------------------------------

    def click(self, selector: str) -> None:
        """Click the first element that matches."""
        self.element(selector).click()

    def element(self, selector: str) -> WebElement:
        """The first that matches."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def type(self, selector: str, text: str) -> None:
        """Put a text where another one was."""
        element = self.element(selector)
        element.send_keys(Keys.CONTROL, "a")
        element.send_keys(Keys.DELETE)
        if text:
            element.send_keys(text)

    # --- what is waited for ---------------------------------------------------------------------

    def shows(self, selector: str, *texts: str) -> None:
        """Return when an element that matches and can be seen has all of these texts in it."""
        until(
            lambda: (
                self.visible(selector)
                and any(all(text in one for text in texts) for one in self.texts(selector))
            ),
            SECONDS,
        )

    def hides(self, selector: str) -> None:
        """Return when no element that matches can be seen."""
        until(lambda: not self.visible(selector), SECONDS)

    def lists(self, *targets: str) -> None:
        """Return when the rows are of these models, in this order."""
        until(lambda: self.targets() == [*targets], SECONDS)

    def lists_among_first(self, target: str, number: int) -> None:
        """Return when a model is in one of the first rows."""
        until(lambda: target in self.targets()[:number], SECONDS)

    def says(self, selector: str, *texts: str) -> None:
        """Return when the elements that match have these texts, and no others."""
        until(lambda: self.texts(selector) == [*texts], SECONDS)

    def comes_to_know(self, what: str, value: Any) -> None:
        """Return when a value of the page's own is this."""
        until(lambda: self.knows(what) == value, SECONDS)

    def settles(self, what: Callable[[], object]) -> None:
        """Return when that is true."""
        until(what, SECONDS)
