"""HAD's layout from its folder to trials: its onsets, its names, its shipped derivatives; the strict split; what is left out, and why."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from boldscribe.cli import main
from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.data import had
from boldscribe.data.checks import validate_raw
from boldscribe.data.event_checks import check_clips
from boldscribe.data.events import read_stimulus_manifest, stimulus_events
from boldscribe.data.images import save_image
from boldscribe.data.preprocessed import preprocessed_runs
from boldscribe.data.reasons import BROKEN, OTHER_SIDE, OUTSIDE, UNANSWERED
from boldscribe.data.series import write_series
from boldscribe.data.splits import separate_sources
from boldscribe.data.timing import start_time
from boldscribe.data.trials import write_trials
from boldscribe.evaluation.trials_used import left_out_sentence, overlap_sentence
from boldscribe.fetching.datasets import complete_dataset
from boldscribe.machinery.download.manifest import Entry, Manifest, write_manifest
from boldscribe.machinery.errors import UserError
from tests.as_step import as_step
from tests.conftest import PATIENCE
from tests.file_server import FileServer
from tests.had_layout import SLICE_TIMES, Had
from tests.machinery.test_fetching import SOURCE


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Had:
    """As version 1.1.1: onsets from the end of the lead-in."""
    return Had(tmp_path_factory.mktemp("had") / "early").write()


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Had:
    """The same data as version 2.0.1 has them: onsets from the first volume, underscores in the names."""
    return Had(tmp_path_factory.mktemp("had") / "late", onsets_from_first_volume=True).write()


def experiment(data: Had, **dataset: Any) -> Config:
    return Config.parse(
        {
            "datasets": {
                "had": {
                    "title": "HAD",
                    "adapter": "had",
                    "lead_in": "detect",
                    "session": "action01",
                    "bids_dir": str(data.root),
                    "derivatives_dir": str(data.root / "derivatives/fmriprep"),
                    "train_subjects": ["01"],
                    "validation_subjects": ["03"],
                    "adaptation_runs": [f"{i:02d}" for i in range(1, 10)],
                    "test_runs": ["10", "11", "12"],
                    **dataset,
                }
            },
            "preprocessing": {"engine": "derivatives", "resolution": data.voxel},
        }
    )


@pytest.fixture(scope="module")
def report(early: Had) -> dict[str, Any]:
    """What the preflight finds in the earlier version."""
    return validate_raw(as_step(experiment(early), "check_dataset", dataset="had"), "had")


def to_trials(config: Config, folder: Path, subject: str, report: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Series and trials of a subject from what the preflight found, as the rules run them, each with its own settings."""
    derivatives = Path(config.datasets["had"].derivatives_dir or "")  # which their rule hands the series
    config, job = as_step(config, "bold_series", dataset="had"), as_step(config, "trials", dataset="had")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checked.json").write_text(json.dumps(report))
    series = folder / f"sub-{subject}_bold.npy"
    write_series(config, config.datasets["had"], "had", subject, derivatives, series, lead_in=report["lead_in"])
    paths = {name: folder / f"sub-{subject}_{name}.parquet" for name in ("trials", "labels", "excluded")}
    write_trials(job, "had", subject, series=series, checked=folder / "checked.json", **paths)
    trials, labels, excluded = (pd.read_parquet(path) for path in paths.values())
    return trials, labels, excluded


