"""What a cluster needs beside the experiment, as far as it can be shown without one; tests/slurm has the rest."""

import fcntl
import io
import json
import os
import socket
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from snakemake_executor_plugin_slurm.partitions import read_partition_file

from boldscribe.machinery.cluster import controller
from boldscribe.machinery.cluster.asking import Found, closed_partitions, partitions_of, proposal, site_text
from boldscribe.machinery.cluster.queue import jobs_of
from boldscribe.machinery.cluster.requests import Requests, minutes_of
from boldscribe.machinery.cluster.retries import MISTAKE, Retries
from boldscribe.machinery.cluster.site import Site, load_site, scratch_folder
from boldscribe.machinery.cluster.submissions import unfit
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.ledger import add_entry

# As `sinfo` printed them on three clusters of different kinds.
SINFO = """cpu|1-00:00:00|120|48|190000+|(null)|up
cpu|1-00:00:00|4|64|1031000|(null)|up
gpu|2-12:00:00|10|32|257000|gpu:a100:4(S:0-1)|up
gpu|2-12:00:00|2|32|257000|gpu:h100:8(S:0-1)|up
slices|12:00:00|1|64|515000|gpu:1g.10gb:14,gpu:a100:2|up
old|infinite|3|16|64000|gpu:2|up
closed|infinite|3|16|64000|(null)|drain"""
SITE = Site(
    partitions={
        "cpu": {"max_runtime": 1440, "max_mem_mb": 190000, "max_threads": 48},
        "gpu": {"max_runtime": "2-12:00:00", "max_mem_mb": 257000, "max_threads": 32, "max_gpu": 40, "available_gpu_models": ["a100"]},
    },
    gpu_model="a100",
)


@pytest.mark.parametrize(
    ("text", "minutes"), [("90", 90), ("1:30", 1.5), ("1:30:00", 90), ("2-00:00:00", 2880), ("1-2", 1560), ("infinite", float("inf"))]
)
def test_time_limits_of_every_form_are_read(text: str, minutes: float) -> None:
    assert minutes_of(text) == minutes


def test_requests_grow_with_attempt_and_input_up_to_what_the_site_has(tmp_path: Path) -> None:
    big = tmp_path / "big.npy"
    with big.open("wb") as stream:
        stream.truncate(5_000_000_000)
    requests = Requests(SITE, embedded=False)
    memory, minutes = requests.memory(64000, 2000, of_input=1.5), requests.minutes(1440, 60, of_input=10)
    assert (
        memory(None, [], 1) == 64000 and memory(None, [big], 1) == memory(None, [tmp_path], 1) == 71500 and memory(None, [big], 2) == 143000
    )
    assert memory(None, [big], 9) == 257000, "no partition has more"
    assert minutes(None, [tmp_path / "not-made-yet"], 1) == 1440 and minutes(None, [big], 1) == 1490 and minutes(None, [], 9) == 3600
    assert requests.memory(300000, 1)(None, [], 2) == 300000, "what the first attempt needs is asked for, and refused, as it is"
    assert Requests(SITE, embedded=True).memory(64000, 2000)(None, [], 3) == 6000


def test_gpus_are_asked_for_by_number_by_model_or_as_slices() -> None:
    def asked(site: Site, embedded: bool, n: int = 2, needed: bool = False) -> tuple[int, str, str]:
        requests = Requests(site, embedded)
        return requests.gpus(n, 1, needed), requests.gpu_model(n, 1, needed), requests.gres(n, 1, needed)

    assert asked(SITE, embedded=False) == (2, "a100", "")
    assert asked(SITE, embedded=True) == (0, "", "")
    assert asked(SITE, embedded=True, needed=True) == (2, "a100", "")
    assert asked(Site(gres="gpu:1g.10gb"), embedded=False) == (0, "", "gpu:1g.10gb:2")
    assert asked(Site(gres="gpu:1g.10gb", embedded_gpus=1), embedded=True, n=1) == (0, "", "gpu:1g.10gb:1")
    assert asked(Site(), embedded=False) == (2, "", "")
    several = Requests(SITE, embedded=False)
    assert (several.gpus(8, 2), several.gres(8, 2)) == (0, "gpu:a100:4"), "of each node, since a total might be spread unevenly"


