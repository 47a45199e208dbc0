"""fMRIPrep by every engine: the command lines, what its own parser makes of them, what is found before a run, and what becomes of one."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nipype import Function, Node

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.data.images import save_image
from boldscribe.machinery.errors import UserError
from boldscribe.preprocessing import containers
from boldscribe.preprocessing.engine import preprocess
from boldscribe.preprocessing.fmriprep import Allotment, check, examine, preflight
from boldscribe.preprocessing.fmriprep.command import command, repository
from boldscribe.preprocessing.fmriprep.options import Places, bids_filter
from boldscribe.preprocessing.fmriprep.templates import ALWAYS, SPACES, template_files
from tests.conftest import ROOT
from tests.fmriprep_environment import ask_parser
from tests.fmriprep_stubs import DIGEST, Engines, as_on_the_host, labels

SPACE = "MNI152NLin2009cAsym"
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engines:
    made = Engines(tmp_path / "engines")
    monkeypatch.setenv("PATH", f"{made.root / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setattr(preflight, "LEAST_DISK", 0.0)
    monkeypatch.setattr(preflight, "memory_mb", lambda: 64000.0)
    monkeypatch.delenv("FS_LICENSE", raising=False)
    return made


@pytest.fixture
def lab(tmp_path: Path, engines: Engines) -> Callable[..., Config]:
    """A laboratory's folder in which everything is ready for fMRIPrep; gives its configuration with changes."""
    raw = tmp_path / "my raw data"
    name = "sub-01/ses-action01/func/sub-01_ses-action01_task-action_run-{}_bold.nii.gz"
    for run in ("1", "2"):
        save_image(raw / name.format(run), np.zeros((4, 4, 4, 5)), np.diag([2.0, 2, 2, 1]), tr=2.0)
    (raw / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.8.0"}')
    (tmp_path / "license.txt").write_text("me@example.org\n1\n *key\n key\n")
    (tmp_path / "fmriprep.sif").write_bytes(b"image")
    for file in template_files(SPACE, 2):
        (tmp_path / "templates" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "templates" / file).write_bytes(b"image")

    def configured(engine: str = "apptainer", session: str | None = "action01", **preprocessing: Any) -> Config:
        return Config.parse(
            {
                "datasets": {"had": {"bids_dir": str(raw), "session": session, "train_subjects": ["01"], "title": "Test"}},
                "paths": {"results": str(tmp_path / "results")},
                "preprocessing": {
                    "engine": engine,
                    "freesurfer_license": str(tmp_path / "license.txt"),
                    "fmriprep_digest": DIGEST,
                    "fmriprep_sif": str(tmp_path / "fmriprep.sif"),
                    "templateflow_home": str(tmp_path / "templates"),
                    **preprocessing,
                },
            }
        )

    return configured


@pytest.fixture
def preprocessed(tmp_path: Path, engines: Engines) -> Path:
    """What fMRIPrep would leave of the laboratory's subject."""
    made = engines.root / "made"
    for run in ("1", "2"):
        stem = made / f"sub-01/ses-action01/func/sub-01_ses-action01_task-action_run-{run}_space-{SPACE}_res-2_desc"
        save_image(f"{stem}-preproc_bold.nii.gz", np.zeros((4, 4, 4, 5)), np.diag([2.0, 2, 2, 1]), tr=2.0)
    (made / "sub-01/figures").mkdir()
    (made / "sub-01/figures/carpet.svg").write_text("<svg/>")
    (made / "sub-01.html").write_text("<img src='./sub-01/figures/carpet.svg'>")
    (made / "logs").mkdir()
    (made / "logs/CITATION.md").write_text("Results come from fMRIPrep.")
    (made / ".bidsignore").write_text("*.html\nlogs/\n")
    (made / "dataset_description.json").write_text('{"GeneratedBy": [{"Name": "fMRIPrep", "Version": "25.2.7"}]}')
    return made


def places(root: Path, session: str | None = "action01") -> Places:
    """Folders and files of a run, made as the run makes them."""
    found = Places(root / "my raw data", root / "out", root / "work", root / "license.txt")
    for folder in (found.output, found.work):
        folder.mkdir(exist_ok=True)
    found.bids_filter.write_text(json.dumps(bids_filter(Dataset(session=session)) or {}))
    return found


@pytest.mark.slow
def test_fmripreps_own_parser_takes_every_command_line(lab: Callable[..., Config], engines: Engines, tmp_path: Path) -> None:
    """Its real parser, given what reaches it in each container, with what is mounted in place of where; and it refuses what is wrong."""
    wanted = [
        (e, s, r, session)
        for e in ("apptainer", "docker", "bare")
        for s, r in ((SPACE, 2), ("MNI152NLin6Asym", 1))
        for session in (None, "action01")
    ]
    argvs = []
    for engine, space, resolution, session in wanted:
        config = lab(engine, session, space=space, resolution=resolution)
        argv = command(config, "had", "01", places(tmp_path, session), Allotment(4, 24000))
        if engine == "docker":
            subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL)
            argv = engines.calls()[-1]["argv"]
        argvs.append(argv[1:] if engine == "bare" else as_on_the_host(argv))
    good = argvs[-1]
    bad = {
        "flag": [*good, "--no-such-flag"],
        "licence": [a.replace("license.txt", "no.txt") for a in good],
        "level": [a.replace("participant", "group", 1) if a == "participant" else a for a in good],
        "data": [str(tmp_path / "nowhere"), *good[1:]],
        "space": [a.replace("MNI152NLin6Asym", "MNI152") for a in good],
    }
    # accepted, though the template has no such resolution: why resolutions are looked up beforehand
    beyond = [a.replace("res-1", "res-9") for a in good]
    *answers, accepted = ask_parser([*argvs, *bad.values(), beyond], tmp_path / "home")
    for (engine, space, resolution, session), answer in zip(wanted, answers, strict=False):
        assert isinstance(answer, dict), f"{engine}: {answer}"
        assert answer["participant_label"] == "['01']" and answer["task_id"] == "action" and answer["skip_bids_validation"] == "True"
        assert (
            answer["output_spaces"] == f"Spatial References: {space}:res-{resolution}"
            and answer["run_reconall"] == "False"
            and answer["notrack"] == "True"
        )
        assert (answer["nprocs"], answer["omp_nthreads"], float(answer["memory_gb"])) == ("4", "4", 21.6)
        assert answer["bids_dir"] == str(tmp_path / "my raw data") and answer["work_dir"] == str(tmp_path / "work")
        assert ("action01" in answer["bids_filters"]) == (session is not None) and answer["stop_on_first_crash"] == "True"
    refused = dict(zip(bad, answers[len(wanted) :], strict=True))
    assert {name: str(answer)[:6] for name, answer in refused.items()} == dict.fromkeys(("flag", "licence", "level", "data"), "exit 2") | {
        "space": "ValueE"
    }
    assert isinstance(accepted, dict) and accepted["output_spaces"].endswith("res-9")
    # asking laid out TemplateFlow's folder: what we say of its templates holds, and its placeholders are found
    home = tmp_path / "home" / "templateflow"
    for space, edges in SPACES.items():
        described = json.loads((home / f"tpl-{space}" / "template_description.json").read_text())["res"]
        for edge in edges:
            assert described[f"{edge:02d}"]["zooms"] == [edge] * 3 and all((home / f).exists() for f in template_files(space, edge)), space
    assert json.loads((home / "tpl-MNI152NLin6Asym/template_description.json").read_text())["res"]["03"]["zooms"] == [0.5] * 3
    with pytest.raises(UserError, match=r"placeholder.*tpl-MNI152NLin2009cAsym_res-01_T1w\.nii\.gz.*boldscribe fetch templates"):
        check(lab(templateflow_home=str(home)), "had")