@pytest.fixture(scope="module")
def target(early: Had, report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A target subject's trials from the earlier version."""
    return to_trials(experiment(early), tmp_path_factory.mktemp("trials"), "03", report)


def test_both_onset_conventions_give_the_same_trials(target: tuple[pd.DataFrame, ...], late: Had, tmp_path: Path) -> None:
    trials, labels, _ = target
    of_late, labels_of_late, _ = to_trials(experiment(late), tmp_path, "03", validate_raw(experiment(late), "had"))
    pd.testing.assert_frame_equal(trials, of_late)
    assert labels["action"].equals(labels_of_late["action"]) and labels["source"].equals(labels_of_late["source"])
    assert labels["start"].tolist() == [had.parse_clip(name, Path("labels")).start for name in labels["stim_file"]]


def test_fetched_data_give_the_same_trials(early: Had, target: tuple[pd.DataFrame, ...], tmp_path: Path) -> None:
    """From a server by manifest, as `boldscribe fetch` and the rule do it; only what the configured subjects need is asked for."""
    files = {p.relative_to(early.root).as_posix(): p.read_bytes() for p in early.root.rglob("*") if p.is_file()}
    entries = [Entry(path, len(content), hashlib.sha256(content).digest(), None) for path, content in sorted(files.items())]
    config = experiment(Had(tmp_path / "had"), manifest=str(tmp_path / "had.parquet"))
    config.write(tmp_path / "config.yaml")
    with FileServer(files).running() as server:
        write_manifest(Manifest({**SOURCE, "base_url": server.url}, tuple(entries)), tmp_path / "had.parquet")
        command = ["fetch", "data", "had", "--derivatives", "--config", str(tmp_path / "config.yaml")]
        fetched = CliRunner().invoke(main, command)
        assert fetched.exit_code == 0, fetched.output
        asked = {path for path, _ in server.requests}
        assert complete_dataset(config, "had")["accession"] == "ds000000" and {path for path, _ in server.requests} == asked
    assert not any("sub-02/" in path for path in asked) and sum("_events.tsv" in path for path in asked) == 24
    trials, labels, _ = to_trials(config, tmp_path / "out", "03", validate_raw(config, "had"))
    pd.testing.assert_frame_equal(trials, target[0])
    pd.testing.assert_frame_equal(labels, target[1])


def test_windows_stand_where_the_clips_were_seen(early: Had, target: tuple[pd.DataFrame, ...]) -> None:
    """By hand, from the events as they are on disk: 12 s of lead-in, 4 s of delay, volumes in the middle of their slice times."""
    trials, labels, excluded = target
    assert len(trials) == 720 and trials["role"].value_counts().to_dict() == {"adapt": 540, "test": 180} and excluded.empty
    events = early.shown["03", 11]
    middle = (min(SLICE_TIMES) + max(SLICE_TIMES)) / 2
    expected = 10 * 156 + np.floor((events["onset"] + 12 + 4 - middle) / 2 + 0.5)
    of_run = trials["run"] == "11"
    assert trials.loc[of_run, "first_volume"].tolist() == expected.tolist()
    assert labels.loc[of_run, "stim_file"].tolist() == events["stim_file"].tolist()
    assert labels.loc[of_run, "action"].tolist() == [name.split("/")[0] for name in events["stim_file"]]
    assert labels.loc[trials["role"] == "test", "action"].nunique() == 180, "a cycle of three runs shows each class once"


def test_preflight_reports_missing_responses_and_odd_cycles(early: Had, report: dict[str, Any]) -> None:
    missing = sum((early.shown["01", run]["response"] == "n/a").sum() for run in range(1, 13))
    assert (
        report["lead_in"] == 12
        and report["broken_clips"] == {}
        and report["missing_responses"]["01"] == missing
        and report["remarks"]["01"] == [f"{missing} of 720 trials without response"]
    )
    assert "show Archery more than once" in had.cycle_remarks({"01": ["Archery"], "02": ["Surfing"], "03": ["Archery"]})[0]


def test_the_bids_validator_accepts_the_layout(early: Had, tmp_path: Path) -> None:
    """But for HAD's own errors, spaces in the names of clips, and for what is left out here, images and clips of 28 subjects."""
    ignored = [
        {"code": "TSV_VALUE_INCORRECT_TYPE", "subCode": "stim_file"},
        {"code": "STIMULUS_FILE_MISSING"},
        {"code": "SIDECAR_WITHOUT_DATAFILE"},
    ]
    (tmp_path / "ignore.json").write_text(json.dumps({"ignore": ignored}))
    program = Path(sys.executable).with_name("bids-validator-deno")

    def validated(*options: str) -> tuple[int, str]:
        done = subprocess.run([program, early.root, *options], capture_output=True, text=True, timeout=PATIENCE, check=False)
        return done.returncode, done.stdout

    code, output = validated("-c", str(tmp_path / "ignore.json"))
    assert code == 0, output
    code, output = validated()
    assert code != 0 and "TSV_VALUE_INCORRECT_TYPE" in output


def test_lead_in_is_detected_and_never_assumed() -> None:
    assert had.detect_lead_in({"a": 0.12, "b": 0.0}) == 12.0 and had.detect_lead_in({"a": 12.12}) == 0.0
    with pytest.raises(UserError, match=r"b: onset: found a first onset near 0, but one after the 12 s lead-in in a"):
        had.detect_lead_in({"a": 12.1, "b": 0.1})
    with pytest.raises(UserError, match=r"found 7\.5 s for the first clip, expected 0 to 4 s .* or 12 to 16 s"):
        had.detect_lead_in({"a": 7.5})
    with pytest.raises(UserError, match="lead_in is 'detect', which is known of HAD alone"):
        Config.parse({"datasets": {"had": {"lead_in": "detect"}}})


def test_names_of_clips() -> None:
    clip = had.parse_clip("Getting a haircut/v_Getting a haircut_id_Kb_uKm1-7hQ_start_52.0_label_1.mp4", Path("events.tsv"))
    assert clip == had.Clip("Getting a haircut", "Kb_uKm1-7hQ", 52.0)
    with pytest.raises(UserError, match=r"stim_file: found 'a\.mp4', expected a name like 'Archery/v_Archery"):
        had.parse_clip("a.mp4", Path("events.tsv"))


def test_derivatives_in_native_space_are_refused_with_both_grids(early: Had, tmp_path: Path) -> None:
    native = tmp_path / "sub-01/sub-01_task-action_run-1_desc-preproc_bold.nii.gz"
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -81.5, -118.0, -62.0
    save_image(native, np.zeros((83, 89, 77, 2)), affine, tr=2.0)
    config = experiment(early).model_dump()
    config["preprocessing"]["resolution"] = 2.0
    settings = Config.parse(config)
    with pytest.raises(UserError) as error:
        preprocessed_runs(tmp_path, "01", settings.datasets["had"], settings.preprocessing)
    found = "a grid of 83 x 89 x 77 voxels of 2 x 2 x 2 mm, axes RAS, first voxel at (-81.5, -118, -62) mm"
    expected = "a grid of 97 x 115 x 97 voxels of 2 x 2 x 2 mm, axes RAS, first voxel at (-96.5, -132.5, -78.5) mm"
    assert str(error.value) == (
        f"{native}: space: found {found}; expected {expected}, the grid of MNI152NLin2009cAsym. The volumes are in the subject's own "
        "space, where voxels do not correspond between subjects; resample the raw BOLD to the template with existing transforms "
        "(preprocessing.engine: minimal), or preprocess it"
    )


def test_start_time_of_corrected_volumes(early: Had, tmp_path: Path) -> None:
    """From the sidecar; where older fMRIPrep leaves it out, from the raw slice times; and 0 where nothing was corrected."""
    design, plain = experiment(early).datasets["had"], experiment(early, adapter="bids", lead_in=12).datasets["had"]
    bold = tmp_path / "sub-01_task-action_run-1_desc-preproc_bold.nii.gz"
    sidecar = Path(str(bold).replace(".nii.gz", ".json"))

    def found(content: dict[str, Any], dataset: Dataset) -> float:
        sidecar.write_text(json.dumps(content))
        return start_time(bold, tmp_path, dataset, "01")[0]

    middle = (min(SLICE_TIMES) + max(SLICE_TIMES)) / 2
    assert found({"StartTime": 0.7}, design) == 0.7 and found({}, design) == middle
    assert found({}, plain) == 0 and found({"SliceTimingCorrected": True}, plain) == middle
    assert found({"SliceTimingCorrected": False}, design) == 0


def test_trials_are_left_out_with_their_reason(early: Had, report: dict[str, Any], tmp_path: Path) -> None:
    clip = early.shown["03", 10]["stim_file"][7]
    of_adaptation = early.shown["03", 1]["stim_file"][0]
    config = experiment(early, missing_responses="exclude")
    config = config.model_copy(update={"bold": config.bold.model_copy(update={"delay": 16.0, "n_volumes": 3})})
    source = early.shown["03", 12]["stim_file"][3].split("_id_")[1][:11]
    findings = {"broken_clips": {clip: "frames: found 3", of_adaptation: "frames: found 0"}, "kept_for_training": {"had": [source]}}
    trials, labels, excluded = to_trials(config, tmp_path, "03", report | findings)
    unanswered = sum((early.shown["03", run]["response"] == "n/a").sum() for run in range(1, 13))
    counts = excluded["reason"].value_counts().to_dict()
    assert counts[BROKEN] == 1 and counts[OTHER_SIDE] == 1 and counts[OUTSIDE] == 12, "the last clip of each run ends too late"
    assert unanswered - 4 <= counts[UNANSWERED] <= unanswered and len(trials) + len(excluded) == 720
    broken = excluded[excluded["reason"] == BROKEN].iloc[0]
    assert (broken["run"], broken["trial"], broken["role"], broken["detail"]) == ("10", 9 * 60 + 7, "test", "frames: found 3")
    assert set(trials["trial"]) == set(labels["trial"]) and not set(excluded["trial"]) & set(trials["trial"])
    with_source = config.datasets["had"].model_copy(update={"train_subjects": []})
    sentence = left_out_sentence(
        config.model_copy(update={"datasets": {"had": with_source}}), "had", [tmp_path / "sub-03_labels.parquet"], excluded
    )
    assert sentence.startswith(f"Of the 720 trials of target subjects {len(excluded)} are left out: 1 (clip cannot be decoded), ")


def test_few_broken_clips_are_listed_and_many_stop_the_run(early: Had, tmp_path: Path) -> None:
    names = early.shown["01", 1]["stim_file"].tolist()
    for i, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"no video" if i == 0 else (early.root / "stimuli" / name).read_bytes())
    broken, problems = check_clips(tmp_path, names, 0.02, 1)
    assert list(broken) == names[:1] and not problems
    message = check_clips(tmp_path, names, 0.01, 1)[1][0]
    assert f"found 1 of 60 videos that cannot be decoded, expected at most 1% (stimuli.largest_broken_share): {names[0]}: " in message


