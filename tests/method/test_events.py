"""Events as people have them: odd rows cost their own trial, odd names find their file, and files apply by inheritance."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.config.run_choice import RunChoice
from boldscribe.data.checks import validate_raw
from boldscribe.data.event_checks import RunEvents, first_onsets
from boldscribe.data.events import stimulus_events, with_onset, within_run
from boldscribe.data.layout import find_events, metadata
from boldscribe.data.placement import displacement_path
from boldscribe.data.problems import grouped
from boldscribe.data.reasons import NO_CLASS, NO_DURATION, NO_ONSET, NO_STIMULUS
from boldscribe.data.stimulus_files import clean_path, links_that_lead_out, other_spellings
from boldscribe.data.trials import write_trials
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import save_array
from tests.as_step import as_step
from tests.small_dataset import write_dataset

LENGTH = 40.0  # s, of a run


def table(*rows: str) -> str:
    return "onset\tduration\ttrial_type\tstim_file\n" + "".join(f"{row}\n" for row in rows)


SOUND = [f"{4 * i}\t2\t{('running', 'jumping')[i % 2]}\t{'ab'[i % 2]}.mp4" for i in range(7)]
ODD = {
    "8\t2\tn/a\ta.mp4": NO_CLASS,
    "8\t2\t\ta.mp4": NO_CLASS,
    "8\t2\trunning\tn/a": NO_STIMULUS,
    "8\t2\trunning\t": NO_STIMULUS,
    "8\t2\trunning\t../a.mp4": NO_STIMULUS,
    "8\t2\trunning\tx/../../a.mp4": NO_STIMULUS,
    "8\t2\trunning\t/etc/passwd": NO_STIMULUS,
    "8\t2\trunning\tC:\\videos\\a.mp4": NO_STIMULUS,
    "8\t2\trunning\t..\\a.mp4": NO_STIMULUS,
    f"8\t2\trunning\t{'a' * 300}.mp4": NO_STIMULUS,
    "n/a\t2\trunning\ta.mp4": NO_ONSET,
    "\t2\trunning\ta.mp4": NO_ONSET,
    "soon\t2\trunning\ta.mp4": NO_ONSET,
    "4,5\t2\trunning\ta.mp4": NO_ONSET,
    "-3\t2\trunning\ta.mp4": NO_ONSET,
    "inf\t2\trunning\ta.mp4": NO_ONSET,
    "NaN\t2\trunning\ta.mp4": NO_ONSET,
    "40\t2\trunning\ta.mp4": NO_ONSET,
    "1e6\t2\trunning\ta.mp4": NO_ONSET,
    "8\t0\trunning\ta.mp4": NO_DURATION,
    "8\t-2\trunning\ta.mp4": NO_DURATION,
    "8\tlong\trunning\ta.mp4": NO_DURATION,
    "8\tinf\trunning\ta.mp4": NO_DURATION,
    "soon\t-1\tn/a\t/x": NO_ONSET,  # the first reason counts
}


@pytest.mark.parametrize("row", ODD)
def test_an_odd_row_costs_its_own_trial(tmp_path: Path, row: str) -> None:
    path = tmp_path / "events.tsv"
    path.write_text(table(*SOUND[:3], row, *SOUND[3:], "30\t1\trest\tn/a", "31\tn/a\trunning\tn/a"))
    events = within_run(stimulus_events(Dataset(), path, 0.0), LENGTH)
    odd, sound = events[events["reason"] != ""], events[events["reason"] == ""]
    assert odd["reason"].tolist() == [ODD[row]] and odd["detail"].all()
    assert sound["onset"].tolist() == [4.0 * i for i in range(7)] and sound["action"].tolist()[:2] == ["running", "jumping"]
    assert len(with_onset(events)) == 7 + (ODD[row] != NO_ONSET), "what was shown is modelled, even if it is no trial"


@pytest.mark.parametrize("duration", ["0", "n/a", "", "0.0"])
def test_durations_may_be_unknown_or_brief(tmp_path: Path, duration: str) -> None:
    (tmp_path / "events.tsv").write_text(table(*(row.replace("\t2\t", f"\t{duration}\t") for row in SOUND)))
    assert (stimulus_events(Dataset(), tmp_path / "events.tsv", 0.0)["reason"] == "").all()


def test_the_lead_in_counts(tmp_path: Path) -> None:
    (tmp_path / "events.tsv").write_text(table("-3\t2\tx\ta.mp4", "29\t2\tx\ta.mp4"))
    assert within_run(stimulus_events(Dataset(), tmp_path / "events.tsv", 12.0), LENGTH)["reason"].tolist() == ["", NO_ONSET]


def test_names_that_are_not_hads(tmp_path: Path) -> None:
    name = "Archery/v_Archery_id_-Pi3uPQ3mzE_start_54.0_label_1.mp4"
    (tmp_path / "events.tsv").write_text(table(f"0\t2\t1\t./{name}", f"4\t2\t1\t../{name}", "8\t2\t1\ta.mp4"))
    events = stimulus_events(Dataset(adapter="had"), tmp_path / "events.tsv", 0.0)
    assert events["stim_file"].tolist() == [name, "", ""] and events["reason"].tolist() == ["", NO_STIMULUS, NO_STIMULUS]
    assert "expected a name like" in events["detail"].iloc[2]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    write_dataset(tmp_path / "raw")
    split = {"train_subjects": ["01"], "validation_subjects": ["02"], "adaptation_runs": ["01"], "test_runs": ["02"]}
    return Config.parse({"datasets": {"had": {"bids_dir": str(tmp_path / "raw"), **split}}})


def events_of(config: Config, subject: str, run: int) -> Path:
    return Path(config.datasets["had"].bids_dir) / f"sub-{subject}/func/sub-{subject}_task-action_run-{run}_events.tsv"


def trials_of(config: Config, folder: Path, report: dict[str, Any], subject: str = "01") -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Trials, labels and excluded trials of a subject with two runs of 20 volumes, whose BOLD is all 0."""
    rows = 20 if config.bold.signal == "window" else 4
    runs = [
        {"run": f"0{i + 1}", "first_volume": i * rows, "n_volumes": rows, "repetition_time": 2.0, "start_time": 0.0, "duration": LENGTH}
        for i in range(2)
    ]
    series = folder / f"sub-{subject}_bold.npy"
    save_array(series, np.zeros((2 * rows, 3), np.float16), runs=runs)
    save_array(displacement_path(series), np.zeros(2 * rows, np.float32))
    (folder / "checked.json").write_text(json.dumps(report))
    paths = {name: folder / f"{name}.parquet" for name in ("trials", "labels", "excluded")}
    job = as_step(config, "trials", dataset="had")
    write_trials(job, "had", subject, series=series, checked=folder / "checked.json", **paths)
    trials, labels, excluded = (pd.read_parquet(path) for path in paths.values())
    return trials, labels, excluded


