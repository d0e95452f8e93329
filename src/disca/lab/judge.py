"""A judge that reads digit, colour and motion off any clip, and the features in which distributions are compared.

It learns from scans that no generating model sees and is measured on scans that nobody sees. Digit and colour come from
a small convolutional network that looks at one frame at a time; motion from the path of the clip's centre of light.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from disca.lab.codec import PatchCodec
from disca.lab.words import COLOURS, DIGITS, MOTIONS, PROMPTS, Prompt
from disca.lab.world import Split, World
from disca.objectives import Loss
from disca.training.clips import Draw, Source
from disca.training.recipe import Recipe

ATTRIBUTES = ("digit", "colour", "motion")


@dataclass(frozen=True)
class Verdict:
    """What the judge reads off a batch of clips."""

    logits: dict[str, Tensor]
    """By attribute, ``[batch, classes]``."""
    features: Tensor
    """``[batch, width]``, for Frechet distances: appearance averaged over the frames, then the path in pixels."""
    amplitude: Tensor
    """Largest distance in pixels between two positions of the centre of light, ``[batch]``."""

    def right(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """Whether each attribute is the prompt's, ``[batch]`` booleans; ``all`` is their conjunction."""
        wanted = {name: torch.tensor([getattr(prompt, name) for prompt in prompts]) for name in ATTRIBUTES}
        found = {name: self.logits[name].argmax(1).cpu() == wanted[name] for name in ATTRIBUTES}
        return {**found, "all": torch.stack(list(found.values())).all(0)}


class Judge(ModelMixin, ConfigMixin):
    """Takes clips ``[batch, 3, frames, height, width]`` in [0, 1]."""

    @register_to_config
    def __init__(self, width: int = 24, embedding: int = 48, frames: int = 8) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width, 4 * width)
        layers = [
            layer
            for before, after in pairwise(widths)
            for layer in (nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(8, after), nn.ReLU(), nn.MaxPool2d(2))
        ]
        self.frame = nn.Sequential(*layers[:-1], nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(0.3))
        self.embed = nn.Sequential(nn.Linear(widths[-1], embedding), nn.GELU())
        self.digit = nn.Linear(embedding, len(DIGITS))
        self.colour = nn.Linear(embedding, len(COLOURS))
        self.motion = nn.Sequential(nn.Linear(2 * frames, 64), nn.GELU(), nn.Linear(64, len(MOTIONS)))

    def appearance(self, frames: Tensor) -> Tensor:
        """Features ``[batch, embedding]`` of single frames ``[batch, 3, height, width]``."""
        return self.embed(self.frame(frames))

    def forward(self, clips: Tensor) -> Verdict:
        """Read clips."""
        seen = self.appearance(clips.movedim(2, 1).flatten(0, 1)).unflatten(0, (len(clips), -1))
        path = trajectory(clips)
        logits = {
            "digit": self.digit(seen).log_softmax(-1).mean(1),
            "colour": self.colour(seen).log_softmax(-1).mean(1),
            "motion": self.motion(path.flatten(1)),
        }
        amplitude = (path[:, :, None] - path[:, None]).norm(dim=-1).amax((1, 2))
        return Verdict(logits, torch.cat([seen.mean(1), path.flatten(1)], dim=1), amplitude)

    @torch.no_grad()
    def read(self, clips: Tensor, batch: int = 64) -> Verdict:
        """Read many clips, a batch at a time."""
        parts = [self(part) for part in clips.to(self.device).split(batch)]
        logits = {name: torch.cat([part.logits[name] for part in parts]).cpu() for name in ATTRIBUTES}
        features, amplitude = (
            torch.cat([getattr(part, name) for part in parts]).cpu() for name in ("features", "amplitude")
        )
        return Verdict(logits, features, amplitude)


def trajectory(clips: Tensor) -> Tensor:
    """Centre of light ``[batch, frames, (x, y)]`` of each frame, in pixels from its mean over the clip."""
    light = clips.mean(1).square()  # the square keeps faint residue from pulling the centre to the middle
    weight = light.sum((-1, -2)).clamp(min=1e-6)
    place = torch.arange(light.shape[-1], device=clips.device, dtype=clips.dtype)
    centre = torch.stack([(light.sum(-2) * place).sum(-1), (light.sum(-1) * place).sum(-1)], dim=-1) / weight[..., None]
    return centre - centre.mean(1, keepdim=True)


