"""Stage II: train the bridge through the frozen LLM, with domain adaptation. Run by hand: `python -m workflow_scripts.stage2 --help`."""

from pathlib import Path

from boldscribe.models import share_llm
from boldscribe.workflow import Config, Input, Inputs, Output, program

SETTINGS = (
    "datasets.*.train_subjects datasets.*.validation_subjects seed stage2 video_llama.connectors video_llama.dtype video_llama.llm "
    "video_llama.prompt video_llama.q_former.hidden_size video_llama.stop"
)


@program("stage2", settings=SETTINGS, shut=True, share=share_llm)
def main(
    config: Config,
    dataset: str,
    bridge: str,
    trials: Inputs,
    labels: Inputs,
    captions: Inputs,
    tokens: Input,
    target_tokens: Input,
    models: Inputs,
    folder: Output,
    work: Path,
) -> None:
    """Stage II: train the bridge through the frozen LLM, with domain adaptation."""
    from boldscribe.training.stage2 import train_stage2

    train_stage2(
        config,
        dataset,
        bridge,
        trials=trials,
        labels=labels,
        captions=captions,
        tokens=tokens,
        target_tokens=target_tokens,
        models_dir=models[0].parent,
        output_dir=folder,
        work_dir=work,
    )


if __name__ == "__main__":
    main()
