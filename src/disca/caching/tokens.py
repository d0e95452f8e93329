"""How: some tokens computed afresh, the others as they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args
from zlib import crc32

import torch
from torch import Tensor
from torch.nn import functional as F

from disca.caching.attention import AttentionSeen
from disca.caching.forecasts import Forecast, detached
from disca.features import Call, Features, Moment

Score = Literal["attention", "value_norm", "random"]


@dataclass
class Tokens:
    """The outputs of a layer, token by token of different age."""

    outputs: Features = ()
    """One stream ``[batch, tokens, width]``."""
    parts: Features = ()
    """What the attention inside of a single-stream block gave, all its tokens as one stream."""
    score: Tensor | None = None
    """``[batch, tokens]``, how much a token is worth computing afresh."""
    since: Tensor | None = None
    """``[batch, tokens]``, the step at which a token was computed."""
    chosen: Tensor | None = None
    """In a call under way: tokens to compute, ``[batch, chosen]``."""


@dataclass(frozen=True)
class FreshTokens(Forecast[Tokens]):
    """The worthiest tokens computed afresh and kept, the others as they were (ToCa, arXiv 2410.05317).

    A token is worth more the more others attend to it (with cross attention: the more evenly it attends to the text),
    the older it is, and where it is the best of its cell. ``score="value_norm"`` is for kernels that show no attention
    weights, and what ``"attention"`` falls back to there; ``"random"`` draws the same tokens for all branches and
    samples (DuCa, arXiv 2412.18911).

    ``ratio`` is the share of tokens, scaled by ``1 + w - 2 w x`` with ``w`` the ``layer_weight`` and ``x`` the depth of
    the block, and the same with ``step_weight`` and the progress of the run.
    """

    ratio: float
    score: Score = "attention"
    interval: int = 1
    """Ages count as shares of so many steps."""
    age_weight: float = 0.25
    layer_weight: float = 0.0
    step_weight: float = 0.0
    bonus: float = 0.0
    """Share of its own score that the best token of each cell gets on top."""
    cell: int = 2
    """Rows and columns of a cell of tokens; cells lie within frames."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"ratio is the share of tokens computed afresh, from 0 to 1; given {self.ratio}.")
        if self.score not in get_args(Score):
            raise ValueError(f"score must be one of {', '.join(get_args(Score))}; given {self.score!r}.")
        if self.cell < 1 or self.interval < 1:
            raise ValueError(f"cell and interval are at least 1; given {self.cell} and {self.interval}.")

    @property
    def reads(self) -> frozenset[str]:
        return frozenset() if self.score == "random" else frozenset({"attention"})

    @property
    def settled(self) -> bool:
        return False

    def start(self) -> Tokens:
        return Tokens()

    def held(self, memory: Tokens) -> tuple[Tensor, ...]:
        others = (memory.score, memory.since)
        return (*memory.outputs, *memory.parts, *(tensor for tensor in others if tensor is not None))

    def observe(self, memory: Tokens, moment: Moment, call: Call, outputs: Features) -> None:
        memory.outputs = detached(outputs)
        shape = outputs[0].shape[:2]
        memory.since = torch.full(shape, moment.step, dtype=torch.int32, device=outputs[0].device)
        if self.score != "random":
            memory.score = self._seen(call.read("attention"), shape[1], moment)

    def observe_part(self, memory: Tokens, moment: Moment, part: str, call: Call, outputs: Features) -> None:
        if call.read("is_attention"):  # the feed-forward layer is computed afresh
            memory.parts = (torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0].detach(),)

    def predict_part(self, memory: Tokens, moment: Moment, part: str, call: Call) -> Features:
        chosen = self._chosen(memory, moment, call)
        if chosen.shape[1] == 0:
            return super().predict_part(memory, moment, part, call)
        if call.read("is_attention"):
            fresh = _gather(memory.parts[0], chosen)
            return (fresh, *(fresh[:, :0] for _ in call.inputs[1:]))
        return call.compute(_gather(call.inputs[0], chosen))

    def predict(self, memory: Tokens, moment: Moment, call: Call) -> Features:
        chosen = self._chosen(memory, moment, call)
        memory.chosen = None
        if chosen.shape[1] == 0:
            return memory.outputs
        (kept,), (inputs, *_) = memory.outputs, call.inputs
        everything = not memory.parts and chosen.shape[1] == kept.shape[1]
        inputs = inputs if everything or memory.parts else _gather(inputs, chosen)
        (fresh,) = call.compute(inputs)
        assert memory.since is not None
        memory.since = memory.since.scatter(1, chosen, moment.step)
        memory.outputs = (fresh,) if everything else (_scatter(kept, chosen, fresh),)
        return memory.outputs

    def _chosen(self, memory: Tokens, moment: Moment, call: Call) -> Tensor:
        if memory.chosen is None:
            batch, tokens = memory.outputs[0].shape[:2]
            count = int(self._share(moment, call.depth) * tokens)
            if count == tokens:
                memory.chosen = torch.arange(tokens, device=call.inputs[0].device).expand(batch, -1)
            else:
                memory.chosen = self._worth(memory, moment, call).topk(count, dim=1).indices
        return memory.chosen

    def _share(self, moment: Moment, depth: float) -> float:
        """The share of tokens at this depth and step."""
        progress = moment.step / max(moment.steps - 1, 1)
        share = self.ratio
        for weight, place in ((self.layer_weight, depth), (self.step_weight, progress)):
            share *= 1 + weight - 2 * weight * place
        return min(max(share, 0.0), 1.0)

    def _worth(self, memory: Tokens, moment: Moment, call: Call) -> Tensor:
        assert memory.since is not None
        if memory.score is None:
            generator = torch.Generator().manual_seed(crc32(f"{self.seed} {moment.step} {call.depth}".encode()))
            row = torch.rand(memory.since.shape[1], generator=generator)
            return row.to(memory.since.device).expand(memory.since.shape)
        age = (moment.step - memory.since) / self.interval
        return self._with_bonus(memory.score + self.age_weight * age, moment.grid)

    def _seen(self, seen: AttentionSeen, tokens: int, moment: Moment) -> Tensor:
        """The part of a token's worth that is known at a full step."""
        score = None
        if self.score == "attention":
            spread = seen.spread(tokens)
            score = seen.received(tokens) if spread is None else 1 + spread
        score = F.normalize((seen.value_norms(tokens) if score is None else score).float(), dim=1)
        if moment.branch == "cond_uncond":  # both halves of the batch choose the same tokens
            score = torch.cat([sum(score.chunk(2)) / 2] * 2)  # type: ignore[list-item]
        return score

    def _with_bonus(self, worth: Tensor, grid: tuple[int, int, int] | None) -> Tensor:
        if not self.bonus or grid is None or worth.shape[1] < grid[0] * grid[1] * grid[2]:
            return worth
        video = worth[:, : grid[0] * grid[1] * grid[2]].unflatten(1, grid)
        best = F.max_pool2d(F.pad(video, _padding(grid, self.cell), value=-torch.inf), self.cell)
        best = best.repeat_interleave(self.cell, 2).repeat_interleave(self.cell, 3)[..., : grid[1], : grid[2]]
        video = torch.where(video == best, video * (1 + self.bonus), video)
        return torch.cat([video.flatten(1), worth[:, video[0].numel() :]], dim=1)


def _padding(grid: tuple[int, int, int], cell: int) -> tuple[int, int, int, int]:
    return (0, -grid[2] % cell, 0, -grid[1] % cell)


def _gather(tokens: Tensor, chosen: Tensor) -> Tensor:
    return tokens.gather(1, chosen[..., None].expand(-1, -1, tokens.shape[-1]))


def _scatter(tokens: Tensor, chosen: Tensor, fresh: Tensor) -> Tensor:
    return tokens.scatter(1, chosen[..., None].expand(-1, -1, tokens.shape[-1]), fresh)
