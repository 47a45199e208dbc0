"""BIDS names and the preflight: every fault is found and told, a sound data set passes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from boldscribe.config import Config
from boldscribe.config.run_choice import RunChoice
from boldscribe.data.checks import validate_raw
from boldscribe.data.events import read_events
from boldscribe.data.images import load_image, missing_bytes, save_image
from boldscribe.data.layout import entity_path, find_runs, metadata, resolution_label
from boldscribe.machinery.errors import UserError
from boldscribe.simulation.render import write_clip

TR = 2.0
EVENTS = "onset\tduration\ttrial_type\tstim_file\n4.0\t2\trunning\ta.mp4\n9.5\tn/a\tn/a\tn/a\n10.1\t2\tjumping\tb.mp4\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A sound raw data set of two subjects and two runs, and a configuration that asks for it."""
    rng = np.random.default_rng(0)
    root = tmp_path / "raw"
    for clip in ("a.mp4", "b.mp4"):
        (root / "stimuli").mkdir(parents=True, exist_ok=True)
        write_clip(root / "stimuli" / clip, rng.integers(0, 255, (16, 32, 32, 3), np.uint8), 8)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "test", "BIDSVersion": "1.10.0"}))
    (root / "task-action_bold.json").write_text(json.dumps({"RepetitionTime": TR, "TaskName": "action"}))
    for subject in ("01", "02"):
        save_image(root / f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz", rng.random((5, 6, 7)), np.eye(4))
        for run in ("1", "2"):
            stem = root / f"sub-{subject}/func/sub-{subject}_task-action_run-{run}"
            save_image(f"{stem}_bold.nii.gz", rng.random((4, 5, 3, 20)), np.eye(4), tr=TR)
            Path(f"{stem}_events.tsv").write_text(EVENTS)
    return Config.parse(
        {
            "datasets": {
                "had": {
                    "bids_dir": str(root),
                    "train_subjects": ["01"],
                    "validation_subjects": ["02"],
                    "adaptation_runs": ["01"],
                    "test_runs": ["02"],
                }
            }
        }
    )


def test_sound_dataset_passes(config: Config) -> None:
    report = validate_raw(config, "had")
    assert report["name"] == "test" and report["runs"] == {"01": ["01", "02"], "02": ["01", "02"]}


def bold(root: Path) -> Path:
    return root / "sub-02/func/sub-02_task-action_run-2_bold.nii.gz"


def events(root: Path) -> Path:
    return root / "sub-02/func/sub-02_task-action_run-2_events.tsv"


def rewrite(path: Callable[[Path], Path], old: str, new: str) -> Callable[[Path], object]:
    return lambda root: path(root).write_text(path(root).read_text().replace(old, new))


def sidecar(seconds: object) -> Callable[[Path], object]:
    return lambda root: Path(str(bold(root)).replace(".nii.gz", ".json")).write_text(json.dumps({"RepetitionTime": seconds}))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no T1w": (lambda root: (root / "sub-02/anat/sub-02_T1w.nii.gz").unlink(), "sub-02: found no anat"),
    "no run": (lambda root: bold(root).unlink(), "sub-02: found runs 01, expected also 02"),
    "no events": (lambda root: events(root).unlink(), "found no events.tsv"),
    "no subject": (lambda root: (root / "sub-02").rename(root / "sub-09"), "found no sub-02"),
    "truncated": (lambda root: bold(root).write_bytes(bold(root).read_bytes()[:-200]), "bytes fewer than the shape"),
    "not NIfTI": (lambda root: bold(root).write_bytes(b"no image"), "cannot be opened as NIfTI"),
    "3-D BOLD": (lambda root: save_image(bold(root), np.ones((4, 5, 3)), np.eye(4)), "expected 4 dimensions"),
    "TR in ms": (sidecar(2000), "RepetitionTime: found 2000"),
    "TR is text": (sidecar("2 s"), "RepetitionTime: found '2 s'"),
    "no column": (rewrite(events, "stim_file", "file"), "expected also stim_file"),
    "NaN": (lambda root: save_image(bold(root), np.full((4, 5, 3, 20), np.nan), np.eye(4), tr=TR), "found NaN or infinity in 20 volume(s)"),
    "damaged inside": (lambda root: damage_inside(bold(root)), "bytes fewer than the shape"),
    "too few volumes": (
        lambda root: (
            save_image(bold(root), np.ones((4, 5, 3, 6)), np.eye(4), tr=TR),
            events(root).write_text(EVENTS.split("9.5")[0]),
        ),
        "volumes: found 6, expected at least 7 for the first trial's window",
    ),
}


def damage_inside(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 50] = bytes(50)
    path.write_bytes(content)


