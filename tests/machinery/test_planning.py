"""The plan: counts are those of the workflow, sums those of a calculation by hand, and a lack is told."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from boldscribe.cli import main
from boldscribe.config import Config
from boldscribe.machinery.cluster.site import Site
from boldscribe.machinery.configuration import merge
from boldscribe.machinery.download.manifest import Entry, Manifest, write_manifest
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.ledger import add_entry
from boldscribe.machinery.runs import slurm_partitions
from boldscribe.machinery.runs.jobs import Job, planned_jobs, save_jobs
from boldscribe.machinery.runs.schedule import longest_chain, needs_of
from boldscribe.planning import free
from boldscribe.planning.costs import COSTS, Cost, read_costs
from boldscribe.planning.counting import count
from boldscribe.planning.dataset_counts import design_of, designs_of
from boldscribe.planning.stages import Line, make_plan
from boldscribe.planning.wall import wall
from tests.small_dataset import write_dataset

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "profiles" / "demo" / "experiment.yaml"

SLURM = Path(__file__).parent / "slurm_outputs"


@pytest.fixture(autouse=True)
def without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are for this machine alone, whether or not there is a Slurm here."""
    monkeypatch.setattr(slurm_partitions, "look", lambda: None)


def changed(config: Config, **changes: object) -> Config:
    return Config.parse(merge(config.model_dump(by_alias=True), changes))


def line(
    config: Config, jobs: Sequence[Job], dataset: str, stage: str, results: Path = Path("absent"), costs: list[Cost] | None = None
) -> Line:
    plan = make_plan(config, results, cores=16, costs=costs, jobs=jobs)
    (found,) = [entry for entry in plan.lines if (entry.dataset, entry.stage) == (dataset, stage)]
    return found


@pytest.fixture(scope="module")
def paper_jobs() -> list[Job]:
    """The paper's jobs, by Snakemake's plan."""
    return planned_jobs(Config())


def plan_command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", *arguments])


def test_hours_of_the_paper_by_hand(paper_jobs: list[Job]) -> None:
    config = changed(Config(), datasets={"had": {"manifest": "absent.parquet"}})
    no_start = [replace(c, gpu_seconds=0 if c.unit == "job" else c.gpu_seconds) for c in read_costs()]
    hours = {
        stage: line(config, paper_jobs, "had", stage, costs=no_start).gpu_hours
        for stage in ("video_features", "pretrain_sc_mbm", "stage1", "stage2")
    }
    # benchmarks/projection.py for 21,600 clips, Stage I of the model and on noise, six Stage II;
    # of adaptation runs, which the workflow leaves out, 2,160 are not counted here
    assert hours == pytest.approx(
        {"video_features": 0.09 * 0.9, "pretrain_sc_mbm": 0.92, "stage1": 2 * 0.35, "stage2": 6 * 0.38}, abs=0.012
    )
    prepared = line(config, paper_jobs, "had", "fmriprep")
    assert prepared.jobs == 30 and prepared.known_from == "published, estimated"
    assert prepared.cpu_hours == pytest.approx((30 * 19900 + 360 * 8860) / 3600)
    assert prepared.kept == 30 * 0.25e9 + 360 * 129e6
    assert prepared.scratch == pytest.approx(2 * (2e9 + 12 * 2.5e9)), "two jobs of 8 threads at the same time on 16 cores"
    series = line(config, paper_jobs, "had", "bold_series")
    assert series.kept == pytest.approx(360 * 156 * 235_375 * 2), "float16"
    assert line(config, paper_jobs, "had", "frames").kept == (21_600 - 4 * 9 * 60) * 8 * 224 * 224 * 3
    raw = line(config, paper_jobs, "had", "raw data")
    assert raw.download == raw.kept == pytest.approx(360 * 143e6 + 30 * 15e6 + 21_600 * 1e5)


def test_simulated_designs_share_clips_or_do_not(demo: Config) -> None:
    had, urgen = (design_of(demo, name) for name in ("had", "urgen"))
    assert had.trials == {"train": 384, "adapt": 96, "test": 96} and had.clips == {"train": 384, "test": 96, "all": 576}
    assert urgen.trials == {"train": 192, "adapt": 96, "test": 96} and urgen.clips == {"train": 96, "test": 48, "all": 96}
    assert had.volumes == 156 and (had.source_runs, had.target_runs) == (8, 4)


def test_what_cannot_be_known_is_said() -> None:
    result = plan_command("--jobs", "4")
    assert "urgen: data/urgen does not exist; assumed 8 runs per subject" in " ".join(result.output.split())
    assert max(map(len, result.output.splitlines())) <= 120, "to be pasted"


