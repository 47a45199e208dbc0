"""Two runs of the toy workflow that differ in one thing: the difference ends at that thing."""

import sys
from importlib import metadata
from pathlib import Path

import numpy as np

from boldscribe.machinery.provenance.difference import Cause, compare
from tests.auditing import edit, pretend_version
from tests.conftest import Checkout

TABLE = "results/toy/tables/urgen.csv"
RAW = "raw/urgen/sub-03/func/run-02_bold.npy"


def causes(a: Checkout, b: Checkout) -> list[Cause]:
    return compare(a.results, b.results).causes


def test_equal_runs_have_no_difference(toy: Checkout, tmp_path: Path) -> None:
    found = compare(toy.results, toy.copy(tmp_path / "same").results)
    assert found.number is None and found.causes == [] and found.steps == []


def test_another_seed(toy: Checkout, tmp_path: Path) -> None:
    other = toy.copy(tmp_path / "seed")
    other.snakemake(TABLE, "--config", "seed=7")
    found = compare(toy.results, other.results)
    assert {"models/llm", "raw/urgen/sub-01"} <= set(found.steps)
    assert {(c.kind, c.what) for c in found.causes} == {("seed", "seed: 42 in A, 7 in B")}
    said = other.run(sys.executable, "-m", "boldscribe.cli", "diff", str(toy.results), str(other.results)).stdout
    assert "First cause (seed) at " in said and ": seed: 42 in A, 7 in B" in said


def test_one_line_of_a_function(toy: Checkout, tmp_path: Path) -> None:
    other = toy.copy(tmp_path / "function")
    edit("workflow_scripts/stage1.py", "weights * 0.9", "weights * 0.4")(other)
    other.snakemake(TABLE)
    found = compare(toy.results, other.results)
    assert found.number is not None and found.number.table == "tables/urgen.csv" and found.n_numbers == 1
    assert [(c.kind, c.name, c.what) for c in found.causes] == [("code", "stage1/urgen/model", "code: workflow_scripts.stage1.shrunk")]


def test_a_package_version(toy: Checkout, tmp_path: Path) -> None:
    other = toy.copy(tmp_path / "package")
    pretend_version(tmp_path, "pycocoevalcap", "9.9.9")
    other.variables["PYTHONPATH"] = str(tmp_path)
    other.snakemake(TABLE)
    found = compare(toy.results, other.results)
    assert found.number is None, "the same code under another number gives the same scores"
    assert {(c.kind, c.what) for c in found.causes} == {
        ("environment", f"packages: pycocoevalcap {metadata.version('pycocoevalcap')} in A, 9.9.9 in B")
    }


def test_one_raw_volume(toy: Checkout, tmp_path: Path) -> None:
    other = toy.copy(tmp_path / "raw")
    bold_TV = np.load(other.results / RAW)
    bold_TV[-1] = bold_TV[-2]
    np.save(other.results / RAW, bold_TV)
    other.snakemake(TABLE, "--forcerun", "results/toy/bold/urgen/sub-03_bold.npy")
    found = compare(toy.results, other.results)
    assert found.number is not None
    [cause] = found.causes
    assert (cause.kind, cause.name) == ("data", "raw/urgen/sub-03") and Path(RAW).name in cause.what
