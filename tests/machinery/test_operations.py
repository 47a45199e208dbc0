"""Where a run stands, why jobs failed, how long it takes: on trees that the recorder wrote, and on what Slurm really printed."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from boldscribe.cli import main
from boldscribe.config import Config
from boldscribe.machinery.cluster.controller import leave, take_over
from boldscribe.machinery.cluster.dryrun import planned
from boldscribe.machinery.configuration import merge
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.deployment import absence
from boldscribe.machinery.provenance.record import Job as Recorded
from boldscribe.machinery.provenance.record import record
from boldscribe.machinery.runs import hooks, progress
from boldscribe.machinery.runs.accounting import Account, sacct
from boldscribe.machinery.runs.causes import Evidence, diagnose
from boldscribe.machinery.runs.failures import Failure, summary
from boldscribe.machinery.runs.jobs import Job, known_jobs, read_jobs, save_jobs, write_jobs
from boldscribe.machinery.runs.local_steps import steps
from boldscribe.machinery.runs.logs import Attempt, controller_errors, last_attempt
from boldscribe.machinery.runs.messages import NOTIFY, failure_message, notify, success_message
from boldscribe.machinery.runs.progress import Progress
from boldscribe.machinery.runs.schedule import Need, Room, duration, longest_chain, makespan
from boldscribe.machinery.runs.status import DONE, FAILED, QUEUED, RUNNING, WAITING, Overview, State, survey
from boldscribe.machinery.runs.table import cell
from tests.conftest import ROOT

OUTPUTS = Path(__file__).parent / "slurm_outputs"
DEMO = ROOT / "profiles" / "demo" / "experiment.yaml"
NOW = datetime.now(UTC)


@pytest.fixture
def config(demo: Config, demo_jobs: list[Job], tmp_path: Path) -> Config:
    """The demo's experiment with a tree of its own, in which a run was started."""
    changed = Config.parse(merge(demo.model_dump(by_alias=True), {"paths": {"results": str(tmp_path / "results")}}))
    changed.write(tmp_path / "results" / "config.yaml")
    save_jobs(changed, demo_jobs)
    return changed


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without Slurm: of its programs, none is found."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def jobs_of(config: Config) -> list[Job]:
    return known_jobs(config, Path(config.paths.results))


def one(config: Config, rule: str, **wildcards: str) -> Job:
    (found,) = [j for j in jobs_of(config) if j.rule == rule and all(j[k] == v for k, v in wildcards.items())]
    return found


def make(config: Config, job: Job, error: BaseException | None = None, log: str = "", wildcards: dict[str, str] | None = None) -> None:
    """Run a job through the recorder, with a log as the rules keep it; it makes its outputs, or fails with an error."""
    results = Path(config.paths.results)
    path = results / job.log
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write(f"{header(job)}\n{log}")
    outputs = [results / name for name in job.outputs]
    known = dict(job.wildcards) if wildcards is None else wildcards
    try:
        with record(Recorded(job.rule, results, {}, {"made": outputs}, known)):
            if error is not None:
                raise error
            for output in outputs:
                output.parent.mkdir(parents=True, exist_ok=True)
                output.write_text("made")
    except BaseException as raised:
        if raised is not error:
            raise


def header(job: Job, attempt: int = 1, slurm: str = "", when: datetime | None = None) -> str:
    values = " ".join([job.rule, *(f"{name}={value}" for name, value in job.wildcards)])
    time_ = (when or datetime.now(UTC)).isoformat(timespec="seconds")
    return f"=== {values} | attempt {attempt} | {f'Slurm job {slurm}' if slurm else 'no Slurm'} | node1 | {time_} ==="


def state_of(overview: Overview, job: Job) -> State:
    (found,) = [s for s in overview.states if s.job == job]
    return found


