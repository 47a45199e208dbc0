"""The plan: one line per stage and data set, with its needs and the source of each estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.ledger import Usages, read_ledger, usage_of_jobs
from boldscribe.machinery.registry import Need
from boldscribe.machinery.runs.jobs import Job, known_jobs, planned_jobs
from boldscribe.planning.costs import Cost, Measured, measured, read_costs, rows_of
from boldscribe.planning.counting import Amounts, count
from boldscribe.planning.dataset_counts import Design, designs_of
from boldscribe.planning.downloads import Fetched, raw_data, weights

GB = 1e9


@dataclass(frozen=True)
class Line:
    """Needs of a stage of a data set.

    Attributes:
        dataset, stage: the latter is a rule, `raw data` or `weights`.
        jobs: number of jobs.
        download, kept, scratch: bytes from the network, on disk afterwards, and additionally while its jobs run.
        inodes, inodes_scratch: files and folders afterwards, and additionally while its jobs run.
        cpu_hours, gpu_hours: time that cores and GPUs are occupied.
        memory: memory of the largest job (GB): measured, or requested by its rule.
        threads, gpus: per job.
        job_seconds: mean wall time of a job (s).
        known_from: measured here with the number of jobs, or the kinds of the rows of `data/costs.csv`.
        sources: sources of these rows.
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
    job_seconds: float = 0
    known_from: str = ""
    sources: tuple[str, ...] = ()

    @property
    def need(self) -> Need:
        """Needs of one of its jobs."""
        return Need(self.job_seconds, self.threads, self.gpus)


@dataclass(frozen=True)
class Plan:
    """All lines, what is not known, and the jobs."""

    lines: list[Line]
    assumed: list[str] = field(default_factory=list)
    jobs: Sequence[Job] = ()

    def total(self) -> Line:
        """Return the sum; scratch is the largest stage's, since a job's is removed when it ends; memory is the largest job's."""
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


def make_plan(
    config: Config,
    results: Path,
    cores: int,
    at_once: int | None = None,
    costs: list[Cost] | None = None,
    jobs: Sequence[Job] | None = None,
) -> Plan:
    """Estimate what an experiment takes.

    Args:
        config: the experiment.
        results: its results tree, whose ledger refines the table's figures.
        cores: cores of this machine; they limit how many jobs run, and have scratch files, at the same time.
        at_once: number of simultaneous jobs, whatever the cores, as given to Snakemake.
        costs: the table; `data/costs.csv` by default.
        jobs: jobs of the experiment; Snakemake's plan by default.

    Raises:
        UserError: a table or manifest cannot be read, or no plan can be made.
    """
    costs = read_costs() if costs is None else costs
    recorded, assumed = _recorded(results), list[str]()
    lines: list[Line] = []
    jobs = planned_jobs(config) if jobs is None else jobs
    for name in config.whole_datasets:
        designs = designs_of(config, name)
        assumed += designs[name].assumed
        if (fetched := raw_data(config, name, designs[name], costs)) is not None:
            assumed += fetched.assumed
            lines.append(_fetched_line(name, "raw data", fetched))
        lines += _lines(config, name, designs, jobs, recorded, costs, cores, at_once)
    lines.append(_fetched_line("", "weights", weights(config, costs)))
    lines += _lines(config, "", {}, jobs, recorded, costs, cores, at_once)
    assumed += [f"pretraining.{name}: windows of its subjects are not counted" for name in config.pretraining]
    return Plan(lines, [*recorded.aside, *assumed], jobs)


def estimates(config: Config, jobs: Sequence[Job], results: Path, cores: int, at_once: int | None = None) -> dict[tuple[str, str], Need]:
    """Map data set (empty for none) and stage to what a job needs, without looking for missing downloads, which takes long."""
    costs, recorded = read_costs(), _recorded(results)
    lines: list[Line] = []
    for name in ("", *config.whole_datasets):
        lines += _lines(config, name, designs_of(config, name) if name else {}, jobs, recorded, costs, cores, at_once)
    return {(line.dataset, line.stage): line.need for line in lines}


def _lines(
    config: Config,
    name: str,
    designs: Mapping[str, Design],
    jobs: Sequence[Job],
    recorded: _Recorded,
    costs: list[Cost],
    cores: int,
    at_once: int | None,
) -> list[Line]:
    """Return one line per stage of a data set, or of what belongs to none (`name` empty)."""
    before: dict[str, Amounts] = {}
    if recorded.config is not None and name in ("", *recorded.config.whole_datasets):
        before = count(recorded.config, name, designs_of(recorded.config, name) if name else {}, recorded.jobs)
    amounts = count(config, name, designs, jobs)
    return [_line(name, stage, a, costs, recorded.done, before.get(stage), cores, at_once) for stage, a in amounts.items()]


@dataclass(frozen=True)
class _Recorded:
    """Experiment of a results tree, its jobs, the resources they used, and the reason if these are ignored."""

    config: Config | None = None
    jobs: Sequence[Job] = ()
    done: Usages = field(default_factory=dict)
    aside: tuple[str, ...] = ()


def _recorded(results: Path) -> _Recorded:
    done = usage_of_jobs(read_ledger(results).entries)
    if not done:
        return _Recorded()
    try:
        config = Config.load(results / "config.yaml")
        return _Recorded(config, known_jobs(config, results), done)
    except UserError as error:
        return _Recorded(aside=(f"{results}/ledger: ignored, since its experiment is unknown ({error})",))


def _line(
    dataset: str, stage: str, amounts: Amounts, costs: list[Cost], done: Usages, before: Amounts | None, cores: int, at_once: int | None
) -> Line:
    """Build a line from the table, with times and memory from the ledger if the stage has run in the same variant."""
    rows = rows_of(costs, stage, amounts)
    cpu, gpu = _seconds(rows)
    memory = amounts.memory
    known = ", ".join(dict.fromkeys(c.kind for c, _ in rows if c.cpu_seconds or c.bytes_kept or c.bytes_scratch))
    threads = amounts.threads if at_once else min(amounts.threads, cores)  # Snakemake gives a job at most the cores that exist
    seconds = max(cpu / threads, gpu / max(1, amounts.gpus)) / max(1, amounts.jobs)
    same = before is not None and before.variant == amounts.variant and before.gpus == amounts.gpus
    if before is not None and same and (found := measured(done, stage, dataset)):
        cpu, gpu, seconds = _refined(cpu, gpu, found, amounts, before, rows_of(costs, stage, before))
        memory, known = found.memory_mb or memory, f"measured here, n={found.n}"
    share = min(amounts.jobs, at_once or max(1, cores // amounts.threads)) / amounts.jobs if amounts.jobs else 0
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
        job_seconds=seconds,
        known_from=known,
        sources=tuple(dict.fromkeys(c.source for c, _ in rows)),
    )


def _seconds(rows: list[tuple[Cost, float]]) -> tuple[float, float]:
    return sum(c.cpu_seconds * n for c, n in rows), sum(c.gpu_seconds * n for c, n in rows)


def _refined(
    cpu: float, gpu: float, found: Measured, amounts: Amounts, before: Amounts, rows_before: list[tuple[Cost, float]]
) -> tuple[float, float, float]:
    """Return CPU and GPU seconds of all jobs, and wall seconds of one, from measurements.

    If a job now has more or fewer units, they are scaled by the ratio of the table's figures for both experiments.
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
