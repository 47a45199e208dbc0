"""The plan: a line per stage and data set, with what it takes and from what this is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from boldscribe.config import Config, load_config
from boldscribe.errors import UserError
from boldscribe.planning.costs import Cost, Measured, measured, read_costs, rows_of
from boldscribe.planning.counting import Amounts, common_amounts, count
from boldscribe.planning.design import Design, designs_of
from boldscribe.planning.downloads import Fetched, raw_data, weights
from boldscribe.provenance.ledger import Usages, read_ledger, usage_of_jobs

GB = 1e9


@dataclass(frozen=True)
class Line:
    """What a stage of a data set takes.

    Attributes:
        dataset, stage: the latter a rule, or `raw data` or `weights`.
        jobs: how many.
        download, kept, scratch: bytes from the network, on disk afterwards, and beside that while its jobs run.
        inodes, inodes_scratch: files and folders, likewise.
        cpu_hours, gpu_hours: time that cores and GPUs are held.
        memory: largest job (GB).
        threads, gpus: of a job.
        asked: memory that the rule of the largest job asks for (GB).
        job_seconds: wall time of a job, mean (s).
        known_from: measured here with the number of jobs, or the kinds of the rows of `data/costs.csv`.
        sources: of these rows.
    """

    dataset: str
    stage: str
    jobs: int = 0
    download: float = 0
    kept: float = 0
    scratch: float = 0
    inodes: int = 0
    inodes_scratch: int = 0
    cpu_hours: float = 0
    gpu_hours: float = 0
    memory: float = 0
    threads: int = 1
    gpus: int = 0
    asked: float = 0
    job_seconds: float = 0
    known_from: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All lines, and what could not be known."""

    lines: list[Line]
    assumed: list[str] = field(default_factory=list)

    def total(self) -> Line:
        """The sum; of scratch the largest stage's, since a job's is removed when it ends; of memory the largest job's."""
        return Line(
            "",
            "total",
            jobs=sum(line.jobs for line in self.lines),
            download=sum(line.download for line in self.lines),
            kept=sum(line.kept for line in self.lines),
            scratch=max(line.scratch for line in self.lines),
            inodes=sum(line.inodes for line in self.lines),
            inodes_scratch=max(line.inodes_scratch for line in self.lines),
            cpu_hours=sum(line.cpu_hours for line in self.lines),
            gpu_hours=sum(line.gpu_hours for line in self.lines),
            memory=max(line.memory for line in self.lines),
            threads=max(line.threads for line in self.lines),
            gpus=max(line.gpus for line in self.lines),
        )


def make_plan(config: Config, results: Path, cores: int, jobs: int | None = None, costs: list[Cost] | None = None) -> Plan:
    """What an experiment takes.

    Args:
        config: the experiment.
        results: tree whose ledger refines the table's figures, and which the results are for.
        cores: of this machine; they bound how many jobs run, and have scratch files, at the same time.
        jobs: how many run at the same time, whatever the cores; as given to Snakemake.
        costs: the table; `data/costs.csv` by default.

    Raises:
        UserError: a table or manifest that cannot be read.
    """
    costs = read_costs() if costs is None else costs
    recorded, done, assumed = _recorded(results)
    lines: list[Line] = []
    for name in config.whole_datasets:
        designs = designs_of(config, name)
        assumed += designs[name].assumed
        if (fetched := raw_data(config, name, designs[name], costs)) is not None:
            assumed += fetched.assumed
            lines.append(_fetched_line(name, "raw data", fetched))
        lines += _dataset_lines(config, name, designs, recorded, costs, done, cores, jobs)
    lines.append(_fetched_line("", "weights", weights(config, costs)))
    lines += _common_lines(config, recorded, costs, done, cores, jobs)
    assumed += [f"pretraining.{name}: windows of its subjects are not counted" for name in config.pretraining]
    return Plan(lines, assumed)


def stage_lines(config: Config, results: Path, cores: int, jobs: int | None = None) -> list[Line]:
    """The plan's lines of stages alone: what is to be fetched is not looked for, which takes long where there are many files."""
    costs, (recorded, done, _) = read_costs(), _recorded(results)
    lines: list[Line] = []
    for name in config.whole_datasets:
        lines += _dataset_lines(config, name, designs_of(config, name), recorded, costs, done, cores, jobs)
    return lines + _common_lines(config, recorded, costs, done, cores, jobs)


