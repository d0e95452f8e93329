"""A second time changes nothing until it has learned, tells the host where each step goes, and leaves no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HunyuanVideoTransformer3DModel,
    UniPCMultistepScheduler,
)
from torch import Tensor, nn

from disca.flow import du_dt, integrate
from disca.meanflow.second_time import SecondTime

Make = Callable[..., Any]
T, R = torch.tensor([0.9, 0.5]), torch.tensor([0.7, 0.1])


def random_second(host: nn.Module, **options: Any) -> SecondTime:
    """As if trained: no weight is zero, and none is the host's."""
    second = SecondTime.for_host(host, **options)
    torch.manual_seed(3)
    for parameter in second.parameters():
        nn.init.normal_(parameter, std=0.1)
    return second


def velocity(host: nn.Module, inputs: dict[str, Any], t: Tensor = T) -> Tensor:
    return host(timestep=1000 * t, **inputs)[0]


class Pipeline(DiffusionPipeline):
    """The shortest pipeline with a transformer and a scheduler."""

    _optional_components = ("second_time",)

    def __init__(
        self,
        transformer: HunyuanVideoTransformer3DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
        second_time: SecondTime | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler, second_time=second_time)

    @torch.no_grad()
    def __call__(self, inputs: dict[str, Any], *, steps: int) -> Tensor:
        x, dtype = inputs["hidden_states"], self.transformer.dtype
        rest = {name: value for name, value in inputs.items() if name != "hidden_states"}
        self.scheduler.set_timesteps(steps)
        for timestep in self.scheduler.timesteps:
            called = timestep.to(dtype).expand(len(x))
            v = self.transformer(hidden_states=x.to(dtype), timestep=called, **rest)[0]
            x = self.scheduler.step(v, timestep, x, return_dict=False)[0]
        return x


@pytest.fixture
def pipe(hunyuan: nn.Module) -> Pipeline:
    return Pipeline(hunyuan, FlowMatchEulerDiscreteScheduler(shift=5.0))


@pytest.fixture
def inputs(hunyuan: nn.Module, make_inputs: Make) -> dict[str, Any]:
    return make_inputs(hunyuan, batch=2)


@pytest.mark.parametrize("read", ["interval", "r"])
def test_at_first_the_host_is_itself_whatever_r_is(any_hunyuan: nn.Module, make_inputs: Make, read: Any) -> None:
    inputs = make_inputs(any_hunyuan, batch=2)
    second = SecondTime.for_host(any_hunyuan, input=read)
    before = velocity(any_hunyuan, inputs)
    for r in (T, R, torch.zeros(2), torch.ones(2)):
        with second.attach(any_hunyuan), second.at(T, r):
            assert torch.equal(velocity(any_hunyuan, inputs), before)


