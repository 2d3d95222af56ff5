#!/usr/bin/env python3
"""Opens the page of `tokenry serve` in a browser, and calls the API through the page.

    page.py TOKENRY

TOKENRY is the built command. The script needs Chromium with its driver, and a Python environment
with `selenium`. The browser can connect only to this machine. The script saves a screenshot of the
page as target/page.png.
"""

import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import yaml
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from serve import must, serving

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The script uses the first of these browsers that is installed. google-chrome comes first, because
# the driver on GitHub's machines is for google-chrome.
BROWSERS = ("google-chrome", "chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1200,1600",
)
WITHIN = 60  # The time limit for an element of the page to appear, in seconds.


@contextlib.contextmanager
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def main(tokenry):
    contract = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    paths = contract["paths"].values()
    operations = {
        operation["operationId"]
        for path in paths
        for name, operation in path.items()
        if name != "parameters"
    }
    with serving(tokenry, subprocess.DEVNULL) as start, browser() as driver:
        wait = WebDriverWait(driver, WITHIN)

        def find(selector):
            """Waits until the element is visible, and returns it."""
            seen = lambda _: driver.find_element(By.CSS_SELECTOR, selector)
            element = wait.until(lambda _: (each := seen(_)).is_displayed() and each)
            driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
            return element

        driver.get(f"{start['url']}/")
        find(".opblock")
        driver.save_screenshot(ROOT / "target/page.png")
        blocks = driver.find_elements(By.CSS_SELECTOR, ".opblock")
        ids = [block.get_attribute("id") for block in blocks]
        shown = {name for name in operations if any(each.endswith(f"-{name}") for each in ids)}
        must(
            shown == operations and len(ids) == len(operations),
            f"the page shows the {len(operations)} operations of openapi.yaml",
            ids,
        )

        find(".btn.authorize").click()
        find("#auth-bearer-value").send_keys(start["accountToken"])
        find(".auth-container .authorize").click()
        find(".btn-done").click()
        block = "[id$='-create-user-token']"
        find(f"{block} .opblock-summary-control").click()
        find(f"{block} .try-out__btn").click()
        user = find(f"{block} [data-param-name='id'] input")
        user.clear()
        user.send_keys(start["userId"])
        find(f"{block} .execute").click()
        status = find(f"{block} .live-responses-table .response .response-col_status").text
        answer = find(f"{block} .live-responses-table .highlight-code").text
        must(
            status.split()[0] == "200" and '"token": "tk_us_' in answer,
            "the page mints a token",
            status,
        )

        # At the level DEBUG, Chrome suggests attributes for Swagger UI's form for HTTP Basic.
        console = [entry for entry in driver.get_log("browser") if entry["level"] != "DEBUG"]
        must(console == [], "the browser's console is empty", console)
        log = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        sent = [entry["params"] for entry in log if entry["method"] == "Network.requestWillBeSent"]
        urls = [each["request"]["url"] for each in sent]
        own = [url for url in urls if url.startswith(f"{start['url']}/")]
        # The browser's own pages have `chrome:` URLs, and the page's icons have `data:` URLs.
        elsewhere = [url for url in urls if url not in own and url.split(":")[0] not in ("chrome", "data")]
        must(own and not elsewhere, f"the browser sent all {len(own)} requests to this server", elsewhere)
        ids = [each["requestId"] for each in sent if each["request"]["url"] in own]
        ends = [entry["params"] for entry in log if entry["method"] == "Network.loadingFailed"]
        failed = [each for each in ends if each["requestId"] in ids]
        must(not failed, "no request failed", failed)


main(*sys.argv[1:])
