"""Leave-k-subjects-out rotation: who is trained on and decoded in which fold, which jobs that makes, and one table over all folds."""

import re
import shutil
from collections import Counter
from math import ceil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from boldscribe.config import Config, check_experiment
from boldscribe.data.checked import read_checked
from boldscribe.data.checks import validate_raw
from boldscribe.data.reasons import OTHER_SIDE
from boldscribe.data.trials import EXCLUDED_TYPES, draw_instructions
from boldscribe.evaluation.tables import make_tables
from boldscribe.evaluation.trials_used import trials_sentence
from boldscribe.machinery.configuration import merge
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import write_json
from boldscribe.machinery.runs.jobs import Job, planned_jobs
from boldscribe.machinery.steps.guard import Guard
from boldscribe.machinery.steps.slices import slice_of
from boldscribe.planning.dataset_counts import designs_of
from boldscribe.planning.stages import make_plan
from boldscribe.report.page import write_report
from tests.report_results import write_results
from tests.scored import write_scored
from tests.small_dataset import write_dataset

ROOT = Path(__file__).resolve().parents[2]


def rotated(subjects: int, leave_out: int | None, sources: int = 1, **settings: Any) -> Config:
    """A configuration of one data set, `had`, whose first subjects are sources."""
    labels = [f"{i:02d}" for i in range(1, subjects + 1)]
    split = {"train_subjects": labels[:sources], "validation_subjects": labels[sources:], "leave_out": leave_out}
    runs = {"adaptation_runs": ["01"], "test_runs": ["02"]}
    return Config.parse({"datasets": {"had": split | runs | settings}})


def demo(**had: Any) -> Config:
    raw: dict[str, Any] = {}
    for file in ("config.yaml", "profiles/demo/experiment.yaml"):
        raw = merge(raw, yaml.safe_load((ROOT / file).read_text()))
    return Config.parse(merge(raw, {"datasets": {"had": had}}))


@given(st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1), st.integers(0, n))))
def test_every_subject_is_a_target_once_and_never_in_its_own_training(design: tuple[int, int, int]) -> None:
    n, k, sources = design
    config = rotated(n, k, sources)
    everyone, folds = config.datasets["had"].subjects, [config.datasets[name] for name in config.folds("had")]
    assert [s for fold in folds for s in fold.validation_subjects] == everyone == config.datasets["had"].targets
    assert len(folds) == ceil(n / k) and all(len(fold.validation_subjects) == k for fold in folds[:-1])
    for fold in folds:
        assert set(fold.train_subjects) == set(everyone) - set(fold.validation_subjects) and fold.train_subjects
        assert fold.fold_of == "had" and fold.leave_out is None
    check_experiment(config)


def test_without_leave_out_a_data_set_is_its_own_only_fold() -> None:
    config = rotated(4, None)
    assert list(config.datasets) == config.whole_datasets == config.folds("had") == ["had"]
    assert config.whole("had") == "had" and config.datasets["had"].targets == ["02", "03", "04"]


def test_a_written_configuration_reads_the_same_and_loses_its_folds_with_the_rotation(tmp_path: Path) -> None:
    config = rotated(6, 4)
    config.write(tmp_path / "config.yaml")
    raw = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert list(raw["datasets"]) == ["had", "hadfold01", "hadfold02"] and Config.parse(raw) == config
    assert list(Config.parse(merge(raw, {"datasets": {"had": {"leave_out": None}}})).datasets) == ["had"]
    assert config.folds("had") == ["hadfold01", "hadfold02"] and config.whole("hadfold02") == "had"


@pytest.mark.parametrize(
    ("leave_out", "more", "message"),
    [
        (0, {}, "datasets.had.leave_out: found 0; Input should be greater than or equal to 1"),
        (4, {}, "leave_out is 4 of 4 subjects, so that none is left to train on; choose a smaller number"),
        (2, {"hadfold02": {}}, "hadfold02 is the name of a fold of had, which has leave_out; rename"),
    ],
)
def test_what_cannot_be_rotated_is_refused(leave_out: int, more: dict[str, Any], message: str) -> None:
    labels = {"train_subjects": ["01", "02"], "validation_subjects": ["03", "04"], "leave_out": leave_out}
    with pytest.raises(UserError, match=re.escape(message)):
        Config.parse({"datasets": {"had": labels, **more}})