def test_apptainer_is_called_so(lab: Callable[..., Config], tmp_path: Path) -> None:
    argv = command(lab(), "had", "01", places(tmp_path), Allotment(12, 24000))
    image = argv.index(str(tmp_path / "fmriprep.sif"))
    assert argv[:8] == [
        "apptainer",
        "run",
        "--containall",
        "--cleanenv",
        "--workdir",
        str(tmp_path / "work/apptainer"),
        "--pwd",
        "/scratch",
    ]
    assert [b for o, b in pairwise(argv) if o == "--bind"] == [
        f"{tmp_path}/my raw data:/data:ro",
        f"{tmp_path}/out:/out",
        f"{tmp_path}/work:/scratch",
        f"{tmp_path}/license.txt:/opt/freesurfer/license.txt:ro",
        f"{tmp_path}/templates:/templateflow:ro",
    ]
    assert "TEMPLATEFLOW_HOME=/templateflow" in argv[:image] and "TEMPLATEFLOW_AUTOUPDATE=off" in argv[:image]
    own = " ".join(argv[image + 1 :])
    assert own.startswith("/data /out participant --participant-label 01 --task-id action --bids-filter-file /scratch/bids_filter.json")
    assert f"--output-spaces {SPACE}:res-2 --fs-no-reconall --fs-license-file /opt/freesurfer/license.txt" in own
    assert "--nthreads 12 --omp-nthreads 8 --mem_mb 21600 --work-dir /scratch" in own
    without = command(lab(templateflow_home=None), "had", "01", places(tmp_path), Allotment(1, 24000))
    assert "TEMPLATEFLOW_HOME=/home/fmriprep/.cache/templateflow" in without and not any("/templateflow:ro" in a for a in without)