def test_at_first_the_averaged_host_is_itself_where_r_is_t(hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    before, second = velocity(hunyuan, inputs), SecondTime.for_host(hunyuan, layout="average")
    with second.attach(hunyuan):
        with second.at(T, T):
            assert torch.equal(velocity(hunyuan, inputs), before)
        with second.at(T, R):
            assert not torch.allclose(velocity(hunyuan, inputs), before)


def test_the_layouts_are_the_published_sums(hunyuan: nn.Module) -> None:
    """time_in(t) + time_r_in(r), and its half."""
    embedded, sinusoid = torch.randn(2, 32), torch.randn(2, 256)
    for layout, share in (("sum", 1.0), ("average", 0.5)):
        second = random_second(hunyuan, layout=layout, input="r")
        expected = share * (embedded + second.embedder(second.sinusoid(1000 * R)))
        with second.at(T, R):
            torch.testing.assert_close(second.join(embedded, sinusoid), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_at_time_0_has_no_second_time(hunyuan: nn.Module, dtype: torch.dtype) -> None:
    """At 0 only, however near another time is: the interval from there on is none, whatever the step is told."""
    second = random_second(hunyuan, input="interval")
    times = torch.tensor([0.0, 1e-6, 1e-3, 0.5, 1.0])
    sinusoid, embedded = second.sinusoid(1000 * times).to(dtype), torch.zeros(len(times), 32)
    t, r = torch.tensor([0.75]), torch.tensor([0.5])
    none, some = second(t * 0, r * 0), second(t, r)
    assert not torch.allclose(none, some)
    with second.at(t, r):
        joined = second.join(embedded, sinusoid)
    torch.testing.assert_close(joined, torch.cat([none, some.expand(4, -1)]))


def test_an_interval_is_all_that_is_read_of_it(hunyuan: nn.Module) -> None:
    second = random_second(hunyuan)
    half = torch.tensor([0.5])
    assert torch.equal(second(half, half / 2), second(half / 2, half * 0))
    assert not torch.allclose(second(half, half / 2), second(half, half * 0))


def test_it_reaches_the_blocks_and_not_the_text_refiner(hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    seen: dict[str, list[Tensor]] = {"refined": [], "modulation": []}
    hunyuan.context_embedder.register_forward_hook(lambda module, args, output: seen["refined"].append(output))
    hunyuan.time_text_embed.register_forward_hook(lambda module, args, output: seen["modulation"].append(output[0]))
    second = random_second(hunyuan)
    with second.attach(hunyuan):
        for r in (T, R):
            with second.at(T, r):
                velocity(hunyuan, inputs)
    assert torch.equal(*seen["refined"])
    assert not torch.allclose(*seen["modulation"])


def test_samples_differ_only_by_their_own_times(hunyuan: nn.Module, inputs: dict[str, Any], make_inputs: Make) -> None:
    second = random_second(hunyuan)
    one = {k: v[:1] if isinstance(v, Tensor) else v for k, v in inputs.items()}
    with second.attach(hunyuan):
        with second.at(T, R):
            both = velocity(hunyuan, inputs)
        with second.at(T[:1], R[:1]):
            torch.testing.assert_close(velocity(hunyuan, one, T[:1]), both[:1])


def test_a_pipeline_s_steps_are_the_flow_map(pipe: Pipeline, inputs: dict[str, Any]) -> None:
    """Stock Euler steps, told r by the scheduler, are the integration of u(x, t, r) over the same times."""
    second = random_second(pipe.transformer)
    with second.attach(pipe):
        sampled = pipe(inputs, steps=5)

    @torch.no_grad()
    def u(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        with second.at(t, r):
            return velocity(pipe.transformer, {**inputs, "hidden_states": x}, t)

    with second.attach(pipe.transformer):
        expected = integrate(u, inputs["hidden_states"], pipe.scheduler.sigmas)
    torch.testing.assert_close(sampled, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(sampled, pipe(inputs, steps=5), rtol=1e-2)


def test_times_are_the_scheduler_s_own_in_bfloat16_too(pipe: Pipeline, inputs: dict[str, Any]) -> None:
    pipe.to(torch.bfloat16)
    second, seen = SecondTime.for_host(pipe.transformer), []
    second.register_forward_pre_hook(lambda module, times: seen.append(torch.stack(times)[:, 0]))
    cast = {k: v.bfloat16() if isinstance(v, Tensor) and k != "hidden_states" else v for k, v in inputs.items()}
    with second.attach(pipe):
        for steps in (3, 40):  # 40 steps have neighbours that are one in bfloat16
            seen.clear()
            pipe(cast, steps=steps)
            sigmas = pipe.scheduler.sigmas
            assert torch.equal(torch.stack(seen), torch.stack([sigmas[:-1], sigmas[1:]], dim=1))


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        (UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"), "UniPCMultistepScheduler"),
        (FlowMatchHeunDiscreteScheduler(), "FlowMatchHeunDiscreteScheduler"),
        (DDIMScheduler(), "DDIMScheduler"),
        (FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), "stochastic_sampling=True"),
        (FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "invert_sigmas=True"),
    ],
)
def test_schedulers_that_take_other_steps_are_refused(pipe: Pipeline, inputs: Any, scheduler: Any, said: str) -> None:
    second = SecondTime.for_host(pipe.transformer)
    with second.attach(pipe):  # given while attached
        euler, pipe.scheduler = pipe.scheduler, scheduler
        with pytest.raises(ValueError, match=f"{said}.*Give the pipeline a FlowMatchEulerDiscreteScheduler"):
            velocity(pipe.transformer, inputs)
    with pytest.raises(ValueError, match=said), second.attach(pipe):
        pytest.fail("attached")
    pipe.scheduler = euler
    with second.attach(pipe):
        pipe(inputs, steps=2)


def traces(host: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {name: value.clone() for name, value in host.state_dict().items()}
    return found | {f"{name}.__dict__": set(vars(module)) for name, module in host.named_modules()}


def test_it_leaves_no_trace_also_after_an_error(hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    before, second = traces(hunyuan), random_second(hunyuan)
    own = set(vars(second))
    with pytest.raises(ZeroDivisionError), second.attach(hunyuan), second.at(T, R):
        velocity(hunyuan, inputs)
        raise ZeroDivisionError
    second.install(hunyuan)
    assert hunyuan.state_dict().keys() == {name for name in before if not name.endswith(".__dict__")}
    second.remove(hunyuan)
    after = traces(hunyuan)
    assert after.keys() == before.keys()
    assert all(
        torch.equal(after[name], value) if isinstance(value, Tensor) else after[name] == value
        for name, value in before.items()
    )
    assert set(vars(second)) == own


def test_a_host_that_was_not_told_says_so(hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    second = SecondTime.for_host(hunyuan)
    with second.attach(hunyuan):
        with second.at(T, R):
            velocity(hunyuan, inputs)
        with pytest.raises(RuntimeError, match=r"Call it inside `with second.at\(t, r\):`"):
            velocity(hunyuan, inputs)


def test_times_in_half_precision_are_refused(hunyuan: nn.Module) -> None:
    second = SecondTime.for_host(hunyuan)
    for t, r, name in ((T.bfloat16(), R, "t"), (T, R.half(), "r"), (T, R.long(), "r")):
        with pytest.raises(ValueError, match=f"{name} is torch.*float32"), second.at(t, r):
            pytest.fail("accepted")


def test_a_pipeline_may_sample_between_the_steps_of_training(pipe: Pipeline, inputs: dict[str, Any]) -> None:
    second = random_second(pipe.transformer)
    with second.attach(pipe):
        expected = pipe(inputs, steps=2)
    second.install(pipe.transformer)
    with second.at(T, R):
        before = velocity(pipe.transformer, inputs)
        with second.attach(pipe):
            assert torch.equal(pipe(inputs, steps=2), expected)
        assert torch.equal(velocity(pipe.transformer, inputs), before)
    with (
        pytest.raises(ValueError, match="another second time already"),
        SecondTime.for_host(pipe.transformer).attach(pipe),
    ):
        pytest.fail("attached")
    with second.attach(pipe):
        assert torch.equal(pipe(inputs, steps=2), expected)


def test_a_copy_of_an_installed_host_does_not_compute_with_the_original(hunyuan: nn.Module, inputs: Any) -> None:
    second = SecondTime.for_host(hunyuan)
    with second.attach(hunyuan), second.at(T, R), pytest.raises(RuntimeError, match="Copy it before install"):
        velocity(copy.deepcopy(hunyuan), inputs)


def test_gradients_and_derivatives_go_through(hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    hunyuan, second = hunyuan.double(), random_second(hunyuan.double())
    inputs = {name: value.double() if isinstance(value, Tensor) else value for name, value in inputs.items()}

    def u(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        with second.at(t, r):
            return velocity(hunyuan, {**inputs, "hidden_states": x}, t)

    x, t, r = inputs["hidden_states"], T.double(), R.double()
    with second.attach(hunyuan):
        with torch.no_grad():
            v = u(x, t, t)
            exact = du_dt(u, x, t, r, v)
            # The embedding is float32 inside: smaller differences would be its round-off.
            torch.testing.assert_close(du_dt(u, x, t, r, v, method="central", eps=3e-5), exact, rtol=0.02, atol=0.02)
        u(x, t, r).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in second.parameters())
    assert all(p.grad.any() for p in hunyuan.time_text_embed.timestep_embedder.parameters())


def test_compiled_blocks_stay_whole_and_agree(make_hunyuan: Make, inputs: dict[str, Any]) -> None:
    hunyuan = make_hunyuan(num_layers=0, num_single_layers=1)
    second = random_second(hunyuan)
    with second.attach(hunyuan), second.at(T, R), torch.no_grad():
        plain = velocity(hunyuan, inputs)
        hunyuan.single_transformer_blocks[0].compile(fullgraph=True, backend="eager")
        torch.testing.assert_close(velocity(hunyuan, inputs), plain)
        torch.compiler.reset()


def test_a_pipeline_carries_it_on_disk(pipe: Pipeline, inputs: dict[str, Any], tmp_path: Path) -> None:
    student = Pipeline(pipe.transformer, pipe.scheduler, random_second(pipe.transformer))
    student.second_time.install(student.transformer)
    student.save_pretrained(tmp_path)
    loaded = Pipeline.from_pretrained(tmp_path)
    with student.second_time.attach(student):
        expected = student(inputs, steps=3)
    with loaded.second_time.attach(loaded):
        torch.testing.assert_close(loaded(inputs, steps=3), expected)  # not bit for bit: memory is aligned otherwise


def test_options_that_do_not_go_together_are_refused(hunyuan: nn.Module, make_hunyuan: Make) -> None:
    with pytest.raises(ValueError, match="its input is 'r'"):
        SecondTime.for_host(hunyuan, layout="average", input="interval")
    with pytest.raises(ValueError, match="not product, interval"):
        SecondTime.for_host(hunyuan, layout="product", input="interval")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_single_layers=3"):
        SecondTime.for_host(hunyuan).install(make_hunyuan(num_single_layers=4))