def _dataset_lines(
    config: Config,
    name: str,
    designs: Mapping[str, Design],
    recorded: Config | None,
    costs: list[Cost],
    done: Usages,
    cores: int,
    jobs: int | None,
) -> list[Line]:
    before = count(recorded, name, designs_of(recorded, name)) if recorded and name in recorded.whole_datasets else {}
    amounts = count(config, name, designs)
    return [_line(name, stage, a, costs, done, before.get(stage), cores, jobs) for stage, a in amounts.items()]


def _common_lines(config: Config, recorded: Config | None, costs: list[Cost], done: Usages, cores: int, jobs: int | None) -> list[Line]:
    before = common_amounts(recorded) if recorded else {}
    return [_line("", stage, a, costs, done, before.get(stage), cores, jobs) for stage, a in common_amounts(config).items()]


def _recorded(results: Path) -> tuple[Config | None, Usages, list[str]]:
    """The experiment of a results tree, what its jobs used, and why that is left aside where it is."""
    done = usage_of_jobs(read_ledger(results).entries)
    if not done:
        return None, {}, []
    try:
        return load_config(results / "config.yaml"), done, []
    except UserError as error:
        return None, {}, [f"{results}/ledger: left aside, since it is not known which experiment it is of ({error})"]


def _line(
    dataset: str, stage: str, amounts: Amounts, costs: list[Cost], done: Usages, before: Amounts | None, cores: int, jobs: int | None
) -> Line:
    """A line from the table; its times and memory from the ledger, where the stage has run in the same variant."""
    rows = rows_of(costs, stage, amounts)
    cpu, gpu = _seconds(rows)
    memory = asked = max((c.memory_mb for c, _ in rows), default=0)
    known = ", ".join(dict.fromkeys(c.kind for c, _ in rows if c.cpu_seconds or c.bytes_kept or c.bytes_scratch))
    threads = amounts.threads if jobs else min(amounts.threads, cores)  # Snakemake gives a job no more cores than there are
    seconds = max(cpu / threads, gpu / max(1, amounts.gpus)) / max(1, amounts.jobs)
    same = before is not None and before.variant == amounts.variant and before.gpus == amounts.gpus
    if before is not None and same and (found := measured(done, stage, dataset)):
        cpu, gpu, seconds = _refined(cpu, gpu, found, amounts, before, rows_of(costs, stage, before))
        memory, known = found.memory_mb or memory, f"measured here, n={found.n}"
    at_once = min(amounts.jobs, jobs or max(1, cores // amounts.threads))
    share = at_once / amounts.jobs if amounts.jobs else 0
    return Line(
        dataset,
        stage,
        amounts.jobs,
        kept=sum(c.bytes_kept * n for c, n in rows),
        scratch=share * sum(c.bytes_scratch * n for c, n in rows),
        inodes=round(sum(c.inodes * n for c, n in rows)),
        inodes_scratch=round(share * sum(c.inodes_scratch * n for c, n in rows)),
        cpu_hours=cpu / 3600,
        gpu_hours=gpu / 3600,
        memory=memory / 1000,
        threads=amounts.threads,
        gpus=amounts.gpus,
        asked=asked / 1000,
        job_seconds=seconds,
        known_from=known,
        sources=tuple(dict.fromkeys(c.source for c, _ in rows)),
    )


def _seconds(rows: list[tuple[Cost, float]]) -> tuple[float, float]:
    return sum(c.cpu_seconds * n for c, n in rows), sum(c.gpu_seconds * n for c, n in rows)


def _refined(
    cpu: float, gpu: float, found: Measured, amounts: Amounts, before: Amounts, rows_before: list[tuple[Cost, float]]
) -> tuple[float, float, float]:
    """Seconds of cores and GPUs of all jobs, and of the clock of one, by what was measured.

    Where a job has more or fewer units now than then, they are in proportion to the table's figures for both experiments.
    """
    seeded, _ = _seconds(rows_before)
    grown = (cpu / amounts.jobs) / (seeded / before.jobs) if seeded and amounts.jobs and before.jobs else 1.0
    total = amounts.jobs * grown
    return total * found.cpu_seconds, total * found.seconds * amounts.gpus, grown * found.seconds


def _fetched_line(dataset: str, stage: str, fetched: Fetched) -> Line:
    return Line(
        dataset,
        stage,
        download=fetched.missing,
        kept=fetched.bytes,
        inodes=fetched.inodes,
        known_from=fetched.known_from,
        sources=fetched.sources,
    )
