"""A small store and model to report on, and a headless Chromium."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

#: Seconds before a test gives up waiting.
PATIENCE = 90


class Page:
    """A page open in the browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path) -> None:
        """Load the page and wait until every plot is drawn."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(path.resolve().as_uri())
        self.until(lambda: self.js("return document.documentElement.dataset.ready") == "true")

    def js(self, script: str, *args: Any) -> Any:
        """Run a script in the page and return what it returns."""
        return self.driver.execute_script(script, *args)

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until `condition()` is true and return its value."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, PATIENCE, poll_frequency=0.1).until(lambda _: condition())

    def text(self, css: str) -> str:
        """All text below the first element that matches."""
        return str(self.js("return document.querySelector(arguments[0]).textContent", css))

    def select(self, element_id: str, label: str) -> None:
        """Choose an entry of a select."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import Select

        Select(self.driver.find_element(By.ID, element_id)).select_by_visible_text(label)

    def hover(self, plot: str, spot: int, expect: str) -> str:
        """Hover over a spot of a map until its label contains `expect`; return the label."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        where = """
            const plot = document.getElementById(arguments[0]);
            plot.scrollIntoView({block: "center", behavior: "instant"});
            const box = plot.getBoundingClientRect(), {xaxis, yaxis} = plot._fullLayout;
            const trace = plot.data[0], k = arguments[1];
            return [box.left + xaxis._offset + xaxis.d2p(trace.x[k]),
                    box.top + yaxis._offset + yaxis.d2p(trace.y[k])];
        """

        def label() -> str:
            x, y = self.js(where, plot, spot)
            for nudge in (3, 0):  # only a moving pointer is noticed
                actions = ActionBuilder(self.driver, duration=50)
                actions.pointer_action.move_to_location(round(x) + nudge, round(y))
                actions.perform()
            text = self.text(f"#{plot} .hoverlayer")
            return text if expect in text else ""

        return str(self.until(label))

    def errors(self) -> list[str]:
        """Errors in the console since the page was opened."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """URLs requested since the page was opened, except the file itself."""
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        urls = [
            e["params"]["request"]["url"]
            for e in events
            if e["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith(("file:", "data:", "blob:", "about:"))]


@pytest.fixture(scope="session")
def page_data() -> Callable[[Path], dict[str, Any]]:
    """Read the data that the script of a page draws."""

    def page_data(path: Path) -> dict[str, Any]:
        text = path.read_text(encoding="utf-8")
        found = re.search(
            r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL
        )
        assert found is not None
        return json.loads(found[1])

    return page_data


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory, phantom_h5: Path) -> Path:
    """The phantom slides with a small embedding of two sizes."""
    from histoboost.featurize import featurize

    path = tmp_path_factory.mktemp("report") / "store.zarr"
    featurize(phantom_h5, path, backbone="stain-texture", patch=[16, 32])
    return path


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory, store_path: Path) -> Path:
    """A small LightGBM model trained on S_1 and S_2, but not on S_3, which is labelled, too."""
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.model import CompositionRegressor

    path = tmp_path_factory.mktemp("report") / "model"
    model = CompositionRegressor(
        "*+*:ring1+*:ring2+coords", "lightgbm", options={"n_estimators": 40}
    )
    model.fit(EmbeddingStore(store_path, mode="r"), ["S_1", "S_2"]).save(path)
    return path


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A headless Chromium of 1280 x 900 px; skips where there is none."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver_path = shutil.which("chromedriver")
    if browser is None or driver_path is None:
        pytest.skip("no chromium or no chromedriver; apt-get install chromium chromium-driver")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,900",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    driver = Chrome(options=options, service=Service(driver_path))
    driver.set_page_load_timeout(PATIENCE)
    driver.set_script_timeout(PATIENCE)
    try:
        yield Page(driver)
    finally:
        driver.quit()
