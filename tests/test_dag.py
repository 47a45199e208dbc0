"""The real DAG, every stage for real, at its smallest size: end to end, killed and taken up again, and the same bytes twice."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "results" / "tiny"
COMMAND = [
    sys.executable,
    "-m",
    "snakemake",
    "--profile",
    "profiles/demo",
    "--cores",
    "2",
    "--configfile",
    "profiles/demo/experiment.yaml",
    "tests/tiny/experiment.yaml",
]

pytestmark = [pytest.mark.dag, pytest.mark.slow, pytest.mark.xdist_group("dag")]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done


def finished_rules(log: str) -> list[str]:
    return [line.split(":")[1].strip().split()[0] for line in log.splitlines() if line.startswith(("rule ", "localrule "))]


def wait_for(what: Path, running: subprocess.Popen[bytes]) -> None:
    while not what.exists():
        assert running.poll() is None, f"the run ended before {what} was there"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def killed_then_finished() -> Iterator[dict[str, float]]:
    """Run until Stage I has saved a checkpoint, SIGKILL everything, and run again; gives the first run's finish times."""
    shutil.rmtree(TINY, ignore_errors=True)
    log = ROOT / "results" / "tiny-first-run.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as stream:
        first = subprocess.Popen(COMMAND, cwd=ROOT, stdout=stream, stderr=stream, start_new_session=True)
        try:
            while not list(TINY.glob("work/stage1/*/*/*.safetensors")):
                assert first.poll() is None, log.read_text()[-4000:]
                time.sleep(0.1)
        finally:
            if first.poll() is None:
                os.killpg(first.pid, signal.SIGKILL)
                first.wait()
    assert not (TINY / "tables").exists()
    before = {p.as_posix(): p.stat().st_mtime for kind in ("bold", "trials", "sc_mbm") for p in TINY.glob(f"{kind}/*/*.prov.json")}
    assert before
    run("--unlock")
    run()
    yield before


def test_a_killed_run_goes_on_without_redoing_finished_stages(killed_then_finished: dict[str, float]) -> None:
    assert {path: Path(path).stat().st_mtime for path in killed_then_finished} == killed_then_finished


def test_the_run_ends_in_tables_and_report(killed_then_finished: dict[str, float]) -> None:
    for dataset in ("had", "urgen"):
        for suffix in ("csv", "md", "tex"):
            assert (TINY / "tables" / f"{dataset}.{suffix}").stat().st_size > 200
        assert "imulated" in (TINY / "tables" / f"{dataset}.md").read_text()
        scores = pd.concat([pd.read_parquet(p) for p in TINY.glob(f"scores/{dataset}/*.parquet")])
        assert set(scores.condition) == {"model", "llm", "shuffled", "noise"}
        assert (scores.groupby("condition").size() == 12).all(), "every test trial is scored under every condition"
    assert "<html" in (TINY / "report.html").read_text()


def test_every_result_has_a_record_that_fits_it(killed_then_finished: dict[str, float]) -> None:
    from boldscribe.provenance.record import digest

    records = [p for p in TINY.rglob("*.prov.json") if "work" not in p.relative_to(TINY).parts]
    assert len(records) > 50
    for path in records:
        content = json.loads(path.read_text())
        recorded = content["subject"]
        assert digest(ROOT / recorded["path"])["sha256"] == recorded["sha256"], recorded["path"]


def test_training_was_handed_no_label_caption_or_clip_of_a_target_subject(killed_then_finished: dict[str, float]) -> None:
    for stage, pattern in (("sc_mbm", "*/*.prov.json"), ("stage1", "*.prov.json"), ("stage2", "*.prov.json")):
        records = list((TINY / stage).glob(pattern))
        assert records
        for path in records:
            materials = json.loads(path.read_text())["materials"]
            handed = [m["path"] for name in materials for m in materials[name]]
            of_target = [p for p in handed if "sub-03" in p or "/test-" in p]
            allowed = {"sub-03_bold.npy", "sub-03_trials.parquet"} if stage == "stage2" else set()
            assert {Path(p).name for p in of_target} == allowed


def test_rules_declare_the_settings_that_they_read(killed_then_finished: dict[str, float]) -> None:
    from tests.test_workflow import rules

    common = (ROOT / "rules" / "common.smk").read_text()
    aligned = re.findall(r'"(\w+)"', re.search(r"(?m)^ALIGNED = \((.*)\)", common)[1])  # type: ignore[index]
    of_models = re.findall(r"experiment\.([\w.]+)", common.split("MODEL_SETTINGS = ")[1].split("\n}")[0])
    undeclared = set()
    for path in TINY.rglob("*.prov.json"):
        content = json.loads(path.read_text())
        body = rules()[content["activity"]["rule"]]
        declared = set(re.findall(r'"\w+"|\bALIGNED\b|\bMODEL_SETTINGS\b|experiment\.\w+', body))
        for name in content["config"]:
            section, *rest = name.split(".")
            if section in {"seed", "paths"}:
                continue
            key = rest[1] if section == "datasets" and len(rest) > 1 else section
            group = "ALIGNED" if section in aligned else "MODEL_SETTINGS" if name in of_models else f"experiment.{section}"
            if not {f'"{key}"', f'"{section}"', group} & declared:
                undeclared.add((content["activity"]["rule"], name))
    assert not undeclared, "a rule reads settings that it does not declare: a change of theirs would not rerun it"


def test_a_second_run_from_scratch_gives_the_same_tables_byte_for_byte(killed_then_finished: dict[str, float]) -> None:
    tables = {p.name: p.read_bytes() for p in (TINY / "tables").glob("*.*") if not p.name.endswith(".prov.json")}
    kept = TINY.with_name("tiny-first")
    shutil.rmtree(kept, ignore_errors=True)
    TINY.rename(kept)
    run("--forceall", *(f"results/tiny/tables/{name}" for name in tables if name.endswith(".csv") and "_" not in name))
    assert {name: (TINY / "tables" / name).read_bytes() for name in tables} == tables
