"""The audit on a finished run of the toy workflow: each fault is caught with the right verdict, in the right place, and nothing else is;
and what it calls stale is what Snakemake would make again. Two of these are shown on the real DAG (tests/dag/test_run.py)."""

import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.auditing import Change, audit, changed, edit, flip_byte, planned, pretend_version, reasons
from tests.conftest import Checkout

AFTER_TABLES = {*(f"tables/{d}{end}" for d in ("had", "urgen") for end in (".csv", ".md")), "provenance.html"}
AFTER_SCORES = {f"scores/{d}.parquet" for d in ("had", "urgen")} | AFTER_TABLES
IDENTIFICATION = "boldscribe/evaluation/identification.py"
EXPERIMENT = "tests/toy/experiment.yaml"
SETTINGS = "evaluation: {bootstrap_samples: 200}"
RESULTS = "results/toy"
TABLE = "tables/had.csv"
RECORD = f"{TABLE}.prov.json"
CONNECTORS = "boldscribe/models/weights/connectors.safetensors"
OUR_TITLE = 'TITLE = "Identification of"', 'TITLE = "Identification in"'


def delete(name: str) -> Change:
    return lambda checkout: (checkout.root / name).unlink()


def test_a_finished_run_is_verified_in_full_and_fast_and_nothing_is_planned(toy: Checkout) -> None:
    assert audit(toy) == {}
    assert audit(toy, "--fast") == {}
    assert planned(toy) == set()


@pytest.mark.parametrize(
    "name, before, after, stale",
    [
        pytest.param(IDENTIFICATION, "TOLERANCE = 1e-6", "TOLERANCE = 1e-5", AFTER_SCORES, id="function"),
        pytest.param(IDENTIFICATION, "import numpy as np\n", "# a remark\nimport numpy as np  # another\n", set(), id="comment"),
        pytest.param(IDENTIFICATION, '"""Identification: whether', '"""Whether', set(), id="docstring"),
        pytest.param("workflow_scripts/tables.py", "from boldscribe", "# a remark\nfrom boldscribe", set(), id="comment in a program"),
        pytest.param(EXPERIMENT, SETTINGS, f"{SETTINGS}\nconnectors: {{n_clips: 99}}", set(), id="unused key"),
        pytest.param(EXPERIMENT, SETTINGS, SETTINGS.replace("200", "500"), AFTER_TABLES, id="used key"),
    ],
)
def test_what_is_stale_is_what_snakemake_makes_again(toy: Checkout, name: str, before: str, after: str, stale: set[str]) -> None:
    with changed(toy, name, edit(name, before, after)):
        assert audit(toy) == dict.fromkeys(stale, "stale")
        assert planned(toy) == stale


@pytest.mark.parametrize(
    "package, user, stale", [("pycocoevalcap", "scores/had.parquet", AFTER_SCORES), ("networkx", "provenance.html", {"provenance.html"})]
)
def test_another_package_version_makes_stale_what_uses_it(toy: Checkout, tmp_path: Path, package: str, user: str, stale: set[str]) -> None:
    pretend_version(tmp_path, package, "9.9.9")
    toy.variables["PYTHONPATH"] = str(tmp_path)
    try:
        assert audit(toy) == dict.fromkeys(stale, "stale")
        assert f"{package} 9.9.9, was {metadata.version(package)}" in reasons(toy, user)
        assert planned(toy) == stale
    finally:
        toy.variables.clear()