def test_data_that_are_there_are_counted(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "raw", subjects=3)
    split = {"train_subjects": ["01", "02"], "validation_subjects": ["03"], "adaptation_runs": ["1"], "test_runs": ["2"]}
    config = Config.parse({"datasets": {"mine": {"bids_dir": str(root), **split}}})
    design = design_of(config, "mine")
    assert design.trials == {"train": 8, "adapt": 2, "test": 2} and design.clips == {"train": 2, "test": 2, "all": 2}
    assert (design.source_runs, design.target_runs, design.volumes, design.assumed) == (4, 2, 20, ())
    assert line(config, [], "mine", "raw data").known_from == "on disk"
    (root / "sub-03/anat/sub-03_T1w.nii.gz").unlink()
    (root / "sub-03/anat/sub-03_T1w.nii.gz").symlink_to("../../.git/annex/objects/SHA256E-s1234567--ab12.nii.gz")
    raw = line(config, [], "mine", "raw data")
    assert (raw.download, raw.kept, raw.inodes) == (1234567, 1234567, 1) and raw.known_from == "git-annex, 1 to fetch"
    (root / "sub-03/func/sub-03_task-action_run-2_events.tsv").write_text("onset\n1\n")
    assert "could not be counted" in design_of(config, "mine").assumed[0]


