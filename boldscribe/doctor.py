"""Diagnosis of this machine for `boldscribe doctor`. It changes nothing, and no finding stops it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from boldscribe.config import Config
from boldscribe.config.data_settings import FMRIPREP
from boldscribe.machinery.cluster.site import SITE
from boldscribe.machinery.files import ROOT
from boldscribe.machinery.installation import damaged_files, locked_packages

GB = 1e9
DEMO = {"cores": 2, "memory": 4, "disk": 8}  # as measured (docs/demo.md)
FULL_GPU = 24  # GB, for the paper's models in 16 bits

Status = Literal["ok", "limited", "missing"]


@dataclass(frozen=True)
class Check:
    """One finding: `ok`, `limited` (enough for some uses) or `missing`, with a remedy for the latter two."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def examine(config: Config | None = None) -> list[Check]:
    """Check interpreter, packages, hardware, weights, data and programs.

    Args:
        config: the full-scale experiment whose weights and data are checked; `config.yaml` of the checkout by default.
    """
    full = _full_scale(config)
    groups: list[tuple[str, Callable[[], Check | Sequence[Check]]]] = [
        ("Python", _python),
        ("packages", _packages),
        ("programs", _programs),
        ("CPU cores", lambda: _cores(full["cores"])),
        ("memory", lambda: _memory(full["memory"])),
        ("disk", lambda: _disk(full["disk"])),
        ("GPU", _gpu),
        ("embedded weights", _embedded),
        ("connectors", _connectors),
        ("full-scale files", lambda: list(_full_scale_files(config or _config()))),
        ("container engines", _engines),
        ("fMRIPrep", lambda: list(_fmriprep(config or _config()))),
        ("Snakemake", _snakemake),
        ("Slurm", _slurm),
    ]
    checks: list[Check] = []
    for name, look in groups:
        try:
            found = look()
        except Exception as error:  # machines fail in unexpected ways, and the other findings still count
            found = Check(name, "missing", f"could not be examined: {type(error).__name__}: {error}", "see the message")
        checks += [found] if isinstance(found, Check) else found
    return checks


def abilities(checks: Sequence[Check]) -> dict[str, list[str]]:
    """Return the workloads, each with the names of the findings that prevent it (none if it can run).

    The paper's experiment needs a GPU, memory and cores on this machine, or Slurm to find them elsewhere.
    """
    status = {check.name: check.status for check in checks}
    basis = ["Python", "packages", "programs", "Snakemake"]
    demo = [*basis, "embedded weights", "connectors", "memory", "disk"]
    against_demo = [name for name in demo if status.get(name) == "missing"]
    fmriprep = [check.name for check in checks if check.name.startswith("fMRIPrep") and check.status != "ok"]
    full = [check.name for check in checks if check.name.startswith(("weights: ", "data: ")) and check.status != "ok"]
    full += [name for name in basis if status.get(name) == "missing"]
    if status.get("Slurm") != "ok":
        full += [name for name in ("GPU", "CPU cores", "memory", "disk") if status.get(name) != "ok"]
    return {
        "demo": against_demo,
        "tests": against_demo,
        "full scale": [*full, *(name for name in fmriprep if status[name] == "missing")],
        "fMRIPrep": fmriprep,
    }


def print_report(checks: Sequence[Check], console: Console | None = None) -> None:
    """Print the findings as a table, then what this machine can run."""
    console = console or Console()
    colours = {"ok": "green", "limited": "yellow", "missing": "red"}
    table = Table(title="This machine")
    for header in ("", "status"):
        table.add_column(header, no_wrap=True)
    for header in ("found", "what to do"):
        table.add_column(header, overflow="fold")  # no ellipsis, so that paths can be copied
    for check in checks:
        colour = colours[check.status]
        table.add_row(escape(check.name), f"[{colour}]{check.status}[/{colour}]", escape(check.found), escape(check.remedy))
    console.print(table)
    for name, against in abilities(checks).items():
        verdict = f"[red]no[/red]: {escape(', '.join(against))}" if against else "[green]yes[/green]"
        console.print(f"Can run {name}: {verdict}")


def _config() -> Config:
    path = ROOT / "config.yaml"
    return Config.load(path) if path.exists() else Config()


