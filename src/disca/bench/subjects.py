"""Which models are measured at which sizes, by which methods, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from disca.bench.around import DECODE, TEXT
from disca.bench.peers import PEERS
from disca.bench.sizes import Size
from disca.caching.methods import METHODS
from disca.schedules import Schedule

DISCA_20 = Schedule(20, (0, 1, 2, 5, 9, 13, 17, 19))
DISCA_8 = Schedule(8, (0, 2, 4, 7))
ALTERNATE = Schedule(6, (0, 2, 4))
"""Steps for medians: the first full and the first forecast step warm up, two full and two forecast ones count."""
TENTH = Schedule(50, tuple(range(0, 50, 5)))
"""Whole runs of the other methods, on a base model's 50 steps."""

ANYTHING = 1e9
"""A threshold that nothing exceeds: weights are random, and what is asked is what a skipped step costs."""
SETTINGS: dict[str, dict[str, Any]] = {
    "pab": {"attention": 2, "window": (0.0, 1.0)},
    "teacache": {"threshold": ANYTHING, "signal": "modulated", "force_last": False},
    "toca": {"ratio": 0.1, "every": 2},
    "duca": {"ratio": 0.1, "every": 2},
    "speca": {"threshold": ANYTHING, "fewest": 1, "most": 1},
    "magcache": {"error": ANYTHING, "skips": 1, "constants": (1.0,) * ALTERNATE.steps, "retention": 0.0},
    "easycache": {"threshold": ANYTHING, "warmup": 1, "force_last": False},
    "first_block_cache": {"threshold": ANYTHING},
    "diffusers.first_block_cache": {"threshold": ANYTHING},
    "diffusers.taylor_seer_cache": {
        "cache_interval": 2,
        "disable_cache_before_step": 1,
        "max_order": 1,
        "cache_identifiers": [
            r"(transformer_blocks|blocks)\.\d+\.(attn\d?|ff|ffn|ff_context)",
            r"single_transformer_blocks\.\d+\.proj_out",
        ],
        "skip_predict_identifiers": [r"single_transformer_blocks\.\d+\.(attn|proj_mlp)"],
    },  # its own choice is attention alone, and nothing of Wan
    "diffusers.mag_cache": {
        "threshold": ANYTHING,
        "max_skip_steps": 1,
        "retention_ratio": 0.01,
        "mag_ratios": [1.0] * ALTERNATE.steps,
    },
    "diffusers.pyramid_attention_broadcast": {
        **{f"{kind}_attention_block_skip_range": 2 for kind in ("spatial", "cross")},
        **{f"{kind}_attention_timestep_skip_range": (-1, 1001) for kind in ("spatial", "cross")},
    },
    "diffusers.sea_cache": {"threshold": ANYTHING, "max_consecutive_cached": 1},
    "cache_dit.dbcache": {
        "residual_diff_threshold": ANYTHING,
        "Fn_compute_blocks": 1,
        "Bn_compute_blocks": 0,
        "max_warmup_steps": 1,
        "max_continuous_cached_steps": 1,
        "enable_separate_cfg": False,
    },
}
"""What methods and peers are given that full steps, or every second one of them, do not say."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model at its true size, and one of its kind that a test can afford."""

    name: str
    host: str
    config: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[Size, ...]
    small: Mapping[str, Any]
    """What the small one has otherwise: under a fiftieth of the parameters."""
    small_size: Size
    """Under a fiftieth of the tokens."""


_NARROW = {"num_attention_heads": 2, "num_layers": 2}

SUBJECTS = (
    Subject(
        name="hunyuan_video",
        host="HunyuanVideoTransformer3DModel",
        config={"guidance_embeds": True},
        sizes=(Size(704, 704, 129), Size(1280, 720, 129)),
        small={**_NARROW, "num_single_layers": 2, "num_refiner_layers": 1},
        small_size=Size(64, 64, 9),
    ),
    Subject(
        name="hunyuan_video_15",
        host="HunyuanVideo15Transformer3DModel",
        config={"use_meanflow": True},
        sizes=(Size(848, 480, 121), Size(1280, 720, 121)),
        small={**_NARROW, "num_refiner_layers": 1},
        small_size=Size(64, 64, 9),
    ),
    Subject(
        name="wan_1.3b",
        host="WanTransformer3DModel",
        config={"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
        sizes=(Size(832, 480, 81),),
        small={**_NARROW, "ffn_dim": 256},
        small_size=Size(64, 64, 9),
    ),
    Subject(
        name="wan_14b",
        host="WanTransformer3DModel",
        config={},
        sizes=(Size(832, 480, 81), Size(1280, 720, 81)),
        small={**_NARROW, "ffn_dim": 512},
        small_size=Size(64, 64, 9),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One measurement."""

    subject: Subject
    size: Size
    method: str
    """``plain``, a name in ``METHODS`` or ``PEERS``, or a stage around the loop, one of ``STAGES``."""
    schedule: Schedule = ALTERNATE
    compiled: bool = False

    @property
    def name(self) -> str:
        """Names the record too."""
        schedule = self.schedule
        parts = [self.subject.name, str(self.size), self.method, "compiled" if self.compiled else ""]
        if schedule != ALTERNATE:
            parts.append(f"{len(schedule.full_steps)}_of_{schedule.steps}")
        return "/".join(part for part in parts if part)


def jobs(subjects: Sequence[Subject] = SUBJECTS, *, small: bool = False, compiled: bool = True) -> list[Job]:
    """All measurements, the most telling ones first: of the first model plain and DisCa, what goes on around the loop,
    then the caches beside it and compiled blocks, then the other models, then larger sizes; at the end whole runs of
    the methods that can be told how often to compute in full."""
    found = []
    for place in range(max(len(subject.sizes) for subject in subjects)):
        for subject in subjects:
            if place < (1 if small else len(subject.sizes)):
                size = subject.small_size if small else subject.sizes[place]
                found += _jobs_at(subject, size, compiled)
    others = [name for name in METHODS if name != "disca" and name not in SETTINGS]
    for subject in subjects:
        size = subject.small_size if small else subject.sizes[0]
        found += [Job(subject=subject, size=size, method=name, schedule=TENTH) for name in others]
    return found


def _jobs_at(subject: Subject, size: Size, compiled: bool) -> list[Job]:
    def job(method: str, schedule: Schedule = ALTERNATE, compiled: bool = False) -> Job:
        return Job(subject=subject, size=size, method=method, schedule=schedule, compiled=compiled)

    others = [name for name in METHODS if name != "disca"]
    found = [job("plain"), job("disca"), job("disca", DISCA_8), job("disca", DISCA_20)]
    found += [job(name) for name in (TEXT, DECODE, *others, *PEERS)]
    return found + [job(name, compiled=True) for name in ("plain", "disca") if compiled]
