"""What happens to a run on a cluster, each on a real Slurm: memory, time, mistakes, cancelled and preempted jobs, killed controllers."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from boldscribe.machinery.provenance.ledger import read_ledger
from tests.conftest import PATIENCE, SNAKEMAKE
from tests.slurm import cluster
from tests.slurm.conftest import EXPERIMENT, STAGE1, OnSlurm, accounted, finish, wait_for

AGAIN = "Trying to restart job"


@pytest.fixture(autouse=True)
def without_stage1(on_slurm: OnSlurm) -> None:
    """Each test runs Stage I anew."""
    on_slurm.forget_stage1()


def test_a_job_out_of_memory_is_tried_again_with_more_and_passes(on_slurm: OnSlurm) -> None:
    output = finish(on_slurm.start(STAGE1, "--set-resources", "stage1:mem_mb=500*attempt**2"))
    assert output.count(AGAIN) >= 1
    jobs = re.findall(r"submitted with SLURM jobid (\d+)", output)
    asked = [accounted(job, "ReqMem", "State")[0] for job in jobs]
    assert asked[:2] == ["500M", "2000M"]
    assert accounted(jobs[-1], "State") == ["COMPLETED"] and accounted(jobs[0], "State") != ["COMPLETED"]
    assert on_slurm.stage1_weights() == on_slurm.weights


@pytest.fixture(scope="module")
def over_time(on_slurm: OnSlurm, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[OnSlurm, str]]:
    """Two runs at the same time, in copies, whose Stage I reaches its limit: one is killed there, one warned before; with their output."""
    runs = {}
    for name, signal_before, minutes in (("killed", 0, "1+9*(attempt-1)"), ("warned", 60, "2")):
        copy = on_slurm.copy(tmp_path_factory.mktemp(name) / "checkout")
        copy.forget_stage1()
        copy.site(signal_before=signal_before)
        longer = ["--config", "stage1={epochs: 400, patience: 400}"]
        runs[name] = copy, copy.start(STAGE1, "--set-resources", f"stage1:runtime={minutes}", *longer)
    return {name: (copy, finish(run)) for name, (copy, run) in runs.items()}


def test_a_job_over_its_time_is_tried_again_with_more_and_goes_on_where_it_was(over_time: dict[str, tuple[OnSlurm, str]]) -> None:
    killed, output = over_time["killed"]
    first, second = re.findall(r"submitted with SLURM jobid (\d+)", output)
    assert accounted(first, "State", "Timelimit") == ["TIMEOUT", "00:01:00"]
    assert accounted(second, "State", "Timelimit") == ["COMPLETED", "00:10:00"]
    log = (killed.results / "logs" / "stage1" / "had_encoder-model.log").read_text()
    steps = [int(n) for n in re.findall(r"stage1: +\d+%\|[^|]*\| (\d+)/400", log.split("===")[-1])]
    assert steps and steps[0] > 0, "the second attempt does not begin at the first step"


def test_a_training_leaves_before_its_limit_and_slurm_queues_it_again(over_time: dict[str, tuple[OnSlurm, str]]) -> None:
    warned, output = over_time["warned"]
    assert AGAIN not in output, "no attempt of Snakemake's is spent on it"
    (job,) = re.findall(r"submitted with SLURM jobid (\d+)", output)
    assert accounted(job, "State") == ["COMPLETED"]
    ends = [e["exit"] for e in read_ledger(warned.results).entries if e["rule"] == "stage1"]
    assert ends[-2:] == ["preempted: SIGURG", "completed"]


def test_a_users_mistake_is_not_tried_again_and_told(on_slurm: OnSlurm) -> None:
    run = on_slurm.start(STAGE1, "--config", "stage1={batch_size: 31, accumulate: 2}")
    output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1
    assert "error: stage1.batch_size: found 31, expected a multiple of 2" in output
    assert AGAIN not in output and len(re.findall("submitted with SLURM jobid", output)) == 1


def test_a_cancelled_stage1_is_tried_again_and_ends_in_the_same_weights(on_slurm: OnSlurm) -> None:
    run = on_slurm.start(STAGE1)
    job = on_slurm.in_mid_stage1(run)
    subprocess.run(["scancel", job], check=True)
    output = finish(run)
    assert output.count(AGAIN) == 1 and accounted(job, "State")[0].startswith("CANCELLED")
    assert on_slurm.stage1_weights() == on_slurm.weights


def test_a_preempted_stage1_is_queued_again_and_ends_in_the_same_weights(on_slurm: OnSlurm) -> None:
    run = on_slurm.start(STAGE1)
    job = on_slurm.in_mid_stage1(run)
    subprocess.run(["sbatch", "-p", "high", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3"], check=True, capture_output=True)
    output = finish(run)
    assert AGAIN not in output and accounted(job, "State") == ["COMPLETED"]
    duplicates = subprocess.run(["sacct", "-n", "-X", "-P", "-D", "-j", job, "--format=State"], capture_output=True, text=True).stdout
    assert "PREEMPTED" in duplicates or "REQUEUED" in duplicates
    assert on_slurm.stage1_weights() == on_slurm.weights


def test_slurmd_restarted_in_mid_job_does_no_harm(on_slurm: OnSlurm, slurm: Path) -> None:
    run = on_slurm.start(STAGE1)
    job = on_slurm.in_mid_stage1(run)
    cluster.stop(slurm, "slurmd-node1")
    time.sleep(3)
    cluster.start_node("node1")
    output = finish(run)
    assert AGAIN not in output and accounted(job, "State") == ["COMPLETED"]
    assert on_slurm.stage1_weights() == on_slurm.weights


def test_one_controller_at_a_time_and_the_next_one_goes_on_after_a_killed_one(on_slurm: OnSlurm) -> None:
    target = "results/tiny/fmri_tokens/had/encoder-model_data-fmri_role-train_tokens.npy"
    first = on_slurm.start(target)
    job = on_slurm.in_mid_stage1(first)
    second = on_slurm.start(target)
    refused, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode == 1
    assert f"A Snakemake is already running in {on_slurm.root}: process {first.pid} on " in refused and "cannot be locked" in refused
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    output = finish(on_slurm.start(target))
    assert "An earlier Snakemake was killed here" in output, output
    assert f"Waiting for 1 job(s) that an earlier run left running: stage1 had_model ({job})" in output, output
    assert on_slurm.stage1_weights() == on_slurm.weights
    assert len(re.findall("submitted with SLURM jobid", output)) == 1, "only the tokens were still to be made"
    wait_for(lambda: not on_slurm.jobs("stage1"))


def test_a_job_that_tries_the_network_is_stopped_with_what_should_have_been_fetched(on_slurm: OnSlurm) -> None:
    """A program of the checkout is made to fetch a template, as a library might."""
    program = on_slurm.root / "workflow_scripts" / "trials.py"
    before = program.read_text()
    address = "https://templateflow.s3.amazonaws.com/tpl-x/template_description.json"
    attempt = f'    from urllib.request import urlopen\n\n    urlopen("{address}")\n    write_trials(\n'
    assert before.count("    write_trials(\n") == 1
    program.write_text(before.replace("    write_trials(\n", attempt))
    target = "results/tiny/trials/had/sub-01_trials.parquet"
    try:
        run = on_slurm.start(target, "--forcerun", "trials")
        output, _ = run.communicate(timeout=PATIENCE)
    finally:
        program.write_text(before)
        on_slurm.run(*SNAKEMAKE, target, "--configfile", *EXPERIMENT)
    assert run.returncode == 1 and AGAIN not in output
    assert "trials had sub-01 on " in output and "templateflow.s3.amazonaws.com" in output and "boldscribe fetch templates" in output
