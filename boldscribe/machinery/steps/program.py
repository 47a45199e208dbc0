"""The frame of every workflow script: a function whose parameters are the command line, run inside the provenance recorder.

    @program("stage1", settings="stage1 seed")
    def main(config: Config, dataset: str, series: Inputs, encoder: Output) -> None: ...

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

# Results on a CPU are bitwise reproducible only with the same number of threads; Snakemake sets this variable to the rule's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from boldscribe.machinery.cluster import preemption
from boldscribe.machinery.cluster.site import load_site, scratch_folder
from boldscribe.machinery.configuration import Experiment, look_up
from boldscribe.machinery.content_cache import ContentCache
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import json_digest
from boldscribe.machinery.offline import forbid_as_parent, forbid_network, is_offline, plainly
from boldscribe.machinery.processes import cores
from boldscribe.machinery.provenance.environment import check_packages, packages_of
from boldscribe.machinery.provenance.fingerprint import current_fingerprint
from boldscribe.machinery.provenance.record import Job, attempt_of, record
from boldscribe.machinery.registry import the_workflow
from boldscribe.machinery.section import restricted
from boldscribe.machinery.steps.guard import Guard
from boldscribe.machinery.steps.slices import Settings, keys_of
from boldscribe.machinery.steps.step_files import Files

if TYPE_CHECKING:
    from boldscribe.machinery.cluster.staging import Scratch


forbid_as_parent()  # a worker process of a step imports the step's program


def program(rule: str, **options: Any) -> Callable[[Callable[..., None]], Step]:
    """Turn a function into the command line of a rule: see `Step` for the options."""
    return lambda function: Step(rule, function, **options)


@dataclass(frozen=True)
class Step:
    """A step: a function whose parameters are its command line, which is run when the step is called.

    The function gets the configuration, and by the names of its parameters: wildcards (`str`), files (`Inputs`, `Input`, `Output`), and

    - `work`: a separate folder for intermediate files,
    - `threads`, `memory_mb`: the job's limits, which do not distinguish jobs,
    - `cache`: what others made from the same content (`paths.cache`); not a setting, since it does not change the outputs,
    - `files`: to declare files that the step finds or makes itself.

    Attributes:
        rule: name of the rule.
        function: with its docstring, the help.
        inputs: names of further inputs, which the function takes as `**inputs`.
        settings, by: names of the settings that the step gets, and no others (`boldscribe.machinery.steps.slices`).
        whereabouts: settings that it gets as well, and that no result depends on: where a program, an image or a licence is.
        network: whether the step may reach other machines; if not, an attempt is an error (`boldscribe.machinery.offline`).
        stage: inputs that the step reads many times; they are copied to the node's local disk if the site names a folder there
            (`boldscribe.machinery.cluster.staging`).
        shut: whether the kernel also denies the step undeclared labels, captions and clips; for steps that train or decode
            (`boldscribe.machinery.steps.guard`).
        share: loads what jobs of the rule have in common and do not change. If jobs share a fork server, it is called there, and its
            module must keep what it loads for the step to find (`functools.cache`). It may open models, and nothing else.
    """

    rule: str
    function: Callable[..., None]
    inputs: str = ""
    settings: Settings = ""
    by: str = ""
    whereabouts: str = ""
    network: bool = False
    stage: tuple[str, ...] = ()
    shut: bool = False
    share: Callable[[Any, Files], object] | None = None

    def __call__(self) -> None:
        """Run the step as its command line says; a user's mistake ends in a message."""
        arguments = self._parser().parse_args()
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
        if not self.network or is_offline():
            models = [path.name for path in getattr(arguments, "models", [])] or [getattr(arguments, "asset", "")]
            name = job_name(self.rule, self._wildcards(arguments))
            forbid_network(name, lambda host: the_workflow().advise(host, arguments.config, models))
        try:
            self._run(arguments)
        except UserError as error:
            sys.exit(f"error: {error}")
        except preemption.Preempted as preempted:
            preemption.requeue(preempted)
            raise
        if self.function.__module__ == "__main__":
            _end()

    def preload(self, line: Sequence[str]) -> None:
        """Load what jobs share, in a fork server before it runs this program (`boldscribe.machinery.forkserver.server`)."""
        if self.share is not None:
            arguments = self._parser().parse_args(line)
            self.share(self._load(arguments), self._files(arguments))

    @staticmethod
    def _load(arguments: argparse.Namespace) -> Experiment:
        return the_workflow().experiment.load(*arguments.config)

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        """Name → annotation of the function's parameters, the configuration and `**inputs` aside."""
        found = signature(self.function, eval_str=True).parameters.values()
        return {p.name: p.annotation for p in found if p.name != "config" and p.kind is not Parameter.VAR_KEYWORD}

    def _of_kind(self, kind: str) -> list[str]:
        """Names of the options of a kind: `input`, `output` or `wildcard`."""
        if kind == "wildcard":
            return [name for name, annotation in self._parameters.items() if annotation is str]
        found = [name for name, annotation in self._parameters.items() if get_args(annotation)[1:] == (kind,)]
        return [*found, *(self.inputs.split() if kind == "input" else [])]

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=f"python -m workflow_scripts.{self.rule}", description=self.function.__doc__ or "")
        parser.add_argument("--config", type=Path, nargs="+", required=True, help="configuration file(s), later ones over earlier ones")
        for name in self._of_kind("wildcard"):
            parser.add_argument(f"--{name}", required=True)
        if "work" in self._parameters:
            told = "folder for intermediate files, from which a stopped run resumes; in the results by default"
            parser.add_argument("--work", type=Path, help=told)
        parser.add_argument("--threads", type=int, default=cores(), help="number of threads that the job may use; all cores by default")
        needed = "memory_mb" in self._parameters
        parser.add_argument("--memory-mb", type=int, required=needed, help="memory that the job may use (MB)")
        for kind in ("input", "output"):
            group = parser.add_argument_group(f"{kind} (docs/data.md)")
            for name in self._of_kind(kind):
                required = kind == "output"
                group.add_argument(f"--{name.replace('_', '-')}", type=Path, nargs="*", default=[], required=required, metavar="FILE")
        return parser

    def _wildcards(self, arguments: argparse.Namespace) -> dict[str, str]:
        return {name: getattr(arguments, name) for name in self._of_kind("wildcard")}

    def _files(self, arguments: argparse.Namespace) -> Files:
        return Files(*({name: getattr(arguments, name) for name in self._of_kind(kind)} for kind in ("input", "output")))

    def _values(self, files: Files) -> dict[str, Any]:
        """Files as the function takes them.

        Raises:
            UserError: no file or several files where one is expected.
        """
        values: dict[str, Any] = {}
        for name in (*self._of_kind("input"), *self._of_kind("output")):
            found = files[name] if name in files.inputs else files.outputs[name]
            one = name in self._parameters and get_args(self._parameters[name])[0] is Path
            if one and len(found) != 1:
                raise UserError(f"--{name.replace('_', '-')}", f"found {len(found)} files, expected one")
            values[name] = found[0] if one else found
        return values

    def _run(self, arguments: argparse.Namespace) -> None:
        check_packages(self.rule)
        config, wildcards, files = self._load(arguments), self._wildcards(arguments), self._files(arguments)
        keys, work = keys_of(self.settings, self.by, config, wildcards), None
        given: dict[str, Any] = {name: getattr(arguments, name) for name in ("threads", "memory_mb") if name in self._parameters}
        if "work" in self._parameters:
            given["work"] = work = arguments.work or Path(config.paths.results, "work", self.rule, *wildcards.values())
        if "cache" in self._parameters:
            given["cache"] = _cache_of(self.rule, config)
        if "files" in self._parameters:
            given["files"] = files
        if absent := [str(p) for paths in files.inputs.values() for p in paths if not p.exists()]:
            raise UserError(self.rule, f"input {', '.join(absent)} does not exist; run the stage that makes it")
        guard = Guard(job_name(self.rule, wildcards), self.rule, config, files.inputs, files.outputs, "cache" in given)
        handed = restricted(config, [*keys, *self.whereabouts.split()])
        if int(os.environ.get("RANK", 0)) > 0:  # one of several processes that train together: the first one records for all
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the rules' shells ignore it, and their processes inherit that
            try:
                with plainly(), _staged(files, self.stage), guard.watching(self.shut):
                    self.function(handed, **wildcards, **self._values(files), **given)
            except preemption.Preempted:
                preemption.wait_for_first_process()
            return
        job = Job(self.rule, Path(config.paths.results), files.inputs, files.outputs, wildcards, look_up(config, keys))
        preemption.exit_on_sigterm()
        print(_header(job), file=sys.stderr, flush=True)
        with record(job), _alone_in(work), plainly(), _staged(files, self.stage) as scratch, guard.watching(self.shut):
            job.guarded_by = guard.lines
            self.function(handed, **wildcards, **self._values(files), **given)
            job.container = files.container
            if scratch and scratch.names:
                job.staged = {"inputs": scratch.names, "bytes": scratch.bytes, "seconds": round(scratch.seconds, 1)}