def test_a_clip_that_will_be_read_is_there_and_whole(config: Config) -> None:
    root = Path(config.datasets["had"].bids_dir)
    rewrite(lambda r: r / "sub-02/func/sub-02_task-action_run-1_events.tsv", "b.mp4", "of-an-adaptation-run.mp4")(root)
    assert validate_raw(config, "had"), "what only adaptation runs show stays closed"
    rewrite(events, "b.mp4", "c.mp4")(root)
    with pytest.raises(UserError, match=r"found 1 file\(s\) of the events that do not exist there \(c\.mp4\)"):
        validate_raw(config, "had")
    (root / "stimuli" / "c.mp4").write_bytes((root / "stimuli" / "b.mp4").read_bytes()[:-1500])
    with pytest.raises(UserError, match=r"found 1 of 3 videos that cannot be decoded, expected at most 2% .*: c\.mp4: "):
        validate_raw(config, "had")


def test_uncompressed_runs_and_durations_unknown(config: Config) -> None:
    root = Path(config.datasets["had"].bids_dir)
    plain = Path(str(bold(root)).removesuffix(".gz"))
    plain.write_bytes(gzip.decompress(bold(root).read_bytes()))
    bold(root).unlink()
    rewrite(events, "4.0\t2", "4.0\tn/a")(root)
    assert validate_raw(config, "had")["runs"]["02"] == ["01", "02"]


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named(config: Config, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(Path(config.datasets["had"].bids_dir))
    with pytest.raises(UserError) as error:
        validate_raw(config, "had")
    assert message in str(error.value) and "sub-02" in str(error.value) and len(error.value.problems) == 1


def with_header(root: Path, **fields: object) -> None:
    image = load_image(bold(root), 4)
    image = type(image)(image.get_fdata(), image.affine, image.header)
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, bold(root))


HARMLESS: dict[str, tuple[Callable[[Path], object], str]] = {
    "T1w with a fourth dimension": (
        lambda root: save_image(root / "sub-02/anat/sub-02_T1w.nii.gz", np.ones((8, 8, 8, 1)), np.eye(4)),
        "",
    ),
    "BOLD with a fifth dimension": (lambda root: save_image(bold(root), np.ones((4, 5, 3, 20, 1)), np.eye(4)), "header is 1 s"),
    "TR 0 in the header": (lambda root: with_header(root, pixdim=[1, 1, 1, 1, 0, 0, 0, 0]), "header is 0 s"),
    "TR wrong in the header": (lambda root: with_header(root, pixdim=[1, 1, 1, 1, 1, 0, 0, 0]), "header is 1 s"),
    "TR in ms in the header": (lambda root: with_header(root, pixdim=[1, 1, 1, 1, 2000, 0, 0, 0]), "header is 2000 s"),
    "TR null in the sidecar": (sidecar(None), "no RepetitionTime in the JSON sidecar; 2 s of the image's header is used"),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_odd_headers_are_harmless_and_told(config: Config, kind: str) -> None:
    """Onsets up to 38 s are inside a run of 20 volumes of 2 s, whatever its header says."""
    root = Path(config.datasets["had"].bids_dir)
    change, remark = HARMLESS[kind]
    change(root)
    rewrite(events, "10.1", "38")(root)
    said = validate_raw(config, "had")["remarks"].get("02", [])
    assert [remark in line for line in said] == ([True] if remark else [])


def test_all_faults_at_once(config: Config) -> None:
    root = Path(config.datasets["had"].bids_dir)
    for fault in ("no T1w", "truncated", "no events"):
        FAULTS[fault][0](root)
    with pytest.raises(UserError) as error:
        validate_raw(config, "had")
    assert len(error.value.problems) == 3


def test_several_gzip_members_are_whole(config: Config, tmp_path: Path) -> None:
    packed = tmp_path / "members.nii.gz"
    content = gzip.decompress(bold(Path(config.datasets["had"].bids_dir)).read_bytes())
    packed.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    assert missing_bytes(packed, load_image(packed, 4)) == 0


def test_same_image_same_bytes(tmp_path: Path) -> None:
    data = np.random.default_rng(1).random((3, 4, 5, 6))
    one, other = (save_image(tmp_path / name, data, np.eye(4), tr=TR).read_bytes() for name in ("one.nii.gz", "other.nii.gz"))
    assert one == other and np.allclose(load_image(tmp_path / "one.nii.gz", 4).get_fdata(), data)


def test_names_as_fmriprep_writes_them() -> None:
    path = entity_path(
        "01",
        session="a",
        datatype="func",
        suffix="bold",
        extension=".nii.gz",
        task="action",
        run="01",
        space="MNI152NLin2009cAsym",
        res=resolution_label(2.0),
        desc="preproc",
    )
    assert str(path) == "sub-01/ses-a/func/sub-01_ses-a_task-action_run-01_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz"


def test_runs_metadata_and_events(config: Config) -> None:
    root = Path(config.datasets["had"].bids_dir)
    runs = find_runs(root, "01", RunChoice(("action",)))
    assert list(runs) == ["01", "02"] and metadata(runs["01"], root)["RepetitionTime"] == TR
    assert read_events(events(root))["stim_file"].tolist() == ["a.mp4", "b.mp4"]  # the blank is no trial
    (root / "sub-01/func/sub-01_task-action_acq-b_run-1_bold.nii.gz").write_bytes(b"")
    with pytest.raises(UserError, match="run 01: found"):
        find_runs(root, "01", RunChoice(("action",)))