def test_docker_is_called_so_by_the_real_wrapper(lab: Callable[..., Config], engines: Engines, tmp_path: Path) -> None:
    """No terminal, no question (the stand-in says that the daemon has 4 GB), the image by digest, the user's own files."""
    argv = command(lab("docker"), "had", "01", places(tmp_path), Allotment(2, 24000))
    subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    calls = [call["argv"] for call in engines.calls()]
    assert all(call["stdin"] == "" for call in engines.calls())
    assert calls[1] == ["docker", "images", "-q", f"nipreps/fmriprep@{DIGEST}"]
    run = calls[-1]
    assert run[:3] == ["docker", "run", "--rm"] and f"nipreps/fmriprep@{DIGEST}" in run and not {"-it", "-i"} & set(run)
    assert run[run.index("-u") + 1] == f"{os.getuid()}:{os.getgid()}" and "--network=none" in run
    text = " ".join(run)
    for mount in ("my raw data:/data:ro", "out:/out", "work:/scratch", "license.txt:/opt/freesurfer/license.txt:ro"):
        assert f"-v {tmp_path}/{mount}" in text
    inside = text.partition(f"-v {tmp_path}/templates:")[2].partition(":ro")[0]
    assert inside and f"-e TEMPLATEFLOW_HOME={inside} " in text and "-e TEMPLATEFLOW_AUTOUPDATE=off" in text
    assert "--mem_mb" in run and "/tmp/bids_filter.json" in text


