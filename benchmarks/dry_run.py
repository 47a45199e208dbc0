"""What planning costs: `snakemake -n` for the paper's experiment against `snakemake --version`, in a clean clone.

`python -m benchmarks.dry_run`. All commands run in turn as whole processes, `-n` with `-q rules`, which prints the jobs by rule alone.
`--list-rules` reads the rules and plans nothing, as each job of a run does at its start. The first call in a clone works out the
fingerprints of the code and compiles it; later calls, and jobs, find both. A bare workflow of as many jobs (one rule, no input, no
settings) says what Snakemake itself takes.
"""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import click
import yaml
from tqdm import tqdm

from boldscribe.config import Config

ROOT = Path(__file__).resolve().parents[1]
TIMES = 10  # how much larger the larger experiments are
BARE = 'rule all:\n    input: expand("made/{{i}}", i=range({}))\nrule step:\n    output: "made/{{i}}"\n    shell: "touch {{output}}"\n'


@dataclass
class Timed:
    """A command of Snakemake's and what its calls took.

    Attributes:
        folder: working directory.
        arguments: of `snakemake`.
        first: whether each call is made as the first one in the clone.
        wall, cpu: seconds of each call, and of its cores.
        jobs: planned jobs by rule, as the last call printed them.
    """

    folder: Path
    arguments: list[str]
    first: bool = False
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    jobs: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        """Call it once.

        Raises:
            SystemExit: it failed.
        """
        if self.first:
            subprocess.run(["git", "clean", "-xdffq"], cwd=self.folder, check=True)
        command, environment = [sys.executable, "-m", "snakemake", *self.arguments], {**os.environ, "PYTHONPATH": str(self.folder)}
        before, start = _children(), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment)
        self.wall.append(time.perf_counter() - start)
        self.cpu.append(_children() - before)
        if done.returncode:
            raise SystemExit(f"snakemake {' '.join(self.arguments)} ended with {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
        table = (done.stdout + done.stderr).split("Job stats:")[-1]
        self.jobs = {name: int(n) for name, n in re.findall(r"(?m)^(\w+) +(\d+)$", table)}


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def more_subjects(times: int) -> dict[str, object]:
    """Configuration over the paper's, with so many times its source and target subjects."""
    sets = Config.load(ROOT / "config.yaml").datasets
    datasets = {}
    for name, settings in sets.items():
        source, target = len(settings.train_subjects) * times, len(settings.validation_subjects) * times
        labels = [f"{i:04d}" for i in range(1, source + target + 1)]
        datasets[name] = {"train_subjects": labels[:source], "validation_subjects": labels[source:]}
    return {"datasets": datasets}


def commands(folder: Path) -> dict[str, Timed]:
    """The commands, by what they are called in the table; makes the clone, the configurations and the bare workflow."""
    clone, bare = folder / "clone", folder / "bare"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    shards = Config.load(ROOT / "config.yaml").stimuli.shards
    for name, changes in {"subjects": more_subjects(TIMES), "shards": {"stimuli": {"shards": shards * TIMES}}}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(changes))
    plan = ["-n", "-q", "rules"]
    asked = Timed(clone, plan)
    asked.run()
    bare.mkdir()
    (bare / "Snakefile").write_text(BARE.format(asked.jobs["total"] - 1))
    return {
        "--version": Timed(bare, ["--version"]),
        "--list-rules": Timed(clone, ["--list-rules"]),
        "-n, first call in a clean clone": Timed(clone, plan, first=True),
        "-n": Timed(clone, plan),
        "-n, every job listed": Timed(clone, ["-n"]),
        f"-n, {TIMES} x subjects": Timed(clone, [*plan, "--configfile", str(folder / "subjects.yaml")]),
        f"-n, {TIMES} x shards": Timed(clone, [*plan, "--configfile", str(folder / "shards.yaml")]),
        "-n, bare workflow": Timed(bare, plan),
    }


def table(timed: dict[str, Timed]) -> list[str]:
    """Medians and ratios, and the planned jobs by rule, as lines of Markdown."""
    base = timed["--version"]
    lines = ["| `snakemake` | jobs | s | range | × `--version` | core s | × `--version` |", f"| --- |{' ---: |' * 6}"]
    for name, one in timed.items():
        wall, cpu = statistics.median(one.wall), statistics.median(one.cpu)
        by_wall, by_cpu = wall / statistics.median(base.wall), cpu / statistics.median(base.cpu)
        jobs = f"{one.jobs['total']:,}" if one.jobs else ""
        lines.append(
            f"| {name} | {jobs} | {wall:.2f} | {min(one.wall):.2f} to {max(one.wall):.2f} | {by_wall:.2f} | {cpu:.2f} | {by_cpu:.2f} |"
        )
    plans = ["-n", *(name for name in timed if " x " in name)]
    lines += ["", f"| jobs of the rule | {' | '.join(plans)} |", f"| --- |{' ---: |' * len(plans)}"]
    return lines + [f"| {rule} | {' | '.join(f'{timed[p].jobs.get(rule, 0):,}' for p in plans)} |" for rule in timed["-n"].jobs]


@click.command()
@click.option("--repeats", default=7, show_default=True)
def main(repeats: int) -> None:
    """Time all commands in turn and print medians, ratios and the jobs by rule."""
    with tempfile.TemporaryDirectory() as folder:
        timed = commands(Path(folder))
        for _ in tqdm(range(repeats), "repeats"):
            for one in timed.values():
                one.run()
    click.echo(f"{repeats} calls each, in turn; medians\n\n" + "\n".join(table(timed)))


if __name__ == "__main__":
    main()