@pytest.mark.parametrize("row", ["n/a\t2\trunning\ta.mp4", "-3\t2\trunning\ta.mp4", "99\t2\tn/a\ta.mp4", "8\t2\tn/a\ta.mp4"])
def test_the_preflight_passes_and_tells_and_the_trial_is_listed(config: Config, tmp_path: Path, row: str) -> None:
    events_of(config, "01", 1).write_text(table(*SOUND, row))
    report = validate_raw(config, "had")
    reason = NO_CLASS if row.startswith("8") else NO_ONSET
    assert report["remarks"]["01"] == [f"1 of 10 trials left out: {reason}"]
    trials, labels, excluded = trials_of(config, tmp_path, report)
    assert excluded.drop(columns=["trial", "detail"]).to_numpy().tolist() == [["01", "01", "train", reason]]
    assert len(trials) == 9 and set(trials["trial"]) | set(excluded["trial"]) == set(range(10))
    assert labels["action"].tolist() == [*(("running", "jumping")[i % 2] for i in range(7)), "running", "jumping"]


def test_a_response_is_that_of_its_own_trial(config: Config, tmp_path: Path) -> None:
    """With one row per response, rows are those of events with an onset, whether they are used as trials or not."""
    events_of(config, "01", 1).write_text(table("-3\t2\trunning\ta.mp4", "4\t2\tn/a\ta.mp4", *SOUND[2:4], "99\t2\trunning\ta.mp4"))
    settings = config.model_dump()
    settings["bold"] |= {"signal": "lss", "n_volumes": 1}
    trials, _, excluded = trials_of(Config.parse(settings), tmp_path, validate_raw(config, "had"))
    assert trials["first_volume"].tolist() == [1, 2, 4, 5] and trials["onset"].tolist()[:2] == [8.0, 12.0]
    assert excluded["reason"].tolist() == [NO_ONSET, NO_CLASS, NO_ONSET]


