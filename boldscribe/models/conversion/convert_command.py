"""`boldscribe convert`: conversion of published weights to the pipeline's files (docs/weights.md)."""

from __future__ import annotations

from pathlib import Path

import click

from boldscribe.machinery.errors import user_errors
from boldscribe.machinery.files import ROOT

CONFIG = ROOT / "config.yaml"
path = click.Path(path_type=Path)


@click.group()
def convert() -> None:
    """Convert published weights; every tensor is used or reported, and no pickled code is run."""


@convert.command("video-llama")
@click.option("--checkpoint", type=path, required=True, help="Vision branch: VL_LLaMA_2_7B_Finetuned.pth or finetune-vicuna7b-v2.pth.")
@click.option("--blip2", type=path, help="blip2_pretrained_flant5xxl.pth, if the checkpoint has no image Q-Former.")
@click.option("--eva", type=path, help="eva_vit_g.pth, if the checkpoint has no visual encoder.")
@click.option("--llm", type=path, required=True, help="Folder of the language model that the checkpoint was trained with.")
@click.option("--out", type=path, required=True, help="New folder, e.g. models/video-llama-2-7b.")
@user_errors
def video_llama(checkpoint: Path, blip2: Path | None, eva: Path | None, llm: Path, out: Path) -> None:
    """Convert Video-LLaMA: visual encoder, connectors and language model."""
    from boldscribe.models.conversion.convert_video_llama import convert_video_llama

    report = convert_video_llama(checkpoint, llm, out, blip2=blip2, eva=eva)
    for source in report["sources"]:
        click.echo(f"{source['file']}: {len(source['used'])} tensors used")
        for name, winner in source["given_up_for_the_equal_tensor_of"].items():
            click.echo(f"  {name}: the one in {winner} is used")
        for reason, names in source["not_needed"].items():
            click.echo(f"  {len(names)} not needed: {reason}")
    click.echo(f"written to {out}; conversion.json records what happened to each tensor")


@convert.command("sc-mbm")
@click.argument("file", type=path)
@click.option("--out", type=path, required=True, help="New folder for sc_mbm.safetensors and sc_mbm.json.")
@click.option(
    "--config", type=path, default=CONFIG, show_default="config.yaml", help="Configuration; its section sc_mbm must match the file."
)
@user_errors
def sc_mbm(file: Path, out: Path, config: Path) -> None:
    """Convert the fMRI encoder of MinD-Vis or MinD-Video: its blocks and final norm."""
    from boldscribe.config import Config
    from boldscribe.models.conversion.convert_sc_mbm import convert_sc_mbm

    report = convert_sc_mbm(file, Config.load(config).sc_mbm, out)
    click.echo(f"{file}: {len(report['used'])} tensors used")
    for reason, names in report["not_used"].items():
        click.echo(f"  {len(names)} not used: {reason}")
    click.echo(f"  {report['n_heads']['configured']} attention heads, {report['n_heads']['note']}")
    click.echo(f"written to {out}; sc_mbm.json records what happened to each tensor")
