"""The audit on a finished run of the real DAG: each fault is caught with the right verdict, in the right place, and nothing else is;
and what it calls stale is what Snakemake would make again."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Checkout

pytestmark = [pytest.mark.dag, pytest.mark.slow, pytest.mark.usefixtures("finished_run")]

AFTER_SCORES = {
    *(f"scores/{d}{end}.parquet" for d in ("had", "urgen") for end in ("", "_pairs")),
}
AFTER_TABLES = {
    *(f"tables/{d}{end}" for d in ("had", "urgen") for end in (".csv", ".md", ".tex", "_differences.csv", "_tests.csv", "_left_out.csv")),
    "report.html",
    "provenance.html",
}
AFTER_IDENTIFICATION = AFTER_SCORES | AFTER_TABLES | {f"reliability/{d}.csv" for d in ("had", "urgen")}
# What is chosen by metrics; the LLM writes nothing again.
AFTER_BEST_CAPTIONS = {
    *(f"stimuli/{d}/best_captions.parquet" for d in ("had", "urgen")),
    *(f"decoded/{d}/condition-{condition}.parquet" for d in ("had", "urgen") for condition in ("constant", "predictedclass")),
}
TABLE = "tables/had.csv"
RECORD = f"{TABLE}.prov.json"
IDENTIFICATION = "boldscribe/evaluation/identification.py"
RAW = "results/tiny/raw/had/sub-01/func/sub-01_task-action_run-01_bold.nii.gz"
LLM = "results/tiny/models/llm/model.safetensors"
LINK = "models/connectors"
CONNECTORS = "boldscribe/models/weights/connectors.safetensors"
Change = Callable[[Checkout], None]


def audit(checkout: Checkout, *options: str) -> dict[str, str]:
    """Path → verdict of everything that is not verified."""
    done = checkout.run(sys.executable, "-m", "boldscribe.cli", "audit", "results/tiny", "--json", *options, check=False)
    assert done.stdout, done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert len(findings) > 80
    found = {f["path"]: f["verdict"] for f in findings if f["verdict"] != "verified"}
    verdicts = set(found.values())
    assert done.returncode == (4 if verdicts & {"tampered", "unrecorded", "orphan"} else 3 if verdicts else 0)
    return found


def reasons(checkout: Checkout, name: str) -> str:
    done = checkout.run(sys.executable, "-m", "boldscribe.cli", "audit", "results/tiny", "--json", check=False)
    return " ".join(r["why"] for f in json.loads(done.stdout)["findings"] if f["path"] == name for r in f["reasons"])


def planned(checkout: Checkout) -> set[str]:
    """Outputs that Snakemake would make again."""
    lines = [line.split("\t") for line in checkout.snakemake("--summary").stdout.splitlines() if "\t" in line]
    place, plan = lines[0].index("output_file"), lines[0].index("plan")
    return {line[place].removeprefix("results/tiny/") for line in lines[1:] if line[plan] == "update pending"}


def edit(name: str, before: str, after: str) -> Change:
    def change(checkout: Checkout) -> None:
        text = (checkout.root / name).read_text()
        assert before in text
        (checkout.root / name).write_text(text.replace(before, after, 1))

    return change


@pytest.fixture
def changed(checkout: Checkout, tmp_path: Path) -> Iterator[Callable[[str, Change], Checkout]]:
    """Change a file of the checkout for one test; the original, times and all, is put back."""
    kept: list[tuple[Path, Path]] = []

    def do(name: str, change: Change) -> Checkout:
        path, original = checkout.root / name, tmp_path / Path(name).name
        path.rename(original)
        shutil.copy2(original, path)
        kept.append((original, path))
        change(checkout)
        return checkout

    yield do
    for original, path in kept:
        original.replace(path)
    checkout.variables.clear()


def test_a_finished_run_is_verified_in_full_and_fast_and_nothing_is_planned(checkout: Checkout) -> None:
    assert audit(checkout) == {}
    assert audit(checkout, "--fast") == {}
    assert planned(checkout) == set()


@pytest.mark.parametrize(
    "name, before, after, stale",
    [
        pytest.param(IDENTIFICATION, "TOLERANCE = 1e-6", "TOLERANCE = 1e-5", AFTER_IDENTIFICATION, id="function"),
        pytest.param("boldscribe/losses.py", "import math\n", "# a remark\nimport math  # another\n", None, id="comment"),
        pytest.param("boldscribe/losses.py", '"""Equation 1:', '"""The first equation:', None, id="docstring"),
        pytest.param("workflow_scripts/tables.py", "from boldscribe", "# a remark\nfrom boldscribe", None, id="comment in a program"),
        pytest.param("tests/tiny/experiment.yaml", "sc_mbm:", "connectors: {n_clips: 99}\nsc_mbm:", None, id="unused key"),
        pytest.param(
            "tests/tiny/experiment.yaml", "sc_mbm:", "evaluation: {bootstrap_samples: 500}\nsc_mbm:", AFTER_TABLES, id="used key"
        ),
    ],
)  # fmt: skip
def test_what_is_stale_is_what_snakemake_makes_again(
    changed: Callable[[str, Change], Checkout], name: str, before: str, after: str, stale: set[str] | None
) -> None:
    checkout = changed(name, edit(name, before, after))
    assert audit(checkout) == dict.fromkeys(stale or set(), "stale")
    assert planned(checkout) == (stale or set())


@pytest.mark.parametrize("package, more", [("pycocoevalcap", set()), ("rouge_score", AFTER_BEST_CAPTIONS)])
def test_another_package_version_makes_stale_what_uses_it(
    changed: Callable[[str, Change], Checkout], tmp_path: Path, package: str, more: set[str]
) -> None:
    checkout = changed("README.md", lambda c: None)
    pretend_version(tmp_path, package, "9.9.9")
    checkout.variables["PYTHONPATH"] = str(tmp_path)
    stale = AFTER_SCORES | AFTER_TABLES | more
    assert audit(checkout) == dict.fromkeys(stale, "stale")
    assert f"{package.replace('_', '-')} 9.9.9, was {metadata.version(package)}" in reasons(checkout, "scores/had.parquet")
    assert planned(checkout) == stale


def pretend_version(folder: Path, package: str, version: str) -> None:
    """Metadata of the installed package, but for the version, in a folder that Python searches first."""
    installed = metadata.distribution(package)
    text = (installed.read_text("METADATA") or "").replace(f"\nVersion: {installed.version}\n", f"\nVersion: {version}\n")
    info = folder / f"{package}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(text)


def _edit_result(name: str, before: str, after: str) -> tuple[str, Change]:
    return f"results/tiny/{name}", edit(f"results/tiny/{name}", before, after)


def _flip_byte(name: str) -> tuple[str, Change]:
    """Another content under the same size and modification time."""

    def change(checkout: Checkout) -> None:
        path = checkout.root / name
        stat = path.stat()
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert path.stat().st_size == stat.st_size and path.stat().st_mtime_ns == stat.st_mtime_ns

    return name, change


def _delete(name: str) -> tuple[str, Change]:
    return f"results/tiny/{name}", lambda checkout: (checkout.results / name).unlink()


@pytest.mark.parametrize(
    "name, change, expected, words",
    [
        pytest.param(*_edit_result(TABLE, "had,Subject-1,03,model", "had,Subject-1,03,modeI"), {TABLE: "tampered"}, "had.csv", id="table"),
        pytest.param(*_edit_result(RECORD, '"exit": "completed"', '"exit": "complete"'), {TABLE: "tampered"}, "record", id="record"),
        pytest.param(*_flip_byte(RAW), {"raw/had/sub-01": "tampered"}, "sub-01_task-action_run-01_bold.nii.gz", id="raw BOLD"),
        pytest.param(*_flip_byte(LLM), {"models/llm": "tampered"}, "model.safetensors", id="weights"),
        pytest.param(*_flip_byte(CONNECTORS), {f"[checkout]/{CONNECTORS}": "tampered", LINK: "tampered"}, "asset", id="asset"),
        pytest.param(*_delete(TABLE), {TABLE: "tampered"}, "is gone", id="deleted"),
        pytest.param(*_delete(RECORD), {TABLE: "unrecorded"}, "record is gone", id="record deleted"),
        pytest.param(*_delete("stage1/had/model.prov.json"), {"stage1/had/model": "unrecorded"}, "record is gone", id="record of a folder"),
    ],
)  # fmt: skip
def test_what_was_tampered_with_is_named_alone(
    changed: Callable[[str, Change], Checkout], name: str, change: Change, expected: dict[str, str], words: str
) -> None:
    checkout = changed(name, change)
    assert audit(checkout) == audit(checkout, "--fast") == expected
    assert words in reasons(checkout, next(iter(expected)))


def test_a_line_taken_out_of_the_ledger_is_missed(changed: Callable[[str, Change], Checkout]) -> None:
    name = "results/tiny/ledger/ledger.jsonl"
    gone: dict[str, Any] = {}

    def take_out(checkout: Checkout) -> None:
        lines = (checkout.root / name).read_text().splitlines()
        number = next(i for i, line in enumerate(lines) if '"rule": "bold_series"' in line)
        gone.update(json.loads(lines.pop(number))["entry"])
        (checkout.root / name).write_text("\n".join(lines) + "\n")

    checkout = changed(name, take_out)
    assert audit(checkout) == {"ledger/ledger.jsonl": "tampered"} | {o["path"]: "unrecorded" for o in gone["outputs"]}


def test_an_orphan_is_found(checkout: Checkout) -> None:
    orphan = checkout.results / "tables" / "had_better.csv"
    orphan.write_text("a number from nowhere\n")
    assert audit(checkout) == {"tables/had_better.csv": "orphan"}
    orphan.unlink()


def test_an_output_of_another_run_with_its_record_is_not_taken_for_this_ones(checkout: Checkout, tmp_path: Path) -> None:
    other = checkout.copy(tmp_path / "other")
    edit("tests/tiny/experiment.yaml", "sc_mbm:", "evaluation: {bootstrap_samples: 500}\nsc_mbm:")(other)
    other.snakemake(f"results/tiny/{TABLE}")
    here = checkout.copy(tmp_path / "here")
    for name in (TABLE, RECORD):
        shutil.copy2(other.results / name, here.results / name)
    assert audit(here) == {TABLE: "tampered"}


def test_without_snakemakes_own_folder_the_audit_is_the_same(checkout: Checkout, tmp_path: Path) -> None:
    bare = checkout.copy(tmp_path / "bare")
    shutil.rmtree(bare.root / ".snakemake")
    assert audit(bare) == {}


def test_what_uncommitted_code_has_made_is_called_so(checkout: Checkout, tmp_path: Path) -> None:
    dirty = checkout.copy(tmp_path / "dirty")
    edit("boldscribe/evaluation/comparisons.py", 'CHANCE = "chance"', 'CHANCE = "by chance"')(dirty)
    dirty.snakemake()
    assert audit(dirty) == dict.fromkeys(AFTER_TABLES - {"provenance.html"}, "uncommitted")
    edit("boldscribe/evaluation/comparisons.py", 'CHANCE = "by chance"', 'CHANCE = "chance"')(dirty)
    dirty.snakemake()
    assert audit(dirty) == {}


def test_what_other_packages_than_the_locks_have_made_is_unpinned(checkout: Checkout, tmp_path: Path) -> None:
    other = checkout.copy(tmp_path / "unpinned")
    pretend_version(tmp_path, "pycocoevalcap", "9.9.9")
    other.variables["PYTHONPATH"] = str(tmp_path)
    other.snakemake()
    assert audit(other) == dict.fromkeys(AFTER_SCORES, "unpinned")
