"""BOLD Moments: from its files on a server to trials with actions, people's sentences, means of repeats and a noise ceiling."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from boldscribe.cli import main
from boldscribe.config import Config, check_experiment
from boldscribe.config.data_settings import Dataset
from boldscribe.config.run_choice import RunChoice
from boldscribe.data.bold_moments import action_of
from boldscribe.data.checks import inspect_raw, validate_raw
from boldscribe.data.presentations import first_volumes, mean_windows
from boldscribe.data.series import write_series
from boldscribe.data.trials import write_trials
from boldscribe.data.windows import Windows
from boldscribe.descriptions import descriptions_of
from boldscribe.evaluation.reliability import write_reliability
from boldscribe.fetching.missing import missing
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import load_array
from boldscribe.planning.dataset_counts import design_of
from boldscribe.starting.known import BOLD_MOMENTS as PROFILE
from tests.as_step import as_step
from tests.bold_moments_layout import ANNOTATIONS, FMRIPREP, BoldMoments, experiment
from tests.conftest import ROOT
from tests.file_server import FileServer

CHOICE = RunChoice(("test", "train"), ("02", "03"), ("ses", "task"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> BoldMoments:
    """The data set where its authors have it, without clips."""
    return BoldMoments(tmp_path_factory.mktemp("authors") / "ds005165").write()


@pytest.fixture(scope="module")
def clips(made: BoldMoments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write_clips(tmp_path_factory.mktemp("clips"))


def loaded(own: Path) -> Config:
    return Config.load(ROOT / "config.yaml", PROFILE, own)


@pytest.fixture(scope="module")
def fetched(made: BoldMoments, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """What the experiment reads, fetched from a server by the command, and the clips, which the user adds."""
    folder = tmp_path_factory.mktemp("fetched")
    server = FileServer({path.relative_to(made.root).as_posix(): path.read_bytes() for path in made.root.rglob("*") if path.is_file()})
    with server.running():
        own = experiment(folder, made, server.url)
        configs = [word for path in (ROOT / "config.yaml", PROFILE, own) for word in ("--config", str(path))]
        check_experiment(loaded(own))
        answer = CliRunner().invoke(main, ["fetch", "data", "boldmoments", *configs])
        assert answer.exit_code == 0, answer.output
    (lacking,) = [one for one in missing(loaded(own)) if one.kind == "data"]
    assert "no videos in" in str(lacking) and "docs/fetching.md" in str(lacking)
    shutil.copytree(clips, folder / "data/stimuli")
    assert not [one for one in missing(loaded(own)) if one.kind == "data"]
    return loaded(own)


def test_what_the_experiment_reads_is_fetched_and_nothing_else(fetched: Config, made: BoldMoments) -> None:
    there = {path.relative_to(made.root.parent).as_posix().partition("/")[2] for path in made.root.rglob("*") if path.is_file()}
    folder = Path(fetched.datasets["boldmoments"].bids_dir)
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.parts[-3] != "stimuli"}
    n_runs = len(made.shown)
    assert ANNOTATIONS in here and here < there
    assert sum(name.endswith("_events.tsv") for name in here) == n_runs
    assert not [name for name in here if name.endswith((".nii", ".gii")) or "task-rest" in name or "space-T1w" in name]


@pytest.fixture(scope="module")
def results(fetched: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The check of the data set, series and trials of all subjects."""
    folder = tmp_path_factory.mktemp("results")
    report = validate_raw(as_step(fetched, "check_dataset", dataset="boldmoments"), "boldmoments")
    (folder / "checked.json").write_text(json.dumps(report))
    write_all(fetched, folder)
    return folder


def write_all(config: Config, folder: Path) -> None:
    design, as_series = config.datasets["boldmoments"], as_step(config, "bold_series", dataset="boldmoments")
    for subject in design.subjects:
        series = folder / f"sub-{subject}_bold.npy"
        if not series.exists():
            write_series(as_series, as_series.datasets["boldmoments"], "boldmoments", subject, Path(design.derivatives_dir or ""), series)
        paths = {name: folder / f"sub-{subject}_{name}.parquet" for name in ("trials", "labels", "excluded")}
        as_trials = as_step(config, "trials", dataset="boldmoments")
        write_trials(as_trials, "boldmoments", subject, series=series, checked=folder / "checked.json", **paths)


