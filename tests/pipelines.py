"""diffusers' own pipelines, built from tiny random parts without any download: embeddings go in, latents come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tests.families import FAMILIES, TEXT, Draw, redraw, text_mask


class Interrupted(Exception):
    """Somebody stopped the sampling."""


@dataclass(frozen=True)
class Stock:
    """How one of diffusers' pipelines is built and called."""

    build: Callable[[int], Any]
    """``build(seed)``: the pipeline."""
    arguments: Callable[[Any, Draw, int, int], dict[str, Any]]
    """``arguments(pipe, draw, batch, size)``: of its call, but what all of them take."""
    branches: int = 1
    """How often it calls its transformer in a step."""
    calls_back: bool = True
    """Whether it has ``callback_on_step_end``."""
    switch: int | None = None
    """The step of a run of four that its second transformer begins with."""


@dataclass
class Sampler:
    """A stock pipeline and a way to sample from it."""

    stock: Stock
    seed: int = 0
    pipe: Any = field(init=False)

    def __post_init__(self) -> None:
        self.pipe = self.stock.build(self.seed)
        self.pipe.set_progress_bar_config(disable=True)

    @property
    def transformers(self) -> list[nn.Module]:
        found = (getattr(self.pipe, name, None) for name in ("transformer", "transformer_2"))
        return [transformer for transformer in found if transformer is not None]

    def __call__(
        self, steps: int = 4, seed: int = 0, batch: int = 1, size: int = 8, stop_after: int | None = None, **more: Any
    ) -> Tensor:
        drawn, dtype = self.stock.arguments(self.pipe, Draw(seed), batch, size), self.transformers[0].dtype
        given = {k: v.to(dtype) if isinstance(v, Tensor) else v for k, v in drawn.items()} | more
        with self._stopping(stop_after, given):
            return self.run(steps, seed, **given)

    def run(self, steps: int, seed: int = 0, **given: Any) -> Tensor:
        """Latents of a call with all arguments given."""
        common = {"num_inference_steps": steps, "output_type": "latent", "return_dict": False}
        return self.pipe(**given, **common, generator=torch.Generator().manual_seed(seed))[0]

    @contextmanager
    def _stopping(self, stop_after: int | None, given: dict[str, Any]) -> Iterator[None]:
        """By the callback, or in a call of the transformer where the pipeline has none."""

        def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            if step == stop_after:
                raise Interrupted("stopped")
            return tensors

        def stop_in_call(*_: Any) -> None:
            stop(self.pipe, self.pipe.scheduler.step_index or 0, None, {})

        if self.stock.calls_back:
            given.setdefault("callback_on_step_end", stop)
            yield
            return
        hook = self.pipe.transformer.register_forward_hook(stop_in_call)
        try:
            yield
        finally:
            hook.remove()


def euler(**options: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**options)


def prompts(draw: Draw, batch: int, *, names: tuple[str, ...], tokens: int = TEXT) -> dict[str, Tensor]:
    """Embeddings of prompts and negative prompts; by ``names``, those of a pipeline: embeddings, mask, pooled."""
    values: dict[str, Callable[[], Tensor]] = {
        "prompt_embeds": lambda: draw(batch, tokens, 16),
        "prompt_attention_mask": lambda: text_mask(batch),
        "prompt_embeds_mask": lambda: text_mask(batch),
        "prompt_embeds_2": lambda: draw(batch, tokens, 16),
        "prompt_embeds_mask_2": lambda: text_mask(batch),
        "pooled_prompt_embeds": lambda: draw(batch, 8),
    }
    return {prefix + name: values[name]() for prefix in ("", "negative_") for name in names}


def picture(draw: Draw, width: int, height: int) -> Any:
    import numpy as np
    from PIL import Image

    pixels = torch.randint(0, 256, (height, width, 3), generator=draw.generator)
    return Image.fromarray(pixels.numpy().astype(np.uint8))


def parts(names: str) -> dict[str, None]:
    """Components that are not needed when embeddings are passed and latents are returned."""
    return dict.fromkeys(names.split())


def hunyuan_video(seed: int) -> Any:
    from diffusers import HunyuanVideoPipeline

    transformer = FAMILIES["hunyuan_video"].transformer(seed, guidance_embeds=True)
    rest = parts("text_encoder tokenizer vae text_encoder_2 tokenizer_2")
    return HunyuanVideoPipeline(transformer=transformer, scheduler=euler(shift=7.0), **rest)


HUNYUAN = ("prompt_embeds", "prompt_attention_mask", "pooled_prompt_embeds")


