"""Embedded preprocessing against known truth, at HAD's size: `python -m benchmarks.preprocessing --help`.

Motion, pose, shape and field of the head are known (`benchmarks.heads`), so that errors are in mm. The head is made from the template
that it is registered to: an optimistic estimate for real scans, whose anatomy differs in more than a smooth bend. Times are of one
process on one thread; `antspyx`'s motion correction runs on a few of the same volumes.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks import heads
from boldscribe.data.template import Template
from boldscribe.machinery.files import sha256_of

RESOLUTION = 2.0
Array = NDArray[np.float64]


def simulate(folder: Path, n_volumes: int) -> None:
    """Write the raw subject."""
    heads.Head(heads.walk(n_volumes)).write(folder, max(20, n_volumes // 6))


class Timed:
    """Runs steps in a folder each, and keeps wall and CPU time (s)."""

    def __init__(self, work: Path) -> None:
        self.work, self.seconds = work, {}  # type: ignore[var-annotated]

    def __call__(self, name: str, step: Callable[..., dict[str, Path]], **given: Any) -> dict[str, Path]:
        """One step, in `work/name`."""
        (folder := self.work / name).mkdir(parents=True)
        wall, cpu = time.perf_counter(), time.process_time()
        files = step(folder, **given)
        self.seconds[name] = (time.perf_counter() - wall, time.process_time() - cpu)
        return files


def preprocess_run(raw: Path, work: Path) -> tuple[dict[str, dict[str, Path]], dict[str, tuple[float, float]], float]:
    """All steps of run 01: their files, their times, and the most memory (GiB)."""
    from boldscribe.preprocessing import steps
    from boldscribe.preprocessing.embedded import read_run

    run, timed = read_run(raw / "sub-01/func/sub-01_task-action_run-01_bold.nii.gz", raw, True), Timed(work)
    bold, grid = str(run.bold), {"resolution": RESOLUTION, "tr": run.tr, "source": str(run.bold)}
    files = {"anatomy": timed("anatomy", steps.anatomy, t1w=str(raw / "sub-01/anat/sub-01_T1w.nii.gz"), resolution=RESOLUTION)}
    files["motion"] = timed("motion", steps.motion, bold=bold)
    files["slice_timing"] = timed(
        "slice_timing", steps.slice_timing, bold=bold, slice_times=run.slice_times, slice_axis=run.slice_axis, tr=run.tr
    )
    files["coregistration"] = timed("coregistration", steps.coregistration, **files)
    files["resampling"] = timed("resampling", steps.resampling, **files, **grid)
    given = {"motion": files["motion"], "resampling": files["resampling"]}
    files["confounds"] = timed("confounds", steps.confounds, **given, **grid)
    given = {k: files[k] for k in ("anatomy", "resampling", "confounds")}
    files["figure"] = timed("figure", steps.figure, **given, **grid)
    return files, timed.seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def correct_distorted(raw: Path, work: Path, anatomy: dict[str, Path]) -> dict[str, dict[str, Path]]:
    """Run 02 up to coregistration, with and without its field map."""
    from boldscribe.data.images import load_image
    from boldscribe.preprocessing import steps
    from boldscribe.preprocessing.embedded import read_run
    from boldscribe.preprocessing.field_maps import PhaseDifference

    run, timed = read_run(raw / "sub-01/func/sub-01_task-action_run-02_bold.nii.gz", raw, True), Timed(work)
    given = run.field_map
    assert isinstance(given, PhaseDifference)
    images = {"phase": str(given.phase), "magnitude": str(given.magnitude), "echo_times": given.echo_times, "units": given.units}
    field_map = timed("field_map", steps.field_map, anatomy=anatomy, **images)
    before = {"anatomy": anatomy, "motion": timed("motion", steps.motion, bold=str(run.bold))}
    before["slice_timing"] = timed("slice_timing", steps.slice_timing, bold=str(run.bold), slice_times=[], slice_axis=2, tr=run.tr)
    readout = given.readout(load_image(run.bold, 4).shape)
    return {
        "without": timed("without", steps.coregistration, **before),
        "with": timed("with", steps.coregistration, **before, field_map=field_map, readout=readout),
    }


def ants_motion(raw: Path, n: int) -> tuple[list[int], Array, float]:
    """`ants.motion_correction` (BOLDRigid) of n volumes: which, matrices from reference to volume, seconds per volume."""
    from boldscribe.data.images import image_data, load_image
    from boldscribe.preprocessing.itk import affine_matrix, ants, to_ants

    image = load_image(raw / "sub-01/func/sub-01_task-action_run-01_bold.nii.gz", 4)
    data = image_data(image)
    chosen = np.linspace(0, data.shape[3] - 1, n).astype(int).tolist()
    reference = to_ants(data[..., data.shape[3] // 2], image.affine)
    series = ants.from_numpy(
        np.ascontiguousarray(data[..., chosen]),
        origin=[*reference.origin, 0.0],
        spacing=[*reference.spacing, 1.0],
        direction=np.block([[reference.direction, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]]),
    )
    start = time.perf_counter()
    result = ants.motion_correction(series, fixed=reference, type_of_transform="BOLDRigid")
    seconds = (time.perf_counter() - start) / n
    return chosen, np.stack([affine_matrix(files[0]) for files in result["motion_parameters"]]), seconds


def distances(found: Array, truth: Array) -> Array:
    """Distances between points given as columns (mm)."""
    return np.asarray(np.linalg.norm(found - truth, axis=0))


def motion_errors(matrices: Array, motion: Array, points_3N: Array) -> Array:
    """Distance between where volumes are found and where they are, (volumes, points) mm."""
    from boldscribe.preprocessing.motion import apply_affine, rigid

    pairs = zip(matrices, motion, strict=True)
    return np.stack([distances(apply_affine(m, points_3N), apply_affine(rigid(p, heads.CENTRE), points_3N)) for m, p in pairs])


def slopes(template: Template) -> Array:
    """Gradient of the template's T1w image in its mask, (3, voxels)."""
    return np.stack(np.gradient(ndimage.gaussian_filter(template.t1w.astype(np.float64), 1)))[:, template.mask]