def _end() -> None:
    """Exit with success but without module teardown, which takes a second in each step that uses torch."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def job_name(rule: str, wildcards: Mapping[str, str]) -> str:
    """Return a job's display name, such as `decode had sub-05 condition-model`."""
    bare = ("dataset", "asset")
    short = {"subject": "sub"}
    named = (value if name in bare else f"{short.get(name, name)}-{value.lstrip('_')}" for name, value in wildcards.items() if value)
    return " ".join([rule, *named])


@contextmanager
def _staged(inputs: Files, names: tuple[str, ...]) -> Iterator[Scratch | None]:
    """Let inputs be read from the node's local disk while the block runs, if the site names a folder there."""
    folder = scratch_folder(load_site()) if names else None
    if folder is None:
        yield None
        return
    from boldscribe.machinery.cluster.staging import staged

    with staged(folder, inputs.inputs, names) as scratch:
        inputs.scratch, inputs.on_scratch = scratch, names
        yield scratch


def _header(job: Job) -> str:
    """Return the first line of an attempt in the step's log, and in the log next to it that contains all attempts."""
    values = " ".join([job.rule, *(f"{name}={value}" for name, value in job.wildcards.items())])
    slurm = os.environ.get("SLURM_JOB_ID")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    where = f"{f'Slurm job {slurm}' if slurm else 'no Slurm'} | {os.uname().nodename}"
    return f"=== {values} | {job.results} | attempt {attempt_of(job)} | {where} | {now} ==="


def _cache_of(rule: str, config: Experiment) -> ContentCache | None:
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
