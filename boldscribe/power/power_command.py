"""`boldscribe power`: estimate the probability that the decoder will beat its controls, before anyone is scanned."""

from __future__ import annotations

import os
from pathlib import Path

import click

from boldscribe.machinery.errors import user_errors
from boldscribe.machinery.files import ROOT

FAST = (ROOT / "profiles" / "demo" / "experiment.yaml", Path(__file__).with_name("fast.yaml"))
path = click.Path(path_type=Path)


@click.command()
@click.option(
    "--subjects", default="4+2", show_default=True, help="Source + target subjects; separate several designs with commas: 4+2,8+2."
)
@click.option("--trials", default="48", show_default=True, help="Trials per run, with two runs per subject; separate several with commas.")
@click.option(
    "--snr", default="1", show_default=True, help="Signal relative to the simulator's default, 0 for none; separate several with commas."
)
@click.option("--repeats", type=click.IntRange(min=1), default=20, show_default=True, help="Simulated experiments per design.")
@click.option("--jobs", type=click.IntRange(min=1), help="Experiments to run at the same time; by default, one per core.")
@click.option(
    "--out", type=path, default=Path("results/power"), show_default=True, help="Output folder; experiments already in it are not run again."
)
@click.option("--seed", type=int, help="Seed of all experiments, instead of the configured one.")
@click.option(
    "--config", "configs", type=path, multiple=True, help="Configuration file that overrides the fast configuration; may be repeated."
)
@user_errors
def power(
    subjects: str, trials: str, snr: str, repeats: int, jobs: int | None, out: Path, seed: int | None, configs: tuple[Path, ...]
) -> None:
    """Estimate the probability that the decoder beats its controls, for a design.

    Runs whole simulated experiments, REPEATS of each combination, and writes power.csv and power.svg to the folder OUT.
    """
    from boldscribe.config import Config
    from boldscribe.machinery.files import atomic
    from boldscribe.machinery.processes import cores, prepare_environment
    from boldscribe.power.curve import ALL, draw, probabilities
    from boldscribe.power.design import designs
    from boldscribe.power.repetitions import run_all

    prepare_environment()
    os.environ["TQDM_DISABLE"] = "1"  # in the processes of the experiments: their bars would mix with the overall one
    config = Config.load(*FAST, *configs)
    if seed is not None:
        config = config.model_copy(update={"seed": seed})
    tests = run_all(config, designs(subjects, trials, snr), repeats, jobs or cores(), out)
    table = probabilities(tests)
    with atomic(out / "power.csv") as part:
        table.to_csv(part, index=False, lineterminator="\n", float_format="%.4g")
    draw(table, out / "power.svg")
    for row in table[table["control"] == ALL].itertuples():
        click.echo(
            f"{row.source}+{row.target} subjects, {row.trials} trials per run, SNR {row.snr:g}: beats all null controls in {row.beaten} "
            f"of {row.repeats} simulated experiments: {row.probability:.2f} (95 % interval {row.low:.2f} to {row.high:.2f})"
        )
    click.echo(out / "power.csv")
    click.echo(out / "power.svg")