@pytest.mark.parametrize(
    "name, change, expected, words",
    [
        pytest.param(TABLE, edit(f"{RESULTS}/{TABLE}", "had,Total", "had,Tota1"), {TABLE: "tampered"}, "had.csv", id="table"),
        pytest.param(RECORD, edit(f"{RESULTS}/{RECORD}", '"completed"', '"complete"'), {TABLE: "tampered"}, "record", id="record"),
        pytest.param(
            raw := "raw/had/sub-01/func/run-01_bold.npy",
            flip_byte(f"{RESULTS}/{raw}"),
            {"raw/had/sub-01": "tampered"},
            raw[-15:],
            id="raw BOLD",
        ),
        pytest.param(
            llm := "models/llm/weights.npy", flip_byte(f"{RESULTS}/{llm}"), {"models/llm": "tampered"}, "weights.npy", id="weights"
        ),
        pytest.param(
            f"../../{CONNECTORS}",
            flip_byte(CONNECTORS),
            {f"[checkout]/{CONNECTORS}": "tampered", "models/connectors": "tampered"},
            "asset",
            id="asset",
        ),
        pytest.param(TABLE, delete(f"{RESULTS}/{TABLE}"), {TABLE: "tampered"}, "is gone", id="deleted"),
        pytest.param(RECORD, delete(f"{RESULTS}/{RECORD}"), {TABLE: "unrecorded"}, "record is gone", id="record deleted"),
        pytest.param(
            of_folder := "stage1/had/model.prov.json",
            delete(f"{RESULTS}/{of_folder}"),
            {"stage1/had/model": "unrecorded"},
            "record is gone",
            id="record of a folder",
        ),
    ],
)
def test_what_was_tampered_with_is_named_alone(toy: Checkout, name: str, change: Change, expected: dict[str, str], words: str) -> None:
    with changed(toy, f"{RESULTS}/{name}", change):
        assert audit(toy) == audit(toy, "--fast") == expected
        assert words in reasons(toy, next(iter(expected)))


def test_a_line_taken_out_of_the_ledger_is_missed(toy: Checkout) -> None:
    name = f"{RESULTS}/ledger/ledger.jsonl"
    gone: dict[str, Any] = {}

    def take_out(checkout: Checkout) -> None:
        lines = (checkout.root / name).read_text().splitlines()
        number = next(i for i, line in enumerate(lines) if '"rule": "bold_series"' in line)
        gone.update(json.loads(lines.pop(number))["entry"])
        (checkout.root / name).write_text("\n".join(lines) + "\n")

    with changed(toy, name, take_out):
        assert audit(toy) == {"ledger/ledger.jsonl": "tampered"} | {o["path"]: "unrecorded" for o in gone["outputs"]}


def test_an_orphan_is_found(toy: Checkout) -> None:
    orphan = toy.results / "tables" / "had_better.csv"
    orphan.write_text("a number from nowhere\n")
    assert audit(toy) == {"tables/had_better.csv": "orphan"}
    orphan.unlink()


def test_an_output_of_another_run_with_its_record_is_not_taken_for_this_ones(toy: Checkout, tmp_path: Path) -> None:
    other, here = toy.copy(tmp_path / "other"), toy.copy(tmp_path / "here")
    edit(EXPERIMENT, SETTINGS, SETTINGS.replace("200", "500"))(other)
    other.snakemake(f"{RESULTS}/{TABLE}")
    for name in (TABLE, RECORD):
        shutil.copy2(other.results / name, here.results / name)
    assert audit(here) == {TABLE: "tampered"}


def test_without_snakemakes_own_folder_the_audit_is_the_same(toy: Checkout, tmp_path: Path) -> None:
    bare = toy.copy(tmp_path / "bare")
    shutil.rmtree(bare.root / ".snakemake")
    assert audit(bare) == {}


def test_what_uncommitted_code_has_made_is_called_so(toy: Checkout, tmp_path: Path) -> None:
    dirty = toy.copy(tmp_path / "dirty")
    edit("workflow_scripts/tables.py", *OUR_TITLE)(dirty)
    dirty.snakemake()
    assert audit(dirty) == dict.fromkeys(AFTER_TABLES - {"provenance.html"}, "uncommitted")
    edit("workflow_scripts/tables.py", *reversed(OUR_TITLE))(dirty)
    dirty.snakemake()
    assert audit(dirty) == {}


def test_what_other_packages_than_the_locks_have_made_is_unpinned(toy: Checkout, tmp_path: Path) -> None:
    other = toy.copy(tmp_path / "unpinned")
    pretend_version(tmp_path, "pycocoevalcap", "9.9.9")
    other.variables["PYTHONPATH"] = str(tmp_path)
    other.snakemake()
    assert audit(other) == {f"scores/{d}.parquet": "unpinned" for d in ("had", "urgen")}
