"""A real browser for the pages of `semivit label` and for reports.

`open_page` gives pages that fail the test where their console tells an error, a file of theirs is missing, or they ask
anything of the network. Reports on a disk are opened as `file://` addresses.
"""

import os
import urllib.parse

import pytest

from tests.browser import chromium


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window."""
    if why := chromium.why_not():
        if os.environ.get(chromium.REQUIRED):
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium.binary(), args=chromium.flags())
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser):
    """address -> a page that shows it; what goes wrong in it until the test ends fails the test.

    A test that expects some of them takes them out of `page.problems`.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    pages = []

    def opened(address):
        page = context.new_page()
        page.problems = []
        page.on("console", lambda told: told.type in ("error", "warning") and page.problems.append(told.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda asked: is_elsewhere(asked.url) and page.problems.append(f"asks for {asked.url}"))
        page.goto(address)
        pages.append(page)
        return page

    yield opened
    problems = [problem for page in pages for problem in page.problems]
    context.close()
    assert not problems


def is_elsewhere(address):
    """Whether an address leaves this machine."""
    found = urllib.parse.urlsplit(address)
    return found.scheme in ("http", "https", "ws", "wss") and found.hostname not in ("127.0.0.1", "localhost")
