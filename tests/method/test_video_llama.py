"""The miniature Video-LLaMA, with its real weights: soft tokens in their place, loss on answers alone, captions that are right."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.record import digest
from boldscribe.models.asset_folders import provide
from boldscribe.models.embedded_models import unpack
from boldscribe.models.prompted_llm import PromptedLlm
from boldscribe.models.q_former import bert_state, video_q_former
from boldscribe.models.sentence_encoder import SentenceEncoder
from boldscribe.models.video_llama import (
    encode_frames,
    load_encoder,
    load_frame_tokens,
    load_llm,
    load_projection,
    load_video_q_former,
)
from boldscribe.simulation.render import render
from boldscribe.simulation.scenes import draw_scenes
from boldscribe.stimuli.familiarity import load_familiar_clips
from boldscribe.stimuli.frames import uniform_indices
from boldscribe.training.connectors import train_connectors
from boldscribe.training.connectors_record import FIELDS, names

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "boldscribe" / "models" / "weights"


@pytest.fixture(scope="module")
def llm(demo: Config, models_dir: Path) -> PromptedLlm:
    return load_llm(demo, models_dir)


def test_soft_tokens_stand_where_the_placeholder_is(llm: PromptedLlm) -> None:
    soft = torch.randn(2, 8, llm.width)
    embeds, mask = llm.embed_prompt(["Describe the video.", "Why?"], soft)
    embedding = llm.model.get_input_embeddings()
    for b, question in enumerate(("Describe the video.", "Why?")):
        row = embeds[b][mask[b].bool()]
        before, after = (
            llm.tokenizer(t, add_special_tokens=False).input_ids for t in llm.prompt.format(instruction=question).split("<ImageHere>")
        )
        expected = torch.cat([embedding(torch.tensor(before)), soft[b], embedding(torch.tensor(after))])
        torch.testing.assert_close(row, expected)
    assert mask[1].tolist() == sorted(mask[1].tolist()), "padded on the left"


def test_a_question_may_stand_before_the_placeholder(llm: PromptedLlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm, "prompt", "{instruction} <ImageHere> Answer:")
    soft = torch.randn(1, 8, llm.width)
    embeds, _ = llm.embed_prompt(["Why?"], soft)
    before, after = (llm.tokenizer(t, add_special_tokens=False).input_ids for t in ("Why? ", " Answer:"))
    embedding = llm.model.get_input_embeddings()
    torch.testing.assert_close(embeds[0], torch.cat([embedding(torch.tensor(before)), soft[0], embedding(torch.tensor(after))]))


def test_the_llm_alone_gets_no_place_for_a_video(llm: PromptedLlm) -> None:
    embeds, _ = llm.embed_prompt(["Why?"], None)
    plain = llm.tokenizer(
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False, return_tensors="pt"
    ).input_ids
    torch.testing.assert_close(embeds, llm.model.get_input_embeddings()(plain))


def test_caption_loss_is_the_cross_entropy_of_answer_tokens_alone(llm: PromptedLlm) -> None:
    soft = torch.randn(2, 8, llm.width) * 0.1
    questions, answers = ["Describe the video.", "Why?"], ["A man is running.", "No."]
    total, count = 0.0, 0
    for b in range(2):  # one by one, without padding, logits of the whole sequence
        prompt, _ = llm.embed_prompt(questions[b : b + 1], soft[b : b + 1])
        ids = llm.tokenizer(answers[b] + llm.tokenizer.eos_token, add_special_tokens=False, return_tensors="pt").input_ids
        whole = torch.cat([prompt, llm.model.get_input_embeddings()(ids)], dim=1)
        logits = llm.model(inputs_embeds=whole).logits[0]
        start = prompt.shape[1]
        for i, token in enumerate(ids[0]):
            total -= log_softmax(logits[start + i - 1], dim=0)[token].item()
            count += 1
    assert llm.caption_loss(questions, soft, answers).item() == pytest.approx(total / count, rel=1e-4)


def test_gradients_reach_the_tokens_through_the_frozen_llm(llm: PromptedLlm) -> None:
    soft = (torch.randn(1, 8, llm.width) * 0.1).requires_grad_()
    llm.caption_loss(["Why?"], soft, ["No."]).backward()
    assert soft.grad is not None and (soft.grad.abs().sum(-1) > 0).all()
    assert all(p.grad is None for p in llm.parameters())


def test_batched_answers_equal_single_ones(llm: PromptedLlm) -> None:
    soft = torch.randn(3, 8, llm.width) * 0.1
    questions = ["Describe the video.", "Why?", "What is going on in this video?"]
    together = llm.generate(questions, soft, max_new_tokens=6, batch_size=3)
    alone = [llm.generate(questions[i : i + 1], soft[i : i + 1], max_new_tokens=6, batch_size=1)[0] for i in range(3)]
    assert together == alone


def test_the_q_former_starts_from_bert(demo: Config, models_dir: Path) -> None:
    q_former = video_q_former(demo.video_llama.q_former)
    state = bert_state(str(models_dir / "sentence_encoder" / "model.safetensors"), demo.video_llama.q_former.video_layers)
    missing, unexpected = q_former.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("crossattention" in m or m == "query_tokens" for m in missing), "everything else is initialised"


def test_the_sentence_encoder_knows_what_is_alike(models_dir: Path) -> None:
    a, b, c = SentenceEncoder(models_dir / "sentence_encoder").encode(
        ["A man plays the guitar on a street.", "A musician performs outdoors.", "Two dogs run through snow."]
    )
    assert a @ b > 0.4 > a @ c and a @ a == pytest.approx(1)


def test_captions_of_unseen_clips_are_right_as_often_as_the_record_says(demo: Config, models_dir: Path, llm: PromptedLlm) -> None:
    scenes = draw_scenes(24, np.random.default_rng(987))
    encoder = load_encoder(demo, models_dir)
    frames = np.stack([render(s, size=224, fps=8, seconds=2)[uniform_indices(16, demo.stimuli.n_frames)] for s in scenes])
    with torch.inference_mode():
        features = load_frame_tokens(demo, encoder.width)(encode_frames(encoder, torch.from_numpy(frames)))
        soft = load_projection(demo)(load_video_q_former(demo)(features))
    captions = llm.generate(["What is the main thing happening in the video?"] * 24, soft, max_new_tokens=40, batch_size=24)
    stated = json.loads((WEIGHTS / "connectors.json").read_text())["accuracy_on_unseen_clips"]
    for field in FIELDS:
        right = [names(c, s, field) for c, s in zip(captions, scenes, strict=True)]
        three_standard_errors = 3 * (stated[field] * (1 - stated[field]) / len(scenes)) ** 0.5
        wrong = [(c, getattr(s, field)) for c, s, r in zip(captions, scenes, right, strict=True) if not r]
        assert np.mean(right) >= stated[field] - three_standard_errors, wrong


def test_the_committed_connectors_are_those_of_the_record(demo: Config) -> None:
    record = json.loads((WEIGHTS / "connectors.json").read_text())
    assert digest(WEIGHTS / "connectors.safetensors")["sha256"] == record["sha256"]
    assert record["config"]["video_llama"]["q_former"] == demo.video_llama.q_former.model_dump()
    readme = (WEIGHTS / "README.md").read_text()
    for field, share in record["accuracy_on_unseen_clips"].items():
        assert f"| {field} | {100 * share:.1f} |" in readme


def test_connectors_are_trained_again_by_the_rules_function(demo: Config, models_dir: Path, tmp_path: Path) -> None:
    settings = {"n_clips": 24, "n_test_clips": 2, "alignment_epochs": 3, "caption_epochs": 2, "caption_batch_size": 8, "batch_size": 8}
    config = demo.model_copy(update={"connectors": demo.connectors.model_copy(update=settings)})
    train_connectors(config, models_dir, tmp_path / "out", tmp_path / "work")
    record = json.loads((tmp_path / "out" / "connectors.json").read_text())
    assert digest(tmp_path / "out" / "connectors.safetensors")["sha256"] == record["sha256"]
    for step in ("alignment", "captioning"):
        first, *_, last = record["losses_per_epoch"][step]
        assert last < first, "it learns"
    trained = demo.model_copy(
        update={"video_llama": demo.video_llama.model_copy(update={"connectors": str(tmp_path / "out" / "connectors.safetensors")})}
    )
    load_video_q_former(trained)
    load_projection(trained)
    familiar = load_familiar_clips(trained.video_llama.connectors)
    assert familiar and familiar.limit > 0 and not familiar.unlike(["mean"], familiar.mean_D[None])


def test_missing_weights_are_named(demo: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="weights of llm are missing"):
        load_llm(demo, tmp_path)
    elsewhere = demo.model_copy(
        update={"video_llama": demo.video_llama.model_copy(update={"llm": str(tmp_path / "none"), "connectors": "none"})}
    )
    with pytest.raises(UserError, match="none: the weights of llm are missing: expected a folder"):
        provide(elsewhere, "llm", tmp_path / "out")
    with pytest.raises(UserError, match=r"none: weights are missing: .*make connectors"):
        load_video_q_former(elsewhere)
    (tmp_path / "torn.safetensors").write_bytes((WEIGHTS / "connectors.safetensors").read_bytes()[:1000])
    torn = demo.model_copy(update={"video_llama": demo.video_llama.model_copy(update={"connectors": str(tmp_path / "torn.safetensors")})})
    for attempt in (lambda: load_video_q_former(torn), lambda: provide(torn, "connectors", tmp_path / "out")):
        with pytest.raises(UserError, match=r"torn\.safetensors: found a file that cannot be opened"):
            attempt()
    too_deep = demo.model_copy(update={"evaluation": demo.evaluation.model_copy(update={"bertscore_layer": 7})})
    with pytest.raises(UserError, match=r"evaluation\.bertscore_layer: found 7, expected at most 6"):
        provide(too_deep, "bertscore_encoder", tmp_path / "bertscore")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "model.bin").write_bytes(b"")
    pickled = demo.model_copy(update={"video_llama": demo.video_llama.model_copy(update={"llm": str(tmp_path / "pickled")})})
    with pytest.raises(UserError, match=r"found model\.bin, expected .*safetensors"):
        provide(pickled, "llm", tmp_path / "out")
    with pytest.raises(UserError, match="expected one of"):
        unpack("vision", tmp_path / "x")