def test_bare_runs_in_its_own_environment(
    lab: Callable[..., Config], engines: Engines, preprocessed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    done = preprocess(lab("bare"), "had", "01", tmp_path / "results/derivatives/had", tmp_path / "work", threads=2, memory_mb=16000)
    run = engines.calls()[-1]
    assert run["argv"][:3] == ["fmriprep", f"{tmp_path}/my raw data", f"{tmp_path}/work/output"]
    assert run["pythonpath"] is None and run["templates"] == str(tmp_path / "templates") and done.container is None


@pytest.mark.parametrize("engine", ["apptainer", "docker"])
def test_a_subject_is_put_into_place_whole(
    lab: Callable[..., Config], engines: Engines, preprocessed: Path, tmp_path: Path, engine: str
) -> None:
    output = tmp_path / "results/derivatives/had"
    (output / "sub-01").mkdir(parents=True)
    (output / "sub-01/old").write_text("of an earlier run")
    (tmp_path / "work/output/sub-01").mkdir(parents=True)
    (tmp_path / "work/output/sub-01/stale").write_text("of a failed attempt in another space")
    done = preprocess(lab(engine), "had", "01", output, tmp_path / "work", threads=2, memory_mb=16000)
    assert done.container == {"image": "nipreps/fmriprep:25.2.7", "digest": DIGEST}
    assert sorted(p.relative_to(output).as_posix() for p in done.dataset_files) == [
        ".bidsignore",
        "dataset_description.json",
        "logs/sub-01",
        "sub-01.html",
    ]
    assert (output / "dataset_description.json").read_bytes() == (preprocessed / "dataset_description.json").read_bytes()
    assert (output / "sub-01/figures/carpet.svg").exists() and (output / "logs/sub-01/CITATION.md").exists()
    assert {"*.html", "logs/", "*.prov.json"} <= set((output / ".bidsignore").read_text().splitlines())
    assert {p.name for p in (output / "sub-01").iterdir()} == {"ses-action01", "figures"}
    assert {p.name for p in output.iterdir()} == {".bidsignore", "dataset_description.json", "logs", "sub-01", "sub-01.html"}
    assert not (tmp_path / "work").exists()


def test_a_failed_subject_is_reported_and_leaves_nothing(
    lab: Callable[..., Config], engines: Engines, preprocessed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A crash file as nipype writes it, under fMRIPrep's settings; the work stays, and a run without all its outputs fails too."""

    def bold_mask() -> None:
        import subprocess

        subprocess.run(["sh", "-c", "exit 3"], check=True)

    crashes = preprocessed / "sub-01/log/20261125-101010_abc"
    crashes.mkdir(parents=True)
    node = Node(Function(function=bold_mask), name="bold_mask", base_dir=str(tmp_path / "nipype"))
    node.config = {"execution": {"crashdump_dir": str(crashes), "crashfile_format": "txt"}}
    with caplog.at_level(logging.CRITICAL):
        from nipype.pipeline.plugins.tools import report_crash

        try:
            node.run()
        except Exception:
            report_crash(node)
    (crashes / "crash-old.pklz").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    engines.ends_with(1)
    output = tmp_path / "results/derivatives/had"
    (tmp_path / "work/scratch").mkdir(parents=True)
    (tmp_path / "work/scratch/computed").write_text("hours of work")
    with pytest.raises(UserError, match="exit code 1") as error:
        preprocess(lab(), "had", "01", output, tmp_path / "work", threads=2, memory_mb=16000)
    message = str(error.value)
    crash = next((tmp_path / "work/output/sub-01/log").rglob("*.txt"))
    assert "bold_mask: " in message and "returned non-zero exit status 3" in message and f"({crash})" in message
    assert "crash-old.pklz: a pickle, not opened" in message
    assert not output.exists() and (tmp_path / "work/scratch/computed").exists()

    engines.ends_with(0)
    shutil.rmtree(crashes)
    next((preprocessed / "sub-01").rglob("*run-2*")).unlink()
    with pytest.raises(UserError, match="found runs 01, expected also 02"):
        preprocess(lab(), "had", "01", output, tmp_path / "work", threads=2, memory_mb=16000)
    shutil.rmtree(preprocessed / "sub-01")
    with pytest.raises(UserError, match="preprocessed BOLD: found none"):
        preprocess(lab(), "had", "01", output, tmp_path / "work", threads=2, memory_mb=16000)
    assert not output.exists() and (tmp_path / "work/scratch/computed").exists()


def test_what_is_ready_is_found_ready(lab: Callable[..., Config], engines: Engines) -> None:
    for engine, image in (("apptainer", DIGEST), ("docker", DIGEST), ("bare", "25.2.7")):
        found = check(lab(engine), "had", Allotment(8, 24000))
        assert image in found["image"] and "templates" in found and "had" in " ".join(found)
    assert check(lab(templateflow_home=None), "had")["templates"] == f"{SPACE}:res-2, from the image"


def refusals(root: Path) -> dict[str, tuple[str, dict[str, Any], Callable[[Engines], Any], str]]:
    """Trap → engine, settings, what is broken, and the message."""

    def nothing(engines: Engines) -> None:
        """The setting alone is wrong."""

    def no(name: str) -> Callable[[Engines], None]:
        return lambda engines: (engines.root / "bin" / name).unlink()

    other = "sha256:" + "cd" * 32
    placeholder = root / "templates" / template_files(SPACE, 2)[-1]
    return {
        "no docker": ("docker", {}, no("docker"), "docker: found no such program"),
        "no apptainer": ("apptainer", {}, no("apptainer"), "apptainer: found no such program"),
        "no fmriprep": ("bare", {"fmriprep_command": "no-fmriprep"}, nothing, "no-fmriprep: found no such program"),
        "no daemon": ("docker", {}, lambda e: e.say("docker info", "Cannot connect to the Docker daemon", 1), "found 'Cannot connect"),
        "small daemon": (
            "docker",
            {},
            lambda e: e.say("MemTotal", "4000000000"),
            "found 4000 MB in docker's daemon, expected at least 8000",
        ),
        "no docker image": ("docker", {"fmriprep_digest": other}, nothing, f"found no such image, expected nipreps/fmriprep@{other}"),
        "other docker image": (
            "docker",
            {"fmriprep_digest": other},
            lambda e: e.say("join .RepoDigests", f"nipreps/fmriprep@{DIGEST}"),
            f"found nipreps/fmriprep:25.2.7 with nipreps/fmriprep@{DIGEST}, expected nipreps/fmriprep@{other}",
        ),
        "no sif": ("apptainer", {"fmriprep_sif": str(root / "no.sif")}, nothing, "found no image .*no.sif"),
        "other sif": ("apptainer", {"fmriprep_digest": other}, nothing, f"digest: found {DIGEST}, expected {other}"),
        "sif by tag": ("apptainer", {}, lambda e: e.say("inspect", labels("nipreps/fmriprep:25.2.7")), "digest: found none, expected"),
        "damaged sif": ("apptainer", {}, lambda e: e.say("inspect", "FATAL: no SIF", 255), "found 'FATAL: no SIF'"),
        "odd labels": ("apptainer", {}, lambda e: e.say("inspect", "{}"), "labels: found unreadable content"),
        "other version": ("bare", {}, lambda e: e.say("--version", "fMRIPrep v23.2.0"), "found fMRIPrep 23.2.0, expected 25.2.7"),
        "no licence": ("apptainer", {"freesurfer_license": None}, nothing, "found None, expected FreeSurfer's licence"),
        "empty licence": ("apptainer", {}, lambda _: (root / "license.txt").write_text("\n"), "found the empty file .*license.txt"),
        "no templates": ("apptainer", {"templateflow_home": str(root / "none")}, nothing, "found no folder .*none"),
        "not in image": ("docker", {"space": "NKI", "resolution": 1.0, "templateflow_home": None}, nothing, "found null, .* not NKI"),
        "template missing": ("bare", {}, lambda _: placeholder.unlink(), rf"1 file\(s\) missing \(.*{placeholder.name}"),
        "template empty": ("docker", {}, lambda _: placeholder.write_bytes(b""), rf"1 placeholder\(s\) of 0 bytes \(.*{placeholder.name}"),
        "resolution": ("apptainer", {"resolution": 9.0}, nothing, f"found 9 mm, expected 1 or 2 mm for {SPACE}"),
        "resolution of template": ("bare", {"space": "NKI", "resolution": 2.0}, nothing, "found 2 mm, expected 1 mm for NKI"),
        "space": ("docker", {"space": "MNI152NLin2009aSym"}, nothing, "found MNI152NLin2009aSym, expected one of MNI152Lin,"),
        "links": (
            "apptainer",
            {},
            lambda _: (root / "my raw data/sub-01/T1w.nii.gz").symlink_to(root / "license.txt"),
            r"links: found 1 that point outside the data set \(.*T1w",
        ),
        "results are a file": ("apptainer", {}, lambda _: (root / "results").write_text(""), "which this user cannot write to"),
    }


@pytest.mark.parametrize("trap", refusals(Path("/")))
def test_each_trap_is_found_beforehand(lab: Callable[..., Config], engines: Engines, tmp_path: Path, trap: str) -> None:
    engine, settings, break_it, message = refusals(tmp_path)[trap]
    config = lab(engine, **settings)
    break_it(engines)
    with pytest.raises(UserError, match=message):
        check(config, "had")
    errors = [f.error for f in examine(config, ["had"]) if f.error]
    assert len(errors) == 1, "one cause, one finding"
    assert not (tmp_path / "results/derivatives").exists() and not any("run" in call["argv"][:2] for call in _calls(engines))


def _calls(engines: Engines) -> list[dict[str, Any]]:
    return engines.calls() if (engines.root / "calls.jsonl").exists() else []


def test_folders_and_memory_that_will_not_do(
    lab: Callable[..., Config], engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = lab().model_copy(update={"paths": lab().paths.model_copy(update={"results": str(tmp_path / "my raw data/derivatives/ours")})})
    with pytest.raises(UserError, match="inside the BIDS folder"):
        check(inside, "had")
    for memory, message in ((4000, "found 4000 MB for the job, expected at least 8000"), (96000, "expected at most this node's 64000 MB")):
        with pytest.raises(UserError, match=message):
            check(lab(), "had", Allotment(8, memory))
    monkeypatch.setattr(preflight, "LEAST_DISK", 20e9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 99e9, 1e9))
    with pytest.raises(UserError, match=r"disk: found 1\.0 GB free, expected 20 GB"):
        check(lab(), "had")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 9e9, 91e9))
    (tmp_path / "results/derivatives/had").mkdir(parents=True)
    monkeypatch.setattr(preflight, "owned_by_root", lambda folder: folder.name == "had")
    with pytest.raises(UserError, match=r"derivatives/had: owner: found root.*sudo chown"):
        check(lab(), "had")


