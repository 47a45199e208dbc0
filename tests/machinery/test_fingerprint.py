"""The fingerprint of code: it follows what a program uses, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from boldscribe.machinery.provenance import fingerprint, modules
from boldscribe.machinery.provenance.fingerprint import Code, changed_parts
from tests.conftest import ROOT

PROGRAM = """
from boldscribe.a import outer
import boldscribe.b as b
from boldscribe.machinery.steps.program import program

@program("p")
def main():
    outer()
    b.used()
"""
A = """
'''What this module is.'''
import numpy as np
from boldscribe import c as renamed

SCALE = 2

def outer():
    '''What this function does.'''
    return inner() * SCALE + renamed.Thing().value()

def inner():
    from boldscribe.d import late
    return late(np.ones(3))

def elsewhere():
    return 1
"""
B = "def used(): return open('words.txt')\ndef unused(): return 0\n"
C = "import torch\nclass Thing:\n    def value(self): return help_value()\ndef help_value(): return 4\nprint('imported')\n"
D = "def late(x): return x\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in {"a": A, "b": B, "c": C, "d": D, "__init__": ""}.items():
        (tmp_path / "boldscribe").mkdir(exist_ok=True)
        (tmp_path / "boldscribe" / f"{name}.py").write_text(text)
    (tmp_path / "boldscribe" / "words.txt").write_text("words")
    (tmp_path / "workflow_scripts").mkdir()
    (tmp_path / "workflow_scripts" / "__init__.py").touch()
    (tmp_path / "workflow_scripts" / "p.py").write_text(PROGRAM)
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    monkeypatch.setattr(modules, "ROOT", tmp_path)
    modules.exists.cache_clear()
    yield tmp_path
    modules.exists.cache_clear()


def test_it_follows_names_through_modules_classes_late_imports_and_files(project: Path) -> None:
    found = Code().fingerprint("p")
    assert set(found.parts) == {
        "workflow_scripts.p",
        "workflow_scripts.p.main",
        *(f"boldscribe.{name}" for name in ("a.outer", "a.inner", "a.SCALE", "b.used", "c", "c.Thing", "c.help_value", "d.late")),
        "boldscribe/words.txt",
    }
    assert found.packages == {"numpy"}, "torch is imported, but no definition that is reached uses it"


@pytest.mark.parametrize(
    "name, before, after, parts",
    [
        ("a.py", "SCALE = 2", "SCALE = 3", ["boldscribe.a.SCALE"]),
        ("c.py", "return 4", "return 5", ["boldscribe.c.help_value"]),
        ("c.py", "print('imported')", "print('Imported')", ["boldscribe.c"]),
        ("d.py", "return x", "return -x", ["boldscribe.d.late"]),
        ("words.txt", "words", "other words", ["boldscribe/words.txt"]),
        ("b.py", "unused(): return 0", "unused(): return 1", []),
        ("a.py", "return 1", "return 2", []),
        ("a.py", "    '''What this function does.'''\n", "    # a remark\n", []),
        ("a.py", "inner() * SCALE", "(inner()  *  SCALE)", []),
        ("a.py", "'''What this module is.'''\n", "", []),
    ],
)
def test_it_changes_with_what_is_used_alone(project: Path, name: str, before: str, after: str, parts: list[str]) -> None:
    first = Code().fingerprint("p")
    file = project / "boldscribe" / name
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))
    second = Code().fingerprint("p")
    assert list(changed_parts(first.parts, second.parts)) == parts
    assert (first.sha256 != second.sha256) == bool(parts)


def test_another_version_of_the_code_is_read_without_touching_this_one(project: Path) -> None:
    def read(path: Path) -> bytes:
        return path.read_bytes().replace(b"return 4", b"return 5")

    assert Code(read).fingerprint("p").sha256 != Code().fingerprint("p").sha256


def test_every_program_of_the_project_has_one_that_holds_what_it_runs() -> None:
    code = Code()
    found = {path.stem: code.fingerprint(path.stem) for path in (ROOT / "workflow_scripts").glob("[a-z]*.py")}
    assert len({f.sha256 for f in found.values()}) == len(found) > 15
    assert {"boldscribe.losses.clip_loss", "boldscribe.losses.l2_l1_loss"} <= set(found["stage1"].parts)
    assert (
        "boldscribe.losses.clip_loss" not in found["stage2"].parts and "boldscribe.losses.entropy_separation_loss" in found["stage2"].parts
    )
    assert "boldscribe/report/page.html.j2" in found["report"].parts
    assert "nltk" in found["scores"].packages and "nltk" not in found["decode"].packages
    assert not any(part.startswith(("boldscribe.machinery.provenance", "boldscribe.config")) for f in found.values() for part in f.parts)
