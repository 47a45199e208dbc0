"""Reading trial windows, and indexing a data set, against nibabel and pybids: `python -m benchmarks.data --help`.

Windows: a run of HAD's size on fMRIPrep's 2 mm grid (97 x 115 x 97 voxels, 156 volumes, 235,000 voxels of them brain), as `.nii.gz` read
by nibabel window by window, against the cleaned float16 series behind a memory map, as training reads it; both in the page cache. Index:
the runs and events of 30 subjects with 12 runs each, in a tree named as HAD's is, against a `BIDSLayout` of the same tree.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import nibabel as nib
import numpy as np
import pandas as pd

from benchmarks.measuring import ROOT, machine, seconds
from boldscribe.config import Config
from boldscribe.config.run_choice import RunChoice
from boldscribe.data.events import read_events
from boldscribe.data.layout import find_runs
from boldscribe.data.windows import Windows
from boldscribe.machinery.files import save_array

GRID, VOLUMES, BRAIN, SUBJECTS, RUNS, TRIALS = (97, 115, 97), 156, 235_000, 30, 12, 60
CHOICE = RunChoice(("action",), ("action01",))
EVENTS = "onset\tduration\ttrial_type\tresponse\tresponse_time\tstim_file\n"


def make_run(folder: Path) -> tuple[Path, Path]:
    """A run of noise in a brain-shaped ellipsoid, raw as int16 `.nii.gz` and as cleaned series."""
    rng = np.random.default_rng(0)
    distance = sum(((np.arange(n) - n // 2) / n).reshape([-1 if a == axis else 1 for a in range(3)]) ** 2 for axis, n in enumerate(GRID))
    voxels = np.sort(np.argsort(np.ravel(distance), kind="stable")[:BRAIN]).astype(np.int32)
    series = rng.standard_normal((VOLUMES, BRAIN), np.float32)
    image = np.zeros((VOLUMES, np.prod(GRID)), np.int16)
    image[:, voxels] = 800 + 40 * series
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    nifti, array = folder / "run.nii.gz", folder / "sub-01_bold.npy"
    nib.save(nib.Nifti1Image(image.reshape(VOLUMES, *GRID).transpose(1, 2, 3, 0), affine), nifti)
    run = {"run": "01", "first_volume": 0, "n_volumes": VOLUMES, "repetition_time": 2.0, "start_time": 0.0}
    save_array(array, series.astype(np.float16), subject="01", grid_shape=list(GRID), affine=affine.tolist(), runs=[run])
    np.save(folder / "sub-01_voxels.npy", voxels)
    return nifti, array


def make_tree(root: Path) -> None:
    """HAD's raw tree: true names, empty images, events of 60 trials with its columns."""
    (root / "stimuli").mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "HAD", "BIDSVersion": "1.8.0"}')
    (root / "task-action_bold.json").write_text('{"RepetitionTime": 2.0, "TaskName": "action"}')
    for s in range(1, SUBJECTS + 1):
        start = f"sub-{s:02d}_ses-action01"
        folder = root / f"sub-{s:02d}" / "ses-action01"
        for kind in ("anat", "fmap", "func"):
            (folder / kind).mkdir(parents=True)
        (folder / f"{start}_scans.tsv").write_text("filename\n")
        for stem in (
            *("anat/{}_run-01_T1w", "fmap/{}_run-01_magnitude1", "fmap/{}_run-01_magnitude2", "fmap/{}_run-01_phasediff"),
            *(f"func/{{}}_task-action_run-{r:02d}_bold" for r in range(1, RUNS + 1)),
        ):
            (folder / f"{stem.format(start)}.json").write_text("{}")
            (folder / f"{stem.format(start)}.nii.gz").touch()
        for r in range(1, RUNS + 1):
            rows = [
                f"{4 * i}.03\t2.01\t46.0\t1.0\t1.37\tDrum corps/v_Drum corps_id_{s:02d}{r:02d}{i:02d}_label_1.mp4" for i in range(TRIALS)
            ]
            (folder / "func" / f"{start}_task-action_run-{r:02d}_events.tsv").write_text(EVENTS + "\n".join(rows) + "\n")