def stand_in(folder: Path, **programs: str) -> str:
    """Stand-ins for Slurm's programs that print what a file holds; gives the PATH that has them alone."""
    folder.mkdir(exist_ok=True)
    for name, content in programs.items():
        (folder / f"{name}.txt").write_text(content)
        (folder / name).write_text(f"#!/bin/sh\nexec /bin/cat {folder / name}.txt\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_jobs_are_written_when_a_run_starts_and_kept_beside_those_of_a_run_of_a_part(demo: Config, tmp_path: Path) -> None:
    own = Config.parse(merge(demo.model_dump(by_alias=True), {"paths": {"results": str(tmp_path)}}))
    changes = own.model_dump(mode="json", by_alias=True)
    stages = ("simulate_stimuli", "simulate_subject", "check_dataset", "fmriprep")
    with planned(changes=changes, targets=[f"{tmp_path}/derivatives/had/sub-02"]) as workflow:
        assert [job.rule for job in write_jobs(own, workflow)] == [*stages[:1], *stages[1:2] * 6, *stages[2:]]
    part = read_jobs(tmp_path)
    with planned(changes=changes, targets=[f"{tmp_path}/models/llm"]) as workflow:
        (model,) = write_jobs(own, workflow)
    assert model.outputs == ("models/llm",) and model.log == "logs/fetch_model/llm.log" and model.local
    both = read_jobs(tmp_path)
    assert part and both and set(both) == {*part, model}
    last = next(job for job in both if job.rule == "fmriprep")
    assert {job.rule for job in last.before} == {"simulate_subject", "check_dataset"} and last.outputs == ("derivatives/had/sub-02",)
    assert all(both.index(before) < both.index(job) for job in both for before in job.before)
    another = own.model_copy(update={"seed": own.seed + 1})
    with planned(changes=another.model_dump(mode="json", by_alias=True), targets=[f"{tmp_path}/models/llm"]) as workflow:
        write_jobs(another, workflow)
    assert read_jobs(tmp_path) == [model], "jobs of another experiment are none of this one's"
    (tmp_path / "jobs.json").write_text('{"jobs": [{"rule": "x"}]}')
    with pytest.raises(UserError, match=r"jobs\.json: not the jobs of a run"):
        read_jobs(tmp_path)


def test_a_table_of_what_was_made_what_failed_and_what_is_not_yet(
    config: Config, demo_jobs: list[Job], tmp_path: Path, alone: None
) -> None:
    results = Path(config.paths.results)
    done, broken = one(config, "simulate_subject", dataset="had", subject="01"), one(config, "trials", dataset="had", subject="02")
    again = one(config, "trials", dataset="had", subject="03")
    make(config, done)
    message = "error: events.tsv: found no column onset\n  expected onset, duration and trial_type\n"
    make(config, broken, UserError("events.tsv", "found no column onset"), message)
    make(config, again, ValueError("first"), "ValueError: first\n")
    make(config, again)
    overview = survey(config, results, tmp_path)
    assert overview.counts() == {DONE: 2, FAILED: 1, WAITING: len(demo_jobs) - 3} and not overview.slurm
    assert state_of(overview, done).state == state_of(overview, again).state == DONE, "a second attempt that succeeds is what counts"
    failure = state_of(overview, broken).failure
    assert failure and failure.cause.name == "input at fault" and failure.attempts == 1
    assert "\n".join(failure.cause.lines) + "\n" == message, "shown whole"
    shown = CliRunner().invoke(main, ["status", str(results)])
    assert shown.exit_code == 1 and max(map(len, shown.output.splitlines())) <= 120
    assert f"2 of {len(demo_jobs)} jobs done, 1 failed, {len(demo_jobs) - 3} not yet" in " ".join(shown.output.split())
    assert re.search(r"^ 02 +not yet +not yet +not yet +failed: input at fault, \d+ s ago", shown.output, re.M)
    content = json.loads(CliRunner().invoke(main, ["status", str(results), "--json"]).output)
    assert content["counts"] == {"done": 2, "failed": 1, "not yet": len(demo_jobs) - 3} and content["failures"][0]["rule"] == "trials"
    (results / done.outputs[0]).unlink()
    assert state_of(survey(config, results, tmp_path), done).state == WAITING, "its record is there still, and is no output"


def test_shards_whose_programs_are_not_told_which_they_are(config: Config, tmp_path: Path, alone: None) -> None:
    """The ledger has the data set alone for them; their logs tell them apart."""
    train, test = (one(config, "captions", dataset="had", split=split) for split in ("train", "test"))
    make(config, train, wildcards={"dataset": "had"})
    make(config, test, RuntimeError("torn"), "RuntimeError: torn\n", wildcards={"dataset": "had"})
    overview = survey(config, Path(config.paths.results), tmp_path)
    assert state_of(overview, train).state == DONE
    failure = state_of(overview, test).failure
    assert failure and failure.cause.name == "unknown" and "RuntimeError: torn" in failure.cause.remedy


def test_a_job_that_was_killed_leaves_a_header_and_no_entry(config: Config, tmp_path: Path, alone: None) -> None:
    job, results = one(config, "stage1", dataset="had", encoder="model"), Path(config.paths.results)
    make(config, job, SystemExit(143), "epoch 1\n")
    with (results / job.log).open("a") as log:
        log.write(f"{header(job, 2, when=datetime.now(UTC) + timedelta(seconds=2))}\nepoch 1\nepoch 2\n")
    assert state_of(survey(config, results, tmp_path), job).state == RUNNING, "its log was written to just now: it may run elsewhere"
    os.utime((results / job.log), (time.time() - 300,) * 2)
    failure = state_of(survey(config, results, tmp_path), job).failure
    assert failure and failure.cause.name == "ended without word" and failure.attempts == 2
    assert failure.cause.lines == ("epoch 1", "epoch 2"), "of the last attempt alone"


LAUNCHER = ["boldscribe.training.launch", "--processes", "1", "--nodes", "1", "--"]


@pytest.mark.parametrize(
    ("launcher", "rule", "wildcards"),
    [([], "trials", {"subject": "01"}), (LAUNCHER, "stage1", {"encoder": "model"}), (LAUNCHER, "stage2", {"bridge": "model"})],
)
def test_steps_that_run_on_this_machine_run_however_long_their_logs_are_silent(
    launcher: list[str], rule: str, wildcards: dict[str, str], config: Config, tmp_path: Path, alone: None
) -> None:
    """The process is real, its program a stand-in that waits."""
    job, results = one(config, rule, dataset="had", **wildcards), Path(config.paths.results)
    (tmp_path / "workflow_scripts").mkdir()
    (tmp_path / "workflow_scripts" / f"{rule}.py").write_text("import time; time.sleep(60)")
    command = [sys.executable, "-m", *launcher, f"workflow_scripts.{rule}", "--made", *(f"results/{name}" for name in job.outputs)]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    shown = Progress(config, results, tmp_path, [job])
    (results / job.log).parent.mkdir(parents=True)
    (results / job.log).write_text(f"{header(job, when=datetime.now(UTC) + timedelta(seconds=2))}\n")
    os.utime(results / job.log, (time.time() - 300,) * 2)
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
        try:
            deadline = time.monotonic() + 20
            while not steps(tmp_path) and time.monotonic() < deadline:
                time.sleep(0.05)
            overview = survey(config, results, tmp_path)
            assert [s.job for s in overview.states if s.state == RUNNING] == [job] and not overview.failures()
            assert cell([state_of(overview, job)]).startswith("[cyan]running") and "here" in cell([state_of(overview, job)])
            assert shown.line().startswith("0 of 1 jobs done, 1 running; ")
            assert not steps(tmp_path / "results"), "another folder's"
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("after", "queue", "accounted", "state"),
    [(1, None, "", RUNNING), (-60, None, "", FAILED), (1, "", "", FAILED), (1, "", "RUNNING", RUNNING), (1, "", "TIMEOUT", FAILED)],
)
def test_a_silent_job_of_slurms(
    after: float, queue: str | None, accounted: str, state: str, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Slurm does not answer, the controller that started a job would report its failure; Slurm's own word counts more."""
    (tmp_path / ".snakemake").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr("boldscribe.machinery.cluster.controller._held", [])
    take_over(tmp_path)
    job, results = one(config, "stage1", dataset="had", encoder="model"), Path(config.paths.results)
    if queue is not None:
        monkeypatch.setattr("boldscribe.machinery.runs.status.sacct", lambda jobs: {"5": account(accounted)} if accounted else {})
        monkeypatch.setenv("PATH", stand_in(tmp_path / "bin", squeue=queue))
    (results / job.log).parent.mkdir(parents=True)
    (results / job.log).write_text(f"{header(job, slurm='5', when=datetime.now(UTC) + timedelta(seconds=after))}\n")
    os.utime(results / job.log, (time.time() - 300,) * 2)
    assert state_of(survey(config, results, tmp_path), job).state == state
    leave(tmp_path)


def test_slurms_queue_is_told_apart_by_folder_comment_and_header(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = (datetime.now() + timedelta(hours=2)).isoformat(timespec="seconds")
    queue = (OUTPUTS / "squeue.txt").read_text().replace("FOLDER", str(tmp_path)).replace("LATER", later)
    monkeypatch.setenv("PATH", stand_in(tmp_path / "bin", squeue=queue, sacct=(OUTPUTS / "sacct.txt").read_text()))
    results, task = Path(config.paths.results), one(config, "frames", dataset="had", split="test")
    (results / task.log).parent.mkdir(parents=True)
    (results / task.log).write_text(header(task, slurm="86") + "\n")
    overview = survey(config, results, tmp_path)
    running = {str(s.job): (s.node, s.slurm) for s in overview.states if s.state == RUNNING}
    assert running == {"trials had sub-02": ("node2", "82"), "frames had test-000": ("node1", "86")}, "a task by its log's header"
    queued = {str(s.job): s.reason for s in overview.states if s.state == QUEUED}
    assert queued == {"stage1 had encoder-model": "PartitionConfig", "simulate_subject had sub-02": "Priority"}
    assert overview.unnamed == {"frames": 2} and overview.other == 1
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake").mkdir()
    shown = " ".join(CliRunner().invoke(main, ["status", "results"]).output.split())
    assert "1 queued jobs will not start as submitted (PartitionConfig)" in shown and "scancel 85" in shown
    assert "2 tasks of job arrays" in shown
    (waits,) = [s for s in overview.states if s.reason == "Priority"]
    assert f"(Priority, from {datetime.fromisoformat(later):%d %b %H:%M})" in cell([waits])
    assert "0 of 2, 1 running, 2 queued" in shown


def test_what_shares_a_job_of_slurms_runs_in_turn(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"90|RUNNING|node1|0:02|None|N/A|2026-11-26T07:05:35|2026-11-26T07:05:35|rule_decode_had_decode|{tmp_path}\n"
    monkeypatch.setenv("PATH", stand_in(tmp_path / "bin", squeue=line, sacct=""))
    results = Path(config.paths.results)
    all_of_had = [job for job in jobs_of(config) if job.rule == "decode" and job["dataset"] == "had"]
    done, running, *waiting = all_of_had
    make(config, done)
    (results / running.log).parent.mkdir(parents=True, exist_ok=True)
    (results / running.log).write_text(header(running, slurm="90") + "\n")
    overview = survey(config, results, tmp_path)
    assert overview.other == 0 and len(waiting) > 2
    assert [state_of(overview, job).state for job in (done, running)] == [DONE, RUNNING]
    assert {(state_of(overview, job).state, state_of(overview, job).reason) for job in waiting} == {(QUEUED, "its turn in job 90")}


def test_accounting_has_states_memory_and_tasks_of_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", stand_in(tmp_path / "bin", sacct=(OUTPUTS / "sacct.txt").read_text()))
    found = sacct(["4", "5", "6", "9", "11"])
    assert {n: a.state for n, a in found.items()} == {"4": "FAILED", "5": "FAILED", "6": "TIMEOUT", "9": "CANCELLED", "11": "COMPLETED"}
    assert (found["5"].asked_mb, round(found["5"].used_mb), found["5"].exit_code) == (100, 328, "0:9")
    assert (found["6"].elapsed, found["6"].limit, found["11"].task) == (86, 60, "8_0")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert sacct(["4"]) == {}


def real(*code: str) -> str:
    """What Python itself writes when a program ends at an error."""
    return subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, cwd=ROOT).stderr


OFFLINE = "import socket, sys; from boldscribe.machinery.errors import UserError\n"
OFFLINE += "from boldscribe.machinery.offline import forbid_network; forbid_network('stage1')"
OFFLINE += "\ntry: socket.create_connection(('huggingface.co', 443))\nexcept UserError as error: sys.exit(f'error: {error}')"
OVER_MEMORY = "slurmstepd-node1: error: StepId=5.batch exceeded memory limit (343719936 > 104857600), being killed\n"
TIMED_OUT = "slurmstepd-node1: error: *** JOB 6 ON node1 CANCELLED AT 2026-11-26T06:43:59 DUE TO TIME LIMIT ***\n"


def account(state: str, exit_code: str = "0:0") -> Account:
    return Account("5", "5", state, exit_code, "", "node1", 86, 60, 100, 328, NOW, "")


def text_of(text: str) -> Attempt:
    return Attempt(text, (), "", "", None, NOW)


@pytest.mark.parametrize(
    ("evidence", "name", "words"),
    [
        (Evidence("stage1", account=account("FAILED", "0:9"), slurm_log=OVER_MEMORY), "out of memory", "requested 100 MB and used 328 MB"),
        (Evidence("stage1", account=account("OUT_OF_MEMORY")), "out of memory", "--set-resources stage1:mem_mb=1000"),
        (Evidence("stage1", account=account("TIMEOUT"), slurm_log=TIMED_OUT), "time limit", "stage1:runtime=30"),
        (Evidence("decode", account=account("TIMEOUT"), shared=True), "time limit", "--group-components 'decode_{dataset}=5'"),
        (Evidence("stage1", account=account("NODE_FAIL")), "node failure", "--exclude=node1"),
        (Evidence("stage1", account=account("PREEMPTED")), "preempted", "last checkpoint"),
        (Evidence("stage1", account=account("CANCELLED")), "cancelled", "scancel"),
        (Evidence("stage1", account=account("FAILED", "0:9")), "out of memory", "SIGKILL"),
        (Evidence("stage1", controller="died with <Signals.SIGKILL: 9>."), "out of memory", "SIGKILL"),
        (Evidence("s", "failed: MemoryError", text_of(real("bytearray(10**18)"))), "out of memory", "--cores"),
        (Evidence("s", "failed: OSError", text_of(real("open('/dev/full', 'w', 1).write('x\\n')"))), "disk full", "df -h"),
        (Evidence("s", "", text_of(real("import not_there_at_all"))), "missing package", "make setup"),
        (Evidence("s", "", text_of("bash: line 1: python: command not found\n")), "missing package", "activate"),
        (Evidence("s", "failed: UserError", text_of(real(OFFLINE))), "network attempt", "huggingface.co"),
        (Evidence("s", "failed: UserError", text_of("INFO x\nerror: a.tsv: no such column\n")), "input at fault", "same command"),
        (Evidence("s", "failed: RuntimeError", text_of("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.\n")),
         "GPU memory full", "batch_size"),
        (Evidence("s", "failed: RuntimeError", text_of("RuntimeError: No CUDA GPUs are available\n")), "GPU or driver", "nvidia-smi"),
        (Evidence("s", "failed: SystemExit", text_of("epoch 3\n")), "stopped", "Run the same command"),
        (Evidence("s", "preempted: SIGURG", text_of("epoch 3\n")), "stopped", "asked by SIGURG to exit"),
        (Evidence("s", "", text_of(f"error: {absence('stage1', ['peft', 'torch'])}\n")), "missing package", "boldscribe doctor"),
        (Evidence("s", "failed: KeyError", text_of(real("{}['subject']"))), "unknown", "KeyError: 'subject'"),
    ],
)  # fmt: skip
def test_causes_are_told_apart(evidence: Evidence, name: str, words: str) -> None:
    cause = diagnose(evidence)
    assert cause.name == name and words in cause.remedy and len(cause.name.split()) <= 3
    assert len(cause.lines) <= 12 and (all(len(line) <= 160 for line in cause.lines) or cause.lines[0].startswith("error: "))


def test_a_request_that_slurm_refuses_has_snakemakes_word_alone() -> None:
    errors = controller_errors(OUTPUTS / "snakemake_slurm.log")
    assert list(errors) == ["r/logs/b/y.log"]
    cause = diagnose(Evidence("b", controller=errors["r/logs/b/y.log"]))
    assert cause.name == "refused by Slurm" and cause.lines[-1] == "Batch job submission failed: Invalid partition name specified"
    local = controller_errors(OUTPUTS / "snakemake_local.log")
    assert local == {"r/logs/a/x.log": "returned non-zero exit status 3", "r/logs/c.log": "died with <Signals.SIGKILL: 9>."}


def test_a_job_killed_before_it_wrote_a_line_is_known_by_slurms_log(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stand_in(tmp_path / "bin", squeue="", sacct=(OUTPUTS / "sacct.txt").read_text())
    monkeypatch.setenv("PATH", path)
    job, results = one(config, "stage1", dataset="had", encoder="model"), Path(config.paths.results)
    results.mkdir(parents=True, exist_ok=True)
    (results / "run.json").write_text("{}")  # of a run that has begun
    for number in ("3", "5"):
        log = tmp_path / ".snakemake" / "slurm_logs" / "rule_stage1" / "had_model" / f"{number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(OVER_MEMORY)
    state = state_of(survey(config, results, tmp_path), job)
    assert state.failure and (state.failure.cause.name, state.failure.attempts, state.slurm) == ("out of memory", 2, "5")
    assert state.failure.logs == (log,) and state.failure.cause.lines == (OVER_MEMORY.strip(),)


def test_the_last_attempt_of_a_log(tmp_path: Path, config: Config) -> None:
    job, log = one(config, "stage1", dataset="had", encoder="model"), tmp_path / "had.log"
    first, second = NOW.replace(microsecond=0), NOW.replace(microsecond=0) + timedelta(minutes=5)
    bar = "epochs:  50%|#####     | 1/2\repochs: 100%|##########| 2/2"
    log.write_text(f"{header(job, 1, '7', first)}\nold\n{header(job, 2, '9', second)}\n\n{bar}\nnew\n")
    attempt = last_attempt(log)
    assert attempt and attempt.lines() == ["epochs: 100%|##########| 2/2", "new"]
    assert (attempt.slurm, attempt.node, attempt.started, attempt.starts) == ("9", "node1", second, (first, second))
    assert last_attempt(tmp_path / "none.log") is None


def test_the_summary_is_short_however_many_jobs_failed(config: Config) -> None:
    several = [replace(one(config, "frames", dataset="had", split="train"), wildcards=(("dataset", f"d{i}"),)) for i in range(14)]
    cause = diagnose(Evidence("frames", "failed: RuntimeError", text_of("line\n" * 400 + "RuntimeError: x\n")))
    same = [Failure(job, cause, 1, "", None, (Path("a.log"),)) for job in several]
    lines = summary(same)
    assert lines[0].startswith("14 jobs of rule frames: unknown (d0, d1, d2, d3 and 10 more)") and len(lines) <= 12
    different = [replace(f, cause=replace(cause, name="input at fault", lines=(f"error: {i}",))) for i, f in enumerate(same)]
    lines = summary(different)
    assert sum(line.startswith("frames") for line in lines) == 10 and lines[-1] == "... and 4 more failed jobs: frames"


def test_time_is_estimated_from_what_follows_on_what_and_what_there_is_room_for(config: Config) -> None:
    jobs = [j for j in jobs_of(config) if j["dataset"] == "urgen" and j.rule in ("simulate_stimuli", "simulate_subject", "check_dataset")]
    seconds = {"simulate_stimuli": 10.0, "simulate_subject": 20.0, "check_dataset": 5.0}
    needs = {job: Need(seconds[job.rule]) for job in jobs}
    assert makespan(jobs, needs, Room()) == 10 + 20 + 5
    assert makespan(jobs, needs, Room(jobs=3)) == 10 + 2 * 20 + 5, "four subjects, three at a time"
    assert makespan(jobs, {j: replace(n, cores=2) for j, n in needs.items()}, Room(cores=2)) == 10 + 4 * 20 + 5
    assert makespan(jobs, {j: replace(n, gpus=8) for j, n in needs.items()}, Room(gpus=2)) == 95, "a job gets no more than there is"
    assert makespan(jobs[1:], needs, Room(jobs=4), {jobs[1]: 15.0}) == 20 + 5, "one subject has five seconds left"
    assert [job.rule for job in longest_chain(jobs, needs)] == ["simulate_stimuli", "simulate_subject", "check_dataset"]
    assert [duration(s) for s in (40, 700, 7000, 40000, 300000)] == ["40 s", "12 min", "1.9 h", "11 h", "3.5 days"]


def test_progress_counts_this_run_and_is_silent_where_it_is_to_be(config: Config, tmp_path: Path, alone: None) -> None:
    results, out = Path(config.paths.results), io.StringIO()
    early, now = (one(config, "simulate_subject", dataset="had", subject=s) for s in ("01", "02"))
    make(config, early)
    shown = Progress(config, results, tmp_path, [early, now], interval=0.05, out=out)
    assert shown.line().startswith("0 of 2 jobs done; about "), "of another run's jobs, one is to be made again"
    make(config, now)
    assert shown.line().startswith("1 of 2 jobs done; about ")
    shown.start()
    deadline = time.monotonic() + 20
    while not out.getvalue() and time.monotonic() < deadline:
        time.sleep(0.02)
    shown.stop()
    shown.join(20)
    assert out.getvalue().count("\n") == 1, "nothing has changed, so nothing more is said"
    hooks.begin(config, tmp_path, [now], None, {"progress"})
    assert not hooks._progress[0].is_alive()
    hooks.begin(config, tmp_path, [now], None, None)
    assert hooks._progress[0].is_alive() and hooks._progress[0].daemon
    hooks._progress[0].stop()


def test_a_slow_run_is_expected_to_stay_slow(config: Config, tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Path(config.paths.results)
    for subject in ("01", "02", "03", "04", "05"):
        make(config, one(config, "simulate_subject", dataset="had", subject=subject))
    for file in (results / "ledger" / "new").iterdir():  # what these took tells nothing: the table of costs counts
        file.write_text(json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "usage"}))
    overview = survey(config, results, tmp_path)
    todo, room = progress.to_do(overview), Room(jobs=1)
    fast = progress.time_left(overview, todo, room, datetime.now(UTC) - timedelta(seconds=60))
    slow = progress.time_left(overview, todo, room, datetime.now(UTC) - timedelta(seconds=3 * 5 * 15.5))
    assert slow > 2 * fast > 0


def test_messages_at_the_end(config: Config, demo_jobs: list[Job], tmp_path: Path, alone: None) -> None:
    start, results = datetime.now(UTC), Path(config.paths.results)
    make(config, one(config, "tables", dataset="had"))
    make(config, one(config, "trials", dataset="had", subject="01"), RuntimeError("x"), "RuntimeError: x\n")
    good = success_message(survey(config, results, tmp_path), start)
    assert f"1 jobs.\n  tables:  {results}/tables/had.md\n" in good and f"boldscribe audit {results}" in good
    bad = failure_message(survey(config, results, tmp_path), start)
    assert f"1 failed, 1 of {len(demo_jobs)} jobs are done" in bad and "trials had sub-01: unknown (attempt 1)" in bad
    assert "The same command continues" in bad
    later = failure_message(survey(config, results, tmp_path), datetime.now(UTC) + timedelta(hours=1))
    assert "trials had sub-01" in later, "without a failure of this run, those of earlier ones are told"


def test_a_message_goes_to_a_command_and_never_to_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept message.txt"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(NOTIFY, f"tee '{kept}' ; touch harm")
    notify("$(touch harm) done")
    assert kept.read_text() == "$(touch harm) done\n"
    assert (tmp_path / ";").read_text() == kept.read_text(), "a file name to tee: no shell has read it"
    capsys.readouterr()
    for wrong in ("false", "/not/there", "sh -c 'echo broken >&2; exit 4'", "unbalanced '"):
        monkeypatch.setenv(NOTIFY, wrong)
        notify("x")
        assert capsys.readouterr().err.startswith(f"warning: {NOTIFY}: {wrong!r} "), wrong


def test_which_run_is_shown_and_what_is_said_without_one(
    demo_jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake").mkdir()
    none = CliRunner().invoke(main, ["status"])
    assert none.exit_code == 1 and "found no run" in str(none.exception)
    named = CliRunner().invoke(main, ["status", "--config", str(DEMO)])
    assert f"results/demo: 0 of {len(demo_jobs)} jobs done" in named.output and named.exit_code == 0
    wrong = CliRunner().invoke(main, ["status", "elsewhere"])
    assert "found no config.yaml" in str(wrong.exception)
