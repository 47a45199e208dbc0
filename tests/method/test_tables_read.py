"""The reader of tables: each row literally, whatever wrote the file; and what is no table is refused by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from boldscribe.data.events import read_events, read_stimulus_manifest
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.table_files import STRIPPED, read_numbers, read_table

PLAIN = "onset\tname\nn/a\tä b\n2\tc\n"
SAME = {
    "byte order mark": "\ufeff" + PLAIN,
    "line ends of Windows": PLAIN.replace("\n", "\r\n"),
    "line ends of old Macs": PLAIN.replace("\n", "\r"),
    "no line end": PLAIN.rstrip("\n"),
    "empty lines": PLAIN.replace("\n", "\n\n") + "\n \n",
    "empty cell": PLAIN.replace("n/a", ""),
    "white space": PLAIN.replace("onset", " onset").replace("c", "c  ").replace("2", "\u00a02"),
    "tabs at the ends": PLAIN.replace("\n", "\t\t\n"),
}


@pytest.mark.parametrize("habit", SAME)
def test_one_table_written_in_many_ways(tmp_path: Path, habit: str) -> None:
    path, notes = tmp_path / "t.tsv", list[str]()
    path.write_bytes(SAME[habit].encode())
    table = read_table(path, notes)
    assert table.to_dict("list") == {"onset": [None, "2"], "name": ["ä b", "c"]}
    assert notes == ([STRIPPED] if habit == "white space" else [])


QUOTES = ['"run', 'run"', '"', '"run "fast""', "'run", '""', "a,b;c", "\\", "#run", "NA", "ru\u2028n", "a\x0bb"]


@pytest.mark.parametrize("mark", QUOTES)
def test_no_character_of_a_cell_swallows_other_rows(tmp_path: Path, mark: str) -> None:
    """Two marked cells among 60, in the class, in the name of the clip, and in a manifest."""
    path = tmp_path / "events.tsv"
    rows = [[f"{4 * i}.0", "2", f"class {i % 5}", f"{i}.mp4"] for i in range(60)]
    rows[2][2] = rows[5][2] = rows[8][3] = rows[9][3] = mark
    path.write_text("\n".join("\t".join(row) for row in [["onset", "duration", "trial_type", "stim_file"], *rows]), newline="\n")
    events = read_events(path)
    assert events["onset"].tolist() == [4.0 * i for i in range(60)] and (events["reason"] == "").all()
    assert events["trial_type"].tolist() == [row[2] for row in rows] and events["stim_file"].tolist() == [row[3] for row in rows]
    manifest = tmp_path / "stimuli.tsv"
    lines = ["stimulus\tstim_file\taction\tsource", *(f"{i}\t{i}.mp4\t{mark if i in (2, 5) else 'x'}\tn/a" for i in range(9))]
    manifest.write_text("\n".join(lines), newline="\n")
    assert read_stimulus_manifest(manifest)["action"].tolist() == [mark if i in (2, 5) else "x" for i in range(9)]


REFUSED = {
    "UTF-16": (PLAIN.encode("utf-16"), "encoding: found UTF-16 .*FF FE"),
    "UTF-16, other order": (b"\xfe\xff" + PLAIN.encode("utf-16-be"), "encoding: found UTF-16 .*FE FF"),
    "UTF-16 without mark": (PLAIN.encode("utf-16-le"), "line 1: found the byte 0x00, expected"),
    "Latin-1": (PLAIN.encode("latin-1"), r"line 2: found the byte 0xE4 \('ä' in Latin-1\), expected text in UTF-8"),
    "no cells": (b"\n \n", "found an empty file"),
    "too few cells": (PLAIN.encode() + b"3\n4\t5\n6\n", r"line 4: found 1 cells, and other numbers in line\(s\) 6, expected 2"),
    "too many cells": (PLAIN.encode() + b"3\t4\t5\n", "line 4: found 3 cells, expected 2"),
    "index without name": (b"onset\tname\n0\t1\t2\n", "line 2: found 3 cells"),
    "column twice": (PLAIN.replace("name", "onset ").encode(), r"line 1: found the column onset more than once \(columns 1, 2\)"),
    "column without name": (PLAIN.replace("onset", "").encode(), "line 1: found no name for column 1"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_no_table_is_refused_by_line(tmp_path: Path, fault: str) -> None:
    content, message = REFUSED[fault]
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "t.tsv")


def test_files_without_content(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_table(tmp_path / "none.tsv")
    (tmp_path / "annexed.tsv").symlink_to("nowhere")
    with pytest.raises(UserError, match="a link without content; fetch it"):
        read_table(tmp_path / "annexed.tsv")
    with pytest.raises(UserError, match="cannot be read"):
        read_table(tmp_path)


def test_comma_separated_tables_are_quoted(tmp_path: Path) -> None:
    path = tmp_path / "stimuli.csv"
    path.write_text('stimulus,stim_file,action,source\r\na,"a, b.mp4","say ""hi""",n/a\r\nb,,,\r\n')
    assert read_stimulus_manifest(path).drop(columns="start").to_numpy().tolist()[0] == ["a, b.mp4", 'say "hi"', "a, b.mp4"]
    path.write_text('a,b\n"c,d\n')
    with pytest.raises(UserError, match="not comma-separated"):
        read_table(path)


def test_numbers(tmp_path: Path) -> None:
    path = tmp_path / "confounds.tsv"
    path.write_text("a\tb\nn/a\t1e-3\nNaN\t-2\n")
    np.testing.assert_array_equal(read_numbers(path).to_numpy(), [[np.nan, 1e-3], [np.nan, -2.0]])
    assert read_numbers(path, ["b"]).columns.tolist() == ["b"]
    with pytest.raises(UserError, match="columns: found a, b; expected also c"):
        read_numbers(path, ["c"])
    path.write_text("a\tb\n1\t1\n2\t1,5\n")
    with pytest.raises(UserError, match="line 3: b: found '1,5', expected a number"):
        read_numbers(path)
