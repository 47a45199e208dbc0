"""The frame of every workflow script: a command line with declared inputs and outputs, run inside the provenance recorder.

    @program("stage1", inputs={"series": "cleaned BOLD series"}, outputs={"encoder": "trained fMRI encoder"}, wildcards=("dataset",))
    def main(config: Config, inputs: Files, outputs: Files, dataset: str) -> None: ...

gives `python -m workflow_scripts.stage1 --config C --dataset D --series FILE... --encoder FILE`, checks that the inputs
exist, shows a `UserError` as a message, and writes `X.prov.json` next to each output.
"""

from __future__ import annotations

import argparse
import atexit
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Results on a CPU are bitwise reproducible only with the same number of threads; Snakemake sets this variable to the rule's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from boldscribe.cluster import preemption
from boldscribe.cluster.site import load_site, scratch_folder
from boldscribe.config import Config, load_config
from boldscribe.content_cache import ContentCache
from boldscribe.errors import UserError
from boldscribe.files import json_digest
from boldscribe.offline import forbid_as_parent, forbid_network, is_offline, plainly
from boldscribe.processes import cores
from boldscribe.provenance.environment import check_packages, packages_of
from boldscribe.provenance.fingerprint import current_fingerprint
from boldscribe.provenance.guard import Guard
from boldscribe.provenance.reading import reading
from boldscribe.provenance.record import Job, attempt_of, record

if TYPE_CHECKING:
    from boldscribe.cluster.staging import Scratch


forbid_as_parent()  # a worker process of a step imports the step's program


class Files:
    """The files of a step by name: `files["series"]` is a list, `files.one("series")` the only one.

    Attributes:
        paths: as they were declared.
        container: image and digest of the container that did the work, if any.
        scratch: copies that are read instead of some of the files, if any; `on_scratch`: the names of these files.
    """

    def __init__(self, paths: Mapping[str, list[Path]]) -> None:
        self.paths = dict(paths)
        self.container: dict[str, str | None] | None = None
        self.scratch: Scratch | None = None
        self.on_scratch: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> list[Path]:
        places = self.scratch.places if self.scratch else {}
        return [places.get(path, path) for path in self.paths[name]]

    def use(self, name: str, paths: Iterable[Path]) -> None:
        """Declare further files that the step found while it ran, such as weights inside an installed package."""
        self.paths[name] = [*self.paths.get(name, []), *paths]
        if self.scratch and name in self.on_scratch:
            self.scratch.stage(self.paths, [name])

    def one(self, name: str) -> Path:
        """Return the only file of that name.

        Raises:
            UserError: no file or several files were given.
        """
        if len(paths := self[name]) != 1:
            raise UserError(f"--{name.replace('_', '-')}", f"found {len(paths)} files, expected one")
        return paths[0]


