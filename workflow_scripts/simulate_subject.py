"""Simulate one subject's T1w and BOLD while watching the clips. Run by hand: `python -m workflow_scripts.simulate_subject --help`."""

from boldscribe.workflow import Config, Files, Inputs, Output, program

SETTINGS = (
    "datasets.*.bids_dir datasets.*.simulated.runs datasets.*.simulated.shared_clips datasets.*.simulated.subjects "
    "datasets.*.simulated.trials_per_run datasets.*.task seed simulation.clip_seconds simulation.repetition_time simulation.snr "
    "simulation.stimulus_onset_asynchrony simulation.t1w_voxel_size simulation.voxel_size"
)


@program("simulate_subject", settings=SETTINGS)
def main(config: Config, dataset: str, subject: str, stimuli: Inputs, out: Output, files: Files) -> None:
    """Simulate one subject's T1w and BOLD while watching the clips."""
    from boldscribe.data.template import template_files
    from boldscribe.simulation.dataset import simulate_subject

    simulate_subject(config, dataset, subject)
    files.use("template", template_files())


if __name__ == "__main__":
    main()
