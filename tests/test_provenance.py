"""Records: what is in them, and that a step cannot end without one."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.files import atomic, load_array, save_array
from boldscribe.provenance.reading import reading
from boldscribe.provenance.record import digest, record, record_path


def test_reading_notes_exactly_the_keys_that_were_asked_for() -> None:
    read: dict[str, object] = {}
    config = reading(Config(), read)
    assert config.stage1.alpha == Config().stage1.alpha
    assert config.datasets["had"].task == "action"
    assert config.decoding.conditions == ["model", "llm", "shuffled", "noise"]
    assert set(read) == {"stage1.alpha", "datasets.had.task", "decoding.conditions"}
    config.adaptor.model_dump()
    assert read["adaptor"] == Config().adaptor.model_dump()


def test_a_record_holds_digests_of_inputs_and_outputs(tmp_path: Path) -> None:
    source, result = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("in")
    with record("copy", inputs={"source": [source]}, outputs={"result": [result]}, wildcards={"subject": "01"}, config_read={"seed": 1}):
        result.write_text("out")
    content = json.loads(record_path(result).read_text())
    assert content["subject"] == {"path": str(result), "sha256": hashlib.sha256(b"out").hexdigest(), "bytes": 3}
    assert content["materials"]["source"][0]["sha256"] == hashlib.sha256(b"in").hexdigest()
    assert content["activity"]["rule"] == "copy" and content["config"] == {"seed": 1}
    assert len(content["code"]["commit"]) == 40


def test_no_record_without_the_output_or_after_an_error(tmp_path: Path) -> None:
    result = tmp_path / "out.txt"
    with pytest.raises(FileNotFoundError, match=r"out\.txt"), record("r", inputs={}, outputs={"x": [result]}, wildcards={}, config_read={}):
        pass
    with pytest.raises(ZeroDivisionError), record("r", inputs={}, outputs={"x": [result]}, wildcards={}, config_read={}):
        result.write_text(str(1 / 0))
    assert not record_path(result).exists()


def test_the_digest_of_a_folder_sees_content_and_names_but_not_records_or_time_stamps(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = digest(tmp_path)
    (tmp_path / "a.prov.json").write_text("{}")
    (tmp_path / ".snakemake_timestamp").touch()
    assert digest(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest(tmp_path)["sha256"] != before["sha256"]


def test_a_program_shows_a_users_mistake_without_traceback(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("sed: 1")
    command = [sys.executable, "-m", "workflow_scripts.tables", "--config", str(config), "--dataset", "had", "--scores", "none.parquet"]
    command += [part for name in ("csv", "md", "tex", "differences") for part in (f"--{name}", str(tmp_path / name))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1])
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {config}: sed: unknown key; check its spelling against `boldscribe config`"


def test_a_writer_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(target) as part:
        part.write_text(str(1 / 0))
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_a_truncated_array_is_named(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "x.npy"
    save_array(path, np.arange(1000, dtype=np.float32), axes=["voxel"])
    array, header = load_array(path)
    assert array[-1] == 999 and header["axes"] == ["voxel"]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"x\.npy: cannot be read"):
        load_array(path)
