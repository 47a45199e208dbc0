"""The doctor: right about what it can be shown, and never stopped by what it finds."""

import base64
import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from boldscribe.config import Config
from boldscribe.doctor import abilities, examine, print_report
from boldscribe.machinery.installation import damaged_files, locked_packages
from boldscribe.machinery.machine_checks import Check
from boldscribe.preprocessing.fmriprep import preflight


def _program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def _by_name(checks: list[Check]) -> dict[str, Check]:
    assert len({check.name for check in checks}) == len(checks)
    return {check.name: check for check in checks}


def _shown(checks: list[Check], width: int = 100) -> str:
    out = io.StringIO()
    print_report(checks, Console(file=out, width=width))
    return out.getvalue()


def test_this_machine_is_examined() -> None:
    checks = _by_name(examine())
    assert checks["Python"].found == sys.version.split()[0]
    assert checks["packages"].found.endswith("as locked"), checks["packages"].found
    assert checks["embedded weights"].status == "ok"
    assert all(check.remedy for check in checks.values() if check.status != "ok"), "every shortage has a remedy"
    assert set(abilities(list(checks.values()))["tests"]) <= {"memory", "disk"}, "these tests run"


def test_a_machine_without_anything_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such thing")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("FS_LICENSE", str(tmp_path / "nowhere"))
    monkeypatch.setattr(psutil, "virtual_memory", broken)
    monkeypatch.chdir(tmp_path)
    checks = _by_name(examine())
    for name in (
        "Slurm",
        "container engines",
        "fMRIPrep engine",
        "fMRIPrep licence",
        "fMRIPrep templates",
        "programs",
        "memory",
        "data: had",
        "weights: video_llama.llm",
    ):
        assert checks[name].status == "missing", name
    assert "RuntimeError: no such thing" in checks["memory"].found
    assert checks["Snakemake"].status == "limited"
    can = abilities(list(checks.values()))
    assert can["demo"] == ["programs", "memory"] and can["fMRIPrep"][:3] == ["fMRIPrep engine", "fMRIPrep templates", "fMRIPrep licence"]
    assert "Can run demo: no: programs, memory" in _shown(list(checks.values()))


def test_full_scale_with_slurm_docker_licence_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs, data, weights = tmp_path / "bin", tmp_path / "data", tmp_path / "llm"
    _program(
        programs, "docker", 'case "$*" in *MemTotal*) echo 32000000000;; info*) echo docker 28.0;; image*) echo sha256:1;; *) exit 1;; esac'
    )
    monkeypatch.setattr(preflight, "LEAST_DISK", 0.0)
    _program(programs, "sbatch", "echo slurm 24.05")
    monkeypatch.setenv("PATH", f"{programs}:{Path(sys.executable).parent}:/usr/bin:/bin")
    (tmp_path / "license.txt").write_text("licence")
    monkeypatch.setenv("FS_LICENSE", str(tmp_path / "license.txt"))
    for folder in (data, weights):
        folder.mkdir()
    (data / "dataset_description.json").write_text("{}")
    save_file({"x": np.zeros(1)}, weights / "model.safetensors")
    models = dict.fromkeys(("llm", "visual_encoder", "connectors"), str(weights))
    config = Config.model_validate(
        {
            "datasets": {"had": {"bids_dir": str(data)}},
            "video_llama": models,
            "preprocessing": {"engine": "docker", "templateflow_home": None, "fmriprep_digest": "sha256:" + "0" * 64},
            "evaluation": {"bertscore_model": str(weights), "bertscore_baseline": None, "sentence_encoder": "embedded"},
        }
    )
    checks = examine(config)
    assert _by_name(checks)["container engines"] == Check("container engines", "ok", "docker 28.0")
    assert {c.name for c in checks if c.name.startswith("fMRIPrep")} == {
        *("fMRIPrep engine", "fMRIPrep image", "fMRIPrep memory", "fMRIPrep templates", "fMRIPrep licence"),
        *("fMRIPrep folders: had", "fMRIPrep links: had"),
    }
    assert abilities(checks)["fMRIPrep"] == [] and abilities(checks)["full scale"] == []
    (weights / "model.safetensors").rename(weights / "model.bin")
    assert abilities(examine(config))["full scale"] == [
        "weights: video_llama.llm",
        "weights: video_llama.visual_encoder",
        "weights: video_llama.connectors",
        "weights: evaluation.bertscore_model",
    ]
    _program(programs, "docker", "echo cannot connect to [bold]daemon >&2; exit 1")
    checks = examine(config)
    engine = _by_name(checks)["fMRIPrep engine"]
    assert "found 'cannot connect to [bold]daemon'" in engine.found and engine.remedy.startswith("install docker")
    assert _by_name(checks)["container engines"].found == "docker: cannot connect to [bold]daemon"
    assert "fMRIPrep engine" in abilities(checks)["full scale"]
    other = config.model_copy(update={"preprocessing": config.preprocessing.model_copy(update={"engine": "embedded"})})
    assert "fMRIPrep" not in abilities(examine(other))["full scale"] and abilities(examine(other))["fMRIPrep"] == ["fMRIPrep"]
    assert "[bold]daemon" in _shown(checks, width=200), "what programs say is shown as it is"


def test_paths_are_shown_whole_on_a_narrow_terminal() -> None:
    path = "models/" + "a-long-name-" * 8
    shown = _shown([Check("weights: video_llama.llm", "missing", f"no {path}", "put it there")], width=60)
    cells = "".join(line.split("│")[3].strip() for line in shown.splitlines() if line.startswith("│"))
    assert path in cells and "…" not in shown


def test_packages_are_compared_with_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("# made by hand\nnumpy==2.4.6 \\\n    --hash=sha256:00\npandas==0.1 ; python_version > '3'\nno-such-package==1.0\n")
    differing, n = locked_packages(lock)
    assert n == 3 and len(differing) == 2
    assert differing[0].startswith("pandas ") and differing[0].endswith(" instead of 0.1")
    assert differing[1] == "no-such-package 1.0 not installed"


def test_damaged_and_absent_weights_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"weights"
    stated = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    (tmp_path / "carrier").mkdir()
    (tmp_path / "carrier" / "model.bin").write_bytes(content)
    info = tmp_path / "carrier-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"carrier/model.bin,sha256={stated},{len(content)}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    carried = {"carrier": "carrier/model.bin"}
    assert damaged_files(carried) == []
    (tmp_path / "carrier" / "model.bin").write_bytes(b"Weights")
    assert "damaged" in damaged_files(carried)[0]
    (tmp_path / "carrier" / "model.bin").unlink()
    assert damaged_files(carried) == ["carrier contains no carrier/model.bin"]
    assert damaged_files({"no-such-carrier": "x"}) == ["package no-such-carrier is not installed"]
