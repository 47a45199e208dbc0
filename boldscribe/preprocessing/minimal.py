"""Resampling of raw BOLD to template space through transforms estimated by fMRIPrep, without running fMRIPrep.

For many data sets, OpenNeuroDerivatives provides the output of `fmriprep --level minimal`: transforms, but no resampled BOLD and no
confounds. This module does the rest: slice timing, one cubic interpolation through motion, field map, coregistration and
normalisation, and our confounds. Order and direction of the transforms follow fMRIPrep 23.2's `interfaces/resampling.py`.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

from boldscribe import __version__
from boldscribe.config import Config
from boldscribe.data.images import apply_affine, image_data, load_image, save_image
from boldscribe.data.layout import find_runs, metadata, name_parts, resolution_label
from boldscribe.data.template import output_grid
from boldscribe.data.timing import readout_time, run_repetition_time, times_along_axis
from boldscribe.data.transforms import FETCH, RunTransforms, find_anatomy, find_run, read_affine, read_affines, transform_problems
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, atomic_folder, write_json
from boldscribe.preprocessing.confounds import certain_tissues, confounds_table
from boldscribe.preprocessing.derivatives import BIDSIGNORE, SubjectFiles
from boldscribe.preprocessing.itk import ants, grid_points, transform_points
from boldscribe.preprocessing.motion import rigid_parameters
from boldscribe.preprocessing.resampling import correct_slice_timing, resample_run, sample
from boldscribe.preprocessing.susceptibility import Distortion, Readout, distortion_of_field

GENERATOR = "Boldscribe resampling through ready transforms"
TISSUE_METHOD = "Mean over voxels where the subject's own segmentation, resampled to template space, is above 0.9"


@dataclass(frozen=True)
class Grid:
    """The output grid, with the subject's anatomy on it.

    Attributes:
        shape, affine: of the grid (mm).
        t1w_points_3N: T1w world coordinates (mm) of its voxels.
        brain, white_matter, csf: probabilities (N,), from the T1w images.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    t1w_points_3N: NDArray[np.float64]
    brain: NDArray[np.float32]
    white_matter: NDArray[np.float32]
    csf: NDArray[np.float32]


def resample_subject(config: Config, dataset: str, subject: str, output_dir: Path, work_dir: Path) -> None:
    """Resample one subject from raw BIDS to BIDS-Derivatives with ready transforms.

    Args:
        config: the experiment; its data set names the derivatives that hold the transforms.
        dataset: name in `config.datasets`.
        subject: label without `sub-`.
        output_dir: root of the derivatives to write.
        work_dir: scratch folder of this subject; emptied first and removed after success.

    Raises:
        UserError: all problems from `transform_problems`, no runs, damaged images, slice times that do not match.
    """
    design, space, resolution = config.datasets[dataset], config.preprocessing.space, config.preprocessing.resolution
    raw, ready = Path(design.bids_dir), Path(design.derivatives_dir or "")
    bolds = find_runs(raw, subject, design.choice)
    if not bolds:
        raise UserError(
            str(raw / f"sub-{subject}"), f"found no BOLD run of {design.choice.words}, expected one; check bids_dir, task and session"
        )
    if problems := transform_problems(ready, raw, subject, bolds, space):
        raise UserError(str(ready / f"sub-{subject}"), *problems)
    shutil.rmtree(work_dir, ignore_errors=True)
    files = SubjectFiles(work_dir, subject, design.choice.only_session, space, resolution_label(resolution))
    with threadpool_limits(1):
        grid, anatomy_sources = load_grid(ready, subject, space, resolution)
        for bold in tqdm(bolds.values(), f"runs of sub-{subject}", mininterval=5):
            transforms = find_run(ready, raw, bold)
            used = [*anatomy_sources, *(path for path in vars(transforms).values() if path is not None)]
            sources = [f"bids:raw:{bold.relative_to(raw)}", *(f"bids:transforms:{path.relative_to(ready)}" for path in used)]
            about = {"Sources": sources, "Resolution": f"{resolution:g} mm isotropic, in the field of view of MNI152NLin2009cAsym's res-2"}
            write_run(files, bold, raw, transforms, grid, about)
    with atomic_folder(output_dir / f"sub-{subject}") as part:
        for item in sorted((work_dir / f"sub-{subject}").iterdir()):
            shutil.move(item, part)
    write_description(output_dir, dataset, raw, ready)
    shutil.rmtree(work_dir)


def load_grid(ready: Path, subject: str, space: str, resolution: float) -> tuple[Grid, list[Path]]:
    """Load the output grid with a subject's anatomy, and list the files used."""
    anatomy = find_anatomy(ready, subject, space)
    try:
        ants.read_transform(str(anatomy.to_template))
    except (RuntimeError, ValueError) as error:
        raise UserError(str(anatomy.to_template), f"ITK cannot read it ({str(error).splitlines()[-1]}); {FETCH}") from None
    shape, affine = output_grid(resolution)
    points_3N = transform_points(grid_points(shape, affine), [str(anatomy.to_template)], [False]).T

    def on_grid(path: Path) -> NDArray[np.float32]:
        image = load_image(path, 3)
        return sample(image_data(image), image.affine, points_3N, order=1)

    maps = [on_grid(path) for path in (anatomy.mask, anatomy.white_matter, anatomy.csf)]
    return Grid(shape, affine, points_3N, *maps), list(vars(anatomy).values())


