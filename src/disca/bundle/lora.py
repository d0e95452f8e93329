"""A student as low-rank changes of the base, some tens of megabytes, that go onto a transformer and come off again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from disca.files import atomic, check_writable, write_text_atomic

NAME = "disca"
"""Of the peft adapter while it is on."""
_KEPT = ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "use_rslora", "lora_bias")
_FILES = ("lora.json", "lora.safetensors")


@dataclass(frozen=True)
class LoraStudent:
    """The changes, as peft has them."""

    config: Mapping[str, Any]
    """What ``peft.LoraConfig`` takes."""
    weights: Mapping[str, Tensor]

    @classmethod
    def of(cls, transformer: Any, adapter: str = NAME) -> LoraStudent:
        """The adapter that is on a transformer."""
        from peft.utils import get_peft_model_state_dict

        settings = transformer.peft_config[adapter].to_dict()
        config = {name: settings[name] for name in _KEPT if settings.get(name)}
        config["target_modules"] = sorted(config["target_modules"])
        weights = get_peft_model_state_dict(transformer, adapter_name=adapter)
        return cls(config, {name: value.detach().cpu().contiguous() for name, value in weights.items()})

    def join(self, transformer: Any) -> Callable[[], None]:
        """Put the changes onto a transformer, beside adapters it has; returns what undoes it.

        Raises:
            ValueError: they do not fit, or ours are on already.
        """
        from peft import LoraConfig
        from peft.utils import set_peft_model_state_dict

        had, before = dict(vars(transformer)), _active(transformer)
        if NAME in getattr(transformer, "peft_config", {}):
            raise ValueError(
                f"This {type(transformer).__name__} has a LoRA student on already. Take that one off first."
            )
        transformer.add_adapter(LoraConfig(**self.config), adapter_name=NAME)

        def undo() -> None:
            if before:
                transformer.delete_adapters(NAME)
                transformer.set_adapter(before)
                return
            transformer.unload_lora()
            if "_hf_peft_config_loaded" not in had:
                vars(transformer).pop("_hf_peft_config_loaded", None)

        loaded: Any = set_peft_model_state_dict(transformer, dict(self.weights), adapter_name=NAME)
        missing = [name for name in getattr(loaded, "missing_keys", ()) if f".{NAME}." in name]
        if missing or loaded.unexpected_keys:
            undo()
            raise ValueError(
                f"The LoRA student does not fit this {type(transformer).__name__}: missing {missing[:3]}, unknown "
                f"{list(loaded.unexpected_keys)[:3]}."
            )
        for name, parameter in transformer.named_parameters():
            if f".{NAME}." in name:
                parameter.requires_grad_(False)
                parameter.data = parameter.data.to(transformer.device, transformer.dtype)
        transformer.set_adapter([*before, NAME])
        return undo

    def fuse(self, transformer: Any) -> None:
        """Add the changes to a transformer's weights for good."""
        undo = self.join(transformer)
        transformer.fuse_lora(adapter_names=[NAME])
        undo()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``lora.json`` and ``lora.safetensors``."""
        folder = check_writable(folder)
        with atomic(folder / _FILES[1]) as draft:
            save_file(dict(self.weights), draft)
        write_text_atomic(folder / _FILES[0], json.dumps(dict(self.config), indent=1) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> LoraStudent:
        """Read what :meth:`save_pretrained` wrote.

        Raises:
            ValueError: files that are missing or damaged.
        """
        folder = Path(folder)
        try:
            return cls(json.loads((folder / _FILES[0]).read_text()), load_file(folder / _FILES[1]))
        except (OSError, json.JSONDecodeError, SafetensorError) as error:
            raise ValueError(f"The LoRA student in {folder} cannot be loaded: {error}") from error


def _active(transformer: Any) -> list[str]:
    return list(transformer.active_adapters()) if getattr(transformer, "peft_config", None) else []
