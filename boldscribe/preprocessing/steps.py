"""Steps of the embedded workflow, each from files to files, so that nipype can run and record them individually.

A step takes a folder for its files, the files of earlier steps (by name of the step), and settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from boldscribe.data.images import apply_affine, image_data, load_image, save_image
from boldscribe.data.template import load_template, output_grid
from boldscribe.machinery.errors import UserError
from boldscribe.preprocessing import anatomy as t1w_steps
from boldscribe.preprocessing import confounds as confound_steps
from boldscribe.preprocessing import susceptibility
from boldscribe.preprocessing.coregistration import coregister
from boldscribe.preprocessing.itk import grid_points, isotropic_grid
from boldscribe.preprocessing.motion import head_mask, realign
from boldscribe.preprocessing.resampling import correct_slice_timing, resample_run, sample

SHORTEST_RUN = 20
REFERENCE_VOLUMES = 20
# distance from the T1w image's brain up to which a field map is trusted (mm)
AROUND_BRAIN = 4.0

Files = dict[str, Path]
Given = Mapping[str, str | Path]


def _save(folder: Path, **arrays: NDArray[Any]) -> Files:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return {name: folder / f"{name}.npy" for name in arrays}


def _volume(path: str | Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    image = load_image(path, 3)
    return image_data(image), image.affine


def anatomy(folder: Path, t1w: str, resolution: float) -> Files:
    """Skull-strip, bias-correct and register the T1w image to the template.

    Args:
        t1w: raw T1w image.
        resolution: of the output grid (mm).

    Returns:
        `t1w`, `mask` (on the T1w grid), `t1w_in_template`, `to_t1w` (displacement field on the output grid, for images from T1w to
        template), and `points` ((3, voxels), T1w world coordinates of the output grid, mm).
    """
    image = nib.as_closest_canonical(load_image(t1w, 3))
    image.file_map["image"].filename = t1w
    data, affine = image_data(image), image.affine
    mask = t1w_steps.brain_mask(data, affine, t1w)
    corrected = t1w_steps.correct_bias(data, mask, affine)
    grid = isotropic_grid(nib.Nifti1Image(np.empty(output_grid(1)[0], np.uint8), output_grid(1)[1]), max(2.0, resolution * 2 / 3))
    registration = t1w_steps.register_to_template(np.where(mask, corrected, 0), affine, load_template(*grid), str(folder / "template"))
    shape, out_affine = output_grid(resolution)
    points_N3 = registration.template_to_t1w(grid_points(shape, out_affine))
    standard = sample(corrected, affine, points_N3.T)
    field = t1w_steps.displacement_field(shape, out_affine, points_N3)
    return {
        "t1w": save_image(folder / "t1w.nii.gz", corrected, affine),
        "mask": save_image(folder / "mask.nii.gz", mask.astype(np.uint8), affine, dtype="uint8"),
        "to_t1w": save_image(folder / "xfm.nii.gz", field, out_affine, code="mni", intent="vector"),
        "t1w_in_template": save_image(folder / "standard.nii.gz", standard.reshape(shape), out_affine, code="mni"),
        **_save(folder, points=points_N3.T),
    }


def field_map(folder: Path, anatomy: Given, phase: str, magnitude: str, echo_times: tuple[float, float], units: str | None) -> Files:
    """Estimate the field of a phase-difference map, and locate the T1w image in it.

    Args:
        phase, magnitude: images on one grid.
        echo_times: s.
        units: of the phase (`susceptibility.to_radians`).

    Returns:
        `field` ((X, Y, Z) Hz), `affine`, `to_field` ((4, 4), T1w world to that of the map).
    """
    (values, affine), (echo, _) = _volume(phase), _volume(magnitude)
    if values.shape != echo.shape:
        raise UserError(phase, f"shape: found {values.shape}, expected {echo.shape} as in {magnitude}; provide the images of one map")
    (t1w, t1w_affine), (mask, _) = _volume(anatomy["t1w"]), _volume(anatomy["mask"])
    to_field = coregister(echo, affine, t1w, mask > 0, t1w_affine, str(folder / "map"))
    wide = ndimage.binary_dilation(mask > 0, iterations=max(1, round(AROUND_BRAIN / float(np.linalg.norm(t1w_affine[:3, 0])))))
    points_3N = apply_affine(np.linalg.inv(to_field), grid_points(echo.shape, affine).T)
    around = sample(wide.astype(np.float32), t1w_affine, points_3N, order=1).reshape(echo.shape) > 0.5
    brain = around & head_mask(echo)
    if not brain.any():
        raise UserError(
            magnitude, "signal: found none inside the brain of the T1w image; check both images, or set preprocessing.susceptibility: none"
        )
    radians = susceptibility.to_radians(values, units)
    return _save(folder, field=susceptibility.field_map(radians, echo, brain, affine, echo_times), affine=affine, to_field=to_field)


def motion(folder: Path, bold: str) -> Files:
    """Estimate the head motion of a run relative to its middle volume.

    Returns:
        `motion` ((T, 4, 4)), `parameters` ((T, 6)).
    """
    image = load_image(bold, 4)
    if image.shape[3] < SHORTEST_RUN:
        raise UserError(bold, f"volumes: found {image.shape[3]}, expected at least {SHORTEST_RUN}; remove the run from the data set")
    motion_T44, parameters = realign(image_data(image), image.affine, f"motion {Path(bold).name}")
    return _save(folder, motion=motion_T44, parameters=parameters)


def slice_timing(folder: Path, bold: str, slice_times: list[float], slice_axis: int, tr: float) -> Files:
    """Shift all slices of a volume to one time, if the run has slice times.

    Returns:
        `bold` (float32 `.npy` (X, Y, Z, T)), `affine` and `start_time` (JSON, s).
    """
    image = load_image(bold, 4)
    data, start_time = image_data(image), 0.0
    if slice_times:
        n_slices = data.shape[slice_axis]
        if len(slice_times) != n_slices:
            raise UserError(
                bold, f"SliceTiming: found {len(slice_times)} times in the sidecar, expected {n_slices}, one per slice; correct it"
            )
        data, start_time = correct_slice_timing(data, np.array(slice_times), tr, slice_axis)
    (folder / "start_time.json").write_text(json.dumps(start_time))
    return {**_save(folder, bold=data, affine=image.affine), "start_time": folder / "start_time.json"}


def coregistration(
    folder: Path,
    anatomy: Given,
    motion: Given,
    slice_timing: Given,
    field_map: Given | None = None,
    readout: tuple[int, float] | None = None,
) -> Files:
    """Locate the T1w image's brain in the run; with a field map, in the undistorted run.

    Args:
        readout: of the run (`susceptibility.Readout`).

    Returns:
        `to_bold` ((4, 4), T1w world to that of the reference), and with a field map `shift` ((X, Y, Z) voxels).
    """
    bold = np.load(slice_timing["bold"], mmap_mode="r")
    affine, motion_T44 = np.load(slice_timing["affine"]), np.load(motion["motion"])
    shape = bold.shape[:3]
    points_3N = grid_points(shape, affine).T
    chosen = np.unique(np.linspace(0, bold.shape[3] - 1, REFERENCE_VOLUMES).astype(int))
    realigned = [sample(bold[..., t], affine, apply_affine(motion_T44[t], points_3N)) for t in chosen]
    boldref = np.mean(realigned, axis=0).reshape(shape)
    (t1w, t1w_affine), (mask, _) = _volume(anatomy["t1w"]), _volume(anatomy["mask"])

    def register(reference: NDArray[np.float32]) -> NDArray[np.float64]:
        return coregister(reference, affine, t1w, mask > 0, t1w_affine, str(folder / "run"))

    to_bold = register(boldref)
    if field_map is None or readout is None:
        return _save(folder, to_bold=to_bold)
    field = [np.load(field_map[name]) for name in ("field", "affine", "to_field")]

    def distortion(to_bold: NDArray[np.float64]) -> susceptibility.Distortion:
        from_bold = field[2] @ np.linalg.inv(to_bold)
        return susceptibility.distortion_of_field(field[0], field[1], from_bold, shape, affine, susceptibility.Readout(*readout))

    # the distorted image locates the map; the map then undistorts the image for the final registration
    to_bold = register(distortion(to_bold).undo(boldref))
    return _save(folder, to_bold=to_bold, shift=distortion(to_bold).shift)


def resampling(
    folder: Path,
    anatomy: Given,
    motion: Given,
    slice_timing: Given,
    coregistration: Given,
    resolution: float,
    tr: float,
    source: str,
    readout: tuple[int, float] | None = None,
) -> Files:
    """Resample a run to the output grid in one interpolation.

    Args:
        source: raw BOLD file, for messages.
        readout: of a run whose distortion is to be corrected.

    Returns:
        `preproc_bold`, `brain_mask`, `boldref` (template space), and `series` (`.npy` (brain voxels, T) float32).
    """
    t1w_points_3N = np.load(anatomy["points"])
    shape, affine = output_grid(resolution)
    bold_points_3N = apply_affine(np.load(coregistration["to_bold"]), t1w_points_3N)
    distortion = susceptibility.Distortion(readout[0], np.load(coregistration["shift"])) if readout else None
    series_VT, covered = resample_run(
        np.load(slice_timing["bold"], mmap_mode="r"),
        np.load(slice_timing["affine"]),
        np.load(motion["motion"]),
        bold_points_3N,
        f"resampling {Path(source).name}",
        distortion,
    )
    mask, mask_affine = _volume(anatomy["mask"])
    subject_brain = sample(mask, mask_affine, t1w_points_3N, order=1) > 0.5
    brain = ndimage.binary_fill_holes((subject_brain & covered).reshape(shape)).ravel() & covered
    bold_XYZT = series_VT.reshape(*shape, -1)
    return {
        "preproc_bold": save_image(folder / "bold.nii.gz", bold_XYZT, affine, tr=tr, dtype="int16", code="mni"),
        "brain_mask": save_image(folder / "mask.nii.gz", brain.reshape(shape).astype(np.uint8), affine, dtype="uint8", code="mni"),
        "boldref": save_image(folder / "boldref.nii.gz", bold_XYZT.mean(axis=3), affine, code="mni"),
        **_save(folder, series=series_VT[brain]),
    }


def confounds(folder: Path, motion: Given, resampling: Given, resolution: float, tr: float, source: str) -> Files:
    """Compute the confounds of a run.

    Returns:
        `confounds` (`.tsv`) and `metadata` (its JSON).
    """
    template = load_template(*output_grid(resolution))
    brain = _volume(resampling["brain_mask"])[0].ravel() > 0
    tissues = confound_steps.certain_tissues(brain, template.wm.ravel(), template.csf.ravel(), source)
    series_VT, parameters = np.load(resampling["series"]), np.load(motion["parameters"])
    table, metadata = confound_steps.confounds_table(series_VT, tissues.of_brain(), parameters, tr)
    table.to_csv(folder / "confounds.tsv", sep="\t", index=False, na_rep="n/a", float_format="%.8g")
    (folder / "confounds.json").write_text(json.dumps(metadata))
    return {"confounds": folder / "confounds.tsv", "metadata": folder / "confounds.json"}


def figure(folder: Path, anatomy: Given, resampling: Given, confounds: Given, resolution: float, tr: float, source: str) -> Files:
    """Draw the quality figure of a run (`quality.draw`).

    Returns:
        `figure` (`.png`).
    """
    from boldscribe.machinery.table_files import read_numbers
    from boldscribe.preprocessing.quality_figure import draw

    table = read_numbers(Path(confounds["confounds"]))
    template = load_template(*output_grid(resolution))
    images = {"mean BOLD": _volume(resampling["boldref"])[0], "T1w": _volume(anatomy["t1w_in_template"])[0]}
    brain = _volume(resampling["brain_mask"])[0] > 0
    return {"figure": draw(folder / "qc.png", table, np.load(resampling["series"], mmap_mode="r"), brain, images, template, tr, source)}
