"""Stage II: train the bridge through the frozen LLM, with domain adaptation. Run by hand: `python -m workflow_scripts.stage2 --help`."""

from pathlib import Path

from boldscribe.config import Config
from boldscribe.models import share_llm
from boldscribe.provenance.program import Files, program

INPUTS = {
    "trials": "trial indices of the source subjects",
    "labels": "their labels",
    "captions": "their pseudo-captions",
    "tokens": "fMRI tokens of their trials",
    "target_tokens": "fMRI tokens of the target subjects' adaptation trials",
    "models": "model folders",
}
OUTPUTS = {"folder": "trained bridge"}


@program("stage2", inputs=INPUTS, outputs=OUTPUTS, wildcards=("dataset", "bridge"), work=True, shut=True, share=share_llm)
def main(config: Config, inputs: Files, outputs: Files, dataset: str, bridge: str, work: Path) -> None:
    """Stage II: train the bridge through the frozen LLM, with domain adaptation."""
    from boldscribe.training.stage2 import train_stage2

    train_stage2(
        config,
        dataset,
        bridge,
        trials=inputs["trials"],
        labels=inputs["labels"],
        captions=inputs["captions"],
        tokens=inputs.one("tokens"),
        target_tokens=inputs.one("target_tokens"),
        models_dir=inputs["models"][0].parent,
        output_dir=outputs.one("folder"),
        work_dir=work,
    )


if __name__ == "__main__":
    main()
