"""Two runs of the real DAG that differ in one thing: the difference ends at that thing."""

import gzip
import sys
from importlib import metadata
from pathlib import Path

import pytest

from boldscribe.provenance.difference import Cause, compare
from boldscribe.provenance.explain import read_cell
from tests.conftest import Checkout
from tests.test_audit import edit, pretend_version

pytestmark = [pytest.mark.dag, pytest.mark.slow, pytest.mark.usefixtures("finished_run")]

TABLE = "results/tiny/tables/urgen.csv"
RAW = "raw/urgen/sub-03/func/sub-03_task-action_run-02_bold.nii.gz"


def causes(a: Checkout, b: Checkout) -> list[Cause]:
    return compare(a.results, b.results).causes


def test_equal_runs_have_no_difference(checkout: Checkout, tmp_path: Path) -> None:
    found = compare(checkout.results, checkout.copy(tmp_path / "same").results)
    assert found.number is None and found.causes == [] and found.steps == []


def test_another_seed(checkout: Checkout, tmp_path: Path) -> None:
    other = checkout.copy(tmp_path / "seed")
    other.snakemake("results/tiny/checked/urgen.json", "--config", "seed=7")  # simulation alone: all that follows would take minutes
    found = compare(checkout.results, other.results)
    assert {"raw/urgen/stimuli", "raw/urgen/sub-01"} <= set(found.steps)
    assert [(c.kind, c.name, c.what) for c in found.causes] == [("seed", "raw/urgen/stimuli", "seed: 42 in A, 7 in B")]
    said = other.run(sys.executable, "-m", "boldscribe.cli", "diff", str(checkout.results), str(other.results)).stdout
    assert "First cause (seed) at raw/urgen/stimuli: seed: 42 in A, 7 in B" in said


def test_one_line_of_a_loss(checkout: Checkout, tmp_path: Path) -> None:
    other = checkout.copy(tmp_path / "loss")
    edit("boldscribe/losses.py", "alpha * difference.abs()", "alpha * 3 * difference.abs()")(other)
    other.snakemake(TABLE)
    found = compare(checkout.results, other.results)
    assert found.number is not None and found.number.table == "tables/urgen.csv" and found.n_numbers > 10
    assert [(c.kind, c.name, c.what) for c in found.causes] == [("code", "stage1/urgen/model", "code: boldscribe.losses.l2_l1_loss")]


def test_a_package_version(checkout: Checkout, tmp_path: Path) -> None:
    other = checkout.copy(tmp_path / "package")
    pretend_version(tmp_path, "pycocoevalcap", "9.9.9")
    other.variables["PYTHONPATH"] = str(tmp_path)
    other.snakemake(TABLE)
    found = compare(checkout.results, other.results)
    assert found.number is None, "the same code under another number gives the same scores"
    assert {(c.kind, c.what) for c in found.causes} == {
        ("environment", f"packages: pycocoevalcap {metadata.version('pycocoevalcap')} in A, 9.9.9 in B")
    }


def test_one_raw_volume(checkout: Checkout, tmp_path: Path) -> None:
    other = checkout.copy(tmp_path / "raw")
    content = bytearray(gzip.decompress((other.results / RAW).read_bytes()))
    volume = len(content) // 30
    content[-volume:] = content[-2 * volume : -volume]
    (other.results / RAW).write_bytes(gzip.compress(bytes(content), 1))
    other.snakemake(TABLE, "--forcerun", "results/tiny/derivatives/urgen/sub-03")
    found = compare(checkout.results, other.results)
    assert found.number is not None
    [cause] = found.causes
    assert (cause.kind, cause.name) == ("data", "raw/urgen/sub-03") and Path(RAW).name in cause.what


def test_explaining_a_cell_ends_at_raw_data_and_assets(checkout: Checkout) -> None:
    path = checkout.results / "tables" / "had.csv"
    value = read_cell(path, "Subject-1", "bertscore", "model").value
    command = [sys.executable, "-m", "boldscribe.cli", "explain", str(path), "--row", "Subject-1", "--column", "bertscore"]
    said = checkout.run(*command).stdout
    assert f"Subject-1, model, bertscore: {value:.2f}" in said
    for part in (
        "12 trials scored",
        "decoded/had/condition-model.parquet",
        "stage2/had/model",
        "models/llm",
        "raw/had/sub-01",
        "asset smollm2",
    ):
        assert part in said, part
    assert "condition-noise" not in said, "other conditions made no part of this number"
    brief = checkout.run(*command, "--brief").stdout
    assert "asset smollm2" in brief and "fingerprint" in said and "fingerprint" not in brief
    failed = checkout.run(*command[:-1], "no-such-score", check=False)
    assert failed.returncode == 1 and "columns bertscore" in failed.stderr