def read(folder: Path, subject: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    trials, labels, excluded = (pd.read_parquet(folder / f"sub-{subject}_{name}.parquet") for name in ("trials", "labels", "excluded"))
    return trials, labels, excluded


def test_each_run_of_each_session_and_task_is_one(results: Path, made: BoldMoments) -> None:
    for subject in made.subjects:
        _, header = load_array(results / f"sub-{subject}_bold.npy")
        assert [run["run"] for run in header["runs"]] == sorted(label for who, label in made.shown if who == subject)


def test_the_split_is_its_own_and_repeats_are_averaged(results: Path, made: BoldMoments) -> None:
    source, labels, excluded = read(results, made.subjects[0])
    shown = labels.set_index("trial")["stim_file"]
    assert set(source["role"]) == {"train"} and shown.str.startswith("train/").all() and shown.is_unique and len(shown) == made.train_clips
    assert excluded["reason"].value_counts().to_dict() == {
        "video source is kept for the other side of the split": 2 * made.test_clips * made.test_runs * len(made.sessions),
        "averaged with an earlier trial of the same clip": made.train_clips * (len(made.sessions) - 1),
    }
    target, labels, _ = read(results, made.subjects[-1])
    roles = target["role"].value_counts().to_dict()
    assert roles == {"adapt": made.train_clips * len(made.sessions), "test": made.test_clips}, "the clips of adaptation stay unknown"
    tested = target[target["role"] == "test"]
    assert (tested["repeats"].map(len) == 2 * len(made.sessions) - 1).all() and not target.loc[target["role"] == "adapt", "repeats"].map(
        len
    ).any()


def test_windows_are_means_of_the_presentations(results: Path, made: BoldMoments) -> None:
    target, labels, _ = read(results, made.subjects[-1])
    series = results / f"sub-{made.subjects[-1]}_bold.npy"
    bold_TV, header = load_array(series)
    starts = {run["run"]: run for run in header["runs"]}
    tested = target[target["role"] == "test"].reset_index(drop=True)
    shown = labels.set_index("trial")["stim_file"]
    for i, trial in tested.iterrows():
        expected = []
        for (who, label), events in made.shown.items():
            if who == made.subjects[-1] and "task-test" in label:
                for onset in events.loc[events["stim_file"] == shown[trial["trial"]], "onset"]:
                    first = starts[label]["first_volume"] + int(np.floor((round(onset, 3) + 4.0) / 1.75 + 0.5))
                    expected.append(bold_TV[first : first + 3].astype(np.float32))
        np.testing.assert_allclose(mean_windows(bold_TV, tested)[i], np.mean(expected, axis=0), atol=1e-5)
    windows = Windows([series], tested, header["grid_shape"])
    place = np.load(series.with_name(series.name.replace("_bold", "_voxels")))
    np.testing.assert_allclose(
        windows.load(range(len(tested))).reshape(len(tested), 3, -1)[..., place], mean_windows(bold_TV, tested), atol=1e-6
    )


def test_repeats_may_be_kept(fetched: Config, results: Path, made: BoldMoments, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "kept")
    raw = fetched.model_dump(by_alias=True)
    raw["datasets"]["boldmoments"]["repeats"] = "keep"
    write_all(Config.parse(raw), tmp_path / "kept")
    target, _, excluded = read(tmp_path / "kept", made.subjects[-1])
    assert (target["role"] == "test").sum() == 2 * made.test_clips * len(made.sessions) and excluded.empty
    before, _, _ = read(results, made.subjects[-1])
    assert sorted(np.concatenate(first_volumes(before))) == sorted(target["first_volume"])


def test_a_noise_ceiling_follows_from_the_repeats(results: Path, made: BoldMoments) -> None:
    files = {name: [results / f"sub-{s}_{name}" for s in made.subjects] for name in ("bold.npy", "trials.parquet", "labels.parquet")}
    write_reliability(
        "boldmoments",
        series=files["bold.npy"],
        trials=files["trials.parquet"],
        labels=files["labels.parquet"],
        output=results / "reliability.csv",
    )
    table = pd.read_csv(results / "reliability.csv", dtype={"subject": str})
    own = table[table["subject"] == made.subjects[-1]].set_index("comparison")
    assert own.loc["repeats of a subject", ["stimuli", "repeats"]].tolist() == [made.test_clips + made.train_clips, 2]
    assert own.loc["repeats of its test clips", ["stimuli", "repeats"]].tolist() == [made.test_clips, 2 * len(made.sessions)]
    assert (own["identification_2way"] > 90).all()


def test_actions_and_sentences_are_peoples(results: Path, fetched: Config, made: BoldMoments) -> None:
    _, labels, _ = read(results, made.subjects[-1])
    assert all(made.scenes[clip].action == action for clip, action in zip(labels["stim_file"], labels["action"], strict=True))
    sentences = descriptions_of(made.scenes, fetched.datasets["boldmoments"].description_file or "", by_bare_name=True)
    assert all(1 <= len(texts) <= 5 and made.scenes[clip].action in texts[0] for clip, texts in sentences.items())


def test_the_most_frequent_action_counts_and_ties_go_by_name(tmp_path: Path) -> None:
    (tmp_path / ANNOTATIONS).parent.mkdir(parents=True)
    found = {"0001": ["b", "a", "b", "a", "c"], "0002": [["b"], ["c", "b"], ["--"]], "0003": ["--", ""], "0004": None}
    (tmp_path / ANNOTATIONS).write_text(json.dumps({number: {"actions": actions} for number, actions in found.items()}))
    assert [action_of(f"train/{number}.mp4", tmp_path) for number in (*found, "0005")] == ["a", "b", None, None, None]


@pytest.mark.parametrize(("content", "words"), [(None, "found no annotations"), ("{", "not JSON"), ('["0001"]', "another form")])
def test_wrong_annotations_are_told_before_anything_runs(content: str | None, words: str, fetched: Config, tmp_path: Path) -> None:
    raw = fetched.model_dump(by_alias=True)
    folder = Path(shutil.copytree(fetched.datasets["boldmoments"].bids_dir, tmp_path / "data", copy_function=os.link))
    raw["datasets"]["boldmoments"] |= {"bids_dir": str(folder), "derivatives_dir": str(folder / FMRIPREP)}
    (folder / ANNOTATIONS).unlink()
    if content is not None:
        (folder / ANNOTATIONS).write_text(content)
    with pytest.raises(UserError) as caught:
        validate_raw(Config.parse(raw), "boldmoments")
    assert len(caught.value.problems) == 1 and words in str(caught.value) and "fetch" in str(caught.value)


def test_runs_are_named_by_any_of_their_entities() -> None:
    labels = [CHOICE.label({"ses": ses, "task": task, "run": run}) for ses in ("02", "03") for task in CHOICE.tasks for run in ("1", "2")]
    assert labels[0] == "ses-02_task-test_run-01" and CHOICE.parts(labels[0]) == {"ses": "02", "task": "test", "run": "01"}
    named = {entry: [label for label in labels if CHOICE.names([entry], label)] for entry in ("task-test", "ses-03_run-1", "02", "ses-04")}
    assert [len(found) for found in named.values()] == [4, 2, 4, 0]
    plain = RunChoice(("watch",), (None,))
    assert plain.label({"task": "watch", "run": "1"}) == "01" and plain.names(["1", "run-01"], "01") and not plain.names(["task-x"], "01")


def test_a_run_in_both_roles_is_refused(fetched: Config) -> None:
    raw = fetched.model_dump(by_alias=True)
    raw["datasets"]["boldmoments"]["adaptation_runs"] = ["ses-02"]
    _, problems = inspect_raw(Config.parse(raw), "boldmoments")
    assert any("found runs ses-02_task-test_run-01 in adaptation_runs and in test_runs" in problem for problem in problems)
    raw["datasets"]["boldmoments"]["adaptation_runs"] = ["task-rest"]
    _, problems = inspect_raw(Config.parse(raw), "boldmoments")
    assert any("expected also task-rest" in problem for problem in problems)
    for wrong in ([], ["02", "02"]):
        with pytest.raises(ValueError, match="a list of different labels"):
            Dataset(session=wrong)


def test_the_plan_knows_it_before_it_is_there(fetched: Config, tmp_path: Path) -> None:
    design = design_of(Config.load(ROOT / "config.yaml", PROFILE), "boldmoments")
    assert (design.source_runs, design.target_runs, design.clips) == (416, 104, {"train": 1000, "test": 102, "all": 1102})
    assert design.trials == {"train": 8000, "adapt": 6000, "test": 204} and design.volumes == pytest.approx(244.9, abs=0.1)
    counted = design_of(fetched, "boldmoments")
    assert counted.origin == "counted in the folder" and counted.trials["test"] == 8 and counted.clips["all"] == 32


def test_init_recognises_it(fetched: Config, tmp_path: Path) -> None:
    design = fetched.datasets["boldmoments"]
    command = ["init", design.bids_dir, "--derivatives", str(design.derivatives_dir), "--out", str(tmp_path / "mine.yaml"), "--no-check"]
    answer = CliRunner().invoke(main, [*command, "--session", "02", "--session", "03", "--embedded"])
    assert "adapter: bold_moments, recognised by its description" in answer.output, answer.output
    written = Config.load(ROOT / "config.yaml", tmp_path / "mine.yaml").datasets["boldmoments"]
    for key in ("adapter", "task", "session", "description_file", "adaptation_runs", "test_runs", "split", "repeats"):
        assert getattr(written, key) == getattr(design, key), key
