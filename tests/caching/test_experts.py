"""Two transformers that take turns share a clock and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import disca
from disca.meanflow.second_time import SecondTime
from tests.pipelines import PIPELINES, Sampler, unipc


@pytest.fixture(params=["WanPipeline/two_experts", "WanImageToVideoPipeline/two_experts"])
def sampler(request: pytest.FixtureRequest) -> Sampler:
    """It gives the last two of four steps, and the last four of eight, to the second transformer."""
    return Sampler(PIPELINES[request.param])


def steps(run: disca.Run) -> dict[str, tuple[int, ...]]:
    return {name: steps.full for name, steps in run.summary().branches.items()}


def predictors(sampler: Sampler) -> list[disca.Predictor]:
    torch.manual_seed(0)
    return [disca.Predictor.from_host(transformer, depth=1).eval() for transformer in sampler.transformers]


@pytest.mark.parametrize(
    ("policy", "full"),
    [
        (disca.reuse(full_steps=(0,)), (0, 4)),
        (disca.reuse(every=3), (0, 3, 4, 6)),
        (disca.taylor(full_steps=(0, 2, 6), order=2), (0, 2, 4, 6)),
    ],
    ids=str,
)
def test_the_first_step_after_the_switch_is_full(sampler: Sampler, policy: Any, full: tuple[int, ...]) -> None:
    with disca.attach(sampler.pipe, policy) as run:
        sampler(steps=8)
    assert steps(run) == {"cond": full, "uncond": full}


def test_the_second_learns_only_from_itself(sampler: Sampler) -> None:
    """Its first forecast is the features that it gave at the switch, whatever the first had been caching."""
    outputs: list[Tensor] = []
    sampler.pipe.transformer_2.blocks[-1].register_forward_hook(lambda module, args, output: outputs.append(output))
    seen: list[Tensor] = []
    sampler.pipe.transformer_2.norm_out.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with disca.attach(sampler.pipe, disca.reuse(full_steps=(0,))):
        sampler(steps=4)
    assert len(outputs) == 2
    assert len(seen) == 4
    for branch in (0, 1):
        assert torch.equal(seen[branch], outputs[branch].float())
        assert torch.equal(seen[2 + branch], outputs[branch].float())


def test_what_the_first_remembered_goes_at_the_switch(sampler: Sampler) -> None:
    held = []
    hook = sampler.pipe.transformer_2.register_forward_pre_hook(lambda *_: held.append(run.bytes_held()))
    with disca.attach(sampler.pipe, disca.reuse(full_steps=(0,))) as run:
        sampler(steps=4)
    hook.remove()
    both = run.summary().bytes_held
    assert held == [both, both // 2, both, both // 2]  # before each call: of both branches, of one


def test_each_has_a_predictor_of_its_own(sampler: Sampler) -> None:
    first, second = predictors(sampler)
    calls = {"first": 0, "second": 0}

    def count(name: str) -> Any:
        return lambda *_: calls.update({name: calls[name] + 1})

    first.register_forward_hook(count("first"))
    second.register_forward_hook(count("second"))
    policies = {
        "transformer": disca.disca(first, full_steps=(0,)),
        "transformer_2": disca.disca(second, full_steps=(0,)),
    }
    with disca.attach(sampler.pipe, policies) as run:
        sampler(steps=8)
    assert steps(run) == {"cond": (0, 4), "uncond": (0, 4)}
    assert calls == {"first": 6, "second": 6}


def test_one_that_is_left_out_is_only_measured(sampler: Sampler) -> None:
    with disca.attach(sampler.pipe, {"transformer_2": disca.reuse(full_steps=(0,))}) as run:
        sampler(steps=4)
    assert steps(run) == {"cond": (0, 1, 2), "uncond": (0, 1, 2)}


def test_a_transformer_that_is_not_there_is_refused(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match=r"Unknown transformer 'transformer_3'\. Did you mean 'transformer_2'"):
        disca.attach(sampler.pipe, {"transformer_3": disca.reuse(every=2)})


def test_where_the_second_refuses_the_first_is_not_touched(sampler: Sampler) -> None:
    host = sampler.pipe.transformer
    before = dict(vars(host))
    stranger = Sampler(PIPELINES["HunyuanVideoPipeline"]).pipe.transformer
    predictor = disca.Predictor.from_host(stranger)
    policies = {"transformer": disca.reuse(every=2), "transformer_2": disca.disca(predictor, every=2)}
    with pytest.raises(ValueError, match="made for HunyuanVideoTransformer3DModel, not for WanTransformer3DModel"):
        disca.attach(sampler.pipe, policies)
    assert vars(host) == before
    with disca.attach(sampler.pipe.transformer_2, timesteps=[1000.0, 500.0]):
        with pytest.raises(ValueError, match="attached to this WanTransformer3DModel already"):
            disca.attach(sampler.pipe, disca.reuse(every=2))
        assert vars(host) == before


def test_one_of_the_two_may_be_missing() -> None:
    """The pipeline samples with the second alone, where its boundary is above all times."""
    sampler = Sampler(PIPELINES["WanPipeline/two_experts"])
    plain = sampler.pipe.transformer_2
    sampler.pipe.register_to_config(boundary_ratio=1.1)
    sampler.pipe.register_modules(transformer=None)
    with disca.attach(sampler.pipe, disca.reuse(every=2)) as run:
        assert [expert.transformer for expert in run.experts] == [plain]
        sampler(steps=4)
    assert steps(run) == {"cond": (0, 2), "uncond": (0, 2)}


def test_each_may_be_a_student(sampler: Sampler) -> None:
    """Both are told where the steps go; times come from one scheduler."""
    seen: list[list[Tensor]] = [[], []]
    seconds = [SecondTime.for_host(transformer) for transformer in sampler.transformers]
    for transformer, second, times in zip(sampler.transformers, seconds, seen, strict=True):
        second.install(transformer)
        second.register_forward_pre_hook(lambda module, given, times=times: times.append(torch.stack(given)[:, 0]))
    with disca.attach(sampler.pipe, disca.reuse(every=1)):
        sampler(steps=4)
    sigmas = sampler.pipe.scheduler.sigmas.double()
    expected = torch.stack([sigmas[:-1], sigmas[1:]], dim=1).repeat_interleave(2, dim=0)
    assert torch.equal(torch.stack(seen[0]), expected[:4])
    assert torch.equal(torch.stack(seen[1]), expected[4:])


def test_a_student_among_them_needs_euler_steps(sampler: Sampler) -> None:
    SecondTime.for_host(sampler.pipe.transformer_2).install(sampler.pipe.transformer_2)
    sampler.pipe.scheduler = unipc()
    with pytest.raises(ValueError, match=r"UniPCMultistepScheduler does not take\. Give .* FlowMatchEuler"):
        disca.attach(sampler.pipe, disca.reuse(every=2))
    assert len(list(sampler.pipe.transformer.blocks)) == 2
