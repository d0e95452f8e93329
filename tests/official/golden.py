"""The golden files: tiny models of the authors' code, random weights, and what that code made of them.

``golden/README.md`` says what is in each file. Nothing of a model is written down here but which argument of diffusers'
transformer each input is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "golden"
MODELS = ("hyvideo10_t2v", "hyvideo15_i2v")


@dataclass(frozen=True)
class Golden:
    """One folder of golden files."""

    name: str

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def config(self) -> dict[str, Any]:
        return json.loads((self.folder / "config.json").read_text())

    def tensors(self, file: str, prefix: str) -> dict[str, Tensor]:
        """The tensors of a file whose names begin with ``prefix``, without it."""
        found = _load(self.folder / f"{file}.safetensors")
        return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}

    def host(self) -> nn.Module:
        """The transformer of diffusers that the weights are for, itself with random weights."""
        import diffusers
        from diffusers.models.transformers.transformer_hunyuan_video15 import HunyuanVideo15ByT5TextProjection

        config, old = self.config, self.name == "hyvideo10_t2v"
        cls = diffusers.HunyuanVideoTransformer3DModel if old else diffusers.HunyuanVideo15Transformer3DModel
        host = cls(**config["diffusers_kwargs"])
        if not old:  # the constructor fixes one width that the golden model has smaller
            sizes = config["official_model"]["byt5_in (shrunk; official is fixed 1472/2048/2048)"]
            width = config["official_model"]["hidden_size"]
            host.context_embedder_2 = HunyuanVideo15ByT5TextProjection(sizes["in"], sizes["hidden"], width)
        return host.eval()

    def inputs(self, given: dict[str, Tensor], x: Tensor, t: Tensor, r: Tensor) -> dict[str, Any]:
        """Arguments of the host for golden inputs ``in.*`` (without that prefix)."""
        arguments: dict[str, Any] = {
            "hidden_states": x,
            "timestep": t,
            "encoder_hidden_states": given["text_states"],
            "encoder_attention_mask": given["text_mask"],
            "return_dict": False,
        }
        if self.name == "hyvideo10_t2v":
            guidance = self.config["sampling"]["guidance_fed_to_model"]
            return arguments | {
                "pooled_projections": given["text_states_2"],
                "guidance": t.new_full((len(x),), guidance),
            }
        return arguments | {
            "timestep_r": r,
            "encoder_hidden_states_2": given["byt5_text_states"],
            "encoder_attention_mask_2": given["byt5_text_mask"],
            "image_embeds": given["vision_states"],
        }

    def steps(self, loop: dict[str, Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """``t``, ``r`` and the length in sigma of each step of a loop."""
        sigmas = loop["sigmas"]
        for i in range(len(sigmas) - 1):
            yield loop[f"step.{i}.t"], loop[f"step.{i}.r"], sigmas[i + 1] - sigmas[i]

    def weights(self, part: str) -> dict[str, Tensor]:
        """Tensors of ``dit`` or ``predictor`` by official name."""
        return dict(_load(self.folder / f"{part}.safetensors"))


@lru_cache(maxsize=8)
def _load(path: Path) -> dict[str, Tensor]:
    return load_file(path)
