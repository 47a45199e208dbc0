"""The fMRI encoder's parts: adaptors that start as nothing, tokens that know their voxels, masks that hide, weights that come back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import gelu, layer_norm

from boldscribe.config import Config
from boldscribe.config.model_settings import AdaptorSettings, ScMbmSettings, TokenizerSettings
from boldscribe.machinery.errors import UserError
from boldscribe.models.adaptor import add_adaptors, count_parameters, load_adaptors
from boldscribe.models.fmri_encoder import FmriEncoder, load_encoder, new_encoder, save_encoder
from boldscribe.models.sc_mbm import Attention, MaskedAutoencoder, ScMbm
from boldscribe.models.tokenizer import Tokenizer

SMALL = ScMbmSettings(dim=16, depth=2, n_heads=2, decoder_dim=8, decoder_depth=1, mask_ratio=0.5)
GRID = TokenizerSettings(grid=(8, 8, 4), channels=[4, 6])


def test_attention_equals_torchs_own() -> None:
    ours, reference = Attention(16, 4), nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        reference.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        reference.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(ours(x), reference(x, x, x)[0])


def test_cubes_are_the_voxels_under_each_token() -> None:
    tokenizer = Tokenizer(GRID, n_volumes=2, dim=16)
    bold = torch.arange(2 * 8 * 8 * 4, dtype=torch.float32).view(1, 2, 8, 8, 4)
    cubes = tokenizer.cubes(bold)
    assert cubes.shape == (1, tokenizer.n_tokens, 2 * 4**3)
    for token, (i, j) in enumerate((i, j) for i in range(2) for j in range(2)):
        expected = bold[0, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4, 0:4].reshape(-1)
        torch.testing.assert_close(cubes[0, token], expected)


def test_masked_voxels_cannot_reach_the_autoencoder() -> None:
    model = MaskedAutoencoder(SMALL, GRID, 2).eval()
    bold = torch.randn(1, 2, 8, 8, 4)
    kept = torch.tensor([[True, False, False, True]])
    changed = bold.clone()
    changed[:, :, 0:4, 4:8] = 99.0  # token 1, masked
    torch.testing.assert_close(model.tokenizer(model._blank(bold, kept)), model.tokenizer(model._blank(changed, kept)))
    changed[:, :, 0:4, 0:4] = 99.0  # token 0, kept
    assert not torch.allclose(model.tokenizer(model._blank(bold, kept)), model.tokenizer(model._blank(changed, kept)))


def test_the_autoencoder_learns_what_follows_from_the_rest() -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(SMALL, GRID, 2)
    bold = torch.randn(1, 2, 1, 1, 1).expand(16, 2, 8, 8, 4) * torch.randn(16, 1, 1, 1, 1)  # masked cubes follow from kept ones
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = model(bold)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_only_masked_voxels_that_were_measured_are_scored() -> None:
    model = MaskedAutoencoder(SMALL, GRID, 2)
    with torch.no_grad():
        model.to_voxels.weight.zero_()
        model.to_voxels.bias.fill_(5.0)  # what it restores, everywhere
    bold = torch.full((2, 2, 8, 8, 4), 2.0)
    bold[0, :, 3:] = 0.0  # one person's brain ends where the other's goes on
    bold[1, 0] = 0.0  # a volume before the steady state
    assert model(bold).item() == 9.0
    bold[:, :, :2] = 4.0
    losses = [model(bold).item() for _ in range(20)]
    assert min(losses) >= 1.0 and max(losses) <= 9.0 and len(set(losses)) > 1, "cubes are drawn anew each time"
    assert model(torch.zeros_like(bold)).item() == 0.0


def test_the_decoder_is_mind_vis() -> None:
    decoder = MaskedAutoencoder(ScMbmSettings(depth=1), GRID, 2).decoder
    *blocks, norm = decoder
    assert len(blocks) == 8 and isinstance(norm, nn.LayerNorm) and norm.normalized_shape == (512,)
    assert {(block.attention.n_heads, block.mlp.expand.out_features) for block in blocks} == {(16, 512)}


def adapted(activation: str = "gelu") -> tuple[nn.Module, PeftModel]:
    torch.manual_seed(0)
    plain = ScMbm(SMALL)
    copy = ScMbm(SMALL)
    copy.load_state_dict(plain.state_dict())
    return plain, add_adaptors(copy, AdaptorSettings(rank=3, activation=activation, scale=2.0))


def test_adaptors_start_as_nothing_and_are_all_that_trains() -> None:
    plain, model = adapted()
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(model(x), plain(x))
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert all("nonlinear_adaptor" in n for n in trained)
    places = {n.split(".nonlinear_adaptor")[0].split("base_model.model.")[1] for n in trained}
    assert places == {f"blocks.{i}.{part}" for i in range(2) for part in ("attention.query", "mlp.expand", "mlp.contract")}


def test_an_adaptor_computes_figure_2() -> None:
    _, model = adapted()
    layer = model.base_model.model.blocks[0].mlp.expand
    bottleneck = layer.nonlinear_adaptor_bottleneck["default"]
    for parameter in (bottleneck.up.weight, bottleneck.norm.weight, bottleneck.norm.bias):
        nn.init.normal_(parameter)
    x = torch.randn(4, 16)
    down, up, frozen = bottleneck.down.weight, bottleneck.up.weight, layer.base_layer
    normed = layer_norm(x, (16,)) * bottleneck.norm.weight + bottleneck.norm.bias
    torch.testing.assert_close(layer(x), x @ frozen.weight.T + frozen.bias + 2.0 * gelu(normed @ down.T) @ up.T)
    with model.disable_adapter():
        torch.testing.assert_close(layer(x), frozen(x))


def test_merging_is_refused_with_the_reason() -> None:
    _, model = adapted()
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(NotImplementedError, match="a nonlinear adaptor is not a linear map of its input"):
            merge()


def test_parameters_are_counted_by_part() -> None:
    plain, model = adapted()
    per_map = 2 * 16 + 3 * (16 + 16)  # norm, down and up of rank 3 beside a map of 16 to 16; three maps in each of two blocks
    assert count_parameters(model) == {"frozen": sum(p.numel() for p in plain.parameters()), "adaptors": 2 * 3 * per_map}


def test_adaptors_come_back_from_pefts_own_files(tmp_path: Path) -> None:
    plain, model = adapted()
    for name, p in model.named_parameters():
        if ".up." in name:
            nn.init.normal_(p)
    model.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "NONLINEAR_ADAPTOR"
    again = load_adaptors(plain, tmp_path, AdaptorSettings(rank=3, scale=2.0))
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(again(x), model(x))
    assert not torch.allclose(again(x), ScMbm(SMALL)(x))
    with pytest.raises(UserError, match=r"adaptor\.scale: found 2\.0, expected 1\.0 as configured"):
        load_adaptors(plain, tmp_path, AdaptorSettings(rank=3))
    plain_peft = "import sys; from peft import PeftConfig; PeftConfig.from_pretrained(sys.argv[1])"
    refused = subprocess.run([sys.executable, "-c", plain_peft, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    assert refused.returncode and "NONLINEAR_ADAPTOR" in refused.stderr, "plain PEFT does not take them for linear ones"


@pytest.fixture(scope="module")
def pretrained(demo: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    encoder = FmriEncoder(demo)
    path = tmp_path_factory.mktemp("sc_mbm") / "sc_mbm.safetensors"
    parts = {"tokenizer": encoder.tokenizer, "sc_mbm": encoder.sc_mbm}
    save_file({f"{name}.{k}": v for name, part in parts.items() for k, v in part.state_dict().items()}, path)
    return path


def test_stage1_trains_tokenizer_projection_and_adaptors_only(demo: Config, pretrained: Path) -> None:
    model = new_encoder(demo, pretrained)
    trained = {n.removeprefix("base_model.model.") for n, p in model.named_parameters() if p.requires_grad}
    for name in trained:
        assert name.startswith(("tokenizer.", "to_q_former.")) or "nonlinear_adaptor" in name, name
    assert any(n.startswith("q_former.") for n in trained) and any(n.startswith("sc_mbm.") for n in trained)


def test_an_encoder_comes_back_as_it_was_saved(demo: Config, pretrained: Path, tmp_path: Path) -> None:
    model = new_encoder(demo, pretrained)
    for name, p in model.named_parameters():
        if ".up." in name:
            nn.init.normal_(p, std=0.1)
    save_encoder(model, tmp_path)
    bold = torch.randn(2, demo.bold.n_volumes, *demo.tokenizer.grid)
    z = model.eval()(bold)
    widths = demo.video_llama.q_former
    assert z.shape == (2, widths.n_queries, widths.hidden_size)
    torch.testing.assert_close(load_encoder(demo, tmp_path)(bold), z)
    (tmp_path / "any").touch()
    assert (tmp_path / "fmri_encoder.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode, "others may read weights too"
    relu = demo.model_copy(update={"adaptor": demo.adaptor.model_copy(update={"activation": "relu"})})
    with pytest.raises(UserError, match=r"adaptor\.activation: found gelu, expected relu"):
        load_encoder(relu, tmp_path)


def test_weights_of_another_shape_are_refused_in_words(demo: Config, pretrained: Path) -> None:
    wider = demo.model_copy(update={"sc_mbm": demo.sc_mbm.model_copy(update={"dim": 64})})
    with pytest.raises(UserError, match=r"sc_mbm\.safetensors: weights do not fit Tokenizer .* pretrain again"):
        new_encoder(wider, pretrained)
