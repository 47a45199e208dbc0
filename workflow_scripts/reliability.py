"""Measure how well responses to the same clip agree: the noise ceiling. Run by hand: `python -m workflow_scripts.reliability --help`."""

from boldscribe.workflow import Config, Inputs, Output, program

SETTINGS = ""


@program("reliability", settings=SETTINGS)
def main(config: Config, dataset: str, series: Inputs, voxels: Inputs, trials: Inputs, labels: Inputs, reliability: Output) -> None:
    """Measure how well responses to the same clip agree: the noise ceiling."""
    from boldscribe.evaluation.reliability import write_reliability

    write_reliability(dataset, series=series, trials=trials, labels=labels, output=reliability)


if __name__ == "__main__":
    main()