def test_problems_are_told_together(lab: Callable[..., Config], engines: Engines) -> None:
    engines.say("docker info", "Cannot connect", 1)
    with pytest.raises(UserError) as error:
        check(lab("docker", resolution=9.0, freesurfer_license=None), "had")
    assert len(error.value.problems) == 3


def test_paths_that_cannot_be_mounted(lab: Callable[..., Config], tmp_path: Path) -> None:
    """A space can be mounted, a colon and a comma cannot; nothing needs escaping without a shell."""
    for engine in ("apptainer", "docker"):
        for odd in ("a:b", "a,b"):
            wrong = places(tmp_path)
            wrong = Places(wrong.data, wrong.output, tmp_path / odd, wrong.licence)
            with pytest.raises(UserError, match=rf"paths\.results: found '.*{odd}', expected a path without '{odd[1]}'"):
                command(lab(engine), "had", "01", wrong, Allotment(1, 24000))
        with pytest.raises(UserError, match="templateflow_home"):
            command(lab(engine, templateflow_home="/x:y"), "had", "01", places(tmp_path), Allotment(1, 24000))
    assert repository("localhost:5000/nipreps/fmriprep") == "localhost:5000/nipreps/fmriprep"
    assert repository("localhost:5000/nipreps/fmriprep:25.2.7") == "localhost:5000/nipreps/fmriprep"


