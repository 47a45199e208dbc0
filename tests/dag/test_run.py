"""The real DAG, every stage for real, at its smallest size: end to end, killed and taken up again."""

import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from boldscribe.config import Config
from boldscribe.evaluation.explained_cell import read_cell
from boldscribe.machinery.provenance.crate import write_crate
from boldscribe.machinery.provenance.digests import digest
from boldscribe.machinery.provenance.tree import read_tree
from boldscribe.machinery.runs.messages import NOTIFY
from tests.auditing import audit, changed, edit, flip_byte, planned
from tests.conftest import Checkout
from tests.crate_validation import issues

IDENTIFICATION = "boldscribe/evaluation/identification.py"
TABLE = (".csv", ".md", ".tex", "_differences.csv", "_tests.csv", "_left_out.csv")
pytestmark = pytest.mark.usefixtures("finished_run")


def test_a_killed_run_goes_on_without_redoing_finished_stages(finished_run: dict[str, float]) -> None:
    assert {path: Path(path).stat().st_mtime for path in finished_run} == finished_run


def test_the_run_ends_in_tables_and_report(checkout: Checkout) -> None:
    for dataset in ("had", "urgen"):
        for suffix in ("csv", "md", "tex"):
            assert (checkout.results / "tables" / f"{dataset}.{suffix}").stat().st_size > 200
        assert "imulated" in (checkout.results / "tables" / f"{dataset}.md").read_text()
        scores = pd.read_parquet(checkout.results / "scores" / f"{dataset}.parquet")
        assert scores["condition"].unique().tolist() == Config.load(checkout.results / "config.yaml").conditions(dataset)
        assert (scores.groupby("condition").size() == 12).all(), "every test trial is scored under every condition"
    assert "<html" in (checkout.results / "report.html").read_text()


def test_every_result_has_a_record_that_fits_it(checkout: Checkout) -> None:
    outputs = read_tree(checkout.results).outputs
    assert len(outputs) > 50
    for output in outputs.values():
        assert output.record is not None
        assert digest(output.path)["sha256"] == output.record["subject"]["sha256"], output.name
        assert output.record["data_access"]["undeclared"] == [], f"{output.rule} opens what its rule does not declare"


def test_training_was_handed_no_label_caption_or_clip_of_a_target_subject(checkout: Checkout) -> None:
    for stage, pattern in (("sc_mbm", "*/*.prov.json"), ("stage1", "*/*.prov.json"), ("stage2", "*/*.prov.json")):
        records = list((checkout.results / stage).glob(pattern))
        assert records
        for path in records:
            materials = json.loads(path.read_text())["materials"]
            handed = [m["path"] for name in materials for m in materials[name]]
            of_target = [p for p in handed if "sub-03" in p or "/test-" in p or re.search("role-(adapt|test)", p)]
            allowed = r"encoder-\w+_data-\w+_role-adapt_tokens\.(npy|json)" if stage == "stage2" else "nothing"
            assert all(re.fullmatch(allowed, Path(p).name) for p in of_target) and bool(of_target) == (stage == "stage2")


def test_stage1_trains_in_two_processes_as_its_rule_starts_them(checkout: Checkout, tmp_path: Path) -> None:
    other = checkout.copy(tmp_path / "other")
    other.snakemake("results/tiny/stage1/urgen/model", "--forcerun", "stage1", "--config", "training={processes: 2}")
    log = (other.results / "logs" / "stage1" / "urgen_encoder-model.log").read_text()
    assert "process 1 of 2" in log and "process 2 of 2" in log
    curve = pd.read_parquet(other.results / "stage1" / "urgen" / "model" / "curve.parquet")
    before = pd.read_parquet(checkout.results / "stage1" / "urgen" / "model" / "curve.parquet")
    assert len(curve) == len(before) and not curve.equals(before), "processes draw noise and dropout of their own"
    outputs = {name: o for name, o in read_tree(other.results).outputs.items() if name.startswith("stage1/urgen/model")}
    assert outputs and all(o.record and digest(o.path)["sha256"] == o.record["subject"]["sha256"] for o in outputs.values())