def edges(template: Template) -> NDArray[np.bool_]:
    """The fifth of the mask's voxels in which the T1w image changes most: only there an image can tell where it is."""
    steepness = np.linalg.norm(slopes(template), axis=0)
    return np.asarray(steepness > np.percentile(steepness, 80))


def across_edges(errors_3N: Array, template: Template) -> Array:
    """Size of errors (mm) across the edges, in their voxels."""
    slope = slopes(template)[:, edges(template)]
    return np.asarray(np.abs((errors_3N[:, edges(template)] * slope / np.linalg.norm(slope, axis=0)).sum(axis=0)))


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Overlap of two masks."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def row(name: str, errors: Array) -> str:
    """A line of the table of errors: mean, 95th percentile, most (mm)."""
    return f"| {name} | {errors.mean():.3f} | {np.percentile(errors, 95):.3f} | {errors.max():.3f} |"


def report(
    files: dict[str, dict[str, Path]], distorted: dict[str, dict[str, Path]], reference: tuple[list[int], Array, float], n: int
) -> None:
    """Print errors and overlaps."""
    from boldscribe.data.images import image_data, load_image
    from boldscribe.data.template import load_template, output_grid
    from boldscribe.preprocessing.confounds import CERTAIN_TISSUE
    from boldscribe.preprocessing.itk import affine_matrix, grid_points
    from boldscribe.preprocessing.motion import apply_affine
    from boldscribe.preprocessing.resampling import inside, sample
    from boldscribe.preprocessing.susceptibility import Distortion

    shape, affine = output_grid(RESOLUTION)
    template, points = load_template(shape, affine), grid_points(shape, affine).T
    brain = template.mask.ravel()
    truth = heads.template_to_scanner(points[:, brain])
    bold_affine = heads.grid(*heads.BOLD_GRID)
    to_index = np.linalg.inv(bold_affine)
    seen = inside(apply_affine(to_index, truth), heads.BOLD_GRID[0])
    motion, estimated = heads.walk(n), np.load(files["motion"]["motion"])
    own = motion_errors(estimated, motion, truth[:, seen][:, ::50])
    moved = motion_errors(np.tile(np.eye(4), (n, 1, 1)), motion, truth[:, seen][:, ::50])
    chosen, matrices, _ = reference
    theirs = motion_errors(matrices, motion[chosen], truth[:, seen][:, ::50])
    print("| error (mm), over the brain in the field of view | mean | 95 % | most |\n| --- | ---: | ---: | ---: |")
    print(row("motion that there is", moved))
    print(row("motion, embedded", own))
    print(row(f"motion, embedded, {len(chosen)} volumes", own[chosen]))
    print(row(f"motion, `ants.motion_correction`, the same {len(chosen)} volumes", theirs))
    t1w_points = np.load(files["anatomy"]["points"])[:, brain]
    affine_only = affine_matrix(str(next(files["anatomy"]["points"].parent.glob("template_affine_*.mat"))))
    print(row("template → T1w, affine alone", distances(apply_affine(affine_only, points[:, brain]), truth)[seen]))
    print(row("template → T1w", distances(t1w_points, truth)[seen]))
    print(row("template → T1w, across the edges of the T1w image", across_edges(t1w_points - truth, template)[seen[edges(template)]]))
    found = apply_affine(np.load(files["coregistration"]["to_bold"]), t1w_points)
    print(row("template → BOLD, end to end", distances(found, truth)[seen]))
    index, there = apply_affine(to_index, truth), heads.field(truth)
    index[1] += heads.voxel_shift(truth)
    strong = seen & (np.abs(there) * heads.ECHO_SPACING * heads.BOLD_GRID[0][1] > 2)
    for name, with_map in (("without", False), ("with", True)):
        where = apply_affine(np.load(distorted[name]["to_bold"]), t1w_points)
        sampled = apply_affine(to_index, where)
        if with_map:
            sampled += Distortion(1, np.load(distorted[name]["shift"])).at(bold_affine, where)[0]
        errors = heads.BOLD_GRID[1] * distances(sampled, index)
        print(row(f"distorted run, {name} its field map", errors[seen]))
        print(row(f"where the distortion is over 2 voxels, {name} its map", errors[strong]))
    mask = image_data(load_image(files["resampling"]["brain_mask"], 3)).ravel() > 0
    here = heads.scanner_to_template(found)
    print("\n| overlap (Dice) |  |\n| --- | ---: |")
    print(f"| brain mask, in the field of view | {dice(mask[brain][seen], seen[seen]) if mask.any() else 0:.3f} |")
    print(f"| brain mask, whole grid | {dice(mask, brain):.3f} |")
    for name, tissue in (("white matter", template.wm), ("CSF", template.csf)):
        true_tissue = sample(tissue, affine, here, order=1) > CERTAIN_TISSUE
        print(f"| {name}, where it is sampled | {dice((tissue.ravel()[brain] > CERTAIN_TISSUE)[seen], true_tissue[seen]):.3f} |")
    print(f"\n`ants.motion_correction`: {theirs.mean() / own[chosen].mean():.1f} times the error on the same volumes.")