def test_partitions_are_read_as_slurm_prints_them_and_taken_by_its_plugin(tmp_path: Path) -> None:
    found = partitions_of(SINFO.splitlines())
    assert found["cpu"] == {"max_runtime": 1440, "max_mem_mb": 1031000, "max_threads": 64}
    assert found["gpu"] == {
        "max_runtime": 3600, "max_mem_mb": 257000, "max_threads": 32, "max_gpu": 56, "available_gpu_models": ["a100", "h100"],
    }  # fmt: skip
    assert found["slices"]["available_gpu_models"] == ["a100"] and found["old"]["max_gpu"] == 6
    assert "max_runtime" not in found["old"] and "closed" not in found
    allowed = (
        "PartitionName=gpu AllowAccounts=physics,neuro X=1\nPartitionName=slices AllowAccounts=physics\nPartitionName=cpu AllowAccounts=ALL"
    )
    assert list(closed_partitions(allowed.splitlines(), ["neuro"])) == [("slices", "physics")]

    written = tmp_path / "site.yaml"
    written.write_text(site_text(proposal(Found(found, ["neuro"]), gpu_model="h100", experiment=["mine.yaml"], partitions=["cpu", "gpu"])))
    assert yaml.safe_load(written.read_text())["account"] == "neuro"
    site = load_site(written)
    assert site.experiment == ["mine.yaml"] and list(site.partitions) == ["cpu", "gpu"]
    assert {p.name: p.limits.max_gpu for p in read_partition_file(written)} == {"cpu": 0, "gpu": 56}
    for wrong in ({"gpu_model": "v100"}, {"account": "physics"}, {"partitions": ["fast"]}):
        with pytest.raises(UserError, match="expected"):
            proposal(Found(found, ["neuro"]), **wrong)


def test_a_wrong_site_file_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("signal_before: soon\nacount: neuro\n")
    with pytest.raises(UserError, match=r"signal_before: found 'soon'(.|\n)*acount: found 'neuro'(.|\n)*init --cluster --force"):
        load_site(file)
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(UserError, match="not YAML"):
        load_site(broken)
    assert load_site(tmp_path / "none.yaml") == Site()


def test_scratch_is_where_the_nodes_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/local/7")
    monkeypatch.delenv("NODE_DISK", raising=False)
    assert scratch_folder(Site(scratch="$TMPDIR/x")) == Path("/local/7/x")
    assert scratch_folder(Site(scratch="$NODE_DISK/x")) is None and scratch_folder(Site()) is None


def test_a_mistake_ends_the_retries_of_its_rule_alone(tmp_path: Path) -> None:
    def entry(rule: str, exit_: str, ended: datetime) -> None:
        content = {"rule": rule, "wildcards": {"dataset": "had"}, "started": ended.isoformat(), "ended": ended.isoformat()}
        add_entry(tmp_path, {**content, "attempt": 1, "exit": exit_, "recording_seconds": 0.0, "outputs": []})

    entry("stage1", MISTAKE, datetime.now(UTC) - timedelta(minutes=1))
    retries = {rule: Retries(2, tmp_path, rule) for rule in ("stage1", "frames")}
    assert retries["stage1"] > 0, "a mistake of an earlier call has been mended since, or ends this one too"
    entry("stage1", "failed: MemoryError", datetime.now(UTC))
    assert retries["stage1"] > 1 and not retries["stage1"] > 2
    entry("stage1", MISTAKE, datetime.now(UTC))
    assert not retries["stage1"] > 0 and retries["frames"] > 0
    assert max(retries.values()) == 2, "Snakemake takes the largest of a group's"


