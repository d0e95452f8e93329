"""What belongs to diffusers and torch goes on working under an attachment: compiled blocks, offloading, adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers.hooks import apply_group_offloading
from diffusers.hooks.group_offloading import ModuleGroup
from peft import LoraConfig
from torch import Tensor, nn

import disca
from disca.caching.methods import METHODS
from tests import methods
from tests.families import redraw

TIMESTEPS = [1000.0, 800.0, 500.0, 200.0]


@pytest.fixture
def sample(hunyuan: nn.Module, make_inputs: Any) -> Callable[[], Tensor]:
    inputs = make_inputs(hunyuan)

    @torch.no_grad()
    def loop() -> Tensor:
        return torch.stack([hunyuan(timestep=torch.tensor([timestep]), **inputs)[0] for timestep in TIMESTEPS])

    return loop


@pytest.fixture
def expected(hunyuan: nn.Module, sample: Callable[[], Tensor]) -> Tensor:
    with disca.attach(hunyuan, disca.taylor(every=2), timesteps=TIMESTEPS):
        return sample()


@pytest.fixture
def graphs() -> Iterator[Callable[[], tuple[int, int]]]:
    """Compiled graphs and graph breaks so far."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    yield lambda: (counters["stats"]["unique_graphs"], len(counters["graph_break"]))
    torch._dynamo.reset()


@pytest.mark.long
@pytest.mark.parametrize("compile_first", [True, False])
def test_compiled_blocks(hunyuan: nn.Module, sample: Any, expected: Tensor, graphs: Any, compile_first: bool) -> None:
    def compile_blocks() -> None:
        hunyuan.compile_repeated_blocks(fullgraph=True, backend="eager")

    if compile_first:
        compile_blocks()
    with disca.attach(hunyuan, disca.taylor(every=2), timesteps=TIMESTEPS) as run:
        if not compile_first:
            compile_blocks()
        assert torch.equal(sample(), expected)
        assert torch.equal(sample(), expected)
    assert run.summary().branches["0"].full == (0, 2)
    assert graphs() == (5, 0)  # a kind of block each: patch embedding, token refiner, dual, single; mask or none


@pytest.mark.long
@pytest.mark.parametrize("name", [*METHODS, "disca/all"])
def test_methods_and_compiled_blocks(hunyuan: nn.Module, sample: Any, graphs: Any, name: str) -> None:
    """Those inside of blocks need a graph to end at each layer, which fullgraph=True forbids; docs/hosts.md says so."""
    method = methods.policy(name, hunyuan, every=2)
    with disca.attach(hunyuan, method, timesteps=TIMESTEPS) as run:
        expected = sample()
    assert run.summary().forecasts
    hunyuan.compile_repeated_blocks(fullgraph=True, backend="eager")
    with disca.attach(hunyuan, method, timesteps=TIMESTEPS):
        if name not in methods.INSIDE:
            assert torch.equal(sample(), expected)
            return
        with pytest.raises(torch._dynamo.exc.Unsupported):
            sample()
    torch._dynamo.reset()
    hunyuan.compile_repeated_blocks(backend="eager")
    with disca.attach(hunyuan, method, timesteps=TIMESTEPS):
        assert torch.equal(sample(), expected)


@pytest.mark.long
def test_a_compiled_transformer(hunyuan: nn.Module, sample: Any, expected: Tensor, graphs: Any) -> None:
    hunyuan.compile(backend="eager")
    with disca.attach(hunyuan, disca.taylor(every=2), timesteps=TIMESTEPS):
        assert torch.equal(sample(), expected)
        assert torch.equal(sample(), expected)