def write_run(files: SubjectFiles, bold: Path, raw: Path, transforms: RunTransforms, grid: Grid, about: dict[str, Any]) -> None:
    """Resample a run and write it with its mask, reference, confounds and sidecars."""
    image, sidecar = load_image(bold, 4), metadata(bold, raw)
    tr, _ = run_repetition_time(bold, raw)
    motion_T44 = read_affines(transforms.motion)
    points_3N = apply_affine(read_affine(transforms.to_t1w), grid.t1w_points_3N)
    distortion, why_not = run_distortion(image.affine, image.shape[:3], transforms, sidecar)
    data, start_time = _slice_timing(image_data(image), sidecar, tr, bold)
    series_VT, covered = resample_run(data, image.affine, motion_T44, points_3N, f"resampling {bold.name}", distortion)
    del data
    brain = ndimage.binary_fill_holes(((grid.brain > 0.5) & covered).reshape(grid.shape)).ravel() & covered
    tissues = certain_tissues(brain, grid.white_matter, grid.csf, str(bold))
    centre = points_3N[:, brain].mean(axis=1)
    parameters = np.stack([rigid_parameters(matrix, centre) for matrix in motion_T44])
    table, confound_metadata = confounds_table(series_VT, tissues, parameters, tr)
    for name in ("csf", "white_matter", "csf_wm"):
        confound_metadata[name] = {"Method": TISSUE_METHOD}
    confound_metadata["global_signal"] = {"Method": "Mean over the brain mask"}

    bold_XYZT = series_VT.reshape(*grid.shape, -1)
    save_image(files.func(bold, "preproc", "bold"), bold_XYZT, grid.affine, tr=tr, dtype="int16", code="mni")
    mask = brain.reshape(grid.shape).astype(np.uint8)
    save_image(files.func(bold, "brain", "mask"), mask, grid.affine, dtype="uint8", code="mni")
    save_image(files.func(bold, None, "boldref"), bold_XYZT.mean(axis=3), grid.affine, code="mni")
    with atomic(files.func(bold, "confounds", "timeseries", ".tsv", standard=False)) as part:
        table.to_csv(part, sep="\t", index=False, na_rep="n/a", float_format="%.8g")
    write_json(files.func(bold, "confounds", "timeseries", ".json", standard=False), confound_metadata)
    write_json(files.func(bold, "brain", "mask", ".json"), {**about, "Type": "Brain"})
    write_json(
        files.func(bold, "preproc", "bold", ".json"),
        {
            **about,
            "RepetitionTime": tr,
            "StartTime": start_time,
            "SliceTimingCorrected": bool(sidecar.get("SliceTiming")),
            "SkullStripped": False,
            "TaskName": name_parts(bold).get("task"),
            "SusceptibilityDistortionCorrection": distortion is not None,
            "SusceptibilityDistortionCorrectionNote": why_not or "field map of the derivatives, with intensities corrected for stretching",
        },
    )


def run_distortion(
    affine: NDArray[np.float64], shape: tuple[int, int, int], transforms: RunTransforms, sidecar: dict[str, Any]
) -> tuple[Distortion | None, str]:
    """Return a run's distortion by its field map, on the grid of its reference; or None and the reason for no correction.

    A field of 1 Hz shifts the signal by the total readout time (s) in voxels along the phase-encoding direction, as in fMRIPrep.
    Outside the field map its border values are extended, where fMRIPrep uses 0.
    """
    if transforms.to_fieldmap is None or transforms.fieldmap is None:
        return None, "no field map: the derivatives have no transform of this run to one"
    stated = readout_time(sidecar, transforms.reference, shape)
    if isinstance(stated, str):
        return None, f"the raw sidecar does not state {stated}"
    readout = Readout(*stated)
    image = load_image(transforms.fieldmap, 3)
    to_field = np.asarray(np.linalg.inv(read_affine(transforms.to_fieldmap)), np.float64)
    return distortion_of_field(image_data(image), image.affine, to_field, shape, affine, readout), ""


def _slice_timing(bold_XYZT: NDArray[np.float32], sidecar: dict[str, Any], tr: float, bold: Path) -> tuple[NDArray[np.float32], float]:
    """Correct slice timing to mid-acquisition if the sidecar has slice times; also return the time (s) that volumes refer to."""
    times, axis = times_along_axis(sidecar, bold)
    if not times:
        return bold_XYZT, 0.0
    if len(times) != bold_XYZT.shape[axis]:
        raise UserError(str(bold), f"SliceTiming: found {len(times)} times in the sidecar, expected {bold_XYZT.shape[axis]}; correct it")
    return correct_slice_timing(bold_XYZT, np.array(times), tr, axis)


def write_description(output_dir: Path, name: str, raw: Path, ready: Path) -> None:
    """Write `dataset_description.json` and `.bidsignore`; their content depends only on the arguments, so jobs may race."""
    source = metadata(ready / "dataset_description.json", ready)
    made_by = [f"{maker.get('Name')} {maker.get('Version', '')}".strip() for maker in source.get("GeneratedBy", [])] or [
        "an unnamed program"
    ]
    links = {"raw": os.path.relpath(raw, output_dir), "transforms": os.path.relpath(ready, output_dir)}
    write_json(
        output_dir / "dataset_description.json",
        {
            "Name": f"{name}: resampled to the template",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [
                {
                    "Name": GENERATOR,
                    "Version": __version__,
                    "Description": (
                        "Slice timing, one interpolation and confounds by Boldscribe; "
                        f"all transforms, masks and tissue maps by {', '.join(made_by)}."
                    ),
                }
            ],
            "DatasetLinks": links,
            "SourceDatasets": [{"URL": links["raw"]}, {"URL": links["transforms"], "Version": ", ".join(made_by)}],
        },
    )
    with atomic(output_dir / ".bidsignore") as part:
        part.write_text("\n".join(BIDSIGNORE) + "\n")
