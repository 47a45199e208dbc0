"""How large the report is, how long it takes to write, to open and to search, with 10,000 trials under every condition.

    python -m benchmarks.report [--trials 5000] [--report results/demo/report.html]

Needs chromium and playwright (docs/report.md). Trials are per data set and made up (tests/report_results.py), two data sets.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from boldscribe.report.page import write_report
from tests.report_results import write_results

REPEATS = 5
SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 360, "height": 740}}


def main() -> None:
    """Write or take a report, open it `REPEATS` times at both sizes, and print what it took (median)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000, help="of a data set")
    parser.add_argument("--report", type=Path, help="a report that is there already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = arguments.report or _written(Path(folder), arguments.trials)
        print(f"size {report.stat().st_size / 1e6:.2f} MB")
        for name, viewport in SIZES.items():
            measured = [_opened(report.absolute(), viewport) for _ in range(REPEATS)]
            loads, searches = (sorted(values)[REPEATS // 2] for values in zip(*measured, strict=True))
            print(f"{name}: loaded in {loads:.0f} ms, all trials unpacked and searched in {searches:.0f} ms (median of {REPEATS})")


def _written(folder: Path, n_trials: int) -> Path:
    config, files = write_results(folder, n_trials // 2)  # of each of two subjects
    start = time.perf_counter()
    write_report(config, files, folder / "report.html")
    print(f"written in {time.perf_counter() - start:.1f} s")
    return folder / "report.html"


def _opened(report: Path, viewport: dict[str, int]) -> tuple[float, float]:
    """Milliseconds to the load event, and from there until the first data set's trials are unpacked and searched."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=viewport)  # type: ignore[arg-type]
        page.goto(report.as_uri())
        load = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        start = time.perf_counter()
        trials = page.locator("[data-trials]").first
        trials.scroll_into_view_if_needed()
        trials.locator("td").first.wait_for()
        trials.locator("[data-role=search]").fill("kicking")
        page.wait_for_timeout(150)  # the page waits 120 ms for further keys
        trials.locator("td").first.wait_for()
        search = 1000 * (time.perf_counter() - start)
        browser.close()
        return float(load), search


if __name__ == "__main__":
    main()