def test_all_folds_have_the_same_conditions() -> None:
    config = rotated(5, 2)
    assert "one target subject in a fold" in config.impossible("hadfold01")["wrongsubject"], "the last fold has one"
    assert {tuple(config.conditions(name)) for name in config.datasets} == {tuple(config.conditions("had"))}
    assert "wrongsubject" in rotated(6, 2).conditions("hadfold03")


def test_a_trial_has_one_instruction_in_all_folds() -> None:
    config = rotated(4, 2)
    assert draw_instructions(config, config.whole("hadfold01"), "01", 50) == draw_instructions(config, "had", "01", 50)


def test_a_step_of_a_fold_depends_on_the_folds_split() -> None:
    before, after = (slice_of(rotated(6, k), "stage1", {"dataset": "hadfold01"}) for k in (2, 3))
    assert before["datasets.hadfold01.train_subjects"] == ["03", "04", "05", "06"]
    assert after["datasets.hadfold01.train_subjects"] == ["04", "05", "06"]


@pytest.fixture(scope="module")
def rotated_jobs() -> list[Job]:
    """Jobs of the demo with a rotation of HAD."""
    return planned_jobs(demo(leave_out=2))


def test_no_subject_is_preprocessed_twice(rotated_jobs: list[Job], demo_jobs: list[Job]) -> None:
    counts = Counter((job.rule, job["dataset"]) for job in rotated_jobs)
    folds = [f"hadfold0{i}" for i in (1, 2, 3)]
    for rule in ("simulate_subject", "fmriprep", "bold_series"):
        assert counts[rule, "had"] == 6 and not any(counts[rule, fold] for fold in folds)
    for rule in ("check_dataset", "tables"):
        assert {dataset for of, dataset in counts if of == rule} == {"had", "urgen"}
    for rule in ("trials", "captions", "pretrain_sc_mbm", "stage1", "fmri_tokens", "stage2", "decode", "scores"):
        assert not counts[rule, "had"] and all(counts[rule, fold] for fold in folds)
    plain = Counter((job.rule, job["dataset"]) for job in demo_jobs)
    assert all(counts["decode", fold] == plain["decode", "had"] for fold in folds)
    assert {(r, d): n for (r, d), n in counts.items() if d == "urgen"} == {(r, d): n for (r, d), n in plain.items() if d == "urgen"}


def test_a_fold_waits_for_its_data_set_and_for_no_other_fold(rotated_jobs: list[Job]) -> None:
    before = {str(job): {other["dataset"] for other in job.before} - {""} for job in rotated_jobs}
    assert before["stage1 hadfold02 encoder-model"] == {"had", "hadfold02"}
    assert before["trials hadfold02 sub-01"] == {"had", "hadfold02"} - {"hadfold02"}
    assert before["tables had"] == {"hadfold01", "hadfold02", "hadfold03"}
    assert before["bold_series had sub-01"] == {"had"} and before["tables urgen"] == {"urgen"}


def test_the_plan_adds_up_the_folds_under_their_data_sets_name(rotated_jobs: list[Job], demo_jobs: list[Job], tmp_path: Path) -> None:
    config, plain = demo(leave_out=2), demo()
    lines = {(entry.dataset, entry.stage): entry for entry in make_plan(config, tmp_path, cores=2, jobs=rotated_jobs).lines}
    before = {(entry.dataset, entry.stage): entry for entry in make_plan(plain, tmp_path, cores=2, jobs=demo_jobs).lines}
    assert lines.keys() == before.keys(), "folds have no lines of their own"
    assert lines["had", "bold_series"] == before["had", "bold_series"] and lines["had", "tables"] == before["had", "tables"]
    assert lines["had", "stage1"].jobs == 3 * before["had", "stage1"].jobs
    assert lines["had", "stage1"].cpu_hours == pytest.approx(3 * before["had", "stage1"].cpu_hours), "four sources in each fold"
    assert designs_of(config, "had")["hadfold01"].trials == designs_of(plain, "had")["had"].trials


