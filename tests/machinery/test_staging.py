"""Copies on a node's own disk: real files, locks and processes; only the size of the disk is made up, in one test."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from boldscribe.config import Config
from boldscribe.data.placement import voxels_path
from boldscribe.machinery.cluster.staging import Scratch, staged
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import header_path, load_array, save_array
from boldscribe.machinery.provenance.digests import file_state, record_path
from boldscribe.training.checkpoints import fingerprint
from boldscribe.training.stage1 import train_stage1
from tests.conftest import PATIENCE, ROOT
from tests.machinery.test_resume import kill_at, same_files
from tests.training_fixtures import stage1_inputs

STEP = """
import json, os, sys, time
from pathlib import Path
import numpy as np
import boldscribe.machinery.steps.program as steps
from boldscribe.data.placement import voxels_path
from boldscribe.machinery.cluster.site import Site
from boldscribe.machinery.files import load_array, write_json
from boldscribe.workflow import Config, Files, Inputs, Output, program

SCRATCH, PLACES = sys.argv.pop(), sys.argv.pop()
steps.load_site = lambda: Site.model_validate({"scratch": SCRATCH})

@program("pretrain_sc_mbm", settings="paths.results", stage=("series", "further"))
def main(config: Config, series: Inputs, voxels: Inputs, sums: Output, files: Files):
    read = [*series, *files.use("further", [Path(config.paths.results) / "further_bold.npy"])]
    Path(PLACES).write_text("\\n".join(map(str, read)))
    if "WAIT" in os.environ:
        sys.stdin.readline()
    found = [float(np.asarray(load_array(path)[0], float).sum()) for path in read]
    write_json(sums, [found, [np.load(voxels_path(path)).tolist() for path in series]])

main()
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results tree with two series, the places of their voxels, and a further series, each recorded."""
    folder = tmp_path / "results"
    rng = np.random.default_rng(0)
    for name in ("sub-01", "sub-02", "further"):
        save_array(folder / f"{name}_bold.npy", rng.normal(size=(40, 50)).astype(np.float16), subject=name)
        save_array(folder / f"{name}_voxels.npy", np.arange(50, dtype=np.int32))
    for file in folder.glob("*.npy"):
        record_path(file).write_text("{}")
    (tmp_path / "step.py").write_text(STEP)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"paths": {"results": str(folder)}}))
    return folder


def start(results: Path, name: str, scratch: Path | str, **environment: str) -> subprocess.Popen[str]:
    """Start a step that reads its series; it writes NAME.json, and the places that it read to NAME.txt."""
    root = results.parent
    series = [str(results / f"sub-0{i}_bold.npy") for i in (1, 2)]
    command = [sys.executable, str(root / "step.py"), "--config", str(root / "config.yaml"), "--sums", str(results / f"{name}.json")]
    command += ["--series", *series, "--voxels", *(str(voxels_path(Path(p))) for p in series), str(root / f"{name}.txt"), str(scratch)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def end(process: subprocess.Popen[str], line: str | None = None) -> str:
    """Let a step go on, and wait for it; gives its log."""
    log = process.communicate(line, timeout=PATIENCE)[1]
    assert process.returncode == 0, log
    return log


def copies(scratch: Path) -> list[Path]:
    """All that counts as a copy."""
    return [p for p in scratch.glob("boldscribe-*/copies/*") if re.fullmatch("[0-9a-f]{64}", p.name)]


def files(scratch: Path) -> list[str]:
    """All that is left of copies and links, whole or not."""
    return [str(p) for kind in ("copies", "views") for p in scratch.glob(f"boldscribe-*/{kind}/*")]


def test_a_step_reads_copies_and_its_record_says_no_more_than_that(results: Path, tmp_path: Path) -> None:
    end(start(results, "without", "$NOT_SET_ON_THIS_NODE/scratch"))
    log = end(start(results, "with", "$SCRATCH_HERE/jobs", SCRATCH_HERE=str(tmp_path)))
    assert (tmp_path / "without.txt").read_text().count(str(results)) == 3
    places = (tmp_path / "with.txt").read_text().splitlines()
    assert len(places) == 3 and all(p.startswith(f"{tmp_path}/jobs/boldscribe-") for p in places), log
    assert (results / "with.json").read_bytes() == (results / "without.json").read_bytes()

    plain, other = (json.loads(record_path(results / f"{name}.json").read_text()) for name in ("without", "with"))
    told = other["activity"].pop("staged")
    assert told["inputs"] == ["series", "further"] and told["seconds"] >= 0
    series = [results / f"{name}_bold.npy" for name in ("sub-01", "sub-02", "further")]
    assert told["bytes"] == sum(p.stat().st_size + header_path(p).stat().st_size for p in series)
    for key in ("materials", "data_access", "config", "code"):
        assert plain[key] == other[key], key
    assert [m["path"] for m in other["materials"]["series"]] == ["sub-01_bold.npy", "sub-02_bold.npy"]
    assert other["data_access"]["undeclared"] == []
    assert plain["activity"].keys() == other["activity"].keys()
    assert files(tmp_path / "jobs") == [], "the job's end removes its copies"


def test_processes_of_a_node_share_a_copy_until_the_last_one_ends(results: Path, tmp_path: Path) -> None:
    """As of one training: the first one records, the second one does not."""
    scratch = tmp_path / "scratch"
    both = [start(results, f"rank{i}", scratch, WAIT="1", RANK=str(i), LOCAL_RANK=str(i), WORLD_SIZE="2") for i in (0, 1)]
    marks = [tmp_path / f"rank{i}.txt" for i in (0, 1)]
    wait_for(lambda: all(m.exists() for m in marks))
    held = {p.resolve() for m in marks for p in map(Path, m.read_text().split())}
    assert len(copies(scratch)) == 6 and len(held) == 3, "three arrays with their headers, once for both"
    inodes = {p.stat().st_ino for p in copies(scratch)}
    end(both[0], "go on\n")
    assert {p.stat().st_ino for p in copies(scratch)} == inodes, "still read by the other process"
    end(both[1], "go on\n")
    assert files(scratch) == []
    assert (results / "rank0.json").read_bytes() == (results / "rank1.json").read_bytes()


def test_a_killed_job_leaves_nothing_that_harms(results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its whole copies are used again, unless they are damaged; its links, and copies that it was making, are removed."""
    scratch = tmp_path / "scratch"
    job = start(results, "killed", scratch, WAIT="1")
    wait_for((tmp_path / "killed.txt").exists)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    left = copies(scratch)
    assert len(left) == 6 and len(list(scratch.glob("boldscribe-*/views/*"))) == 1
    large = [p for p in left if p.stat().st_size > 2000]
    content = bytearray(large[0].read_bytes())
    content[-1] ^= 1
    large[0].write_bytes(content)
    os.utime(large[0], ns=(0, 0))  # as old as one likes
    untouched = {p.name: file_state(p) for p in left if p != large[0]}

    series = [results / f"{name}_bold.npy" for name in ("sub-01", "sub-02", "further")]
    with caplog.at_level(logging.WARNING), staged(scratch, {"series": series}, ["series"]) as there:
        assert {p.name: file_state(p) for p in copies(scratch) if p != large[0]} == untouched
        assert there.places.keys() == set(series)
        for path in series:
            assert there.places[path].read_bytes() == path.read_bytes()
    assert re.search(r"the copy of .*_bold\.npy is damaged; copying it again", caplog.text)
    assert files(scratch) == []


