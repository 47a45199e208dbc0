"""The frozen language model, prompted with text in which L soft tokens stand for the video or for the brain's response."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, StoppingCriteriaList

from boldscribe.sections.base import PLACEHOLDER, QUESTION
from boldscribe.sections.models import VideoLlama as VideoLlamaConfig


class PromptedLlm(nn.Module):
    """A causal language model with its tokenizer and the prompt template.

    Args:
        config: template and stop tokens.
        tokenizer, model: of transformers.
    """

    def __init__(self, config: VideoLlamaConfig, tokenizer: Any, model: Any) -> None:
        super().__init__()
        self.prompt, self.stop = config.prompt, config.stop
        self.tokenizer = tokenizer
        self.model = model.eval().requires_grad_(False)
        self._known_ids: dict[tuple[str, bool], list[int]] = {}

    @classmethod
    def load(cls, config: VideoLlamaConfig, folder: Path) -> PromptedLlm:
        """From a folder of weights (safetensors) and tokenizer, in the configured precision."""
        dtype = getattr(torch, config.dtype)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, attn_implementation="sdpa")
        return cls(config, AutoTokenizer.from_pretrained(folder), model)

    @property
    def width(self) -> int:
        """Width of the token embeddings, d_llm."""
        return int(self.model.config.hidden_size)

    def _ids(self, text: str, first: bool) -> list[int]:
        """Tokens of a piece of a prompt; the first piece gets the tokenizer's opening token, if it has one. Few pieces recur often."""
        if (text, first) not in self._known_ids:
            self._known_ids[text, first] = list(self.tokenizer(text, add_special_tokens=first).input_ids)
        return self._known_ids[text, first]

    def _answer_ids(self, answer: str) -> list[int]:
        return list(self.tokenizer(answer + self.tokenizer.eos_token, add_special_tokens=False).input_ids)

    def _pieces(self, instruction: str, soft: bool) -> list[list[int]]:
        """Tokens of the prompt before and after the soft tokens; without them, those of the same question with no place for a video."""
        if not soft:
            plain = re.sub(rf"(<Video>)?{PLACEHOLDER}(</Video>)? ?", "", self.prompt)
            return [self._ids(plain.replace(QUESTION, instruction), True)]
        before, after = self.prompt.split(PLACEHOLDER)
        return [self._ids(before.replace(QUESTION, instruction), True), self._ids(after.replace(QUESTION, instruction), False)]

    def lengths(self, instructions: Sequence[str], answers: Sequence[str]) -> list[int]:
        """How many text tokens each prompt has together with its answer."""
        prompts = {i: sum(map(len, self._pieces(i, True))) for i in set(instructions)}
        return [prompts[i] + self.answer_length(a) for i, a in zip(instructions, answers, strict=True)]

    def answer_length(self, answer: str) -> int:
        """How many tokens an answer has, end token included: those that `caption_loss` scores."""
        return len(self._answer_ids(answer))

    def _embed(self, ids: Sequence[int]) -> Tensor:
        return self.model.get_input_embeddings()(torch.tensor(ids, dtype=torch.long, device=self.model.device))

    def _sequences(self, instructions: Sequence[str], tokens_BLD: Tensor | None) -> list[Tensor]:
        if tokens_BLD is None:
            return [self._embed(self._pieces(i, False)[0]) for i in instructions]
        soft = tokens_BLD.to(self.model.get_input_embeddings().weight)
        pieces = [self._pieces(i, True) for i in instructions]
        return [torch.cat([self._embed(before), soft[b], self._embed(after)]) for b, (before, after) in enumerate(pieces)]

    def embed_prompt(self, instructions: Sequence[str], tokens_BLD: Tensor | None) -> tuple[Tensor, Tensor]:
        """Prompts as embeddings, padded on the left.

        Args:
            instructions: B questions.
            tokens_BLD: (B, L, d_llm) soft tokens for the placeholder; None leaves the placeholder and its wrapping out.

        Returns:
            embeddings (B, S, d_llm) and attention mask (B, S).
        """
        return _pad_left(self._sequences(instructions, tokens_BLD))

    @torch.inference_mode()
    def generate(
        self,
        instructions: Sequence[str],
        tokens_BLD: Tensor | None,
        *,
        max_new_tokens: int,
        batch_size: int,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_p: float = 1.0,
        static_cache: bool | None = None,
    ) -> list[str]:
        """Answer each instruction, in batches; returns stripped texts, without special tokens, up to where the model stopped.

        Without sampling, equal prompts have equal answers, and are answered once.

        Args:
            instructions: questions.
            tokens_BLD: their soft tokens, or None.
            max_new_tokens: longest answer.
            batch_size: questions at once.
            do_sample, temperature, top_p: nucleus sampling; greedy without.
            static_cache: keys and values in memory of fixed size; None for on a GPU, where it spares allocations.
        """
        if static_cache is None:
            static_cache = self.model.device.type == "cuda"
        settings: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_p": top_p} if do_sample else {"do_sample": False}
        if static_cache:
            settings |= {"cache_implementation": "static", "disable_compile": True}
        prompts = range(len(instructions)) if do_sample else _first_equals(instructions, tokens_BLD)
        asked = sorted(set(prompts))
        if len(asked) < len(instructions):
            instructions, tokens_BLD = [instructions[i] for i in asked], None if tokens_BLD is None else tokens_BLD[asked]
        answers: list[str] = []
        for start in range(0, len(instructions), batch_size):
            rows = slice(start, start + batch_size)
            embeds, mask = self.embed_prompt(instructions[rows], None if tokens_BLD is None else tokens_BLD[rows])
            ids = self.model.generate(
                inputs_embeds=embeds,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                min_new_tokens=1,
                top_k=None,
                pad_token_id=self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id,
                stopping_criteria=StoppingCriteriaList([StopIds(self.stop)]) if self.stop else None,
                **settings,
            )
            kept = [cut_at_stop(row, self.stop) for row in ids.tolist()]
            answers += [text.strip() for text in self.tokenizer.batch_decode(kept, skip_special_tokens=True)]
        answer_of = dict(zip(asked, answers, strict=True))
        return [answer_of[i] for i in prompts]

    def caption_loss(
        self, instructions: Sequence[str], tokens_BLD: Tensor, answers: Sequence[str], reduction: Literal["mean", "sum"] = "mean"
    ) -> Tensor:
        """Cross-entropy of the answers given tokens and instruction (equation 3), end token included.

        Over all answer tokens of the batch their mean, as language models are trained, or their sum; the paper's equation sums over an
        answer's tokens. Only answer tokens are scored, and only their logits are computed. Gradients reach `tokens_BLD` through the
        frozen LLM, whose own weights get none: the backward pass computes no more than what flows to its inputs.
        """
        targets = [torch.tensor(self._answer_ids(a)) for a in answers]
        device = self.model.device
        prompts = self._sequences(instructions, tokens_BLD)
        # The last answer token is predicted, never read.
        embeds, mask = _pad_left([torch.cat([p, self._embed(t[:-1].tolist())]) for p, t in zip(prompts, targets, strict=True)])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        hidden = self.model.model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False).last_hidden_state
        predicting = torch.cat([h[-len(t) :] for h, t in zip(hidden, targets, strict=True)])
        return cross_entropy(self.model.lm_head(predicting).float(), torch.cat(targets).to(device), reduction=reduction)


