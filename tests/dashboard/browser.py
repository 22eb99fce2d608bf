"""Drives Debian's Chromium through its own driver: pages, tables and tiles as a reader sees them.

Knows nothing of what is right; the suite does.
"""

import re
import shutil
from decimal import Decimal

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1360,900",
]
SIZES = {"light": (1360, 900), "dark": (1360, 900), "phone": (390, 844)}


class Browser:
    """One browser with a cookie jar of its own."""

    def __init__(self, base):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.base = base

    def quit(self):
        self.driver.quit()

    def dress(self, mode):
        """Light, dark, or as narrow as a phone."""
        width, height = SIZES[mode]
        theme = [{"name": "prefers-color-scheme", "value": "dark" if mode == "dark" else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": theme})
        self._size(width, height, mode == "phone")

    def _size(self, width, height, mobile):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def shoot(self, mode, path):
        """The whole page as a picture."""
        width, height = SIZES[mode]
        self._size(width, self.js("return document.documentElement.scrollHeight"), mode == "phone")
        self.driver.save_screenshot(path)
        self._size(width, height, mode == "phone")

    def open(self, path):
        self.driver.get(self.base + path)

    def path(self):
        return self.driver.current_url.removeprefix(self.base)

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def text(self):
        return self.js("return document.body.innerText")

    def complaints(self):
        """What the console was told since the last time: errors of scripts, and of the content security policy."""
        wrong = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        # A page that is refused on purpose is told, too.
        return [message for message in wrong if "Failed to load resource" not in message]

    def tile(self, label):
        return self.js("return document.querySelector('[data-tile=\"' + arguments[0] + '\"] .value').textContent", label)

    def note(self, label):
        return self.js("return document.querySelector('[data-tile=\"' + arguments[0] + '\"] .note').textContent", label)

    def rows(self, title):
        """The rows of the card with this title: the first cell, and a dict of all by column."""
        return self.js("""
            const card = [...document.querySelectorAll("section.card")].find((card) => card.querySelector("h2").textContent === arguments[0]);
            const heads = [...card.querySelectorAll("thead th")].map((head) => head.textContent);
            return [...card.querySelectorAll("tbody tr")].map((row) => {
              const cells = [...row.children].map((cell) => cell.textContent);
              return [cells[0], Object.fromEntries(cells.map((cell, at) => [heads[at], cell]))];
            });""", title)

    def table(self, title):
        """The same by name, where names are unique."""
        return dict(self.rows(title))

    def chart(self, chart_id):
        """The values behind a chart: a list for each series, without the total."""
        return self.js("""
            const figure = document.getElementById(arguments[0]);
            const heads = [...figure.querySelectorAll(".behind thead th")].slice(1);
            const rows = [...figure.querySelectorAll(".behind tbody tr")];
            const series = heads.map((head, at) => [head.textContent, rows.map((row) => Number(row.children[at + 1].dataset.v ?? 0))]);
            return Object.fromEntries(series.filter(([name]) => name !== "Total"));""", chart_id)


def number(text):
    """The first number in a text as people write it: `−$1,234.50`, `12.3 %`, `1.24 s`."""
    found = re.search(r"(−?)[^0-9−]*([0-9][0-9,]*(?:\.[0-9]+)?)", text)
    value = Decimal(found.group(2).replace(",", ""))
    return -value if found.group(1) else value


def shows(text, exact):
    """Whether a text shows an exact value, rounded as far as the text goes."""
    shown = number(text)
    step = Decimal(1).scaleb(shown.as_tuple().exponent)
    return abs(shown - Decimal(exact)) <= step / 2