def _python() -> Check:
    version = sys.version.split()[0]
    if sys.version_info[:2] == (3, 11):
        return Check("Python", "ok", version)
    return Check("Python", "limited" if sys.version_info > (3, 11) else "missing", version, "use Python 3.11, which the lock is made for")


def _packages() -> Check:
    differing, n = locked_packages(ROOT / "requirements.lock")
    if not differing:
        return Check("packages", "ok", f"{n} packages, as locked")
    absent = any("not installed" in line for line in differing)
    some = "; ".join(differing[:4]) + (f"; and {len(differing) - 4} more" if len(differing) > 4 else "")
    found = f"{len(differing)} of {n} differ from the lock: {some}"
    return Check("packages", "missing" if absent else "limited", found, "run `make setup`")


def _full_scale(config: Config | None) -> dict[str, float | None]:
    """Return what the paper's experiment needs: cores and memory (GB) of its largest job, disk (GB); None where no plan can be made."""
    from boldscribe.planning.stages import make_plan

    try:
        config = config or _config()
        total = make_plan(config, Path(config.paths.results), cores=DEMO["cores"]).total()
    except Exception:  # `plan` reports the reason, and the demo does not depend on it
        return dict.fromkeys(("cores", "memory", "disk"))
    return {"cores": total.threads, "memory": total.memory, "disk": (total.kept + total.scratch) / GB}


def _programs() -> Check:
    absent = [name for name in ("git", "make", "flock") if shutil.which(name) is None]
    if absent:
        return Check("programs", "missing", f"no {', '.join(absent)}", "install with the system's package manager")
    return Check("programs", "ok", "git, make, flock")


def _cores(full: float | None) -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _amount("CPU cores", cores, "", DEMO["cores"], full, below_demo="limited")


def _memory(full: float | None) -> Check:
    total = psutil.virtual_memory().total / GB
    limit = Path("/sys/fs/cgroup/memory.max")  # what a container may use
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text) / GB)
    return _amount("memory", total, " GB", DEMO["memory"], full)


def _disk(full: float | None) -> Check:
    return _amount("disk", shutil.disk_usage(Path.cwd()).free / GB, " GB free here", DEMO["disk"], full)


def _amount(name: str, found: float, unit: str, demo: float, full: float | None, below_demo: Status = "missing") -> Check:
    """Check if an amount is enough for the paper's experiment, for the demo only, or for neither."""
    text = f"{found:.0f}{unit}"
    if full is None and found >= demo:
        return Check(name, "limited", text, "enough for the demo; the needs of the paper's experiment are unknown: see `boldscribe plan`")
    if full is not None and found >= full:
        return Check(name, "ok", text)
    if found >= demo:
        return Check(name, "limited", text, f"enough for the demo; the paper's experiment needs {full:,.0f}")
    return Check(name, below_demo, text, f"the demo needs {demo:g}")


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check(
            "GPU", "missing", "none that torch can use", "not needed for the demo; the paper's models need one, here or through Slurm"
        )
    device = torch.cuda.get_device_properties(0)
    memory = device.total_memory / GB
    text = f"{torch.cuda.device_count()} × {device.name}, {memory:.0f} GB"
    if memory < FULL_GPU:
        return Check("GPU", "limited", text, f"the paper's models need {FULL_GPU} GB; smaller batches may suffice")
    return Check("GPU", "ok", text)


def _embedded() -> Check:
    from boldscribe.models.embedded_models import WEIGHTS

    problems = damaged_files(WEIGHTS)
    if problems:
        return Check("embedded weights", "missing", "; ".join(problems), "run `make setup` again, or reinstall the named package")
    return Check("embedded weights", "ok", "all present, with the digests stated by their packages")


def _connectors() -> Check:
    from safetensors import safe_open

    path = Path(__file__).parent / "models" / "weights" / "connectors.safetensors"
    if not path.exists():
        return Check("connectors", "missing", "no trained connectors", "check out the repository again, or run `make connectors`")
    with safe_open(path, framework="numpy") as weights:
        n = len(list(weights.keys()))
    return Check("connectors", "ok", f"{n} tensors, {path.stat().st_size / 1e6:.0f} MB")