def test_the_strict_split_is_drawn_for_each_fold(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "raw", subjects=3)
    config = rotated(3, 1, bids_dir=str(root), split="strict", strict_test_share=0.5)
    report = validate_raw(config, "had")
    write_json(tmp_path / "checked.json", report)
    found = read_checked(tmp_path / "checked.json")
    assert found.kept_for_testing.keys() == found.kept_for_training.keys() == set(config.folds("had"))
    for fold in config.folds("had"):
        assert len(found.kept_for_testing[fold]) == len(found.kept_for_training[fold]) == 1
        assert set(found.kept_for_testing[fold]) != set(found.kept_for_training[fold])
    (root / "sub-01/func/sub-01_task-action_run-2_bold.nii.gz").unlink()
    (root / "sub-01/func/sub-01_task-action_run-2_events.tsv").unlink()
    with pytest.raises(UserError, match="sub-01: found runs 01, expected also 02"):
        validate_raw(config, "had")
    validate_raw(rotated(3, None, bids_dir=str(root)), "had")


def test_a_fold_opens_the_raw_data_that_its_data_sets_manifest_lists(tmp_path: Path) -> None:
    config = rotated(3, 1, bids_dir=str(tmp_path / "raw"))
    config = config.model_copy(update={"paths": config.paths.model_copy(update={"results": str(tmp_path / "results")})})
    events = (tmp_path / "raw/sub-01/func/sub-01_task-action_run-1_events.tsv").resolve()
    listed = {"raw": [tmp_path / "results/fetched/had.json"]}
    assert Guard("trials hadfold01 sub-01", "trials", config, listed, {}).kind(events) is None
    assert Guard("stage1 hadfold01", "stage1", config, {}, {}).kind(events) == "labels"


SEEN = {"01": ["a", "b"], "02": ["b", "c"], "03": ["d", "e"]}  # clips of each subject's trials; the second is tested


def fold_files(config: Config, folder: Path) -> tuple[list[Path], pd.DataFrame, pd.DataFrame]:
    """Labels of all folds, the scored trials, and those that are left out: one of sub-01, whenever it is a source."""
    labels = []
    for fold in config.folds("had"):
        for subject, clips in SEEN.items():
            path = folder / fold / f"sub-{subject}_labels.parquet"
            path.parent.mkdir(exist_ok=True)
            pd.DataFrame({"subject": subject, "trial": [0, 1], "stim_file": clips, "source": clips}).to_parquet(path)
            labels.append(path)
    one = {"subject": "01", "run": "01", "trial": 7, "role": "train", "reason": OTHER_SIDE, "detail": ""}
    scored = pd.DataFrame({"subject": list(SEEN), "trial": 1})
    return labels, scored, pd.DataFrame([one] * 2).astype(EXCLUDED_TYPES)


def test_what_is_said_of_the_trials_is_true_of_each_fold(tmp_path: Path) -> None:
    config = rotated(3, 1)
    labels, scored, excluded = fold_files(config, tmp_path)
    said = trials_sentence(config, "had", labels, scored, excluded)
    assert said.startswith("The clips of 1 of the 3 test trials were shown to source subjects too"), "b of sub-01, whom sub-02 teaches"
    assert said.endswith(f"Of the 7 trials of source subjects 1 are left out in at least one fold: 1 ({OTHER_SIDE}).")


def split_by_subject(path: Path, folder: Path, config: Config) -> list[Path]:
    """A table of all target subjects as those of the folds, with the metadata that it has."""
    table, parts = pq.read_table(path), []
    for fold in config.folds("had"):
        of_fold = pc.is_in(table["subject"], pa.array(config.datasets[fold].validation_subjects, table.schema.field("subject").type))
        parts.append(folder / path.name.replace("had", fold))
        pq.write_table(table.filter(of_fold), parts[-1])
    return parts