@click.command()
@click.option("--volumes", default=156, show_default=True, help="Volumes of the run.")
@click.option("--reference", default=6, show_default=True, help="Volumes on which antspyx's motion correction is run.")
@click.option("--bend", default=heads.BEND, show_default=True, help="How far the head is bent away from the template (mm per axis).")
@click.option("--repeat/--no-repeat", default=True, show_default=True, help="Preprocess twice and compare the bytes.")
def main(volumes: int, reference: int, bend: float, repeat: bool) -> None:
    """Simulate, preprocess, compare with the truth and print."""
    heads.bend_by(bend)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def apart(function: Callable[..., Any], *given: Any) -> Any:
            """In a fresh process, so that its memory is its own."""
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), heads.bend_by, (bend,)) as pool:
                return pool.submit(function, *given).result()

        apart(simulate, folder / "raw", volumes)
        files, seconds, memory = apart(preprocess_run, folder / "raw", folder / "work")
        distorted = apart(correct_distorted, folder / "raw", folder / "distorted", files["anatomy"])
        theirs = apart(ants_motion, folder / "raw", reference)
        shape = "x".join(map(str, (*heads.BOLD_GRID[0], volumes)))
        print(f"One run of {shape} voxels of {heads.BOLD_GRID[1]:g} mm, T1w of 1 mm, output on the 2 mm grid.")
        print(f"The head is bent away from the template by up to {bend:g} mm per axis.\n")
        report(files, distorted, theirs, volumes)
        own = seconds["motion"][0] / volumes
        print(f"It takes {theirs[2]:.2f} s a volume, the embedded realigner {own:.3f} s: **{theirs[2] / own:.0f} times as long**.\n")
        print("| step | wall, s | CPU, s |\n| --- | ---: | ---: |")
        for step, (wall, cpu) in seconds.items():
            print(f"| {step} | {wall:.1f} | {cpu:.1f} |")
        total = np.sum([*seconds.values()], axis=0)
        print(f"| **all** | **{total[0]:.1f}** | **{total[1]:.1f}** |\n\nMost memory: {memory:.2f} GiB.")
        if repeat:
            again, _, _ = apart(preprocess_run, folder / "raw", folder / "again")
            pairs = [(files[s][k], again[s][k]) for s in files for k in files[s]]
            same = sum(sha256_of(a) == sha256_of(b) for a, b in pairs)
            print(f"A second time, {same} of {len(pairs)} files have the same bytes.")


if __name__ == "__main__":
    main()