def program(
    rule: str,
    *,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    wildcards: tuple[str, ...] = (),
    work: bool = False,
    network: bool = False,
    resources: tuple[str, ...] = (),
    cache: bool = False,
    stage: tuple[str, ...] = (),
    shut: bool = False,
    share: Callable[[Config, Files], object] | None = None,
) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Turn a function into the command line of a rule.

    Args:
        rule: name of the rule.
        inputs, outputs: option name → help text; each option takes any number of paths.
        wildcards: further options, passed to the function by name.
        work: whether the step keeps intermediate files in a separate folder, passed as `work`.
        network: whether the step may reach other machines; if not, an attempt is an error (`boldscribe.offline`).
        resources: which of the job's limits `threads` and `memory_mb` are passed; they do not distinguish jobs.
        cache: whether the step reuses what others made from the same content (`paths.cache`, passed as `cache`); not a setting of
            the step, since it does not change the outputs.
        stage: inputs that the step reads many times; they are copied to the node's local disk if the site names a folder there
            (`boldscribe.cluster.staging`).
        shut: whether the kernel also denies the step undeclared labels, captions and clips; for steps that train or decode
            (`boldscribe.provenance.guard`).
        share: loads what jobs of the rule have in common and do not change. If jobs share a fork server, it is called there, and its
            module must keep what it loads for the step to find (`functools.cache`). It may open models, and nothing else.
    """

    def decorate(function: Callable[..., None]) -> Callable[[], None]:
        parser = _parser(rule, function.__doc__ or "", inputs, outputs, wildcards, work, resources)

        def main() -> None:
            arguments = parser.parse_args()
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
            if not network or is_offline():
                models = [path.name for path in getattr(arguments, "models", [])] or [getattr(arguments, "asset", "")]
                forbid_network(
                    job_name(rule, {name: getattr(arguments, name) for name in wildcards}), partial(_advise, arguments.config, models)
                )
            try:
                _run(rule, function, arguments, inputs, outputs, wildcards, resources, cache, stage, shut)
            except UserError as error:
                sys.exit(f"error: {error}")
            except preemption.Preempted as preempted:
                preemption.requeue(preempted)
                raise
            if function.__module__ == "__main__":
                _end()

        def preload(line: Sequence[str]) -> None:
            """Load what jobs share, in a fork server before it runs this program (`boldscribe.forkserver.server`)."""
            if share is not None:
                arguments = parser.parse_args(line)
                share(load_config(*arguments.config), Files({name: getattr(arguments, name) for name in inputs}))

        main.preload = preload  # type: ignore[attr-defined]
        return main

    return decorate


def _parser(
    rule: str,
    doc: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    wildcards: tuple[str, ...],
    work: bool,
    resources: tuple[str, ...],
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m workflow_scripts.{rule}", description=doc)
    parser.add_argument("--config", type=Path, nargs="+", required=True, help="configuration file(s); later ones override earlier ones")
    for name in wildcards:
        parser.add_argument(f"--{name}", required=True)
    if work:
        told = "folder for intermediate files, from which an interrupted run resumes; by default below the results"
        parser.add_argument("--work", type=Path, help=told)
    parser.add_argument("--threads", type=int, default=cores(), help="number of threads that the job may use; all cores by default")
    parser.add_argument("--memory-mb", type=int, required="memory_mb" in resources, help="memory that the job may use (MB)")
    for kind, options in (("input", inputs), ("output", outputs)):
        group = parser.add_argument_group(kind)
        for name, text in options.items():
            group.add_argument(f"--{name.replace('_', '-')}", type=Path, nargs="*", default=[], required=kind == "output", help=text)
    return parser


def _run(
    rule: str,
    function: Callable[..., None],
    arguments: argparse.Namespace,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    wildcards: tuple[str, ...],
    resources: tuple[str, ...],
    cache: bool,
    stage: tuple[str, ...],
    shut: bool,
) -> None:
    check_packages(rule)
    config = load_config(*arguments.config)
    read: dict[str, Any] = {}
    inputs_given = Files({name: getattr(arguments, name) for name in inputs})
    outputs_made = Files({name: getattr(arguments, name) for name in outputs})
    values = {name: getattr(arguments, name) for name in wildcards}
    further = {name: getattr(arguments, name) for name in resources}
    work = None
    if hasattr(arguments, "work"):
        further["work"] = work = arguments.work or Path(config.paths.results, "work", rule, *values.values())
    if cache:
        further["cache"] = _cache_of(rule, config)
    if absent := [str(p) for paths in inputs_given.paths.values() for p in paths if not p.exists()]:
        raise UserError(rule, f"input {', '.join(absent)} does not exist; run the stage that makes it")
    guard = Guard(job_name(rule, values), rule, config, inputs_given.paths, outputs_made.paths, cache)
    if int(os.environ.get("RANK", 0)) > 0:  # one of several processes that train together: the first one records for all
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the rules' shells ignore it, and their processes inherit that
        try:
            with plainly(), _staged(inputs_given, stage), guard.watching(shut):
                function(config, inputs_given, outputs_made, **values, **further)
        except preemption.Preempted:
            preemption.wait_for_first_process()
        return
    job = Job(rule, Path(config.paths.results), inputs_given.paths, outputs_made.paths, values, read)
    preemption.exit_on_sigterm()
    print(_header(job), file=sys.stderr, flush=True)
    with record(job), _alone_in(work), plainly(), _staged(inputs_given, stage) as scratch, guard.watching(shut):
        job.guarded_by = guard.lines
        function(reading(config, read), inputs_given, outputs_made, **values, **further)
        job.container = inputs_given.container
        if scratch and scratch.names:
            job.staged = {"inputs": scratch.names, "bytes": scratch.bytes, "seconds": round(scratch.seconds, 1)}


def _end() -> None:
    """Exit with success but without module teardown, which takes a second in each step that uses torch."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _advise(configs: list[Path], models: list[str], host: str) -> str:
    """Advise what to do about an attempt to reach a host."""
    from boldscribe.fetching.missing import advise  # imported late, since it is rarely needed

    return advise(host, configs, models)


def job_name(rule: str, wildcards: Mapping[str, str]) -> str:
    """Return a job's display name, such as `decode had sub-05 condition-model`."""
    bare = ("dataset", "asset")
    short = {"subject": "sub"}
    return " ".join([rule, *(value if name in bare else f"{short.get(name, name)}-{value}" for name, value in wildcards.items())])


@contextmanager
def _staged(inputs: Files, names: tuple[str, ...]) -> Iterator[Scratch | None]:
    """Let inputs be read from the node's local disk while the block runs, if the site names a folder there."""
    folder = scratch_folder(load_site()) if names else None
    if folder is None:
        yield None
        return
    from boldscribe.cluster.staging import staged

    with staged(folder, inputs.paths, names) as scratch:
        inputs.scratch, inputs.on_scratch = scratch, names
        yield scratch


def _header(job: Job) -> str:
    """Return the first line of an attempt in the step's log, and in the log next to it that contains all attempts."""
    values = " ".join([job.rule, *(f"{name}={value}" for name, value in job.wildcards.items())])
    slurm = os.environ.get("SLURM_JOB_ID")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    where = f"{f'Slurm job {slurm}' if slurm else 'no Slurm'} | {os.uname().nodename}"
    return f"=== {values} | {job.results} | attempt {attempt_of(job)} | {where} | {now} ==="


def _cache_of(rule: str, config: Config) -> ContentCache | None:
    """Return the content cache of a step, which is specific to its code and packages; None if none is configured."""
    if config.paths.cache is None:
        return None
    return ContentCache(Path(config.paths.cache) / rule, json_digest([current_fingerprint(rule).sha256, packages_of(rule)]))


@contextmanager
def _alone_in(work: Path | None) -> Iterator[None]:
    """Hold the work folder's lock: a job that outlived a killed Snakemake must end before its successor resumes from its files."""
    if work is None:
        yield
        return
    work.mkdir(parents=True, exist_ok=True)
    with work.with_name(f".{work.name}.lock").open("w") as lock:  # next to the folder, which a step may empty
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.getLogger(__name__).warning("%s is in use by an earlier job; waiting for it to end", work)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
