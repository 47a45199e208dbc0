"""Pretrain SC-MBM on BOLD of source subjects and others. Run by hand: `python -m workflow_scripts.pretrain_sc_mbm --help`."""

from pathlib import Path

from boldscribe.workflow import Config, Files, Inputs, Output, program

STAGED = ("series", "further")  # read in every epoch
SETTINGS = (
    "bold.n_volumes datasets.*.fold_of datasets.*.train_subjects paths.results pretraining sc_mbm seed tokenizer training.compile "
    "training.precision"
)


@program("pretrain_sc_mbm", settings=SETTINGS, stage=STAGED, shut=True)
def main(
    config: Config,
    dataset: str,
    series: Inputs,
    voxels: Inputs,
    trials: Inputs,
    models: Inputs,
    weights: Output,
    curve: Output,
    work: Path,
    files: Files,
) -> None:
    """Pretrain by masked brain modelling on BOLD of source subjects and of people who are in no table."""
    from boldscribe.data.placement import voxels_path
    from boldscribe.training.pretrain import pretrain_sc_mbm
    from boldscribe.training.pretraining_data import further_series

    further = further_series(config)  # more than a thousand: too many for a command line
    files.use("further_voxels", map(voxels_path, further))  # first: only files declared by then are linked next to a copy
    further = files.use("further", further)
    pretrain_sc_mbm(
        config,
        dataset,
        series=series,
        trials=trials,
        further=further,
        weights=weights,
        curve=curve,
        work_dir=work,
    )


if __name__ == "__main__":
    main()