class StopIds(StoppingCriteria):
    """Ends each row of a batch whose last tokens are one of the stop sequences, which some models write instead of an end token.

    Args:
        stop: sequences of token ids.
    """

    def __init__(self, stop: Sequence[Sequence[int]]) -> None:
        self.stop = stop

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Which rows (B,) are finished."""
        finished = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for sequence in self.stop:
            if input_ids.shape[1] >= len(sequence):
                wanted = torch.tensor(sequence, device=input_ids.device)
                finished |= (input_ids[:, -len(sequence) :] == wanted).all(1)
        return finished


def cut_at_stop(ids: list[int], stop: Sequence[Sequence[int]]) -> list[int]:
    """The tokens before the first stop sequence."""
    ends = [i for sequence in stop for i in range(len(ids) - len(sequence) + 1) if ids[i : i + len(sequence)] == list(sequence)]
    return ids[: min(ends, default=len(ids))]


def _first_equals(instructions: Sequence[str], tokens_BLD: Tensor | None) -> list[int]:
    """For each prompt the first one that equals it."""
    first: dict[tuple[str, bytes], int] = {}
    contents = [b""] * len(instructions) if tokens_BLD is None else [_digest(tokens_LD) for tokens_LD in tokens_BLD]
    return [first.setdefault(prompt, i) for i, prompt in enumerate(zip(instructions, contents, strict=True))]


def _digest(tokens_LD: Tensor) -> bytes:
    return hashlib.sha256(tokens_LD.detach().float().cpu().numpy().tobytes()).digest()


def _pad_left(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    longest = max(len(s) for s in sequences)
    embeds = torch.stack([torch.cat([s.new_zeros(longest - len(s), s.shape[1]), s]) for s in sequences])
    mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences], device=embeds.device)
    return embeds, mask
