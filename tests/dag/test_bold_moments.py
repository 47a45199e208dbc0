"""BOLD Moments end to end at its smallest size: from `boldscribe fetch` on a server to tables with both references and a noise ceiling."""

from __future__ import annotations

import re

import pandas as pd
import pytest
import yaml

from boldscribe.starting.known import BOLD_MOMENTS
from tests.bold_moments_layout import BoldMoments, experiment
from tests.conftest import ROOT, SNAKEMAKE, Checkout, new_checkout
from tests.file_server import FileServer

pytestmark = pytest.mark.slow
# the models of the demo, at the size of the layout's voxels
SMALL = {
    "paths": {"results": "results/tiny"},
    "preprocessing": {"space": "MNI152NLin2009cAsym", "resolution": 16.0},
    "bold": {"smoothing_fwhm": 0.0},
    "tokenizer": {"grid": [16, 16, 16]},
    "stage1": {"epochs": 8, "patience": 8, "holdout": 0.2},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, list[str], str]:
    """A run that ended in tables, its configuration files, and the plan made before anything was fetched."""
    checkout = new_checkout(tmp_path_factory.mktemp("bold_moments"))
    made = BoldMoments(tmp_path_factory.mktemp("authors") / "ds005165", train_clips=48, test_clips=16).write()
    server = FileServer({path.relative_to(made.root).as_posix(): path.read_bytes() for path in made.root.rglob("*") if path.is_file()})
    folder = checkout.root / "own"
    folder.mkdir()
    with server.running():
        own = experiment(folder, made, server.url)
        (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
        files = [
            str(ROOT / "profiles/demo/experiment.yaml"),
            "tests/tiny/experiment.yaml",
            str(BOLD_MOMENTS),
            str(own),
            str(folder / "small.yaml"),
        ]
        options = [word for path in ("config.yaml", *files) for word in ("--config", path)]
        plan = checkout.run("boldscribe", "plan", *options, check=False).stdout
        checkout.run("boldscribe", "fetch", "data", "boldmoments", *options)
    made.write_clips(folder / "data/stimuli")
    checkout.run(*SNAKEMAKE, "--configfile", *files)
    return checkout, options, plan


def test_the_run_ends_in_two_tables_and_a_ceiling(finished: tuple[Checkout, list[str], str]) -> None:
    results = finished[0].results
    scored = {}
    for end in ("", "_descriptions"):
        table = pd.read_csv(results / f"tables/boldmoments{end}.csv")
        scored[end] = table[(table["row"] == "Total") & (table["metric"] == "rouge_l_f")].set_index("condition")["value"]
        assert {"model", "captioner", "human", "ridge"} <= set(scored[end].index) and not table["condition"].str.contains("published").any()
        assert (table["n_trials"].dropna() == 16).all(), "one trial for each test clip: repeats are averaged"
    assert not scored[""].equals(scored["_descriptions"]), "they have different references"
    page = (results / "tables/boldmoments_descriptions.md").read_text()
    assert "annotations.json" in page
    ceiling = pd.read_csv(results / "reliability/boldmoments.csv", dtype={"subject": str}).set_index(["comparison", "subject"])
    assert ceiling.loc[("repeats of its test clips", "03"), "identification_2way"] > 90
    assert "BOLD Moments" in (results / "report.html").read_text()
    assert "No trial that was trained on shows a clip of the 16 test trials." in page


def test_the_plan_is_made_before_the_data_are_there(finished: tuple[Checkout, list[str], str]) -> None:
    assert re.search(r"boldmoments +raw data .* tables +2 ", finished[2], re.DOTALL), "and a table for each kind of reference"
    again = finished[0].run("boldscribe", "audit", str(finished[0].results), check=False)
    assert "verified" in again.stdout, again.stdout[-2000:]