def hunyuan_video_arguments(pipe: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    given = prompts(draw, batch, names=HUNYUAN)
    return {**given, "true_cfg_scale": 2.0, "height": 8 * size, "width": 8 * size, "num_frames": 9}


def hunyuan_video_image(family: str) -> Callable[[int], Any]:
    def build(seed: int) -> Any:
        from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoImageToVideoPipeline

        vae = AutoencoderKLHunyuanVideo(
            latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2,
            down_block_types=("HunyuanVideoDownBlock3D",) * 4, up_block_types=("HunyuanVideoUpBlock3D",) * 4,
            mid_block_add_attention=False,
        )  # fmt: skip
        rest = parts("text_encoder tokenizer text_encoder_2 tokenizer_2 image_processor")
        transformer = FAMILIES[family].transformer(seed)
        return HunyuanVideoImageToVideoPipeline(
            transformer=transformer, scheduler=euler(shift=7.0), vae=redraw(vae, seed=seed + 1), **rest
        )

    return build


def hunyuan_video_image_arguments(pipe: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    images = [picture(draw, 8 * size, 8 * size) for _ in range(batch)]
    return {**hunyuan_video_arguments(pipe, draw, batch, size), "image": images}


def hunyuan_video_15(seed: int, **changes: Any) -> Any:
    from diffusers import HunyuanVideo15Pipeline

    transformer = FAMILIES["hunyuan_video_15"].transformer(seed, **changes)
    return HunyuanVideo15Pipeline(transformer=transformer, **_hunyuan_video_15_parts(seed))


def _hunyuan_video_15_parts(seed: int) -> dict[str, Any]:
    from diffusers import AutoencoderKLHunyuanVideo15, ClassifierFreeGuidance

    vae = AutoencoderKLHunyuanVideo15(latent_channels=4, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1)
    return {
        "vae": redraw(vae, seed=seed + 1),
        "scheduler": euler(shift=5.0),
        "guider": ClassifierFreeGuidance(guidance_scale=2.0),
        **parts("text_encoder tokenizer text_encoder_2 tokenizer_2"),
    }


HUNYUAN_15 = ("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2")


def hunyuan_video_15_arguments(pipe: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    pipe.vision_num_semantic_tokens = 4
    return {**prompts(draw, batch, names=HUNYUAN_15), "height": 8 * size, "width": 8 * size, "num_frames": 5}


def hunyuan_video_15_image(seed: int, **changes: Any) -> Any:
    from diffusers import HunyuanVideo15ImageToVideoPipeline
    from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

    eyes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    encoder = SiglipVisionModel(SiglipVisionConfig(image_size=8, patch_size=4, **eyes))
    return HunyuanVideo15ImageToVideoPipeline(
        transformer=FAMILIES["hunyuan_video_15"].transformer(seed, **changes),
        image_encoder=redraw(encoder, seed=seed + 2),
        feature_extractor=SiglipImageProcessor(size={"height": 8, "width": 8}),
        **_hunyuan_video_15_parts(seed),
    )


def hunyuan_video_15_image_arguments(pipe: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    image = picture(draw, 8 * size, 64)  # its shape decides that of the video
    return {**prompts(draw, batch, names=HUNYUAN_15), "image": image, "num_frames": 5}


def unipc() -> Any:
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def wan(scheduler: Callable[[], Any] = euler, **options: Any) -> Callable[[int], Any]:
    def build(seed: int) -> Any:
        from diffusers import WanPipeline

        rest = parts("text_encoder tokenizer vae")
        transformer = FAMILIES["wan"].transformer(seed)
        return WanPipeline(transformer=transformer, scheduler=scheduler(), **rest, **options)

    return build


def wan_two_experts(seed: int) -> Any:
    return wan(transformer_2=FAMILIES["wan"].transformer(seed + 50), boundary_ratio=0.5)(seed)


def wan_arguments(pipe: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    given = prompts(draw, batch, names=("prompt_embeds",))
    return {**given, "guidance_scale": 2.0, "height": 8 * size, "width": 8 * size, "num_frames": 5}


def clip_eyes(seed: int) -> dict[str, Any]:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    size = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2}
    encoder = CLIPVisionModel(CLIPVisionConfig(image_size=8, patch_size=4, **size))
    processor = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    return {"image_encoder": redraw(encoder, seed=seed), "image_processor": processor}


def wan_image(family: str, experts: int = 1, **options: Any) -> Callable[[int], Any]:
    def build(seed: int) -> Any:
        from diffusers import AutoencoderKLWan, WanImageToVideoPipeline

        vae = AutoencoderKLWan(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
        )
        names = ("transformer", "transformer_2")[:experts]
        transformers = {name: FAMILIES[family].transformer(seed + 50 * index) for index, name in enumerate(names)}
        rest: dict[str, Any] = parts("text_encoder tokenizer image_processor image_encoder")
        rest |= clip_eyes(seed) if family == "wan_image" else {}
        return WanImageToVideoPipeline(
            **transformers, scheduler=euler(), vae=redraw(vae, seed=seed + 1), **rest, **options
        )

    return build


def wan_image_arguments(pipe: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    given = wan_arguments(pipe, draw, batch, size)
    if pipe.transformer.config.image_dim is not None:
        given |= prompts(draw, batch, names=("prompt_embeds",), tokens=512)
    return {**given, "image": picture(draw, 8 * size, 8 * size)}


def anyflow(seed: int) -> Any:
    from diffusers import AnyFlowPipeline, FlowMapEulerDiscreteScheduler

    transformer = FAMILIES["anyflow"].transformer(seed)
    rest = parts("text_encoder tokenizer vae")
    return AnyFlowPipeline(transformer=transformer, scheduler=FlowMapEulerDiscreteScheduler(shift=5.0), **rest)


def cogvideox(scheduler: str) -> Callable[[int], Any]:
    def build(seed: int) -> Any:
        import diffusers

        given = getattr(diffusers, scheduler)(
            prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
        )
        rest = parts("text_encoder tokenizer vae")
        transformer = FAMILIES["cogvideox"].transformer(seed)
        return diffusers.CogVideoXPipeline(transformer=transformer, scheduler=given, **rest)

    return build


def cogvideox_arguments(pipe: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    return {**wan_arguments(pipe, draw, batch, size), "num_frames": 9}


def ltx(seed: int) -> Any:
    from diffusers import LTXPipeline

    rest = parts("text_encoder tokenizer vae")
    return LTXPipeline(transformer=FAMILIES["ltx"].transformer(seed), scheduler=euler(), **rest)


def ltx_arguments(pipe: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    given = prompts(draw, batch, names=("prompt_embeds", "prompt_attention_mask"))
    return {**given, "guidance_scale": 2.0, "height": 16 * size, "width": 16 * size, "num_frames": 9}


def mochi(seed: int) -> Any:
    from diffusers import MochiPipeline

    rest = parts("text_encoder tokenizer vae")
    transformer = FAMILIES["mochi"].transformer(seed)
    return MochiPipeline(transformer=transformer, scheduler=euler(invert_sigmas=True), **rest)


def mochi_arguments(pipe: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    given = prompts(draw, batch, names=("prompt_embeds", "prompt_attention_mask"))
    return {**given, "guidance_scale": 2.0, "height": 8 * size, "width": 8 * size, "num_frames": 7}


def flux(seed: int) -> Any:
    from diffusers import FluxPipeline

    transformer = FAMILIES["flux"].transformer(seed, guidance_embeds=True)
    rest = parts("text_encoder tokenizer vae text_encoder_2 tokenizer_2")
    return FluxPipeline(transformer=transformer, scheduler=euler(shift=3.0), **rest)


def flux_arguments(pipe: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    given = prompts(draw, batch, names=("prompt_embeds", "pooled_prompt_embeds"))
    return {**given, "true_cfg_scale": 2.0, "height": 8 * size, "width": 8 * size}


def qwen_image(seed: int) -> Any:
    from diffusers import QwenImagePipeline

    rest = parts("text_encoder tokenizer vae")
    return QwenImagePipeline(transformer=FAMILIES["qwen_image"].transformer(seed), scheduler=euler(), **rest)


def qwen_image_arguments(pipe: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    given = prompts(draw, batch, names=("prompt_embeds", "prompt_embeds_mask"))
    return {**given, "true_cfg_scale": 2.0, "height": 8 * size, "width": 8 * size}


PIPELINES: dict[str, Stock] = {
    "HunyuanVideoPipeline": Stock(hunyuan_video, hunyuan_video_arguments, 2),
    "HunyuanVideoImageToVideoPipeline/latent_concat": Stock(
        hunyuan_video_image("hunyuan_video_latent_concat"), hunyuan_video_image_arguments, 2
    ),
    "HunyuanVideoImageToVideoPipeline/token_replace": Stock(
        hunyuan_video_image("hunyuan_video_token_replace"), hunyuan_video_image_arguments, 2
    ),
    "HunyuanVideo15Pipeline": Stock(hunyuan_video_15, hunyuan_video_15_arguments, 2, calls_back=False),
    "HunyuanVideo15ImageToVideoPipeline": Stock(
        hunyuan_video_15_image, hunyuan_video_15_image_arguments, 2, calls_back=False
    ),
    "WanPipeline": Stock(wan(), wan_arguments, 2),
    "WanPipeline/UniPC": Stock(wan(unipc), wan_arguments, 2),
    "WanPipeline/two_experts": Stock(wan_two_experts, wan_arguments, 2, switch=2),
    "WanPipeline/expand_timesteps": Stock(wan(expand_timesteps=True), wan_arguments, 2),
    "WanImageToVideoPipeline": Stock(wan_image("wan_image"), wan_image_arguments, 2),
    "WanImageToVideoPipeline/two_experts": Stock(
        wan_image("wan_image_channels", experts=2, boundary_ratio=0.5), wan_image_arguments, 2, switch=2
    ),
    "WanImageToVideoPipeline/expand_timesteps": Stock(wan_image("wan", expand_timesteps=True), wan_image_arguments, 2),
    "AnyFlowPipeline": Stock(anyflow, wan_arguments),
    "CogVideoXPipeline/DDIM": Stock(cogvideox("CogVideoXDDIMScheduler"), cogvideox_arguments),
    "CogVideoXPipeline/DPM": Stock(cogvideox("CogVideoXDPMScheduler"), cogvideox_arguments),
    "LTXPipeline": Stock(ltx, ltx_arguments),
    "MochiPipeline": Stock(mochi, mochi_arguments),
    "FluxPipeline": Stock(flux, flux_arguments, 2),
    "QwenImagePipeline": Stock(qwen_image, qwen_image_arguments, 2),
}
