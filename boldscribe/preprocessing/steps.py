"""The steps of the embedded workflow, each from files to files, so that nipype can run and record them one by one."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from boldscribe.errors import UserError
from boldscribe.images import image_data, load_image, save_image
from boldscribe.preprocessing import anatomy, confounds
from boldscribe.preprocessing.coregistration import coregister
from boldscribe.preprocessing.itk import grid_points, isotropic_grid
from boldscribe.preprocessing.motion import apply_affine, realign
from boldscribe.preprocessing.resampling import correct_slice_timing, resample_run, sample
from boldscribe.preprocessing.template import load_template, output_grid

SHORTEST_RUN = 20
REFERENCE_VOLUMES = 20


def normalise_anatomy(t1w: Path, resolution: float, folder: Path) -> dict[str, Path]:
    """Skull stripping, bias correction and registration to the template.

    Args:
        t1w: raw T1w image.
        resolution: of the output grid (mm).
        folder: for the files.

    Returns:
        `t1w`, `mask` (in the T1w grid), `t1w_in_template`, `to_t1w` (displacement field on the output grid, for images from T1w to
        template), and `points` ((3, voxels), T1w world coordinates of the output grid, mm).
    """
    image = nib.as_closest_canonical(load_image(t1w, 3))
    image.file_map["image"].filename = str(t1w)
    data, affine = image_data(image), image.affine
    mask = anatomy.brain_mask(data, affine, str(t1w))
    corrected = anatomy.correct_bias(data, mask, affine)
    grid = isotropic_grid(nib.Nifti1Image(np.empty(output_grid(1)[0], np.uint8), output_grid(1)[1]), max(2.0, resolution * 2 / 3))
    registration = anatomy.register_to_template(np.where(mask, corrected, 0), affine, load_template(*grid), str(folder / "template"))
    shape, out_affine = output_grid(resolution)
    points_N3 = registration.template_to_t1w(grid_points(shape, out_affine))
    np.save(folder / "points.npy", points_N3.T)
    standard = sample(corrected, affine, points_N3.T)
    return {
        "t1w": save_image(folder / "t1w.nii.gz", corrected, affine),
        "mask": save_image(folder / "mask.nii.gz", mask.astype(np.uint8), affine, dtype="uint8"),
        "to_t1w": save_image(
            folder / "xfm.nii.gz", anatomy.displacement_field(shape, out_affine, points_N3), out_affine, code="mni", intent="vector"
        ),
        "t1w_in_template": save_image(folder / "standard.nii.gz", standard.reshape(shape), out_affine, code="mni"),
        "points": folder / "points.npy",
    }


def align_run(
    bold: Path,
    t1w: Path,
    mask: Path,
    slice_times: list[float],
    slice_axis: int,
    tr: float,
    folder: Path,
) -> dict[str, Path]:
    """Motion, slice timing and coregistration of a run.

    Returns:
        `bold` (float32 `.npy` (X, Y, Z, T), corrected for slice timing, where the run has times), `affine`, `motion` ((T, 4, 4)),
        `parameters` ((T, 6)), `to_bold` ((4, 4), T1w world to that of the reference) and `start_time` (JSON, s).
    """
    image = load_image(bold, 4)
    data, affine = image_data(image), image.affine
    if data.shape[3] < SHORTEST_RUN:
        raise UserError(str(bold), f"volumes: found {data.shape[3]}, expected at least {SHORTEST_RUN}; take the run out of the data set")
    motion_T44, parameters = realign(data, affine, f"motion {bold.name}")
    start_time = 0.0
    if slice_times:
        n_slices = data.shape[slice_axis]
        if len(slice_times) != n_slices:
            raise UserError(
                str(bold), f"SliceTiming: found {len(slice_times)} times in the sidecar, expected {n_slices}, one per slice; correct it"
            )
        data, start_time = correct_slice_timing(data, np.array(slice_times), tr, slice_axis)
    points_3N = grid_points(data.shape[:3], affine).T
    chosen = np.unique(np.linspace(0, data.shape[3] - 1, REFERENCE_VOLUMES).astype(int))
    realigned = [sample(data[..., t], affine, apply_affine(motion_T44[t], points_3N)) for t in chosen]
    boldref = np.mean(realigned, axis=0).reshape(data.shape[:3])
    t1w_image = load_image(t1w, 3)
    to_bold = coregister(boldref, affine, image_data(t1w_image), image_data(load_image(mask, 3)) > 0, t1w_image.affine, str(folder / "run"))
    outputs = {"bold": data, "affine": affine, "motion": motion_T44, "parameters": parameters, "to_bold": to_bold}
    for name, array in outputs.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "start_time.json").write_text(json.dumps(start_time))
    return {**{name: folder / f"{name}.npy" for name in outputs}, "start_time": folder / "start_time.json"}


def normalise_run(
    aligned: dict[str, Path],
    points: Path,
    mask: Path,
    resolution: float,
    tr: float,
    name: str,
    folder: Path,
) -> dict[str, Path]:
    """Resample a run to the template and compute its confounds.

    Args:
        aligned: files of `align_run`.
        points, mask: of `normalise_anatomy`.
        name: raw BOLD file, for messages.

    Returns:
        `preproc_bold`, `brain_mask`, `boldref` (template space), `confounds` (`.tsv`) and `metadata` (its JSON).
    """
    arrays = {key: np.load(aligned[key], mmap_mode="r") for key in ("bold", "affine", "motion", "parameters", "to_bold")}
    t1w_points_3N = np.load(points)
    shape, affine = output_grid(resolution)
    bold_points_3N = apply_affine(arrays["to_bold"], t1w_points_3N)
    series_VT, covered = resample_run(
        np.asarray(arrays["bold"]), arrays["affine"], arrays["motion"], bold_points_3N, f"resampling {Path(name).name}"
    )
    mask_image = load_image(mask, 3)
    template = load_template(shape, affine)
    subject_brain = sample(image_data(mask_image), mask_image.affine, t1w_points_3N, order=1) > 0.5
    brain = ndimage.binary_fill_holes((subject_brain & covered).reshape(shape)).ravel() & covered
    tissues = confounds.certain_tissues(brain, template.wm.ravel(), template.csf.ravel(), name)
    table, metadata = confounds.confounds_table(series_VT, tissues, np.asarray(arrays["parameters"]), tr)
    table.to_csv(folder / "confounds.tsv", sep="\t", index=False, na_rep="n/a", float_format="%.8g")
    (folder / "confounds.json").write_text(json.dumps(metadata))
    bold_XYZT = series_VT.reshape(*shape, -1)
    return {
        "preproc_bold": save_image(folder / "bold.nii.gz", bold_XYZT, affine, tr=tr, dtype="int16", code="mni"),
        "brain_mask": save_image(folder / "mask.nii.gz", brain.reshape(shape).astype(np.uint8), affine, dtype="uint8", code="mni"),
        "boldref": save_image(folder / "boldref.nii.gz", bold_XYZT.mean(axis=3), affine, code="mni"),
        "confounds": folder / "confounds.tsv",
        "metadata": folder / "confounds.json",
    }