@pytest.mark.parametrize("number, left", [(signal.SIGKILL, 1), (signal.SIGTERM, 0)])
def test_a_copier_that_is_killed_leaves_nothing_half_written_that_counts(number: int, left: int, tmp_path: Path) -> None:
    """One that is told to leave removes it and does not finish first."""
    source, scratch = tmp_path / "large.npy", tmp_path / "scratch"
    with source.open("wb") as stream:
        stream.truncate(1 << 30)  # takes no room, and a second to be copied
    record_path(source).write_text(json.dumps({"subject": {"files": [known(source, zeros(1 << 30))]}}))
    program = (
        "import signal, sys\nfrom pathlib import Path\nfrom boldscribe.machinery.cluster.staging import staged\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "with staged(Path(sys.argv[2]), {'series': [Path(sys.argv[1])]}, ['series']): pass"
    )
    copier = subprocess.Popen([sys.executable, "-c", program, str(source), str(scratch)], cwd=ROOT)
    wait_for(lambda: [p for p in scratch.glob("*/copies/*.part") if p.stat().st_size > 0], pause=0.001)
    copier.send_signal(number)
    assert copier.wait() in (-number, 128 + number), "it was killed too late"
    assert copies(scratch) == [] and len(files(scratch)) == left
    small = tmp_path / "small.npy"
    np.save(small, np.arange(9))
    with staged(scratch, {"series": [small]}, ["series"]) as there:
        assert there.places[small].read_bytes() == small.read_bytes()
        assert not list(scratch.glob("*/copies/*.part"))


