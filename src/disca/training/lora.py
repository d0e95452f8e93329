"""Students as low-rank changes: one copy of the weights is teacher and student."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from disca.adapters import adapter_for
from disca.training.recipe import Lora

NAME = "disca"
"""Of the peft adapter."""


def add_lora(transformer: Any, settings: Lora, seed: int = 0) -> None:
    """Give the transformer low-rank changes that start at nothing, drawn from ``seed``; they alone require a gradient.

    Raises:
        ValueError: no layer has such a name, or the transformer has an adapter of ours already.
    """
    from peft import LoraConfig

    if NAME in getattr(transformer, "peft_config", {}):
        raise ValueError(f"This {type(transformer).__name__} has a LoRA of ours already. Fuse it, or start without it.")
    names = targets(transformer, settings)
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha or settings.rank, target_modules=names)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer.add_adapter(config, adapter_name=NAME)
    for name, parameter in transformer.named_parameters():
        parameter.requires_grad_("lora_" in name)


def targets(transformer: nn.Module, settings: Lora) -> list[str]:
    """Names of the linear layers that are changed."""
    stacks = tuple(f"{stack}." for stack in adapter_for(transformer).stacks)
    linear = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    inside = [name for name in linear if name.startswith(stacks)]
    if not settings.targets:
        return inside
    chosen = [name for name in linear if any(name == end or name.endswith(f".{end}") for end in settings.targets)]
    if not chosen:
        raise ValueError(
            f"No linear layer of {type(transformer).__name__} ends in {', '.join(settings.targets)}. It has, for "
            f"example, {', '.join(inside[:4])}."
        )
    return chosen


def add_low_rank(blocks: nn.Module, settings: Lora, seed: int = 0) -> None:
    """Give every linear layer inside of ``blocks``, or those whose names end as the settings say, low-rank changes that
    start at nothing; of the blocks, they alone require a gradient."""
    from peft import LoraConfig, inject_adapter_in_model

    names = list(settings.targets) or [n for n, module in blocks.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha or settings.rank, target_modules=names)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, blocks)
    for name, parameter in blocks.named_parameters():
        parameter.requires_grad_("lora_" in name)


def fused(module: nn.Module) -> Any:
    """A copy in whose layers the low-rank changes are."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    copied = deepcopy(module)
    for name, layer in list(copied.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            copied.set_submodule(name, layer.get_base_layer())
    return copied