def test_rules_that_fit_no_partition_are_named(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(site_text(SITE))
    partitions = read_partition_file(file)

    def job(name: str, threads: int = 8, jobs: Sequence[object] = (), **resources: int | str) -> SimpleNamespace:
        about = {"rule": SimpleNamespace(name=name), "name": name, "jobid": 1, "is_local": False, "jobs": jobs}
        return SimpleNamespace(**about, threads=threads, resources=resources, is_group=lambda: bool(jobs))

    jobs = [job("stage1", gpu=1, gpu_model="a100", mem_mb=64000), job("stage2", gpu=1, gpu_model="h100"), job("frames", threads=64)]
    shared = job("decode_had_decode", jobs=[job("decode")] * 20, runtime=5000)
    problems = unfit([*jobs, job("fmriprep", runtime=5000), shared], partitions)
    assert [p.partition(":")[0] for p in problems] == ["stage2", "frames", "fmriprep", "decode"]
    assert "threads 8, gpu 1, gpu_model h100" in problems[0] and problems[3].endswith("20 jobs share it: lower --group-components")


def test_the_queue_of_a_folder_is_told_from_that_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = tmp_path / "a b|c", tmp_path / "other"
    lines = [
        f"12|RUNNING|node1|1:02|None|N/A|2026-11-26T07:00:00|2026-11-26T07:01:00|rule_stage1_wildcards_had|{here}",
        f"13|PENDING||0:00|Resources|N/A|2026-11-26T07:00:00|N/A|rule_frames_wildcards_had_train_001|{here}",
        f"14|RUNNING|node1|1:02|None|N/A|2026-11-26T07:00:00|2026-11-26T07:01:00|rule_stage1_wildcards_had|{other}",
        f"15|RUNNING|node1|1:02|None|N/A|2026-11-26T07:00:00|2026-11-26T07:01:00|a job of another kind|{here}",
    ]
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ncat <<'E'\n" + "\n".join(lines) + "\nE\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert [(job.id, job.waits) for job in jobs_of(here) or []] == [("12", False), ("13", True)]
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert jobs_of(here) is None


def test_a_dead_controllers_lock_is_removed_and_a_living_ones_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    about = {"process": 999_999, "host": socket.gethostname(), "user": "ana", "since": "2026-01-01", "command": "snakemake"}
    known = tmp_path / ".snakemake" / "controller.json"

    def look() -> str:
        known.write_text(json.dumps(about))
        said = io.StringIO()
        controller.look_around(tmp_path, said)
        return said.getvalue()

    with (tmp_path / ".snakemake" / "controller.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "process 999999 on" in look() and locks.exists() and known.exists()
    about["host"] = "another-login-node"
    assert "snakemake --unlock" in look() and locks.exists()
    about["host"] = socket.gethostname()
    assert "was killed here" in look() and not locks.exists() and not known.exists()


def test_jobs_of_a_controller_that_makes_other_files_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".snakemake").mkdir()
    monkeypatch.setattr(controller, "jobs_of", lambda folder: pytest.fail("the queue is not to be touched"))
    with (tmp_path / ".snakemake" / "controller.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        controller.take_over(tmp_path, on_slurm=True)
        assert not (tmp_path / ".snakemake" / "controller.json").exists()


def test_a_queue_that_does_not_answer_stops_a_run_on_slurm_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".snakemake").mkdir()
    monkeypatch.setattr(controller, "jobs_of", lambda folder: None)
    controller.take_over(tmp_path)
    controller.leave(tmp_path)
    with pytest.raises(UserError, match="squeue: no answer"):
        controller.take_over(tmp_path, on_slurm=True, pause=0)
    controller.leave(tmp_path)


def test_the_controller_says_who_it_is_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".snakemake").mkdir()
    monkeypatch.setattr(controller, "jobs_of", lambda folder: None)
    controller.take_over(tmp_path)
    assert json.loads((tmp_path / ".snakemake" / "controller.json").read_text())["process"] == os.getpid()
    assert controller._is_held(tmp_path)
    controller.leave(tmp_path)
    assert not (tmp_path / ".snakemake" / "controller.json").exists() and not controller._is_held(tmp_path)
