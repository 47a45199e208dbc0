"""`boldscribe init`: a sound data set gives a configuration that works, and what is missing in another is said in words."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from snakemake.utils import update_config

from boldscribe.cli import main
from boldscribe.config import Config, check_experiment
from boldscribe.config.brain_size import share_outside
from boldscribe.config.experiment import paper_datasets
from boldscribe.data.checks import validate_raw
from boldscribe.data.images import save_image
from boldscribe.planning.dataset_counts import design_of
from boldscribe.planning.feasibility import check_feasible
from boldscribe.starting import proposal
from boldscribe.starting.survey import Survey, split_of
from boldscribe.starting.validator import validate
from tests.small_dataset import EVENTS, write_dataset

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound data set of three subjects, which tests copy: each run of the source subjects shows two clips of its own."""
    root = write_dataset(tmp_path_factory.mktemp("sound") / "my-data", subjects=3, name="Actions")
    for i, path in enumerate(sorted(root.glob("sub-0[12]/func/*_events.tsv"))[1:], 1):
        for clip in "ab":
            shutil.copy(root / "stimuli" / f"{clip}.mp4", root / "stimuli" / f"{clip}{i}.mp4")
        path.write_text(EVENTS.replace("a.mp4", f"a{i}.mp4").replace("b.mp4", f"b{i}.mp4"))
    return root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "my-data"))


def start(root: Path, *options: str) -> Result:
    """Run `boldscribe init` for a data set, with the configuration beside it."""
    return CliRunner().invoke(main, ["init", str(root), "--out", str(root.parent / "mine.yaml"), *options])


def written(root: Path) -> Config:
    """The paper's configuration under the one that was written, merged by Snakemake."""
    merged = yaml.safe_load((ROOT / "config.yaml").read_text())
    update_config(merged, yaml.safe_load((root.parent / "mine.yaml").read_text()))
    config = Config.parse(merged)
    assert config == Config.load(ROOT / "config.yaml", root.parent / "mine.yaml"), "merged alike"
    return config


def test_a_sound_data_set_is_configured_and_passes_all_checks(root: Path) -> None:
    result = start(root)
    assert result.exit_code == 0, result.output
    assert "missing" not in result.output and "BIDS validator: 0 errors" in result.output
    for words in (
        "3 subjects, task-action",
        "2 in each of 3 subjects",
        "2 s (6 runs)",
        "first onsets: 4 to 4 s",
        "8 in 12 trials; 0 video(s)",
    ):
        assert words in result.output
    config = written(root)
    assert list(config.datasets) == ["mydata"], "the paper's data sets are left out"
    check_experiment(config)
    assert validate_raw(config, "mydata")["name"] == "Actions"
    dataset = config.datasets["mydata"]
    assert (dataset.train_subjects, dataset.validation_subjects) == (["01", "02"], ["03"])
    assert (dataset.adaptation_runs, dataset.test_runs, dataset.table, dataset.adapter) == (["01"], ["02"], 3, "bids")