def test_what_does_not_fit_or_may_not_be_written_is_read_where_it_is(
    results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each with one warning; no copy of what was made before remains."""
    vast = tmp_path / "vast.npy"
    with vast.open("wb") as stream:
        stream.truncate(8 << 40)  # more than there is, and nothing on disk
    record_path(vast).write_text(json.dumps({"subject": {"files": [known(vast, "0" * 64)]}}))
    other = tmp_path / "other"
    (other / f"boldscribe-{os.getuid()}").mkdir(parents=True)
    (other / f"boldscribe-{os.getuid()}").chmod(0o777)
    (tmp_path / "file").write_text("")
    for scratch, told in (
        (tmp_path / "scratch", r"found [\d.]+ GB free, expected 8796\.09 GB and a margin of 439\.80 GB"),
        (other, "belongs to another user, or others have access to it"),
        (tmp_path / "file", "File exists"),
    ):
        caplog.clear()
        with staged(scratch, {"series": [results / "sub-01_bold.npy", vast]}, ["series"]) as there:
            assert there.places == {} and there.names == []
        (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert re.search(f"no copies of series there; the originals are read: .*{told}", warning)
        assert files(scratch) == []
    end(start(results, "still", tmp_path / "file"))


def test_a_file_that_changes_while_it_is_copied_is_no_copy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Or one that the network damages on the way: by its digest."""
    path = tmp_path / "a.npy"
    np.save(path, np.arange(1000))
    record_path(path).write_text(json.dumps({"subject": {"files": [known(path, "0" * 64)]}}))
    with staged(tmp_path / "scratch", {"series": [path]}, ["series"]) as there:
        assert there.places == {}
    assert re.search(r"the copy of .*a\.npy has the digest [0-9a-f]{12}…, expected 000000000000…", caplog.text)


def test_room_is_made_from_copies_that_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that holds four of the files: the least recently used goes first, and what is read stays."""
    monkeypatch.setattr("boldscribe.machinery.cluster.staging.MARGIN_BYTES", 0)
    size, scratch = 100_000, tmp_path / "scratch"
    paths = [tmp_path / f"{i}.bin" for i in range(5)]
    for path in paths:
        path.write_bytes(os.urandom(size))
    jobs = [Scratch(scratch, free=lambda folder: int(4.5 * size) - sum(p.stat().st_size for p in copies(scratch))) for _ in range(5)]
    for job, path in zip(jobs[:4], paths, strict=False):
        job.stage({"series": [path]}, ["series"])
        time.sleep(0.02)
    content = {p.read_bytes(): p for p in copies(scratch)}
    for i in (1, 2, 3):  # end without removing what they used
        leave(jobs[i])
    time.sleep(0.02)
    again = Scratch(scratch)
    again.stage({"series": [paths[1]]}, ["series"])  # used anew, then left
    leave(again)
    jobs[4].stage({"series": [paths[4]]}, ["series"])
    left = {p.read_bytes() for p in copies(scratch)}
    assert left == {paths[i].read_bytes() for i in (0, 1, 3, 4)}, "0 is read, 1 was used after 2"
    assert len(content) == 4


def test_a_training_begun_on_copies_goes_on_without_them_bit_by_bit(
    tiny: Config, data: SimpleNamespace, pretrained: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And the other way round: the checkpoints are found, since copies have the fingerprint of their originals."""
    given = stage1_inputs(data, pretrained)
    inputs = {"series": given["series"], "voxels": [voxels_path(p) for p in given["series"]]}
    for first_on_copies in (True, False):
        out = tmp_path / str(first_on_copies)
        begun = kill_at([5], monkeypatch)
        for on_copies in (first_on_copies, not first_on_copies):
            with staged(tmp_path / "scratch", inputs, ["series"]) as there:
                series = [there.places[p] for p in given["series"]] if on_copies else given["series"]
                assert fingerprint("stage1", {}, series) == fingerprint("stage1", {}, given["series"])
                arguments: dict[str, Any] = {**given, "series": series, "output_dir": out / "out", "work_dir": out / "work"}
                if on_copies is first_on_copies:
                    with pytest.raises(KeyboardInterrupt):
                        train_stage1(tiny, "had", **arguments)
                else:
                    train_stage1(tiny, "had", **arguments)
        monkeypatch.undo()
        assert begun[:7] == [0, 1, 2, 3, 4, 5, 4], "it went on from the checkpoint"
        same_files(trained, out / "out")


def test_messages_name_what_the_user_knows(results: Path, tmp_path: Path) -> None:
    series = results / "sub-01_bold.npy"
    header_path(series).write_text('{"shape": [1, 2]}')
    with (
        pytest.raises(UserError, match=rf"^{series}: shape \[40, 50\], but its header says"),
        staged(tmp_path / "scratch", {"series": [series]}, ["series"]) as there,
    ):
        load_array(there.places[series])


def leave(job: Scratch) -> None:
    """What the system does when a process dies: its locks are gone, all else stays."""
    assert job._view is not None
    os.close(job._view[1])


def known(path: Path, sha256: str) -> dict[str, Any]:
    """A file's entry in a record, which is believed as long as the file stays as it is."""
    return {"path": path.name, "sha256": sha256, "bytes": path.stat().st_size, "state": file_state(path)}


def zeros(size: int) -> str:
    """SHA-256 of that many zeros."""
    import hashlib

    digest, block = hashlib.sha256(), bytes(1 << 24)
    for _ in range(size >> 24):
        digest.update(block)
    return digest.hexdigest()


def wait_for(condition: Any, pause: float = 0.05, seconds: float = PATIENCE) -> None:
    """Wait until something is so."""
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, "waited in vain"
        time.sleep(pause)
