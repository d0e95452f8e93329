"""What a recipe can ask for beside its objective: LoRA, half precision, recomputed activations, any host."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from disca.bundle import Bundle
from disca.lab.pipeline import LabPipeline
from disca.lab.words import EXAMPLE
from disca.training.clips import Draw
from disca.training.fit import Fit
from disca.training.host import Guided, Host
from disca.training.loop import checkpoints
from disca.training.probe import Row, probe, recommend
from disca.training.recipe import Lora, Recipe
from disca.training.stages import STAGES
from disca.training.train import train
from tests.families import FAMILIES
from tests.families import Draw as Drawn
from tests.training.conftest import TinySource
from tests.training.test_stages import task

Write = Callable[..., Path]


def lora_task(start: Path, **options: Any) -> Any:
    settings = Recipe(
        name="x",
        stage="mean_flow",
        start=str(start),
        iterations=1,
        batch=4,
        lora=Lora(rank=4),
        objective={"scale": 3.0},
    )
    return STAGES["mean_flow"](**options).task(settings, TinySource())


def test_a_lora_student_and_its_teacher_share_their_weights(chain: dict[str, Path]) -> None:
    stage, plain = lora_task(chain["distilled"]), task("mean_flow", chain["distilled"])
    assert stage.student is stage.teacher
    stage.loss(Draw.seeded(0)).value.backward()
    moved = [value for value in stage.modules.parameters() if value.grad is not None]
    assert moved and sum(value.numel() for value in moved) < sum(v.numel() for v in stage.student.parameters()) / 2
    with torch.no_grad():
        for value in stage.modules.parameters():
            if value.requires_grad:
                value.add_(0.05 * torch.randn(value.shape))
        clips = stage.source.clips(2, Draw.seeded(1))
        x, scale = torch.randn(clips.latents.shape), torch.full((2,), 3.0)
        t, r = torch.full((2,), 0.8), torch.full((2,), 0.5)
        (teacher, student), (own, _) = stage.hosts(clips, scale), plain.hosts(clips, scale)
        assert torch.equal(teacher(x, t), own(x, t))  # whatever the student has become
        assert not torch.allclose(student(x, t, r), own(x, t), atol=1e-3)
        assert torch.equal(teacher(x, t), own(x, t))


def test_a_lora_student_is_a_small_bundle_that_goes_on_and_comes_off(
    chain: dict[str, Path], recipe: Write, tmp_path: Path
) -> None:
    path = recipe("mean_flow", str(chain["distilled"]), iterations=3)
    changes = ["lora.rank=2", "optimiser.lr=0.1"]
    final = train(path, output=tmp_path / "run", overrides=changes)
    sizes = {part: sum(f.stat().st_size for f in (final / part).rglob("*")) for part in ("lora", "second_time")}
    assert not (final / "student").exists() and sum(sizes.values()) > 0
    bundle = Bundle.from_pretrained(final)
    assert bundle.lora is not None and bundle.second_time is not None and bundle.made_for.shift == 5.0
    pipe = LabPipeline.from_pretrained(chain["distilled"])
    pipe.set_progress_bar_config(disable=True)

    def sampled() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipe(EXAMPLE, num_inference_steps=2, generator=generator, output_type="latent").frames

    def state() -> tuple[Any, ...]:
        modules = [(name, id(module), sorted(vars(module))) for name, module in pipe.transformer.named_modules()]
        return modules, sorted(pipe.transformer.state_dict()), sampled()

    sampled()  # cache_context leaves a registry behind
    before = state()
    with bundle.attach(pipe):
        inside = sampled()
    after = state()
    assert before[:2] == after[:2] and torch.equal(before[2], after[2])
    assert not torch.allclose(inside, before[2], atol=1e-3)

    fused = LabPipeline.from_pretrained(chain["distilled"]).transformer
    own, x = pipe.transformer, Drawn(0)(1, 8, 4, 4, 4)
    cond = {**pipe.encode_prompt([EXAMPLE]), "guidance": torch.full((1,), 3000.0), "return_dict": False}
    bundle.lora.fuse(fused)
    undo = bundle.lora.join(own)
    with torch.no_grad():
        one, other = (net(x, torch.full((1,), 700.0), **cond)[0] for net in (fused, own))
    undo()
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not getattr(fused, "peft_config", None)


def test_a_lora_run_resumes_exactly(chain: dict[str, Path], recipe: Write, tmp_path: Path) -> None:
    from tests.training.test_interruption import same

    path = recipe("mean_flow", str(chain["distilled"]), iterations=4)
    changes = ["lora.rank=2", "keep=3"]
    train(path, output=tmp_path / "whole", overrides=changes)
    train(path, output=tmp_path / "cut", overrides=changes)
    newest = checkpoints(tmp_path / "cut")[-1]
    (newest / "state.json").unlink()
    train(path, output=tmp_path / "cut", overrides=changes, resume=True)
    assert same(tmp_path / "whole", tmp_path / "cut")


def test_targets_that_no_layer_is_named_like_are_refused(chain: dict[str, Path], recipe: Write, tmp_path: Path) -> None:
    path = recipe("mean_flow", str(chain["distilled"]))
    with pytest.raises(ValueError, match=r"ends in to_qq.*for example, transformer_blocks"):
        train(path, output=tmp_path / "run", overrides=["lora.rank=2", 'lora.targets=["to_qq"]'])


@pytest.mark.parametrize("changes", [["dtype=bfloat16"], ["recompute=true"], ["microbatch=2"]])
def test_half_precision_recomputation_and_accumulation_train_nearly_the_same(
    chain: dict[str, Path], recipe: Write, tmp_path: Path, changes: list[str]
) -> None:
    path = recipe("mean_flow", str(chain["distilled"]), iterations=2)
    more = ["objective.target=difference", "microbatch=2"] if changes == ["microbatch=2"] else []
    train(path, output=tmp_path / "plain", overrides=["objective.target=difference"] if more else [])
    train(path, output=tmp_path / "other", overrides=more or changes)
    rows = [json.loads((tmp_path / run / "log.jsonl").read_text().splitlines()[0]) for run in ("plain", "other")]
    exact = changes == ["recompute=true"]
    if changes != ["microbatch=2"]:  # other micro-batches are other clips
        assert rows[1]["mse"] == pytest.approx(rows[0]["mse"], rel=1e-5 if exact else 0.05)
        assert rows[1]["gradient"] == pytest.approx(rows[0]["gradient"], rel=1e-4 if exact else 0.2)
    assert "mse_by_interval" in rows[1] and rows[1]["gradient"] > 0
    kept = load_file(checkpoints(tmp_path / "other")[-1] / "weights.safetensors")
    assert all(value.dtype == torch.float32 for value in kept.values() if value.is_floating_point())


def test_times_are_not_rounded_in_half_precision(chain: dict[str, Path]) -> None:
    stage = task("mean_flow", chain["distilled"])
    seen: list[torch.Tensor] = []
    stage.student.time_text_embed.time_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    clips = stage.source.clips(2, Draw.seeded(0))
    t = torch.tensor([0.98765, 0.98766])
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        stage.hosts(clips, torch.full((2,), 3.0))[1](torch.randn(clips.latents.shape), t, t)
    assert all(time.dtype == torch.float32 for time in seen)
    torch.testing.assert_close(seen[0], 1000 * t, rtol=0, atol=1e-3)


def test_a_host_that_counts_upward_gives_velocities_towards_noise() -> None:
    """Mochi: its time rises from noise to data, and so does its velocity."""
    family = FAMILIES["mochi"]
    transformer = family.transformer()
    given = family.inputs(transformer)
    x = given.pop("hidden_states")
    host = Host(transformer, given)
    with torch.no_grad():
        found = host(x, torch.tensor([0.8]))
        own = transformer(hidden_states=x, timestep=torch.tensor([200.0]), return_dict=False, **given)[0]
    torch.testing.assert_close(found, -own)


def test_a_host_with_an_input_for_r_is_told_it() -> None:
    family = FAMILIES["hunyuan_video_15_mean_flow"]
    transformer = family.transformer()
    given = family.inputs(transformer)
    x = given.pop("hidden_states")
    host, t = Host(transformer, given), torch.tensor([0.8])
    with torch.no_grad():
        at_t, at_zero = host(x, t, t), host(x, t, torch.zeros(1))
        own = transformer(
            hidden_states=x, timestep=torch.tensor([800.0]), timestep_r=torch.zeros(1), return_dict=False, **given
        )[0]
    torch.testing.assert_close(at_zero, own)
    assert not torch.allclose(at_t, at_zero)


def test_a_many_step_base_with_two_passes_gets_a_predictor(
    chain: dict[str, Path], recipe: Write, tmp_path: Path
) -> None:
    """A base needs to be no student: here plain flow matching under guidance."""
    stage = task("predictor", chain["base"], scale=2.0)
    clips = stage.source.clips(4, Draw.seeded(0))
    assert isinstance(stage._host(clips, torch.full((4,), 2.0)), Guided)
    final = train(recipe("predictor", str(chain["base"]), iterations=2), output=tmp_path / "run")
    rows = [json.loads(row) for row in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"disca_8_4", "reuse_8_4", "disca_20_8"} <= set(rows[-1]["validation"])
    assert (final / "config.json").exists()


def test_a_teacher_without_guidance_input_is_guided_by_two_passes_or_told_what_to_do(chain: dict[str, Path]) -> None:
    stage = task("mean_flow", chain["base"], scale=2.0)
    stage.loss(Draw.seeded(0)).value.backward()
    with pytest.raises(ValueError, match="go on to the stage mean_flow"):
        task("guidance", chain["distilled"])


def test_a_predictor_goes_on_from_another(chain: dict[str, Path], recipe: Write, tmp_path: Path) -> None:
    first = train(recipe("predictor", str(chain["student"]), iterations=2), output=tmp_path / "first")
    stage = task("predictor", chain["student"], predictor=str(first))
    from disca.predictor.network import Predictor

    saved = Predictor.from_pretrained(first).state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in stage.predictor.state_dict().items())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"full_steps": ((0, 1, 2, 3), (0,)), "steps": (4, 4), "shares": (1.0, 1.0)}, "nothing to forecast"),
        ({"pairs": "same"}, "rollout, same_noise, not 'same'"),
        ({"judged_at": "never"}, "own, renoise, random"),
        ({"gap": 0.0}, r"\(0, 1\]"),
        ({"times": ((1.0, 0.0),)}, "one more time than steps"),
    ],
)
def test_a_fit_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Fit(**options)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("objective.limit=0.0", r"\(0, 1\]"),
        ("objective.limit=1.5", r"\(0, 1\]"),
        ("objective.t_min=0.9", "0 <= t_min < t_max"),
        ("objective.target=solvr", "solver, difference, jvp, alpha"),
        ("objective.low=6.0", "no range of guidance scales"),
        ("objective.instant_share=0.9", "at most 1 together"),
        ("microbatch=3", "does not divide"),
        ("engine=zero", "Known: ddp, fsdp"),
        ("trackers=['tensorbord']", "Did you mean 'tensorboard'"),
        ("lora.rnk=3", "Did you mean 'rank'"),
    ],
)
def test_impossible_options_are_refused_before_any_work(recipe: Write, tmp_path: Path, change: str, said: str) -> None:
    path = recipe("mean_flow", "nowhere")
    more = ["objective.t_max=0.5"] if "t_min" in change else []
    with pytest.raises(ValueError, match=said):
        train(path, output=tmp_path / "run", overrides=[change, *more])
    assert not (tmp_path / "run").exists()


def test_a_probe_measures_and_recommends(chain: dict[str, Path], recipe: Write) -> None:
    report = probe(recipe("mean_flow", str(chain["distilled"])), batch=2)
    assert report.tokens == 64 and len(report.rows) == 6
    for row in report.rows:
        assert row.disagreement["forward"] < 1e-9 and row.disagreement["chunked"] < 1e-3
        assert row.size > 0
    assert report.target in ("solver", "difference", "jvp") and report.reason
    with pytest.raises(ValueError, match="stage guidance"):
        probe(recipe("guidance", str(chain["base"])))


def test_recommendations_follow_the_measures() -> None:
    def rows(size: float, apart: float) -> list[Row]:
        return [Row(0.5, size, {"forward": 0.0, "central": apart})]

    assert recommend(rows(0.5, 0.9), 100, "float32")[0] == "solver"
    assert recommend(rows(0.001, 0.01), 100, "float32")[0] == "solver"
    assert recommend(rows(0.5, 0.05), 100, "float32")[0] == "jvp"
    assert recommend(rows(0.5, 0.05), 100_000, "float32")[0] == "difference"
    assert recommend(rows(0.5, 0.05), 100, "bfloat16")[0] == "difference"
