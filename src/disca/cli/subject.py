"""What `disca sample` samples with: a model as it is called, and a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from disca.bench.models import Model
    from disca.caching.policy import Policy
    from disca.cli.sample import Sample

LAB_STEPS = 8


def subject(options: Sample, device: str = "") -> tuple[Model, Policy]:
    """The model as it is called, and the policy.

    Raises:
        ValueError: a model, method, step count or option of the call that does not fit.
    """
    from disca.cli.models import open_model

    if options.steps is not None and options.steps < 1:
        raise ValueError(f"--steps is the number of sampling steps, at least 1, not {options.steps}.")
    model = open_model(options.model, bundle=options.bundle, dtype=options.dtype, device=device)
    model = replace(model, call={**model.call, **_call(options, model)})
    return model, policy_of(options, model)


def check(options: Sample) -> None:
    """Refuse, before anything is loaded, what can be refused without it.

    Raises:
        ValueError: an unknown model or method; options of the method or full steps that cannot be.
    """
    from disca.bench.grid import parse_method
    from disca.bench.models import Model
    from disca.caching.methods import METHODS
    from disca.cli.models import check_name
    from disca.errors import unknown

    check_name(options.model)
    name, _ = parse_method(options.policy or "none")
    if name not in ("none", *METHODS):
        raise ValueError(unknown("method", name, METHODS))
    steps = options.steps or (LAB_STEPS if in_lab(options) else None)
    if steps is not None and options.bundle is None:
        policy_of(options, Model(pipe=None, call={"num_inference_steps": steps}, predictor=_absent))


def _absent(**_: Any) -> Any:
    """Stands for the predictor, which a schedule does not depend on."""
    raise AssertionError("nothing is sampled yet")


def settings(options: Sample, model: Model) -> dict[str, Any]:
    """What all clips of a command have in common, as plain data."""
    default = "the bundle's" if model.bundle else "disca" if model.predictor else "none"
    return {
        "model": options.model,
        "bundle": None if options.bundle is None else str(options.bundle),
        "policy": options.policy or default,
        "full_steps": None if options.full_steps is None else list(options.full_steps),
        "call": dict(model.call),
        "dtype": str(model.pipe.transformer.dtype).removeprefix("torch."),
        "fps": frame_rate(options),
    }


def policy_of(options: Sample, model: Model) -> Policy:
    """The policy that the options name for a model that is called so.

    Raises:
        ValueError: an unknown method or option; full steps without a method, or that do not fit.
    """
    from disca.bench import plan
    from disca.bench.grid import parse_method
    from disca.caching.methods import METHODS
    from disca.lab.sample import default_full_steps

    steps = model.call["num_inference_steps"]
    if model.bundle is not None and options.full_steps is None and options.policy in (None, "disca"):
        plan.full_steps(model.bundle.policy, steps)
        return model.bundle.policy
    name, given = parse_method(options.policy or ("disca" if model.predictor is not None else "none"))
    if name == "none":
        if options.full_steps is not None:
            raise ValueError("--full-steps go with a policy; without one every step is full.")
        return ()
    if options.full_steps is not None:
        given["full_steps"] = options.full_steps
    elif name in METHODS and "full_steps" in METHODS[name].options and not {"every", "full_steps"} & set(given):
        given["full_steps"] = default_full_steps(steps)
    return plan.policy_of(name, given, model, steps)


def in_lab(options: Sample) -> bool:
    """Whether the model is one of the lab's."""
    return not Path(options.model).is_dir()


def frame_rate(options: Sample) -> float:
    """Frames per second of a file."""
    return options.fps or (8 if in_lab(options) else 16)


def _call(options: Sample, model: Model) -> Mapping[str, Any]:
    """What the pipeline is called with beside prompt and noise."""
    from disca.bench.sizes import Size
    from disca.sampling.sampler import default, takes

    wanted = {"guidance_scale": options.guidance_scale, "negative_prompt": options.negative_prompt}
    if options.size is not None:
        size = Size.parse(options.size)
        wanted |= {"width": size.width, "height": size.height}
        wanted |= {"num_frames": size.frames} if size.frames > 1 or takes(model.pipe, "num_frames") else {}
    given = {name: value for name, value in wanted.items() if value is not None}
    for name in given:
        if not takes(model.pipe, name):
            raise ValueError(f"{type(model.pipe).__name__} takes no {name}: leave the option out.")
    scheduled = model.bundle.schedules[0].steps if model.bundle and model.bundle.schedules else None
    own = LAB_STEPS if in_lab(options) else default(model.pipe, "num_inference_steps")
    return {"num_inference_steps": options.steps or scheduled or own, **given}