def test_strict_split_shares_no_source() -> None:
    had_like = Dataset(split="strict")
    assert separate_sources(had_like, "had", 1, {"a", "b"}, {"b", "c"}) == ([], ["b"])
    shared = {f"clip{i}" for i in range(100)}
    urgen_like = Dataset(split="strict", strict_test_share=0.2)
    for_training, for_testing = separate_sources(urgen_like, "urgen", 1, shared, shared)
    assert len(for_testing) == 20 and set(for_training) | set(for_testing) == shared and not set(for_training) & set(for_testing)
    assert separate_sources(urgen_like, "urgen", 2, shared, shared) != (for_training, for_testing)
    assert separate_sources(Dataset(), "urgen", 1, shared, shared) == ([], [])
    with pytest.raises(UserError, match=r"strict_test_share: found 1, which leaves no clip for training, since 100 sources"):
        separate_sources(had_like, "urgen", 1, shared, shared)


def test_test_clips_of_a_known_video_are_counted(tmp_path: Path) -> None:
    config = Config.parse({"datasets": {"had": {"train_subjects": ["01"], "validation_subjects": ["03"]}}})
    clips = {"01": [("a1", "A"), ("b1", "B")], "03": [("a2", "A"), ("c1", "C")]}
    paths = []
    for subject, rows in clips.items():
        table = pd.DataFrame(
            [(subject, i, clip, source) for i, (clip, source) in enumerate(rows)], columns=["subject", "trial", "stim_file", "source"]
        )
        table.to_parquet(paths.append(tmp_path / subject) or tmp_path / subject)  # type: ignore[func-returns-value]
    scored = pd.DataFrame({"subject": "03", "trial": [0, 1]})
    assert overlap_sentence(config, "had", paths, scored) == (
        "No trial that was trained on shows a clip of the 2 test trials. Those of 1 were cut from a video of which source subjects saw "
        "another part."
    )


