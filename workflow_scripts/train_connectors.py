"""Train the miniature Video-LLaMA's connectors. Run by hand: `python -m workflow_scripts.train_connectors --help`."""

from pathlib import Path

from boldscribe.workflow import Config, Inputs, Output, program

SETTINGS = "connectors seed simulation stimuli video_llama"


@program("train_connectors", settings=SETTINGS)
def main(config: Config, models: Inputs, folder: Output, work: Path) -> None:
    """Train the miniature Video-LLaMA's connectors on rendered clips that no data set uses."""
    from boldscribe.training.connectors import train_connectors

    train_connectors(config, models_dir=models[0].parent, out_dir=folder, work_dir=work)


if __name__ == "__main__":
    main()