def index(root: Path) -> int:
    """Runs and events of all subjects, as the check and the trials find them; the number of trials."""
    trials = 0
    for s in range(1, SUBJECTS + 1):
        runs = find_runs(root, f"{s:02d}", CHOICE, space=None, desc=None)
        events = find_runs(root, f"{s:02d}", CHOICE, "events", [".tsv"])
        trials += sum(len(read_events(events[label])) for label in runs)
    return trials


def index_by_pybids(root: Path, sidecars: bool) -> int:
    """The same from a `BIDSLayout`, with the content of all JSON sidecars, as it comes, or without."""
    from bids import BIDSLayout, BIDSLayoutIndexer

    layout = BIDSLayout(root, indexer=BIDSLayoutIndexer(validate=False, index_metadata=sidecars))
    trials = 0
    for subject in layout.get_subjects():
        runs = layout.get(subject=subject, session="action01", task="action", suffix="bold", extension=".nii.gz")
        events = layout.get(subject=subject, session="action01", task="action", suffix="events", extension=".tsv")
        trials += sum(len(read_events(Path(file.path))) for file in events) if len(runs) == len(events) else 0
    return trials


def compare(title: str, named: dict[str, Callable[[], object]], repeats: int) -> None:
    """Time all in turn after a round that does not count, and print medians and their ratio to the last one's."""
    rounds = [{name: seconds(function) for name, function in named.items()} for _ in range(repeats + 1)]
    medians = {name: statistics.median(r[name] for r in rounds[1:]) for name in named}
    print(f"\n{title}; {repeats} repeats in turn\n\n| | ms | ratio |\n| --- | ---: | ---: |")
    for name, value in medians.items():
        print(f"| {name} | {1000 * value:.2f} | {value / [*medians.values()][-1]:.2f} |")


@click.command()
@click.option("--repeats", default=7, show_default=True)
def main(repeats: int) -> None:
    """Print the tables."""
    print(machine())
    config = Config.load(ROOT / "config.yaml")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nifti, array = make_run(folder)
        for T in (config.bold.n_volumes, 4):
            first = [10 + 17 * i for i in range(8)]
            trials = pd.DataFrame({"subject": "01", "trial": range(8), "first_volume": first, "n_volumes": T})
            windows = Windows([array], trials, config.tokenizer.grid)

            def by_nibabel(T: int = T, first: list[int] = first) -> None:
                image = nib.load(nifti)
                for f in first:
                    np.asarray(image.dataobj[..., f : f + T], np.float32)

            def by_windows(windows: Windows = windows) -> None:
                for i in range(len(windows)):
                    windows[i]

            megabytes = [path.stat().st_size / 1e6 for path in (nifti, array)]
            title = f"8 windows of {T} volumes of a run ({megabytes[0]:.0f} MB as .nii.gz, {megabytes[1]:.0f} MB as series)"
            both: dict[str, Callable[[], object]] = {"nibabel, .nii.gz": by_nibabel, "windows, memory map": by_windows}
            compare(title, both, repeats)
        root = folder / "had"
        make_tree(root)
        if not index(root) == index_by_pybids(root, True) == SUBJECTS * RUNS * TRIALS:
            raise SystemExit("the two indices differ")
        compare(
            f"{SUBJECTS} subjects with {RUNS} runs of {TRIALS} trials",
            {
                "BIDSLayout": lambda: index_by_pybids(root, True),
                "BIDSLayout without sidecars": lambda: index_by_pybids(root, False),
                "find_runs, read_events": lambda: index(root),
            },
            min(repeats, 3),
        )


if __name__ == "__main__":
    main()