@pytest.mark.parametrize("rows", [["0\t2\tx\tn/a"], ["rest"]])
def test_a_run_without_trials_costs_no_other(config: Config, tmp_path: Path, rows: list[str]) -> None:
    events_of(config, "01", 2).write_text(table(*(rows if "\t" in rows[0] else [])))
    report = validate_raw(config, "had")
    assert report["remarks"] == {"01": ["run(s) 02 without a trial"]}
    assert len(trials_of(config, tmp_path, report)[0]) == 2


def test_nearly_all_trials_must_be_usable(config: Config) -> None:
    for subject in ("01", "02"):
        for run in (1, 2):
            events_of(config, subject, run).write_text(table(*(f"{4000 * i + 1000}\t2\tx\ta.mp4" for i in range(5))))
    with pytest.raises(
        UserError, match=r"found 20 of 20 trials that cannot be used: 20 \(no onset within the run\).*found 1000 s, expected"
    ):
        validate_raw(config, "had")
    for subject in ("01", "02"):
        for run in (1, 2):
            events_of(config, subject, run).write_text(table("0\t2\tx\tn/a"))
    with pytest.raises(UserError, match=r"stim_file: found no row with a stimulus in 4 events file\(s\)"):
        validate_raw(config, "had")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.mp4", "a.mp4"),
        ("./a.mp4", "a.mp4"),
        ("x//./y/../a.mp4", "x/a.mp4"),
        ("x\\a.mp4", "x/a.mp4"),
        ("..a/b...mp4", "..a/b...mp4"),
        ("..", None),
        ("x/../..", None),
        (".", None),
        ("//server/a.mp4", None),
        ("d:a.mp4", None),
    ],
)
def test_paths_are_normalised_and_stay_inside(name: str, path: str | None) -> None:
    assert clean_path(name) == path


@pytest.mark.parametrize("written", ["stimuli/a.mp4", "A.MP4", "%61.mp4", "./Stimuli/a.mp4", "stimuli\\A.mp4"])
def test_another_spelling_finds_its_only_file(config: Config, tmp_path: Path, written: str) -> None:
    for subject in ("01", "02"):
        events_of(config, subject, 2).write_text(table(f"4\t2\trunning\t{written}", "8\t2\tjumping\tb.mp4"))
    report = validate_raw(config, "had")
    assert list(report["renamed_clips"].values()) == ["a.mp4"]
    assert report["remarks"]["01"] == ["clips of 2 trials are spelled differently in the events"]
    labels = trials_of(config, tmp_path, report)[1]
    assert labels["stim_file"].tolist() == labels["source"].tolist() == ["a.mp4", "b.mp4"] * 2


