"""Parameters of the steps: the options of their programs, and what reruns them when it changes."""


def settings(step):
    """Return a function for the settings that a step reads (SETTINGS of its program); a changed one reruns only the steps that read it."""
    return lambda wildcards: settings_of(step, *((name, wildcards.get(name)) for name in ("dataset", "asset", "references")))


@cache
def settings_of(step, *wildcards):
    """Return the settings of a step's jobs with these wildcards as JSON, computed once instead of for each job."""
    return json.dumps(slice_of(experiment, step, {name: value for name, value in wildcards if value is not None}), sort_keys=True)


def code(program):
    """Return the fingerprint of a program's reachable code: a changed function reruns the steps that use it, a changed comment none."""
    return current_fingerprint(program).sha256


def container_digest(wildcards):
    """Return the digest of fMRIPrep's image, a change of which reruns its jobs; empty if unknown, which fMRIPrep's check reports."""
    try:
        return pinned_digest(experiment) if FMRIPREP else ""
    except UserError:
        return ""


@cache
def packages(program):
    """Return a digest of the versions of all packages that a program uses."""
    return json_digest(packages_of(program))


def options(wildcards, input, output):
    """Command-line options of a job's wildcards and files; none for inputs that it does not have."""
    values = [word for name, value in wildcards.items() for word in ((f"--{name}", value) if value else (f"--{name}=",))]
    return values + [word for name, paths in (*named(input), *named(output)) for word in (f"--{name.replace('_', '-')}", *paths)]


def launch(wildcards, input):
    """Return how a training run starts; it depends on `input` for Snakemake to ignore changes: the number of nodes changes no result."""
    return LAUNCH


def named(files):
    """Name and paths of a job's files, except its program."""
    both = ((name, files.get(name)) for name in files.keys() if name != "script")
    return [(name, [paths] if isinstance(paths, str) else list(paths)) for name, paths in both if paths]


def set_params_by_name(steps):
    """Set the parameters that follow from a step's name: its program, and its code, packages and settings, whose changes rerun it.

    The base rule cannot set them, since it learns the name only from its input, and Snakemake ignores changes of parameters that depend
    on input.
    """
    for step in (step for step in steps if "run" in step.params.keys()):
        found = {"code": of_step(code, step.name), "packages": of_step(packages, step.name), "settings": settings(step.name)}
        step.set_params(step=step.name, **{name: value for name, value in found.items() if name not in step.params.keys()})


def of_step(function, step):
    """Return a parameter that is computed for a step's jobs only, so that reading the rules stays fast."""
    return lambda wildcards: function(step)