MANIFEST = (
    "stimulus\tstim_file\taction\tsource\tstart\n"
    "walk_3\twalking/3.mp4\twalking\tfilm 1\t62.5\njump\tjumping.avi\tjumping\tn/a\tn/a\nrest\tn/a\tn/a\tn/a\tn/a\n"
)


def test_a_stimulus_manifest_describes_any_data_set(tmp_path: Path) -> None:
    manifest, events = tmp_path / "stimuli.tsv", tmp_path / "events.tsv"
    manifest.write_text(MANIFEST)
    events.write_text(
        "onset\tduration\tcondition\tsaid\n1\t2\twalk_3\tA man walks.\n5\t2\trest\tNothing.\n9\tn/a\tjump\tn/a\n13\t1\tn/a\tn/a\n"
    )
    design = Dataset(stimulus_manifest=str(manifest), stimulus_column="condition", description_column="said")
    table = stimulus_events(design, events, 3.0)
    assert table[["onset", "stim_file", "action", "source"]].to_numpy().tolist() == [
        [4.0, "walking/3.mp4", "walking", "film 1"],
        [12.0, "jumping.avi", "jumping", "jumping.avi"],
    ]
    assert table["start"].equals(pd.Series([62.5, math.nan], name="start")) and table["description"].tolist() == ["A man walks.", ""]
    with pytest.raises(UserError, match="expected also caption"):
        stimulus_events(design.model_copy(update={"description_column": "caption"}), events, 3.0)
    for old, new, message in (
        ("jump\t", "hop\t", r"condition: found jump, expected values from the column `stimulus`"),
        ("rest\tn/a", "jump\tn/a", "stimulus: found jump more than once"),
        ("walking\tfilm", "n/a\tfilm", "action: found none for walk_3"),
        ("source", "origin", "expected also source"),
        ("62.5", "1:02", "start: found no number for walk_3"),
    ):
        read_stimulus_manifest.cache_clear()
        manifest.write_text(MANIFEST.replace(old, new))
        with pytest.raises(UserError, match=message):
            stimulus_events(design, events, 0.0)
    read_stimulus_manifest.cache_clear()
