"""Repeated simulated experiments of several designs, each run once, in several processes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from boldscribe import __version__
from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, write_json
from boldscribe.machinery.processes import in_processes
from boldscribe.machinery.reproducible import derive_seed
from boldscribe.power.design import Design, experiment
from boldscribe.power.rendered_clips import Clips, make_clips, provide_models
from boldscribe.power.simulated_experiment import Experiment


@dataclass(frozen=True)
class Repetition:
    """One simulated experiment to run.

    Attributes:
        config: the fast configuration.
        design: the simulated design.
        number: of the repetition, starting at 1.
        out: folder of all experiments.
    """

    config: Config
    design: Design
    number: int
    out: Path

    @property
    def seed(self) -> int:
        """Seed of this experiment; designs that differ only in SNR share subjects, noise and clips, which pairs them."""
        d = self.design
        return derive_seed(self.config.seed, "power", d.source, d.target, d.trials, self.number)

    @property
    def result(self) -> Path:
        """Result file that is kept: the tests of the model against each null control."""
        return self.out / "repetitions" / f"{self.design.label}_repetition-{self.number:03d}.csv"

    @property
    def models(self) -> Path:
        """Folder of the model folders."""
        return self.out / "models"

    def clips(self) -> Clips:
        """Provide the clips, which all experiments with the same number of clips share."""
        folder = self.out / f"clips-{self.design.n_clips}"
        return make_clips(experiment(self.config, self.design, self.config.seed, folder), self.models, folder)

    def run(self) -> None:
        """Run the experiment in a folder that is removed afterwards, and keep the result."""
        import torch

        torch.set_num_threads(1)
        folder = self.out / "work" / self.result.stem
        shutil.rmtree(folder, ignore_errors=True)
        start = time.process_time()
        made = Experiment(experiment(self.config, self.design, self.seed, folder), self.clips(), self.models, folder)
        made.scan()
        made.train()
        tests = made.tests(made.decode())
        with atomic(self.result) as part:
            tests.assign(repetition=self.number, cpu_seconds=round(time.process_time() - start, 1)).to_csv(
                part, index=False, lineterminator="\n"
            )
        shutil.rmtree(folder)


def run_all(config: Config, designs: Sequence[Design], repeats: int, jobs: int, out: Path) -> pd.DataFrame:
    """Run the repetitions of all designs that have no result yet; return the results of all repetitions in the folder.

    Args:
        config: the fast configuration, with the seed of all experiments.
        designs: to simulate.
        repeats: repetitions of each design.
        jobs: number of processes.
        out: folder of results, clips and models.

    Returns:
        a row per design, repetition, null control and metric, with the columns of the tests (docs/data.md) and of the design.

    Raises:
        UserError: the folder holds results of another configuration.
    """
    _check_folder(config, out)
    provide_models(config, out / "models")
    wanted = [Repetition(config, design, number, out) for number in range(1, repeats + 1) for design in designs]
    missing = [repetition for repetition in wanted if not repetition.result.exists()]
    for first in {repetition.design.n_clips: repetition for repetition in missing}.values():
        first.clips()
    for _ in in_processes(Repetition.run, missing, jobs, "experiments"):
        pass
    return pd.concat([table for design in designs for table in _results(design, out)], ignore_index=True)


def _results(design: Design, out: Path) -> list[pd.DataFrame]:
    """Read the results of all repetitions of a design in the folder, whenever they were run."""
    paths = sorted((out / "repetitions").glob(f"{design.label}_repetition-*.csv"))
    return [pd.read_csv(path).assign(**design.as_row()) for path in paths]


def _check_folder(config: Config, out: Path) -> None:
    """Refuse to mix results of different configurations.

    Raises:
        UserError: see `run_all`.
    """
    path, settings = out / "settings.json", {"version": __version__, "config": config.model_dump(by_alias=True, mode="json")}
    if path.exists():
        if json.loads(path.read_text()) != settings:
            raise UserError(
                str(out), "found results of another configuration, seed or version, expected those of this one; choose another --out"
            )
    else:
        write_json(path, settings)
