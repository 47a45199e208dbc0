"""The report in a real browser, without a screen: on a desk and on a phone, by keyboard, light and dark, with JavaScript and without.

Needs Debian's `chromium` (or another Chromium that `BOLDSCRIBE_CHROMIUM` names) and the package `playwright`, which drives it.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from boldscribe.report.page import write_report
from tests.report_results import write_results

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed (requirements.in)")
CHROMIUM = os.environ.get("BOLDSCRIBE_CHROMIUM") or shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH; apt-get install --no-install-recommends chromium"),
]
DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
N_TRIALS = 120

Opener = Callable[..., Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    write_report(*write_results(root, N_TRIALS), root / "report.html")
    return root / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Opener]:
    """Opens the report; any message of an error and any request but that for the page itself fails the test."""
    problems: list[str] = []

    @contextmanager
    def open_page(**options: Any) -> Iterator[Any]:
        context = browser.new_context(**options)
        page = context.new_page()
        page.on("console", lambda m: problems.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(f"failed: {request.url[:80]}"))

        def only_the_page(route: Any) -> None:
            if route.request.url == report.as_uri():
                route.continue_()
            else:
                problems.append(f"request: {route.request.url[:80]}")
                route.abort()

        page.route(lambda url: not url.startswith("data:"), only_the_page)
        page.goto(report.as_uri())
        yield page
        context.close()

    yield open_page
    assert problems == []


def scrolled_through(page: Any) -> None:
    """Scroll to the end of the page, which grows meanwhile, so that all lazy images are loaded."""
    top = 0
    while top < page.evaluate("document.documentElement.scrollHeight"):
        page.evaluate(f"scrollTo({{top: {top}, behavior: 'instant'}})")
        page.wait_for_timeout(10)
        top += 500
    assert page.evaluate("Promise.all([...document.images].map((image) => image.decode().then(() => image.naturalWidth > 0)))")


@pytest.mark.parametrize("colour_scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [DESK, PHONE], ids=["desk", "phone"])
def test_it_opens_without_error_or_request_and_fits_the_screen(opened: Opener, device: dict[str, Any], colour_scheme: str) -> None:
    with opened(**device, color_scheme=colour_scheme) as page:
        scrolled_through(page)
        for details in page.locator("details > summary").all():
            details.evaluate("(summary) => { summary.parentElement.open = true; }")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), "the page scrolls sideways"
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 20, 20)"}[colour_scheme]
        playwright.expect(page.locator("#had-trials [data-role=count]")).to_contain_text(f"of {2 * N_TRIALS}")
        assert page.locator("#had-trials tbody tr").count() == (10 if device is PHONE else 25)


def test_the_keyboard_reaches_links_search_and_folds_in_order_and_its_place_is_seen(opened: Opener) -> None:
    with opened(**DESK) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        reached: list[str] = []
        for _ in range(400):
            page.keyboard.press("Tab")
            place = page.evaluate("(() => { const e = document.activeElement; return e.dataset.role || e.tagName; })()")
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
            assert place == "BODY" or outline == "3px", place
            if place == "SUMMARY" and "SUMMARY" not in reached:
                page.keyboard.press("Enter")
                assert page.evaluate("document.activeElement.parentElement.open"), "Enter opens a fold"
            reached.append(place)
            if place == "search":
                break
        assert reached[-1] == "search" and {"A", "SUMMARY", "DIV"} <= set(reached)
        page.keyboard.type("kicking")
        playwright.expect(page.locator("#had-trials [data-role=count]")).to_contain_text("Trials 1 to 25 of")
        playwright.expect(page.locator("#had-trials [data-role=count]")).not_to_contain_text(f"of {2 * N_TRIALS}")
        for role in ("condition", "subject", "order"):
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.dataset.role") == role


def test_search_filters_and_headings_sort_all_trials(opened: Opener) -> None:
    with opened(**DESK) as page:
        table = page.locator("#had-trials")
        table.scroll_into_view_if_needed()
        count, rows = table.locator("[data-role=count]"), table.locator("tbody tr")
        playwright.expect(count).to_have_text(f"Trials 1 to 25 of {2 * N_TRIALS}")
        table.locator("[data-role=next]").click()
        playwright.expect(count).to_have_text(f"Trials 26 to 50 of {2 * N_TRIALS}")
        table.locator("[data-role=search]").fill("rowing PARK")
        playwright.expect(count).not_to_contain_text(f"of {2 * N_TRIALS}")
        texts = [row.lower() for row in rows.all_inner_texts()]
        assert texts and all("park" in text for text in texts)
        table.locator("[data-role=search]").fill("no such words")
        playwright.expect(count).to_have_text("No trial contains these words.")
        table.locator("[data-role=search]").fill("")
        table.locator("[data-role=subject]").select_option("06")
        playwright.expect(count).to_have_text(f"Trials 1 to 25 of {N_TRIALS}")
        heading = table.locator("th", has_text="BERTScore")
        heading.locator("button").click()
        playwright.expect(heading).to_have_attribute("aria-sort", "descending")
        assert rows.first.locator("td.score").first.inner_text() == "90.0"
        heading.locator("button").click()
        playwright.expect(heading).to_have_attribute("aria-sort", "ascending")
        assert rows.first.locator("td.prediction").inner_text() == "(empty)"
        table.locator("[data-role=condition]").select_option("llm")
        playwright.expect(rows.first.locator("td.prediction")).not_to_have_text("(empty)")
        shown = [float(v) for v in rows.locator("td.score:nth-child(5)").all_inner_texts()]
        assert len(shown) == 25 and shown == sorted(shown)


def test_all_but_search_works_without_javascript(opened: Opener) -> None:
    with opened(**PHONE, java_script_enabled=False) as page:
        playwright.expect(page.locator("#had-trials")).to_be_hidden()
        page.locator("summary", has_text="trials of the model").first.click()
        rows = page.locator("noscript .trials tbody tr")
        playwright.expect(rows.first).to_be_visible()
        assert rows.count() == 2 * 2 * N_TRIALS
        page.locator("summary", has_text="Subject-1").first.click()
        playwright.expect(page.locator("details[open] table.scores").first).to_be_visible()
        with page.expect_download() as download:
            page.locator("a[download='had.csv']").click()
        assert Path(download.value.path()).read_text().startswith("dataset,row,subject")


def test_it_prints(opened: Opener) -> None:
    with opened(**DESK, color_scheme="dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", "dark screens print on white"
        assert not page.locator(".tools").first.is_visible()
        assert page.pdf(format="A4").startswith(b"%PDF")
