"""Render the clips of a simulated data set and write its data-set-level BIDS files.

Run by hand: `python -m workflow_scripts.simulate_stimuli --help`.
"""

from boldscribe.workflow import Config, Files, Output, program

SETTINGS = (
    "datasets.*.bids_dir datasets.*.simulated.runs datasets.*.simulated.shared_clips datasets.*.simulated.subjects "
    "datasets.*.simulated.trials_per_run datasets.*.task datasets.*.title seed simulation.clip_fps simulation.clip_seconds "
    "simulation.clip_size simulation.snr simulation.stimulus_onset_asynchrony"
)


@program("simulate_stimuli", settings=SETTINGS)
def main(config: Config, dataset: str, stimuli: Output, description: Output, files: Files) -> None:
    """Render the clips of a simulated data set and write its data-set-level BIDS files."""
    from boldscribe.simulation.dataset import simulate_stimuli

    files.make("dataset_files", simulate_stimuli(config, dataset))


if __name__ == "__main__":
    main()