@pytest.mark.parametrize("offload_first", [True, False])
@pytest.mark.parametrize("kind", ["block_level", "leaf_level"])
@pytest.mark.parametrize("name", ["taylor", "disca/all"])
def test_group_offloading_loads_no_block_for_a_forecast(
    hunyuan: nn.Module, sample: Any, name: str, kind: str, offload_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = methods.policy(name, hunyuan, every=2)
    with disca.attach(hunyuan, policy, timesteps=TIMESTEPS):
        expected = sample()
    blocks = {module for stack in ("transformer_blocks", "single_transformer_blocks")
              for module in getattr(hunyuan, stack).modules()}  # fmt: skip
    loaded: list[int] = []
    onload = ModuleGroup.onload_

    def counted(group: ModuleGroup) -> None:
        if blocks & set(group.modules):
            loaded.append(run.moment.step)
        onload(group)

    def offload() -> None:
        cpu = torch.device("cpu")
        apply_group_offloading(
            hunyuan, onload_device=cpu, offload_device=cpu, offload_type=kind, num_blocks_per_group=1
        )

    monkeypatch.setattr(ModuleGroup, "onload_", counted)
    if offload_first:
        offload()
    with disca.attach(hunyuan, policy, timesteps=TIMESTEPS) as run:
        if not offload_first:
            offload()
        assert torch.equal(sample(), expected)
    assert set(loaded) == {0, 2}
    assert loaded.count(0) == loaded.count(2) >= 5


def test_weights_move_while_attached(hunyuan: nn.Module, sample: Any) -> None:
    with disca.attach(hunyuan, disca.taylor(every=2), timesteps=TIMESTEPS):
        hunyuan.to(torch.float64)
    assert {parameter.dtype for parameter in hunyuan.parameters()} == {torch.float64}


def test_weights_are_saved_while_attached(hunyuan: nn.Module, tmp_path: Any) -> None:
    with disca.attach(hunyuan, disca.taylor(every=2), timesteps=TIMESTEPS):
        hunyuan.save_pretrained(tmp_path)
    again = type(hunyuan).from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), hunyuan.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(hunyuan: nn.Module, make_inputs: Any, dtype: torch.dtype) -> None:
    hunyuan.to(dtype)
    predictor = redraw(disca.Predictor.from_host(hunyuan, depth=1))
    assert predictor.dtype == dtype
    inputs = {k: v.to(dtype) if isinstance(v, Tensor) else v for k, v in make_inputs(hunyuan).items()}

    @torch.no_grad()
    def loop() -> Tensor:
        return torch.stack([hunyuan(timestep=torch.tensor([t]), **inputs)[0] for t in TIMESTEPS])

    plain = loop()
    with disca.attach(hunyuan, disca.disca(predictor, every=1), timesteps=TIMESTEPS):
        assert torch.equal(loop(), plain)
    for policy in (disca.disca(predictor, every=2), disca.taylor(every=2)):
        with disca.attach(hunyuan, policy, timesteps=TIMESTEPS):
            sampled = loop()
        assert sampled.dtype == dtype and sampled.isfinite().all()
        assert torch.equal(sampled[0], plain[0]) and not torch.equal(sampled[1], plain[1])


@pytest.mark.parametrize("adapter_first", [True, False])
def test_a_lora_counts_whenever_it_comes(
    hunyuan: nn.Module, sample: Any, expected: Tensor, adapter_first: bool
) -> None:
    config = LoraConfig(r=2, target_modules=["to_q", "to_v", "proj_mlp"], init_lora_weights=False)

    def add() -> None:
        torch.manual_seed(0)
        hunyuan.add_adapter(config)

    if adapter_first:
        add()
    with disca.attach(hunyuan, disca.taylor(every=2), timesteps=TIMESTEPS):
        if not adapter_first:
            add()
        sampled = sample()
    assert not torch.allclose(sampled, expected)
    with disca.attach(hunyuan, disca.taylor(every=2), timesteps=TIMESTEPS):
        assert torch.equal(sample(), sampled)
    hunyuan.delete_adapters("default")
    hunyuan.disable_adapters() if hunyuan._hf_peft_config_loaded else None
    plain = sample()
    with disca.attach(hunyuan, disca.reuse(every=1), timesteps=TIMESTEPS):
        assert torch.equal(sample(), plain)


@pytest.mark.long
def test_a_compiled_predictor_is_compiled_once(hunyuan: nn.Module, sample: Any, graphs: Any) -> None:
    predictor = redraw(disca.Predictor.from_host(hunyuan, depth=2))
    policy = disca.disca(predictor, every=2)
    with disca.attach(hunyuan, policy, timesteps=TIMESTEPS):
        expected = sample()
    for network in (hunyuan, predictor):
        network.compile_repeated_blocks(fullgraph=True, backend="eager")
    with disca.attach(hunyuan, policy, timesteps=TIMESTEPS):
        assert torch.equal(sample(), expected)
        first = graphs()
        assert torch.equal(sample(), expected)
    assert graphs() == first and first[1] == 0
