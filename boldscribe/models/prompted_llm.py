"""The frozen language model, prompted with text in which L soft tokens stand for the video or for the brain's response."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from boldscribe.config_sections import PLACEHOLDER, QUESTION
from boldscribe.config_sections import VideoLlama as VideoLlamaConfig


class PromptedLlm(nn.Module):
    """A causal language model with its tokenizer and the prompt template.

    Args:
        config: template, precision and generation settings.
        folder: weights (safetensors) and tokenizer.
    """

    def __init__(self, config: VideoLlamaConfig, folder: Path) -> None:
        super().__init__()
        self.prompt = config.prompt
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, config.dtype), use_safetensors=True)
        self.model.eval().requires_grad_(False)

    @property
    def width(self) -> int:
        """Width of the token embeddings, d_llm."""
        return int(self.model.config.hidden_size)

    def _embed(self, text: str, *, first: bool = False) -> Tensor:
        """Embeddings (tokens, d_llm) of a piece of text; the first piece of a prompt gets the tokenizer's opening token, if it has one."""
        ids = self.tokenizer(text, add_special_tokens=first, return_tensors="pt").input_ids[0].long()
        return self.model.get_input_embeddings()(ids.to(self.model.device))

    def _sequences(self, instructions: Sequence[str], tokens_BLD: Tensor | None) -> list[Tensor]:
        if tokens_BLD is None:  # the LLM without brain: the same question, no place for a video
            plain = re.sub(rf"(<Video>)?{PLACEHOLDER}(</Video>)? ?", "", self.prompt)
            return [self._embed(plain.replace(QUESTION, i), first=True) for i in instructions]
        soft = tokens_BLD.to(self.model.get_input_embeddings().weight.dtype)
        before, after = self.prompt.split(PLACEHOLDER)
        return [
            torch.cat([self._embed(before.replace(QUESTION, i), first=True), soft[b], self._embed(after.replace(QUESTION, i))])
            for b, i in enumerate(instructions)
        ]

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
    ) -> list[str]:
        """Answer each instruction, in batches; returns stripped texts, without special tokens."""
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p} if do_sample else {"do_sample": False}
        answers: list[str] = []
        for start in range(0, len(instructions), batch_size):
            rows = slice(start, start + batch_size)
            embeds, mask = self.embed_prompt(instructions[rows], None if tokens_BLD is None else tokens_BLD[rows])
            ids = self.model.generate(
                inputs_embeds=embeds,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                top_k=None,
                pad_token_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id,
                **sampling,
            )
            answers += [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]
        return answers

    def caption_loss(self, instructions: Sequence[str], tokens_BLD: Tensor, answers: Sequence[str]) -> Tensor:
        """Cross-entropy of the answers given tokens and instruction (equation 3), end token included.

        The mean over all answer tokens of the batch, as language models are trained; the paper's equation sums over an answer's tokens.
        Only answer tokens are scored, and only their logits are computed. Gradients reach `tokens_BLD` through the frozen LLM.
        """
        eos = self.tokenizer.eos_token
        targets = [self.tokenizer(a + eos, add_special_tokens=False, return_tensors="pt").input_ids[0] for a in answers]
        embedding = self.model.get_input_embeddings()
        device = self.model.device
        prompts = self._sequences(instructions, tokens_BLD)
        # The last answer token is predicted, never read.
        embeds, mask = _pad_left([torch.cat([p, embedding(t[:-1].to(device))]) for p, t in zip(prompts, targets, strict=True)])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        hidden = self.model.model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions).last_hidden_state
        predicting = torch.cat([h[-len(t) :] for h, t in zip(hidden, targets, strict=True)])
        return cross_entropy(self.model.lm_head(predicting).float(), torch.cat(targets).to(device))


def _pad_left(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    longest = max(len(s) for s in sequences)
    embeds = torch.stack([torch.cat([s.new_zeros(longest - len(s), s.shape[1]), s]) for s in sequences])
    mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences], device=embeds.device)
    return embeds, mask