def test_the_table_over_all_folds_is_that_of_one_data_set_with_all_subjects_as_targets(tmp_path: Path) -> None:
    """Whoever is trained on: the same scores give the same numbers, tests and intervals."""
    scores, pairs = write_scored(tmp_path, ["model", "llm", "shuffled"], {"01": 12, "02": 9, "03": 10})
    excluded = tmp_path / "excluded.parquet"
    pd.DataFrame(columns=list(EXCLUDED_TYPES)).astype(EXCLUDED_TYPES).to_parquet(excluded)
    made = {}
    for name, leave_out in (("plain", None), ("rotated", 1)):
        config = Config.parse(
            {
                **rotated(3, leave_out, sources=0).model_dump(mode="json", include={"datasets"}),
                "decoding": {"controls": ["llm", "shuffled"]},
                "evaluation": {"bootstrap_samples": 200, "permutations": 100},
            }
        )
        folder, labels = tmp_path / name, []
        for fold in config.folds("had"):
            for subject in SEEN:
                labels.append(folder / fold / f"sub-{subject}_labels.parquet")
                labels[-1].parent.mkdir(parents=True, exist_ok=True)
                clips = [f"{subject}-{i}" for i in range(12)]
                pd.DataFrame({"subject": subject, "trial": range(12), "stim_file": clips, "source": clips}).to_parquet(labels[-1])
        ends = {"csv": ".csv", "md": ".md", "tex": ".tex", "differences": "_d.csv", "tests": "_t.csv", "left_out": "_l.csv"}
        outputs = {kind: folder / f"had{end}" for kind, end in ends.items()}
        of_folds, their_pairs = (split_by_subject(path, folder, config) for path in (scores, pairs))
        assert len(of_folds) == (3 if leave_out else 1)
        make_tables(config, "had", scores=of_folds, pairs=their_pairs, labels=labels, excluded=[excluded], **outputs)
        made[name] = {kind: path.read_text() for kind, path in outputs.items()}
    assert made["rotated"] == made["plain"] and set(pd.read_csv(outputs["csv"])["row"]) >= {"Subject-1", "Subject-2", "Subject-3", "Total"}
    with pytest.raises(UserError, match="no scores of sub-03"):
        make_tables(config, "had", scores=of_folds[:2], pairs=their_pairs, labels=labels, excluded=[excluded], **outputs)


def test_the_report_shows_a_rotated_data_set_as_one(tmp_path: Path) -> None:
    plain, files = write_results(tmp_path / "plain", conditions=("model", "llm", "shuffled"), datasets=("had",))
    raw = merge(plain.model_dump(mode="json"), {"datasets": {"had": {"train_subjects": [], "leave_out": 1}}})
    config = Config.parse(raw)
    of_folds: dict[str, list[Path]] = {}
    for kind, paths in files.items():
        whole = kind in ("tables", "differences", "tests", "left_out", "markdown", "latex")
        for path in paths:
            of_folds.setdefault(kind, []).extend([path] if whole or kind == "scores" else _copies(path, tmp_path, config))
    of_folds["scores"] = split_by_subject(files["scores"][0], tmp_path, config)
    write_report(config, of_folds, tmp_path / "report.html")
    text = re.sub(r"<[^>]+>", " ", (tmp_path / "report.html").read_text())
    assert "HAD in miniature" in text and "hadfold" not in text, "people read the name of the data set"
    assert text.count("Stage II (instruction tuning and domain adaptation), fold 2") >= 1 and "first of 2 folds" in text


def _copies(path: Path, folder: Path, config: Config) -> list[Path]:
    """A file or folder of `had` under the names of the folds."""
    made = []
    for fold in config.folds("had"):
        parts = [re.sub(r"^had(?![A-Za-z0-9])", fold, part) for part in path.relative_to(path.anchor).parts]
        made.append(folder / "folds" / Path(*parts))
        made[-1].parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copy)(path, made[-1])
        header = path.with_suffix(".json")
        if path.suffix == ".npy":
            shutil.copy(header, made[-1].with_suffix(".json"))
    return made
