"""What tests of the audit share: its verdicts, Snakemake's plan, and changes of one file that are taken back."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from tests.conftest import Checkout

Change = Callable[[Checkout], None]


def audit(checkout: Checkout, *options: str) -> dict[str, str]:
    """Path → verdict of everything that is not verified."""
    done = _audit(checkout, *options)
    findings = json.loads(done)["findings"]
    assert len(findings) > 20
    return {f["path"]: f["verdict"] for f in findings if f["verdict"] != "verified"}


def reasons(checkout: Checkout, name: str) -> str:
    """Why the audit judges a file as it does."""
    return " ".join(r["why"] for f in json.loads(_audit(checkout))["findings"] if f["path"] == name for r in f["reasons"])


def _audit(checkout: Checkout, *options: str) -> str:
    command = [sys.executable, "-m", "boldscribe.cli", "audit", f"results/{checkout.experiment}", "--json", *options]
    done = checkout.run(*command, check=False)
    assert done.stdout, done.stderr
    verdicts = {f["verdict"] for f in json.loads(done.stdout)["findings"]} - {"verified"}
    assert done.returncode == (4 if verdicts & {"tampered", "unrecorded", "orphan"} else 3 if verdicts else 0)
    return done.stdout


def planned(checkout: Checkout) -> set[str]:
    """Outputs that Snakemake would make again."""
    lines = [line.split("\t") for line in checkout.snakemake("--summary").stdout.splitlines() if "\t" in line]
    place, plan = lines[0].index("output_file"), lines[0].index("plan")
    return {line[place].removeprefix(f"results/{checkout.experiment}/") for line in lines[1:] if line[plan] == "update pending"}


def edit(name: str, before: str, after: str) -> Change:
    """Change a text of a file of the checkout, where it first stands."""

    def change(checkout: Checkout) -> None:
        text = (checkout.root / name).read_text()
        assert before in text
        (checkout.root / name).write_text(text.replace(before, after, 1))

    return change


def flip_byte(name: str) -> Change:
    """Another content of a file under the same size and modification time."""

    def change(checkout: Checkout) -> None:
        path = checkout.root / name
        stat = path.stat()
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert path.stat().st_size == stat.st_size and path.stat().st_mtime_ns == stat.st_mtime_ns

    return change


@contextmanager
def changed(checkout: Checkout, name: str, change: Change) -> Iterator[Checkout]:
    """Change a file of the checkout in this block; the original, times and all, is put back."""
    path = checkout.root / name
    kept = path.rename(checkout.root.parent / f"{checkout.root.name}-{path.name}")
    shutil.copy2(kept, path)
    try:
        change(checkout)
        yield checkout
    finally:
        kept.replace(path)


def pretend_version(folder: Path, package: str, version: str) -> None:
    """Metadata of the installed package, but for the version, in a folder that Python searches first."""
    installed = metadata.distribution(package)
    text = (installed.read_text("METADATA") or "").replace(f"\nVersion: {installed.version}\n", f"\nVersion: {version}\n")
    info = folder / f"{package}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(text)
