"""The real DAG, every stage for real, at its smallest size: end to end, killed and taken up again, and the same bytes twice."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from boldscribe.config import load_config
from boldscribe.provenance.crate import write_crate
from boldscribe.provenance.digests import digest
from boldscribe.provenance.slices import declared_slices, observed_slices
from boldscribe.provenance.tree import read_tree
from tests.conftest import Checkout
from tests.crate_validation import issues

pytestmark = [pytest.mark.dag, pytest.mark.slow, pytest.mark.usefixtures("finished_run")]


def test_a_killed_run_goes_on_without_redoing_finished_stages(finished_run: dict[str, float]) -> None:
    assert {path: Path(path).stat().st_mtime for path in finished_run} == finished_run


def test_the_run_ends_in_tables_and_report(checkout: Checkout) -> None:
    for dataset in ("had", "urgen"):
        for suffix in ("csv", "md", "tex"):
            assert (checkout.results / "tables" / f"{dataset}.{suffix}").stat().st_size > 200
        assert "imulated" in (checkout.results / "tables" / f"{dataset}.md").read_text()
        scores = pd.read_parquet(checkout.results / "scores" / f"{dataset}.parquet")
        assert scores["condition"].unique().tolist() == load_config(checkout.results / "config.yaml").conditions(dataset)
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
            allowed = r"variant-\w+_role-adapt_tokens\.(npy|json)" if stage == "stage2" else "nothing"
            assert all(re.fullmatch(allowed, Path(p).name) for p in of_target) and bool(of_target) == (stage == "stage2")


def test_stage1_trains_in_two_processes_as_its_rule_starts_them(checkout: Checkout, tmp_path: Path) -> None:
    other = checkout.copy(tmp_path / "other")
    other.snakemake("results/tiny/stage1/urgen/model", "--forcerun", "stage1", "--config", "training={processes: 2}")
    log = (other.results / "logs" / "stage1" / "urgen_variant-model.log").read_text()
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
    observed = observed_slices([record, series], load_config(other.results / "config.yaml"))
    assert {step: declared_slices()[step]["reads"] for step in observed} == observed


def test_rules_declare_exactly_the_settings_that_they_read(checkout: Checkout) -> None:
    records = [output.record for output in read_tree(checkout.results).outputs.values() if output.record]
    observed = observed_slices(records, load_config(checkout.results / "config.yaml"))
    declared = {step: slices["reads"] for step, slices in declared_slices().items() if step in observed}
    assert declared == observed
    assert declared_slices().keys() - observed.keys() == {
        "captions/video_text",
        "captions_again/video_text",
        "check_preprocessing",
        "check_pretraining",
        "fetch_dataset",
        "fetch_model/captioner",
        "fetch_model/sc_mbm",
        "fetch_pretraining",
        "pretraining_series",
        "train_connectors",
    }


def test_a_second_run_from_scratch_gives_the_same_tables_byte_for_byte(checkout: Checkout, tmp_path: Path) -> None:
    tables = [f"results/tiny/tables/urgen{end}" for end in (".csv", ".md", ".tex", "_differences.csv", "_tests.csv", "_left_out.csv")]
    again = Checkout(tmp_path / "again")
    checkout.run("git", "clone", "-q", str(checkout.root), str(again.root))
    again.snakemake(tables[0])
    assert [(again.root / name).read_bytes() for name in tables] == [(checkout.root / name).read_bytes() for name in tables]


def test_the_runs_crate_is_valid_without_network(checkout: Checkout, tmp_path: Path) -> None:
    crate = write_crate(checkout.results, tmp_path / "crate")
    assert issues(crate, tmp_path) == []
    assert {p.name for p in (crate / "statements").iterdir()} >= {"had.intoto.json", "urgen.intoto.json"}
