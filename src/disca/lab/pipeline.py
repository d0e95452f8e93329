"""The lab's text-to-video pipeline: diffusers' HunyuanVideo transformer and flow-matching scheduler, a small CLIP text
encoder, and a linear codec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, HunyuanVideoTransformer3DModel
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from disca.lab.codec import PatchCodec
from disca.lab.words import Prompt, parse
from disca.meanflow.second_time import SecondTime


@cache
def _takes_place(transformer: Any) -> bool:
    return "kwargs" in signature(transformer.cache_context).parameters


OUTPUT_TYPES = ("np", "pt", "latent")


@dataclass
class LabPipelineOutput(BaseOutput):
    """``frames``: clips ``[batch, frames, height, width, 3]`` (``np``), ``[batch, frames, 3, height, width]`` (``pt``),
    both in [0, 1], or latents ``[batch, channels, frames, height, width]``."""

    frames: Any


class LabPipeline(DiffusionPipeline):
    """Text to video in the lab, with the conventions of diffusers' video pipelines.

    A transformer with a guidance embedding takes ``guidance_scale`` as an input, in one pass; one without is guided by
    two passes. A ``second_time`` makes the transformer a MeanFlow student: each step also tells it where the step ends.
    """

    model_cpu_offload_seq = "text_encoder->transformer->codec"
    _optional_components: ClassVar[list[str]] = ["second_time"]
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents"]

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        text_encoder: CLIPTextModel,
        transformer: HunyuanVideoTransformer3DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
        codec: PatchCodec,
        second_time: SecondTime | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            transformer=transformer,
            scheduler=scheduler,
            codec=codec,
            second_time=second_time,
        )

    @property
    def embeds_guidance(self) -> bool:
        """Whether the transformer takes the guidance scale as an input."""
        return bool(self.transformer.config.guidance_embeds)

    def encode_prompt(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """What the transformer takes of prompts, by argument name; an empty prompt is the unconditional one."""
        length = self.text_encoder.config.max_position_embeddings
        tokens = self.tokenizer(list(prompts), padding="max_length", max_length=length, return_tensors="pt").input_ids
        encoded = self.text_encoder(tokens.to(self.text_encoder.device))
        states = encoded.last_hidden_state
        return {
            "encoder_hidden_states": states,
            "encoder_attention_mask": torch.ones(states.shape[:2], device=states.device),
            "pooled_projections": encoded.pooler_output,
        }

    def prepare_latents(self, count: int, generator: Any, latents: Tensor | None) -> Tensor:
        """Initial noise ``[count, channels, frames, height, width]``."""
        shape = (count, self.transformer.config.in_channels, *self.codec.latent_shape)
        if latents is not None and tuple(latents.shape) != shape:
            raise ValueError(f"latents have shape {tuple(latents.shape)}, expected {shape}.")
        if latents is not None:
            return latents.to(self.device, self.transformer.dtype)
        return randn_tensor(shape, generator=generator, device=self.device, dtype=self.transformer.dtype)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Prompt | Sequence[str | Prompt],
        *,
        num_inference_steps: int = 50,
        guidance_scale: float = 3.0,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Any:
        """Sample clips.

        Args:
            prompt: One prompt or several, such as "a red seven drifting left".
            num_inference_steps: Number of steps of the scheduler.
            guidance_scale: Embedded, or applied in two passes when above 1; see the class.
            generator: One for the batch, or one per clip.
            latents: Initial noise instead of a generator.
            output_type: ``np``, ``pt`` or ``latent``.

        Raises:
            ValueError: words the lab does not know, an unknown output type, latents of another shape.
        """
        prompts = [prompt] if isinstance(prompt, (str, Prompt)) else list(prompt)
        texts = [str(parse(str(text))) for text in prompts for _ in range(num_videos_per_prompt)]
        self._check(num_inference_steps, output_type, callback_on_step_end_tensor_inputs)
        latents = self.prepare_latents(len(texts), generator, latents)
        branches = self._branches(texts, guidance_scale)
        # Without the last, sigma = 0, which the scheduler appends itself.
        sigmas = np.linspace(1.0, 0.0, num_inference_steps + 1)[:-1]
        self.scheduler.set_timesteps(sigmas=sigmas, device=self.device)
        second = nullcontext() if self.second_time is None else self.second_time.attach(self)
        with second, self.progress_bar(total=num_inference_steps) as progress:
            for step, timestep in enumerate(self.scheduler.timesteps):
                velocity = self._velocity(latents, step, branches, guidance_scale)
                latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
                if callback_on_step_end is not None:
                    changed = callback_on_step_end(self, step, timestep, {"latents": latents})
                    latents = (changed or {}).pop("latents", latents)
                progress.update()
        frames = self._frames(latents, output_type)
        self.maybe_free_model_hooks()
        return LabPipelineOutput(frames=frames) if return_dict else (frames,)

    def _check(self, steps: int, output_type: str, tensor_inputs: Sequence[str]) -> None:
        if steps < 1:
            raise ValueError(f"num_inference_steps is {steps}; at least 1 is needed.")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}; one of {', '.join(OUTPUT_TYPES)} is expected.")
        if set(tensor_inputs) - set(self._callback_tensor_inputs):
            raise ValueError(
                f"callback_on_step_end_tensor_inputs may name {self._callback_tensor_inputs}, got {tensor_inputs}."
            )

    def _branches(self, texts: list[str], guidance_scale: float) -> dict[str, dict[str, Tensor]]:
        """Inputs of the transformer beside the latents, for each pass of a step."""
        cond = self.encode_prompt(texts)
        if self.embeds_guidance:
            # HunyuanVideo's convention: the embedding is fed a thousand times the scale.
            guidance = torch.full((len(texts),), 1000.0 * guidance_scale, device=self.device)
            return {"cond": {**cond, "guidance": guidance}}
        if guidance_scale <= 1:
            return {"cond": cond}
        return {"cond": cond, "uncond": self.encode_prompt([""] * len(texts))}

    def _velocity(
        self, latents: Tensor, step: int, branches: dict[str, dict[str, Tensor]], guidance_scale: float
    ) -> Tensor:
        timestep, outputs = self.scheduler.timesteps[step], {}
        for branch, inputs in branches.items():
            with self.transformer.cache_context(branch, **self._place(step)):
                outputs[branch] = self.transformer(
                    hidden_states=latents, timestep=timestep.expand(len(latents)), return_dict=False, **inputs
                )[0]
        if "uncond" not in outputs:
            return outputs["cond"]
        return outputs["uncond"] + guidance_scale * (outputs["cond"] - outputs["uncond"])

    def _place(self, step: int) -> dict[str, Any]:
        """What caches of diffusers want to know of a step beside its branch, where this version has room for it."""
        if not _takes_place(type(self.transformer)):  # type: ignore[arg-type]
            return {}
        return {
            "step_index": step,
            "sigma": float(self.scheduler.sigmas[step]),
            "num_inference_steps": len(self.scheduler.timesteps),
        }

    def _frames(self, latents: Tensor, output_type: str) -> Any:
        if output_type == "latent":
            return latents
        clips = self.codec.decode(latents).movedim(1, 2)
        return clips if output_type == "pt" else clips.movedim(2, -1).cpu().float().numpy()