def test_ready_derivatives_of_others_are_pretrained_on(checkout: Checkout, tmp_path: Path) -> None:
    other = checkout.copy(tmp_path / "other")
    shutil.copytree(other.results / "derivatives" / "had", tmp_path / "elsewhere")
    extra = {"elsewhere": {"derivatives_dir": str(tmp_path / "elsewhere"), "task": "action", "subjects": ["01"], "seconds_per_volume": 4.0}}
    other.snakemake("results/tiny/sc_mbm/urgen/sc_mbm.safetensors", "--config", f"pretraining={json.dumps(extra)}")
    outputs = read_tree(other.results).outputs
    record, series = outputs["sc_mbm/urgen/sc_mbm.safetensors"].record, outputs["pretraining/elsewhere/sub-01_bold.npy"].record
    assert record and series and record["data_access"]["undeclared"] == series["data_access"]["undeclared"] == []
    assert any("pretraining/elsewhere" in m["path"] for m in record["materials"]["further"])
    assert "pretraining.elsewhere.seconds_per_volume" in series["config"] and "pretraining" in record["config"]


def test_the_run_is_verified_and_one_changed_function_or_one_changed_byte_is_told(checkout: Checkout) -> None:
    assert audit(checkout) == audit(checkout, "--fast") == {} and planned(checkout) == set()
    stale = {
        "report.html",
        "provenance.html",
        *(f"scores/{d}{end}.parquet" for d in ("had", "urgen") for end in ("", "_pairs")),
        *(f"reliability/{d}.csv" for d in ("had", "urgen")),
        *(f"tables/{d}{end}" for d in ("had", "urgen") for end in TABLE),
    }
    with changed(checkout, IDENTIFICATION, edit(IDENTIFICATION, "TOLERANCE = 1e-6", "TOLERANCE = 1e-5")):
        assert audit(checkout) == dict.fromkeys(stale, "stale")
        assert planned(checkout) == stale
    raw = "raw/had/sub-01/func/sub-01_task-action_run-01_bold.nii.gz"
    with changed(checkout, f"results/tiny/{raw}", flip_byte(f"results/tiny/{raw}")):
        assert audit(checkout, "--fast") == {"raw/had/sub-01": "tampered"}


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


def test_the_runs_crate_is_valid_without_network(checkout: Checkout, tmp_path: Path) -> None:
    crate = write_crate(checkout.results, tmp_path / "crate")
    assert issues(crate, tmp_path) == []
    assert {p.name for p in (crate / "statements").iterdir()} >= {"had.intoto.json", "urgen.intoto.json"}


def test_a_real_run_ends_with_a_message(checkout: Checkout, tmp_path: Path) -> None:
    kept = tmp_path / "message.txt"
    clone = checkout.copy(tmp_path / "clone")
    clone.variables[NOTIFY] = f"tee {kept}"
    target = "results/tiny/raw/had/stimuli"
    done = clone.snakemake(target, "--forcerun", "simulate_stimuli")
    assert re.search(r"Done in \d+ s: 1 jobs\.\n  made:    1 of simulate_stimuli", done.stdout) and kept.read_text() in done.stdout + "\n"
    (clone.root / "data" / "urgen").mkdir()
    (clone.root / "data" / "urgen" / "dataset_description.json").write_text('{"Name": "no subject", "BIDSVersion": "1.10.0"}')
    failed = clone.run(sys.executable, "-m", "snakemake", "results/checked/urgen.json", "--cores", "1", check=False)
    assert failed.returncode == 1 and "check_dataset urgen: input at fault (attempt 1)" in failed.stdout
    assert "data/urgen: found no sub-01" in failed.stdout and "log: results/logs/check_dataset/urgen.log" in failed.stdout
    assert "1 failed, 1 of 2 jobs are done" in failed.stdout