def test_a_sif_is_known_by_the_file_beside_it(lab: Callable[..., Config], engines: Engines, tmp_path: Path) -> None:
    engines.say("inspect", labels("nipreps/fmriprep:25.2.7"))
    (tmp_path / "fmriprep.sif.json").write_text(json.dumps({"image": f"nipreps/fmriprep@{DIGEST}"}))
    assert DIGEST in check(lab(), "had")["image"]


def test_no_image_runs_without_a_digest(lab: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = tmp_path / "containers.csv"
    table.write_text("image,version,digest,licence\nnipreps/fmriprep,25.2.7,,Apache-2.0\n")
    monkeypatch.setattr(containers.pinned_digest, "__defaults__", (table,))
    for engine in ("apptainer", "docker"):
        with pytest.raises(UserError, match=r"preprocessing\.fmriprep_digest: found none for nipreps/fmriprep:25\.2\.7"):
            check(lab(engine, fmriprep_digest=None), "had")


def test_the_check_is_a_step_before_the_subjects(lab: Callable[..., Config], engines: Engines, tmp_path: Path) -> None:
    """As the rule calls it, with its record, whatever room this machine has."""
    settings = tmp_path / "config.json"
    settings.write_text(lab().model_dump_json(by_alias=True))
    report = tmp_path / "results/checked/had_preprocessing.json"
    anywhere = "from boldscribe.preprocessing.fmriprep import preflight; preflight.LEAST_DISK, preflight.memory_mb = 0.0, lambda: 64000.0; "
    argv = [
        sys.executable,
        "-c",
        f"{anywhere}from workflow_scripts.check_preprocessing import main; main()",
        "--config",
        str(settings),
        "--dataset",
        "had",
        "--report",
        str(report),
    ]
    subprocess.run(argv, check=True, cwd=ROOT)
    assert DIGEST in json.loads(report.read_text())["image"]
    recorded = json.loads(Path(f"{report}.prov.json").read_text())["config"]
    assert "preprocessing.fmriprep_digest" in recorded and "preprocessing.freesurfer_license" not in recorded, (
        "a moved licence reruns nothing"
    )
    (tmp_path / "license.txt").unlink()
    report.unlink()
    failed = subprocess.run(argv, check=False, cwd=ROOT, capture_output=True, text=True)
    assert failed.returncode != 0 and "FreeSurfer's licence" in failed.stderr and "Traceback" not in failed.stderr and not report.exists()


def test_subjects_wait_for_the_check_and_are_told_what_their_job_may_use(tmp_path: Path) -> None:
    options = ["--cores", "16", "--set-resources", "fmriprep:mem_mb=17000", "--config", f"paths={json.dumps({'results': str(tmp_path)})}"]
    plan = [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds", *options, "--", f"{tmp_path}/derivatives/had/sub-01"]
    planned = subprocess.run(plan, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    line = next(line for line in planned.splitlines() if "workflow_scripts.fmriprep " in line)
    assert "--threads 8 --memory-mb 17000" in line and f"--preflight {tmp_path}/checked/had_preprocessing.json" in line
    assert planned.index("workflow_scripts.check_preprocessing ") < planned.index("workflow_scripts.fmriprep ")
    local = (ROOT / "Snakefile").read_text().partition("localrules:")[2].partition("\n\n")[0]
    assert "check_preprocessing," in local, "it runs where Snakemake runs, before anything is queued"


def test_templates_of_every_run_are_listed_once() -> None:
    files = [str(f) for f in template_files(SPACE, 2)]
    assert len(files) == len(set(files)) == sum(map(len, ALWAYS.values())) + 3, "the mask at 2 mm is of every run"