def func(root: Path, name: str) -> Path:
    return root / "sub-02" / "func" / f"sub-02_task-action_run-2_{name}"


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no T1w": (lambda root: (root / "sub-02/anat/sub-02_T1w.nii.gz").unlink(), "sub-02: found no anat/*_T1w.nii.gz"),
    "no events": (lambda root: func(root, "events.tsv").unlink(), "run-2_bold.nii.gz: found no events.tsv"),
    "no column": (
        lambda root: func(root, "events.tsv").write_text(EVENTS.replace("trial_type", "kind")),
        "run-2_events.tsv: columns: found no trial_type, expected the action that each clip shows",
    ),
    "no stimulus": (
        lambda root: func(root, "events.tsv").write_text("onset\tduration\ttrial_type\tstim_file\n4\t2\trest\tn/a\n"),
        "stim_file: found no row with a stimulus",
    ),
    "no BOLD": (lambda root: shutil.rmtree(root / "sub-02/func"), "sub-02: found no BOLD run of task-action"),
    "no TR": (lambda root: (root / "task-action_bold.json").write_text('{"TaskName": "action"}'), "RepetitionTime: found None"),
    "link without content": (
        lambda root: (func(root, "bold.nii.gz").unlink(), func(root, "bold.nii.gz").symlink_to("annexed")),
        "found 1 of 9 images as links without content (",
    ),
    "no video": (lambda root: (root / "stimuli/b.mp4").unlink(), "found 1 file(s) of the events that do not exist there (b.mp4)"),
    "no videos at all": (lambda root: shutil.rmtree(root / "stimuli"), "the video folder does not exist"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_missing_is_said(root: Path, fault: str) -> None:
    damage, words = FAULTS[fault]
    damage(root)
    result = start(root, "--no-check")
    assert result.exit_code == 1 and "Traceback" not in result.output
    lines = [line for line in result.output.splitlines() if line.startswith("missing or wrong:")]
    assert any(words in line for line in lines), result.output
    assert list(written(root).datasets) == ["mydata"], "written nevertheless"


def test_the_pipelines_own_check_and_the_validator_speak_too_and_nothing_twice(root: Path) -> None:
    (root / "sub-02/anat/sub-02_T1w.nii.gz").unlink()
    bold = func(root, "bold.nii.gz")
    bold.write_bytes(bold.read_bytes()[:-200])
    (root / "dataset_description.json").write_text('{"Name": "Actions"}')
    result = start(root)
    assert result.exit_code == 1
    assert "bytes fewer than the shape" in result.output, "by opening the image"
    assert "BIDS validator: JSON_KEY_REQUIRED, 1 time(s)" in result.output
    assert result.output.count("sub-02: found no anat/*_T1w.nii.gz") == 1


def test_images_that_are_not_there_yet_are_told_once(root: Path) -> None:
    for path in root.glob("sub-*/func/*_bold.nii.gz"):
        path.unlink()
        key = "SHA256E-s1234--" + "ab" * 32 + ".nii.gz"
        path.symlink_to(f"../../.git/annex/objects/Xw/9q/{key}/{key}")
    result = start(root)
    assert "found 6 of 9 images as links without content" in result.output and "not opened" in result.output
    assert result.output.count("_bold.nii.gz") == 1


def test_errors_that_are_none_here_are_not_counted(root: Path) -> None:
    events = func(root, "events.tsv")
    events.write_text(EVENTS.replace("b.mp4", "b c.mp4"))
    shutil.move(root / "stimuli", root.parent / "videos")
    assert validate(root).errors == {}
    events.write_text(EVENTS.replace("9.5\t", "soon\t"))
    assert list(validate(root).errors) == ["TSV_VALUE_INCORRECT_TYPE"], "an onset that is none is one"


def test_videos_elsewhere_and_never_shown(root: Path) -> None:
    videos = root.parent / "videos"
    shutil.move(root / "stimuli", videos)
    (videos / "more").mkdir()
    shutil.copy(videos / "a.mp4", videos / "more" / "c.MP4")
    result = start(root, "--stimuli", str(videos), "--no-check")
    assert result.exit_code == 0 and "1 video(s) never shown (more/c.MP4)" in result.output
    assert written(root).datasets["mydata"].stimuli_dir == str(videos)


def test_nothing_is_overwritten_unless_asked(root: Path) -> None:
    mine = root.parent / "mine.yaml"
    mine.write_text("seed: 7\n")
    result = start(root, "--no-check")
    assert result.exit_code == 1 and "already exists" in result.output and mine.read_text() == "seed: 7\n"
    assert start(root, "--no-check", "--force").exit_code == 0 and "mydata" in mine.read_text()


@pytest.mark.parametrize(("old", "new", "option", "label"), [("task-action", "task-rest", "--task", "rest"), ("", "", "--session", "b")])
def test_of_several_tasks_or_sessions_one_must_be_named(root: Path, old: str, new: str, option: str, label: str) -> None:
    for subject in ("01", "02", "03"):
        folder = root / f"sub-{subject}"
        if option == "--task":
            shutil.copy(folder / f"func/sub-{subject}_task-action_run-1_bold.nii.gz", folder / f"func/sub-{subject}_task-rest_bold.nii.gz")
            continue
        for session in ("a", "b"):
            (folder / f"ses-{session}" / "func").mkdir(parents=True)
            for file in (folder / "func").iterdir():
                shutil.copy(file, folder / f"ses-{session}" / "func" / file.name.replace("_task", f"_ses-{session}_task"))
        shutil.rmtree(folder / "func")
    result = start(root, "--no-check")
    assert result.exit_code == 1 and f"choose with {option}" in result.output and not (root.parent / "mine.yaml").exists()
    chosen = start(root, "--no-check", option, label)
    assert "excluded: " + ("task action (6 runs)" if option == "--task" else "session a (6 runs)") in chosen.output
    assert getattr(written(root).datasets["mydata"], option.removeprefix("--")) == label
    unknown = start(root, "--no-check", option, "other")
    assert f"{option}: found 'other', expected one of" in unknown.output


def test_events_that_name_no_videos_give_a_list_to_fill_in(root: Path) -> None:
    for path in root.glob("sub-*/func/*_events.tsv"):
        path.write_text(EVENTS.replace("stim_file", "stim_id").replace("a.mp4", "a").replace("b.mp4", "kick 7").replace("running", "3.0"))
    result = start(root, "--no-check")
    listed = root.parent / "mine_stimuli.tsv"
    with listed.open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert rows == [
        {"stimulus": "a", "stim_file": "a.mp4", "action": "n/a", "source": "n/a"},
        {"stimulus": "kick 7", "stim_file": "n/a", "action": "jumping", "source": "n/a"},
    ]
    assert result.exit_code == 1 and "made from column 'stim_id' of the events" in result.output
    dataset = written(root).datasets["mydata"]
    assert (dataset.stimulus_manifest, dataset.stimulus_column) == (str(listed), "stim_id")
    listed.write_text(listed.read_text().replace("n/a\tjumping", "b.mp4\tjumping").replace("a.mp4\tn/a", "a.mp4\trunning"))
    assert validate_raw(written(root), "mydata")["name"] == "Actions", "once it is filled in"
    assert design_of(written(root), "mydata").clips["all"] == 2
    other = start(root, "--no-check", "--force", "--column", "trial_type")
    assert "made from column 'trial_type'" in other.output and "jumping\tn/a" in listed.read_text()
    listed.write_text("filled in")
    (root.parent / "mine.yaml").unlink()
    assert "already exists" in start(root, "--no-check").output and listed.read_text() == "filled in"


def test_had_is_recognised(root: Path) -> None:
    description = {"Name": "A large-scale fMRI dataset for human action recognition", "BIDSVersion": "1.4.1"}
    (root / "dataset_description.json").write_text(json.dumps(description | {"DatasetDOI": "doi:10.18112/openneuro.ds004488.v1.1.1"}))
    assert "adapter: had, recognised" in start(root, "--no-check").output
    dataset = written(root).datasets["had"]
    paper = paper_datasets()["had"]
    assert (dataset.adapter, dataset.lead_in, dataset.table, dataset.manifest) == ("had", "detect", 1, paper.manifest)
    assert Config.load(root.parent / "mine.yaml").datasets["had"] == dataset, "read alone, too"
    assert (dataset.session, dataset.bids_dir) == (None, str(root)), "not the values of config.yaml, over which it is merged"


def derivative(folder: Path, space: str, size: float = 3.0) -> None:
    name = f"sub-01_task-action_run-1{space}_desc-preproc_bold.nii.gz"
    save_image(folder / "sub-01" / "func" / name, np.ones((3, 3, 3, 2)), np.diag([size, size, size, 1]), tr=2.0)


def test_ready_derivatives_are_used_in_their_space(root: Path) -> None:
    folder = root.parent / "fmriprep"
    derivative(folder, "")
    native = start(root, "--derivatives", str(folder), "--no-check")
    assert native.exit_code == 1 and "all subjects must share a template space" in native.output
    assert not (root.parent / "mine.yaml").exists()
    derivative(folder, "_space-MNI152NLin6Asym")
    assert start(root, "--derivatives", str(folder), "--no-check").exit_code == 0
    config = written(root)
    assert (config.preprocessing.engine, config.preprocessing.space, config.preprocessing.resolution) == (
        "derivatives",
        "MNI152NLin6Asym",
        3.0,
    )
    assert config.datasets["mydata"].derivatives_dir == str(folder)


def test_transforms_without_preprocessed_bold_are_used_by_the_engine_for_them(root: Path) -> None:
    folder = root.parent / "fmriprep" / "sub-01" / "func"
    folder.mkdir(parents=True)
    (folder / "sub-01_task-action_run-1_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt").touch()
    found = start(root, "--derivatives", str(folder.parents[1]), "--no-check")
    assert "raw BOLD is resampled through them (docs/minimal.md)" in found.output
    assert (written(root).preprocessing.engine, written(root).preprocessing.resolution) == ("minimal", 2.0)
    _, config = embedded(root, "--derivatives", str(folder.parents[1]), "--no-check", "--force")
    assert (config.preprocessing.engine, config.preprocessing.resolution) == ("minimal", 6.0)
    check_experiment(config)


@pytest.mark.parametrize(
    ("programs", "engine"),
    [({"apptainer", "fmriprep"}, "apptainer"), ({"docker", "fmriprep"}, "docker"), ({"fmriprep"}, "bare"), (set(), "embedded")],
)
def test_the_engine_is_what_the_machine_has(monkeypatch: pytest.MonkeyPatch, programs: set[str], engine: str) -> None:
    monkeypatch.setattr(proposal.shutil, "which", lambda name: f"/usr/bin/{name}" if name in programs else None)
    monkeypatch.setattr(proposal, "_docker_runs", lambda: "docker" in programs)
    section, _ = proposal.engine_of(None, "action")
    assert section["engine"] == engine and (engine == "embedded") == ("space" in section)


@pytest.mark.parametrize(
    ("subjects", "runs", "targets", "tested"),
    [(30, 12, 4, 3), (10, 8, 2, 2), (4, 8, 2, 2), (3, 2, 1, 1), (2, 5, 1, 1), (1, 4, 0, 0), (4, 1, 2, 0)],
)
def test_split_that_is_proposed(subjects: int, runs: int, targets: int, tested: int) -> None:
    labels = [f"{i:02d}" for i in range(1, runs + 1)]
    found = Survey(Path(), "", False, runs={f"{i:02d}": labels for i in range(1, subjects + 1)})
    split = split_of(found)
    assert [*split["train_subjects"], *split["validation_subjects"]] == list(found.runs)
    assert (len(split["validation_subjects"]), len(split["test_runs"])) == (targets, tested)
    if targets and tested:
        assert [*split["adaptation_runs"], *split["test_runs"]] == labels and not found.problems
    else:
        assert re.search("expected at least two|fewer than two", found.problems[0])


def test_a_folder_that_is_no_raw_data_set_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "found no BIDS description" in start(empty).output
    (empty / "dataset_description.json").write_text('{"Name": "x"}')
    assert "found no sub-*" in start(empty).output


def embedded(root: Path, *options: str) -> tuple[Result, Config]:
    result = start(root, "--embedded", *options)
    return result, written(root)


def test_the_embedded_models_are_a_whole_configuration_that_can_work(root: Path, demo: Config) -> None:
    result, config = embedded(root, "--no-check")
    assert result.exit_code == 0, result.output
    check_experiment(config)
    check_feasible(config)
    assert config.paths.results == "results/mydata" and config.seed == Config().seed
    assert (config.preprocessing.engine, config.preprocessing.resolution) == ("embedded", 6.0)
    assert config.video_llama == demo.video_llama and config.sc_mbm == demo.sc_mbm and config.evaluation == demo.evaluation
    assert config.stage2.learning_rate == demo.stage2.learning_rate and config.stage2.min_learning_rate == 3e-5
    assert round(config.stage1.holdout * 8) == 4, "of 8 clips"
    assert config.stage1.batch_size == 4 and config.stage2.batch_size * config.stage2.accumulate == 2


@pytest.mark.parametrize("size", [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0])
def test_the_grid_of_embedded_models_contains_a_brain_at_the_resolution_of_derivatives(root: Path, size: float) -> None:
    folder = root.parent / "fmriprep"
    derivative(folder, "_space-MNI152NLin2009cAsym", size)
    _, config = embedded(root, "--derivatives", str(folder), "--no-check")
    assert config.preprocessing.resolution == size
    assert share_outside(config.tokenizer.grid, size) == 0
    n_tokens = np.prod(config.tokenizer.grid) // 2 ** (3 * len(config.tokenizer.channels))
    assert n_tokens <= 256, "which trains on a laptop"


def test_descriptions_in_the_events_are_the_captions_of_embedded_models(root: Path) -> None:
    for path in root.glob("sub-*/func/*_events.tsv"):
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head + "\tcaption", *(f"{row}\tSomebody moves." for row in rows)]) + "\n")
    _, config = embedded(root, "--no-check")
    assert (config.captioner.kind, config.datasets["mydata"].description_column) == ("given", "caption")
    check_experiment(config)
    start(root, "--no-check", "--force")
    assert written(root).captioner.kind == "video_llama", "the paper's captioner stays, and the descriptions are a ceiling"
    assert "human" in written(root).conditions("mydata")
    path.write_text(path.read_text().replace("caption", "words"))
    start(root, "--no-check", "--force")
    assert written(root).datasets["mydata"].description_column is None, "which one run lacks"


def test_a_title_is_not_cut(root: Path) -> None:
    name = "Watching people who do one thing or another, and saying what they do"
    (root / "dataset_description.json").write_text(json.dumps({"Name": name, "BIDSVersion": "1.10.0"}))
    start(root, "--no-check")
    assert written(root).datasets["mydata"].title == name


@pytest.mark.parametrize(("tr", "volumes"), [(0.5, 12), (0.8, 8), (1.0, 6), (2.0, 3), (3.0, 2), (8.0, 1)])
def test_a_window_covers_the_same_time_at_any_repetition_time(root: Path, tr: float, volumes: int) -> None:
    (root / "task-action_bold.json").write_text(json.dumps({"RepetitionTime": tr, "TaskName": "action"}))
    start(root, "--no-check")
    assert written(root).bold.n_volumes == volumes


def test_too_few_clips_are_a_problem(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "my-data", subjects=3, name="Actions")
    result = start(root, "--no-check")
    assert result.exit_code == 1 and "found 2 clips shown to source subjects, expected at least 8" in result.output


def test_a_video_is_entered_in_the_list_only_if_no_other_could_be_meant(tmp_path: Path) -> None:
    for name in ("walk/3.mp4", "run/3.mp4", "run/4.mp4", "run/4.jpg", "run/5.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = Survey(
        Path(), "", False, stimuli=Counter(["3", "4", "5", "run/3.mp4"]), actions={s: set() for s in ("3", "4", "5", "run/3.mp4")}
    )
    rows = dict(line.split("\t")[:2] for line in proposal.manifest_text(found, tmp_path).splitlines()[1:])
    assert rows == {"3": "n/a", "4": "run/4.mp4", "5": "n/a", "run/3.mp4": "run/3.mp4"}


def test_more_runs_are_tested_where_a_quarter_has_too_few_trials() -> None:
    runs = {f"{i:02d}": [f"{r:02d}" for r in range(1, 9)] for i in range(1, 5)}
    for trials, tested in ((20, 2), (10, 2), (6, 4), (2, 4)):
        assert len(split_of(Survey(Path(), "", False, runs=runs, stimuli=Counter({"a": 32 * trials})))["test_runs"]) == tested