def test_downloads_are_what_the_manifest_has_and_the_disk_has_not(paper_jobs: list[Job], tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.parquet"
    files = {
        "sub-01/a.nii.gz": 100,
        "sub-01/b.nii.gz": 20,
        "sub-01/cut.nii.gz": 7,
        "sub-99/x.nii.gz": 1,
        "derivatives/fmriprep/c.nii.gz": 5000,
    }
    write_manifest(Manifest({}, tuple(Entry(path, size, bytes(32)) for path, size in sorted(files.items()))), manifest)
    (tmp_path / "raw" / "sub-01").mkdir(parents=True)
    (tmp_path / "raw" / "sub-01" / "b.nii.gz").write_bytes(bytes(20))
    (tmp_path / "raw" / "sub-01" / "cut.nii.gz").write_bytes(bytes(6))
    split = {"train_subjects": ["01"], "validation_subjects": []}
    config = changed(Config(), datasets={"had": {"bids_dir": str(tmp_path / "raw"), "manifest": str(manifest), **split}})
    raw = line(config, paper_jobs, "had", "raw data")
    assert (raw.download, raw.kept, raw.inodes, raw.known_from) == (107, 107, 2, "manifest, 1 of 3 present")
    manifest.write_bytes(b"no parquet")
    with pytest.raises(UserError, match="found no manifest of a data set"):
        make_plan(config, tmp_path, cores=1, jobs=paper_jobs)


def done(results: Path, rule: str, seconds: float, cpu: float, memory: float = 0.0, **wildcards: str) -> None:
    usage = {"wall_seconds": seconds, "cpu_seconds": cpu, "memory_mib": memory}
    add_entry(results, {"rule": rule, "wildcards": wildcards, "ended": "2026-01-01", "exit": "completed", "outputs": [], "usage": usage})


def test_runs_of_the_same_experiment_replace_the_seeds(demo: Config, tmp_path: Path) -> None:
    demo = changed(demo, decoding={"controls": "all"})
    jobs = planned_jobs(demo)
    done(tmp_path, "stage1", 100, 90, 1000, dataset="had", variant="model")
    done(tmp_path, "decode", 30, 20, dataset="had", condition="model")
    done(tmp_path, "decode", 10, 10, dataset="had", condition="noise")
    demo.write(tmp_path / "config.yaml")
    save_jobs(changed(demo, paths={"results": str(tmp_path)}), jobs)
    trained, decoded = line(demo, jobs, "had", "stage1", tmp_path), line(demo, jobs, "had", "decode", tmp_path)
    assert trained.known_from == "measured here, n=1" and trained.memory == pytest.approx(1.048576)
    assert trained.cpu_hours * 3600 == pytest.approx(3 * 90)
    assert decoded.known_from == "measured here, n=2" and decoded.cpu_hours * 3600 == pytest.approx(
        len(demo.conditions("had")) * (20 + 10) / 2
    )
    assert line(demo, jobs, "urgen", "stage1", tmp_path).known_from == "measured"
    longer = line(changed(demo, stage1={"epochs": 32}), jobs, "had", "stage1", tmp_path).cpu_hours * 3600
    work = 2 * 0.0125 * 384 * 0.9 * 16  # the model's, and that on noise
    assert longer == pytest.approx(3 * 90 * (2 * work + 18) / (work + 18)), "in proportion to the trials, not to the start"
    full = changed(demo, video_llama={"llm": "models/llm"})
    assert line(full, jobs, "had", "stage1", tmp_path).known_from == "estimated", "another model was measured"
    (tmp_path / "config.yaml").unlink()
    plan = make_plan(demo, tmp_path, cores=1, jobs=jobs)
    assert "ignored" in plan.assumed[0] and not any("here" in entry.known_from for entry in plan.lines)


def test_the_demo_fits_and_a_full_disk_is_told(demo_jobs: list[Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # a long path would be folded
    arguments = ["--config", str(DEMO), "--results", "results", "--json"]
    fits = plan_command(*arguments)
    content = json.loads(fits.stdout)
    assert fits.exit_code == 0 and content["total"]["jobs"] == len(demo_jobs) and content["total"]["gpu_hours"] == 0
    assert all(entry["sources"] for entry in content["lines"] if entry["cpu_hours"])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 0))
    full = plan_command(*arguments)
    assert full.exit_code == 1
    assert [v["what"].split(" of ")[0] for v in json.loads(full.stdout)["verdicts"] if not v["fits"]] == ["disk"]
    shown = plan_command(*arguments[:-1])
    assert re.search(r"disk of .*results.*GB +0\.0 GB +no", shown.output)


def test_a_machine_that_is_too_small_is_told(paper_jobs: list[Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = Config()
    plan = make_plan(config, tmp_path, cores=2, jobs=paper_jobs)
    monkeypatch.setattr(free, "gpus", lambda: 0)
    monkeypatch.setattr(free, "cores", lambda: 2)
    alone = {v.what: v for v in free.verdicts(config, plan, tmp_path, None)}
    assert not alone["GPUs of the largest job"].fits and "takes longer" in alone["cores of the largest job"].note


def slurm(*changes: tuple[str, str]) -> list[slurm_partitions.Partition]:
    """What Slurm printed of two nodes, less one of them's GPUs where `changes` say so."""
    partitions, nodes = ((SLURM / f"{name}.txt").read_text() for name in ("partitions", "nodes"))
    for old, new in changes:
        assert old in partitions + nodes
        partitions, nodes = partitions.replace(old, new), nodes.replace(old, new)
    return slurm_partitions.parse(partitions, nodes, "gpu\ncpu,gpu\n")


def test_what_slurm_says_of_partitions_and_nodes() -> None:
    busy = ("CPUAlloc=0", "CPUAlloc=1"), ("GresUsed=gpu:fake:0(IDX:N/A)", "GresUsed=gpu:fake:1(IDX:0)"), ("AllocMem=0", "AllocMem=4000")
    found = {p.name: p for p in slurm(*busy)}
    assert {n: (p.default, p.minutes, p.waiting, len(p.nodes)) for n, p in found.items()} == {
        "cpu": (True, 1440, 1, 1), "gpu": (False, 1440, 2, 1), "pair": (False, 1440, 0, 2), "high": (False, 60, 0, 1)
    }  # fmt: skip
    node = found["gpu"].nodes[0]
    assert (node.cpus, node.cpus_free, node.gpus, node.gpus_free, node.memory_free, node.models) == (2, 1, 2, 1, 19593, {"fake"})
    assert slurm_partitions.row(found["pair"]) == ["pair", "24 h", "0 of 2", "2 of 4", "2 of 4 (fake)", "2 CPUs, 24 GB, 2 GPUs", "0"]
    down = slurm(("State=IDLE", "State=IDLE+DRAIN"))[0]
    assert not down.nodes[0].up and slurm_partitions.row(down)[2:4] == ["0 of 1", "0 of 2"]


def test_what_rules_ask_for_is_held_against_partitions(paper_jobs: list[Job], tmp_path: Path) -> None:
    big = ("CPUTot=2", "CPUTot=64"), ("RealMemory=23593", "RealMemory=250000")
    config = Config()
    plan = make_plan(config, tmp_path, cores=2, jobs=paper_jobs)
    asked = {a.rule: a for a in slurm_partitions.asks(paper_jobs)}
    assert str(asked["stage2"]) == "8 CPUs, 96.0 GB, 24 h, 1 GPU" and asked["captions"].memory == 64000 and "fetch_model" not in asked
    assert str(asked["decode"]) == "8 CPUs, 64.0 GB, 10 h, 1 GPU", "all conditions of a data set, in turn"

    def judged(slurm: list[slurm_partitions.Partition], **site: object) -> dict[str, free.Verdict]:
        jobs = [replace(job, gpu_model=str(site.get("gpu_model") or "")) if job.gpus else job for job in paper_jobs]
        found = free.verdicts(config, replace(plan, jobs=jobs), tmp_path, slurm, Site.model_validate(site))
        return {v.what: v for v in found if v.what.startswith("jobs of")}

    fits = judged(slurm(*big))
    assert list(fits) == ["jobs of all stages"] and fits["jobs of all stages"].found == "cpu"
    short = judged(slurm(*big), partitions={"high": {}})
    [what] = [w for w, v in short.items() if not v.fits]
    assert "stage1" in what and "trials" not in what and short[what].found == "high: allows 60 min"
    assert short[what].note == "cpu, gpu, pair would fit: add it to site.yaml (`boldscribe init --cluster`)"
    here = judged(slurm())
    assert any("cpu: nodes have 2 CPUs, 23.6 GB" in v.found and "--set-resources stage2:mem_mb=23593" in v.note for v in here.values())
    other = judged(slurm(*big), gpu_model="a100")
    assert any("nodes have 0 a100 GPUs" in v.found and "gpu_model" in v.note for v in other.values() if not v.fits)


def test_what_a_site_asks_for_is_in_the_jobs(tmp_path: Path) -> None:
    """In processes of their own: a site's settings are read once."""
    for site, gpus, model in (
        ({"embedded_gpus": 1, "gpu_model": "fake"}, 1, "fake"),
        ({"embedded_gpus": 2, "gres": "gpu:1g.10gb"}, 2, "1g.10gb"),
    ):
        (tmp_path / "site.yaml").write_text(json.dumps(site))
        asked = (
            "from boldscribe.workflow import Config; from boldscribe.machinery.runs.jobs import planned_jobs; "
            "from boldscribe.machinery.runs.slurm_partitions import asks; "
            f"print([(a.rule, a.gpus, a.model, str(a)) for a in asks(planned_jobs(Config.load('config.yaml', {str(DEMO)!r})))])"
        )
        command = [sys.executable, "-c", asked]
        environment = {**os.environ, "BOLDSCRIBE_SITE": str(tmp_path / "site.yaml")}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        found = {rule: rest for rule, *rest in ast.literal_eval(done.stdout)}
        assert found["stage1"][:2] == found["decode"][:2] == [gpus, model] and found["trials"][0] == 0
    assert found["stage1"][2] == "1 CPU, 2.0 GB, 60 min, 2 1g.10gb GPUs"


def test_the_least_time_of_a_run(demo: Config, demo_jobs: list[Job], tmp_path: Path) -> None:
    plan = make_plan(demo, tmp_path, cores=2, jobs=demo_jobs)
    minute = {(line.dataset, line.stage): replace(line.need, seconds=60.0) for line in plan.lines}
    chain = longest_chain(demo_jobs, needs_of(demo_jobs, minute))
    rules = "simulate_stimuli simulate_subject check_dataset fmriprep bold_series trials frames video_features stage1 fmri_tokens stage2"
    assert [job.rule for job in chain] == [*rules.split(), "decode", "scores", "tables", "report", "provenance"]
    alone, many = wall(demo, plan, tmp_path, None, 1), wall(demo, plan, tmp_path, slurm(("CPUTot=2", "CPUTot=64")), 50)
    assert alone.seconds > many.seconds >= many.chain_seconds and "time in the queue" in many.sentence()


def test_what_results_hold_already_is_not_needed_again(demo: Config, demo_jobs: list[Job], tmp_path: Path) -> None:
    plan = make_plan(demo, tmp_path, cores=2, jobs=demo_jobs)
    before = free.places(demo, plan, tmp_path)[tmp_path]
    (tmp_path / "made.npy").write_bytes(bytes(10**6))
    after = free.places(demo, plan, tmp_path)[tmp_path]
    assert before[0] - after[0] == pytest.approx(10**6) and before[1] - after[1] == 1


def test_every_stage_of_either_scale_has_a_cost(demo: Config, demo_jobs: list[Job], paper_jobs: list[Job]) -> None:
    costs = read_costs()
    for config, jobs in ((Config(), paper_jobs), (demo, demo_jobs), (changed(Config(), preprocessing={"engine": "minimal"}), paper_jobs)):
        for name in ("", *config.datasets):
            for stage, amounts in count(config, name, designs_of(config, name) if name else {}, jobs).items():
                assert any(c.stage == stage and c.variant in ("any", amounts.variant) and c.unit in amounts.units for c in costs), stage


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("published", "guessed", "line 2: found kind 'guessed', expected one of measured, published, estimated"),
        ("143e6", "much", "line 2: could not convert string to float: 'much'"),
        ("143e6", "-1", "line 2: found a negative number"),
        ("stage,", "step,", "columns: found step"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "costs.csv").write_text(COSTS.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=re.escape(words)):
        read_costs(tmp_path / "costs.csv")


def test_configurations_are_merged_over_the_papers(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("datasets: {urgen: null}")
    lines = json.loads(plan_command("--config", str(tmp_path / "mine.yaml"), "--json").stdout)["lines"]
    assert {entry["dataset"] for entry in lines} == {"had", ""}