def test_spellings_that_fit_several_files_or_none(tmp_path: Path) -> None:
    for name in ("Ä b.mp4", "c.mp4", "C.mp4", "x/stimuli.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = ["A\u0308%20b.mp4", "c.MP4", "c.mp4", "X/Stimuli.mp4", "d.mp4", "%2e%2e/c.mp4"]
    assert other_spellings(tmp_path, names) == {"A\u0308%20b.mp4": "Ä b.mp4", "X/Stimuli.mp4": "x/stimuli.mp4"}


def test_links_that_lead_out_are_not_opened(config: Config, tmp_path: Path) -> None:
    videos = config.datasets["had"].videos
    inside, annexed = tmp_path / "raw/.git/annex/objects/k/k.mp4", videos / "b.mp4"
    inside.parent.mkdir(parents=True)
    annexed.rename(inside)
    annexed.symlink_to("../.git/annex/objects/k/k.mp4")
    assert links_that_lead_out(videos, ["a.mp4", "b.mp4"]) == {} and validate_raw(config, "had")
    (videos / "a.mp4").rename(tmp_path / "elsewhere.mp4")
    (videos / "a.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    with pytest.raises(UserError, match=r"stim_file: found 1 link\(s\) that lead out of the folder \(a\.mp4 -> .*elsewhere\.mp4\)"):
        validate_raw(config, "had")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/c.mp4").touch()
    (videos / "folder").symlink_to(tmp_path / "elsewhere")
    assert list(links_that_lead_out(videos, ["folder/c.mp4"])) == ["folder/c.mp4"]


LEVELS = {
    "task-watch_events.tsv": {"01": 0, "02": 0},
    "sub-1/sub-1_task-watch_events.tsv": {"01": 1, "02": 1},
    "task-watch_run-2_events.tsv": {"01": 1, "02": 1},  # the closer folder wins
    "sub-1/ses-a/sub-1_ses-a_task-watch_run-02_events.tsv": {"01": 1, "02": 3},
    "sub-1/ses-a/func/sub-1_ses-a_task-watch_run-1_events.tsv": {"01": 4, "02": 3},
    "sub-1/ses-a/func/sub-1_ses-a_task-watch_events.tsv": {"01": 4, "02": 5},  # more entities win
}


def test_events_are_inherited(tmp_path: Path) -> None:
    """Files are added one by one; the number is that of the file which applies to each run."""
    (tmp_path / "sub-1/ses-a/func").mkdir(parents=True)
    for other in ("task-rest_events.tsv", "sub-1/sub-1_ses-b_task-watch_events.tsv", "._task-watch_events.tsv", "xevents.tsv"):
        (tmp_path / other).touch()
    assert find_events(tmp_path, "1", RunChoice(("watch",), ("a",)), ["01", "02"]) == {}
    for name, expected in LEVELS.items():
        (tmp_path / name).touch()
        found = find_events(tmp_path, "1", RunChoice(("watch",), ("a",)), ["01", "02"])
        assert {run: list(LEVELS).index(path.relative_to(tmp_path).as_posix()) for run, path in found.items()} == expected
    for label in ("AP", "PA"):
        (tmp_path / f"sub-1/ses-a/func/sub-1_ses-a_task-watch_dir-{label}_run-1_events.tsv").touch()
    with pytest.raises(UserError, match=r"dir-AP_run-1_events\.tsv: run 01: found it and .*dir-PA_run-1_events\.tsv"):
        find_events(tmp_path, "1", RunChoice(("watch",), ("a",)), ["01"])
    assert "dir-PA" in find_events(tmp_path, "1", RunChoice(("watch",), ("a",), variant={"dir": "PA"}), ["01"])["01"].name
    assert "dir" not in find_events(tmp_path, "1", RunChoice(("watch",), ("a",), variant={"dir": None}), ["01"])["01"].name


def test_the_preflight_and_the_trials_inherit_events(config: Config, tmp_path: Path) -> None:
    root = Path(config.datasets["had"].bids_dir)
    events_of(config, "01", 1).rename(root / "task-action_events.tsv")
    for subject, run in (("01", 2), ("02", 1), ("02", 2)):
        events_of(config, subject, run).unlink()
    report = validate_raw(config, "had")
    assert trials_of(config, tmp_path, report)[1]["stim_file"].tolist() == ["a.mp4", "b.mp4"] * 2


def test_sidecars_are_inherited_by_the_same_rule(tmp_path: Path) -> None:
    bold = tmp_path / "sub-1/func/sub-1_task-watch_acq-x_run-01_bold.nii.gz"
    bold.parent.mkdir(parents=True)
    contents: dict[str, dict[str, Any]] = {
        "bold.json": {"a": 0, "b": 0, "c": 0, "d": 0},
        "task-watch_bold.json": {"b": 1},
        "task-watch_run-1_bold.json": {"c": 2},
        "task-watch_acq-x_bold.json": {"d": 2},  # as specific, without contradiction
        "task-watch_acq-y_bold.json": {"a": "other"},
        "sub-1/func/sub-1_task-watch_bold.json": {"e": 3},
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert metadata(bold, tmp_path) == {"a": 0, "b": 1, "c": 2, "d": 2, "e": 3}
    (tmp_path / "task-watch_acq-x_bold.json").write_text('{"c": 9}')
    with pytest.raises(UserError, match=r"acq-x_bold\.json: c: found another value than in .*run-1_bold\.json"):
        metadata(bold, tmp_path)


def damaged(config: Config, damage: Callable[[Path], object]) -> list[str]:
    """Problems that the preflight tells of the configured data set, damaged."""
    damage(Path(config.datasets["had"].bids_dir))
    with pytest.raises(UserError) as error:
        validate_raw(config, "had")
    return list(error.value.problems)


def test_each_kind_of_problem_has_its_line(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "raw", subjects=12, runs=3)
    subjects = [f"{i:02d}" for i in range(1, 13)]
    split = {"train_subjects": subjects[:9], "validation_subjects": subjects[9:], "adaptation_runs": ["01"], "test_runs": ["02"]}
    config = Config.parse({"datasets": {"had": {"bids_dir": str(root), **split}}})
    for path in root.rglob("*_events.tsv"):
        path.write_text(path.read_text().replace("trial_type", "kind"))
    events_of(config, "12", 3).write_text("onset\n1\n")
    (root / "sub-07/anat/sub-07_T1w.nii.gz").unlink()
    for subject in ("03", "04"):
        (root / f"sub-{subject}/func/sub-{subject}_task-action_run-3_events.tsv").unlink()
    problems = damaged(config, lambda root: None)
    assert len(problems) == 4
    t1w, missing, columns, types = problems
    assert t1w.startswith("sub-07: found no anat/*_T1w.nii.gz")
    assert missing.startswith("2 times: ") and missing.count("run-3_bold.nii.gz") == 2 and "found no events.tsv" in missing
    assert "sub-12_task-action_run-3_events.tsv: columns: found onset; expected also duration, stim_file" in columns
    assert types.startswith("33 times: ") and types.endswith(" and 30 more") and "found no trial_type, expected the action" in types
    assert types.count("_events.tsv") == 3


def test_a_lead_in_that_cannot_be_detected_hides_no_other_problem(config: Config) -> None:
    settings = config.model_dump()
    settings["datasets"]["had"] |= {"adapter": "had", "lead_in": "detect"}
    for subject in ("01", "02"):
        for run in (1, 2):
            name = "v_Archery_id_-Pi3uPQ3mzE_start_54.0_label_1.mp4"
            events_of(config, subject, run).write_text(table(f"7.5\t2\t1\t{name}"))
    problems = damaged(Config.parse(settings), lambda root: (root / "sub-02/anat/sub-02_T1w.nii.gz").unlink())
    assert len(problems) == 3 and "found no anat" in problems[0] and "found 7.5 s for the first clip" in problems[1]
    assert "do not exist there" in problems[2]


def test_an_invalid_first_onset_does_not_mislead_the_lead_in(tmp_path: Path) -> None:
    runs = {}
    for run, onsets in {"01": [0.1, 4.0, 8.0], "02": [math.nan, 4.1, 8.1], "03": [-3.0, 4.1, 8.1]}.items():
        runs[run] = RunEvents(tmp_path / run, pd.DataFrame({"onset": sorted(onsets)}))
    assert first_onsets({"01": runs}) == {str(tmp_path / "01"): 0.1}
    assert list(first_onsets({"01": {"03": runs["03"]}}).values()) == [4.1], "where there is nothing else"


def test_problems_of_one_kind_differ_in_file_and_value_only() -> None:
    alike = [f"/x/sub-{i:02d}.nii: shape: found ({i}, 2), expected 3 dimensions; provide one volume" for i in range(5)]
    other = [
        "/x/y.nii: shape: found (1,), expected 4 dimensions or more; provide a series",
        "sub-01: found no T1w, expected one",
        "no colon",
    ]
    assert grouped([*alike, *other, *alike]) == [
        f"5 times: {alike[0]}; also /x/sub-01.nii (found (1, 2)), /x/sub-02.nii (found (2, 2)) and 2 more",
        *other,
    ]