@torch.no_grad()
def accuracy(judge: Judge, world: World, *, split: Split, clips: int, seed: int) -> dict[str, float]:
    """Share of real clips that the judge reads rightly, by attribute."""
    generator = torch.Generator().manual_seed(seed)
    prompts = [PROMPTS[index] for index in torch.randint(len(PROMPTS), (clips,), generator=generator).tolist()]
    right = judge.eval().read(world.clips(prompts, generator, split=split)).right(prompts)
    return {name: value.float().mean().item() for name, value in right.items()}


@dataclass(frozen=True, kw_only=True)
class JudgeTraining:
    """Options of the judge's own training; a stage of recipes."""

    rotation: float = 12.0
    """Largest rotation, degrees."""
    zoom: float = 0.15
    """Largest relative change of size."""
    through_codec: float = 0.5
    """Share of clips seen through the lab's codec, as generated ones are."""
    noise: float = 0.04
    """Standard deviation of added noise, drawn up to this for each clip."""
    smoothing: float = 0.05

    def task(self, recipe: Recipe, source: Source) -> JudgeTask:
        return JudgeTask(self, recipe)


class JudgeTask:
    """Trains a judge on clips of its own scans, every prompt included: it must read what it is shown."""

    def __init__(self, options: JudgeTraining, recipe: Recipe) -> None:
        self.options, self.recipe, self.world = options, recipe, World()
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.judge = Judge(frames=self.world.frames)
        self.modules = nn.ModuleDict({"judge": self.judge})
        clips = self.world.clips(PROMPTS * 5, torch.Generator().manual_seed(recipe.seed), split="judge")
        self.codec = PatchCodec.fit(clips, components=32)

    def loss(self, draw: Draw) -> Loss:
        generator = draw.generator
        indices = torch.randint(len(PROMPTS), (self.recipe.batch,), generator=generator)
        prompts = [PROMPTS[index] for index in indices.tolist()]
        clips = self._disturbed(self.world.clips(prompts, generator, split="judge"), generator)
        which = torch.randint(clips.shape[2], (len(clips),), generator=generator)
        seen = self.judge.appearance(clips[torch.arange(len(clips)), :, which])
        logits = {
            "digit": self.judge.digit(seen),
            "colour": self.judge.colour(seen),
            "motion": self.judge.motion(trajectory(clips).flatten(1)),
        }
        wanted = {name: torch.tensor([getattr(prompt, name) for prompt in prompts]) for name in ATTRIBUTES}
        parts = [
            F.cross_entropy(logits[name], wanted[name], reduction="none", label_smoothing=self.options.smoothing)
            for name in ATTRIBUTES
        ]
        each = torch.stack(parts).sum(0)
        return Loss(value=each.mean(), per_sample=each.detach())

    def _disturbed(self, clips: Tensor, generator: torch.Generator) -> Tensor:
        clips = self._turned(clips, generator)
        coded = torch.rand(len(clips), generator=generator) < self.options.through_codec
        with torch.no_grad():
            clips = torch.where(coded[:, None, None, None, None], self.codec.decode(self.codec.encode(clips)), clips)
        level = torch.rand(len(clips), 1, 1, 1, 1, generator=generator) * self.options.noise
        return (clips + level * torch.randn(clips.shape, generator=generator)).clamp(0, 1)

    def _turned(self, clips: Tensor, generator: torch.Generator) -> Tensor:
        """The clips, each rotated and resized by its own amount."""
        angle, size = torch.rand(2, len(clips), generator=generator) * 2 - 1
        angle, size = angle * self.options.rotation * torch.pi / 180, 1 + size * self.options.zoom
        affine = torch.zeros(len(clips), 2, 3)
        affine[:, 0, 0] = affine[:, 1, 1] = angle.cos() / size
        affine[:, 0, 1], affine[:, 1, 0] = -angle.sin() / size, angle.sin() / size
        flat = clips.flatten(1, 2)
        grid = F.affine_grid(affine, list(flat.shape), align_corners=False)
        return F.grid_sample(flat, grid, align_corners=False).view_as(clips)

    def validate(self, folder: Path) -> dict[str, float]:
        return accuracy(self.judge, self.world, split="judge", clips=600, seed=1)

    def export(self, folder: Path, whole: Callable[[nn.Module], nn.Module]) -> None:
        self.judge.eval().save_pretrained(folder)
