"""The fork server: a copy is in all respects the job that it stands for, begins with what earlier ones imported, and holds no secrets."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import PATIENCE, ROOT

Variables = dict[str, str]
LIBRARY = '''
import os
from functools import cache


@cache
def load(folder: str) -> int:
    """What takes long, and is the same for all."""
    return os.getpid()
'''
PROGRAM = """
import os

from boldscribe.workflow import Input, Output, program
from library import load


def share(config, files):
    load(str(files["models"][0]))


@program("tables", share=share)
def main(config, models: Input, out: Output):
    out.write_text(f"{load(str(models))} {os.getppid()}")


if __name__ == "__main__":
    main()
"""


def command(out: Path, *what: str) -> list[str]:
    return [sys.executable, "-m", "tests.forked", str(out), *what]


def job(out: Path, *what: str, folder: Path = ROOT, **variables: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(command(out, *what), cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    return done, json.loads(out.read_text())


def eventually(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_copy_is_the_job_that_it_stands_for(tmp_path: Path, fork_server: Variables) -> None:
    _, alone = job(tmp_path / "alone")
    first_done, first = job(tmp_path / "first", **fork_server)
    done, second = job(tmp_path / "second", **fork_server)
    assert alone["parent"] == os.getpid() and first["parent"] == second["parent"] != os.getpid(), "one server for both"
    assert not alone["loaded"] and not first["loaded"] and second["loaded"], "what the first copy imported is there for the second one"
    assert second["arguments"] == [str(tmp_path / "second")] and second["folder"] == str(ROOT) and second["main"] == "tests.forked"
    assert not second["served"], "what a copy starts is its own"
    for ended in (first_done, done):
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "out\n", "err\n")


def test_a_job_ends_as_its_copy_ends(tmp_path: Path, fork_server: Variables) -> None:
    assert job(tmp_path / "failed", "fail", **fork_server)[0].returncode == 3
    assert job(tmp_path / "killed", "be_killed", **fork_server)[0].returncode == -signal.SIGABRT


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 7), (signal.SIGINT, -signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)])
def test_signals_reach_the_copy_and_none_outlives_its_job(
    tmp_path: Path, fork_server: Variables, number: signal.Signals, status: int
) -> None:
    waits = tmp_path / "out.waits"
    start = ["env", "--default-signal", *command(tmp_path / "out", "wait")]  # tests in the background may ignore some
    run = subprocess.Popen(start, cwd=ROOT, env={**os.environ, **fork_server}, stderr=subprocess.DEVNULL)
    eventually(lambda: waits.exists() and waits.read_text() != "")
    run.send_signal(number)
    assert run.wait(PATIENCE) == status
    eventually(lambda: not psutil.pid_exists(int(waits.read_text())))


def test_a_signal_that_a_job_ignores_is_ignored_by_its_copy(tmp_path: Path, fork_server: Variables) -> None:
    shell = ["bash", "-c", f"trap '' TERM; exec {' '.join(command(tmp_path / 'out'))}"]
    subprocess.run(shell, cwd=ROOT, env={**os.environ, **fork_server}, check=True, capture_output=True)
    assert json.loads((tmp_path / "out").read_text())["ignores"]


def test_another_environment_or_folder_has_a_server_of_its_own(tmp_path: Path, fork_server: Variables) -> None:
    folders = [ROOT, ROOT, tmp_path]
    further: list[Variables] = [{}, {"OTHER": "1"}, {}]
    servers = {
        job(tmp_path / str(i), folder=folder, **fork_server, **more)[1]["parent"]
        for i, (folder, more) in enumerate(zip(folders, further, strict=True))
    }
    assert len(servers) == 3


def test_code_that_has_changed_since_it_was_imported_is_not_run(tmp_path: Path, fork_server: Variables) -> None:
    """On a copy of the package: a server that has imported one of its files gives way when that file is another one."""
    for name in ("boldscribe", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    variables = {**fork_server, "PYTHONPATH": str(tmp_path)}
    before = [job(tmp_path / str(i), folder=tmp_path, **variables)[1]["parent"] for i in range(2)]
    code = tmp_path / "tests" / "forked.py"
    code.write_text(code.read_text().replace('"served": ', '"changed": True, "served": '))
    changed = job(tmp_path / "changed", folder=tmp_path, **variables)[1]
    assert before[0] == before[1] != changed["parent"] and changed["changed"]


def test_servers_end_with_the_process_that_they_are_for(tmp_path: Path, fork_server: Variables) -> None:
    _, found = job(tmp_path / "out", **fork_server)
    owner, folder = next(iter(fork_server.values())).split(":")
    os.kill(int(owner), signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(found["parent"]) and not Path(folder).exists())


def test_what_jobs_share_is_loaded_once_by_the_server(tmp_path: Path, fork_server: Variables) -> None:
    folder = tmp_path / "workflow_scripts"
    folder.mkdir()
    shutil.copy(ROOT / "workflow_scripts" / "__init__.py", folder)
    (folder / "tables.py").write_text(PROGRAM)
    (tmp_path / "library.py").write_text(LIBRARY)
    model = tmp_path / "results" / "models" / "llm"
    model.mkdir(parents=True)
    (tmp_path / "results" / "models" / "llm.prov.json").write_text("{}")
    (tmp_path / "config.yaml").write_text(f"paths: {{results: {tmp_path / 'results'}}}\n")
    said = []
    for i in range(3):
        out = tmp_path / "results" / f"{i}.txt"
        arguments = ["--config", str(tmp_path / "config.yaml"), "--models", str(model), "--out", str(out)]
        environment = {**os.environ, **fork_server, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
        subprocess.run([sys.executable, "-m", "workflow_scripts.tables", *arguments], cwd=tmp_path, env=environment, check=True)
        said.append(out.read_text().split())
        assert Path(f"{out}.prov.json").exists(), "each output has its record"
    (first, server), second, third = said
    assert first != server and second == third == [server, server]