def _full_scale_files(config: Config) -> Iterator[Check]:
    """Check weights and data of the paper's experiment."""
    for name, (_, place) in config.model_places.items():
        if place in (None, "embedded"):
            yield Check(f"weights: {name}", "ok", place or "not used")
        elif not Path(place).exists():
            yield Check(f"weights: {name}", "missing", f"no {place}", "put it there, or change the configuration; not needed for the demo")
        elif Path(place).is_dir() and not any(Path(place).glob("*.safetensors")):
            yield Check(f"weights: {name}", "missing", f"no .safetensors in {place}", "convert the weights: pickled files are not opened")
        else:
            yield Check(f"weights: {name}", "ok", place)
    if config.captioner.kind == "video_text" and config.captioner.frames_as == "video" and find_spec("torchvision") is None:
        remedy = "install the build that matches torch, or set captioner.frames_as: images"
        yield Check("weights: captioner's video processor", "missing", "torchvision is not installed", remedy)
    for name in config.whole_datasets:
        dataset = config.datasets[name]
        if dataset.simulated is not None:
            yield Check(f"data: {name}", "ok", "simulated by the pipeline")
        elif not (Path(dataset.bids_dir) / "dataset_description.json").is_file():
            yield Check(
                f"data: {name}",
                "missing",
                f"no BIDS data set in {dataset.bids_dir}",
                f"put it there, or change datasets.{name}.bids_dir; not needed for the demo",
            )
        else:
            yield Check(f"data: {name}", "ok", dataset.bids_dir)


def _answer(*command: str) -> tuple[bool, str]:
    """Run a command; return whether it succeeded, and its last line of output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return False, "not installed"
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"{type(error).__name__}: {error}"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"exit status {done.returncode}"


def _engines() -> Check:
    versions = {
        "apptainer": ["--version"],
        "singularity": ["--version"],
        "docker": ["info", "--format", "docker {{.ServerVersion}}"],
        "podman": ["--version"],
    }
    answers = {name: _answer(name, *options) for name, options in versions.items()}
    if found := [message for running, message in answers.values() if running]:
        return Check("container engines", "ok", "; ".join(found))
    said = [f"{name}: {message}" for name, (_, message) in answers.items() if message != "not installed"]
    remedy = "needed only for fMRIPrep; the engines 'embedded', 'derivatives' and 'bare' work without one"
    return Check("container engines", "missing", "; ".join(said) or f"none of {', '.join(versions)}", remedy)


def _fmriprep(config: Config) -> Iterator[Check]:
    """Run the check that precedes fMRIPrep's jobs, for the measured data sets."""
    from boldscribe.preprocessing.fmriprep import examine

    engine = config.preprocessing.engine
    if not config.preprocessing.runs_fmriprep:
        yield Check("fMRIPrep", "limited", f"preprocessing.engine is '{engine}'", f"not needed; to run it, choose {', '.join(FMRIPREP)}")
        return
    for finding in examine(config, [name for name in config.whole_datasets if config.datasets[name].simulated is None]):
        if finding.error is None:
            yield Check(f"fMRIPrep {finding.name}", "ok", finding.found)
        else:
            found, _, remedy = str(finding.error).rpartition("; ")
            yield Check(f"fMRIPrep {finding.name}", "missing", found, remedy)


def _snakemake() -> Check:
    # a job's `python` and `snakemake` come from PATH, where the environment must come first
    here, of_path = Path(sys.executable).parent, shutil.which("snakemake")
    if of_path is None:
        return Check("Snakemake", "limited", "not on PATH", f"`make` sets it; by hand: source {here}/activate")
    running, message = _answer("snakemake", "--version")
    if not running:
        return Check("Snakemake", "missing", message, "run `make setup`")
    if Path(of_path).parent != here:
        return Check("Snakemake", "limited", f"{message}, from another environment ({of_path})", f"source {here}/activate")
    return Check("Snakemake", "ok", message)


def _slurm() -> Check:
    running, message = _answer("sbatch", "--version")
    if not running:
        return Check("Slurm", "missing", f"sbatch: {message}", "not needed for the demo; without it, full scale runs only on this machine")
    if find_spec("snakemake_executor_plugin_slurm") is None:
        return Check("Slurm", "limited", f"{message}, but Snakemake's plugin for it is not installed", "run `make setup`")
    if not SITE.exists():
        return Check("Slurm", "ok", message, "`boldscribe init --cluster` records how this cluster names its partitions and GPUs")
    return Check("Slurm", "ok", f"{message}; {SITE}")
