"""The measurements of true size, small: the same code, seconds on any machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from disca import records
from disca.bench.around import DECODE, STAGES, TEXT, Plan, cost_of_stage
from disca.bench.machines import Machine
from disca.bench.operations import flops
from disca.bench.peers import PEERS
from disca.bench.real_size import Bench, fitted, run
from disca.bench.subjects import ALTERNATE, DISCA_8, DISCA_20, SETTINGS, SUBJECTS, TENTH, Job, jobs
from disca.caching.methods import METHODS

CPU = torch.device("cpu")


def few(methods: tuple[str, ...], names: tuple[str, ...] = ("hunyuan_video",)) -> list[Job]:
    chosen = [subject for subject in SUBJECTS if subject.name in names]
    planned = jobs(chosen, small=True, compiled=False)
    return [job for job in planned if job.method in methods and job.schedule != TENTH]


@pytest.fixture
def bench() -> Bench:
    return Bench(CPU, torch.float32, small=True)


def test_the_first_jobs_are_the_most_telling() -> None:
    planned = jobs()
    assert [job.name for job in planned[:6]] == [
        "hunyuan_video/704x704x129/plain",
        "hunyuan_video/704x704x129/disca",
        "hunyuan_video/704x704x129/disca/4_of_8",
        "hunyuan_video/704x704x129/disca/8_of_20",
        "hunyuan_video/704x704x129/text_encoders",
        "hunyuan_video/704x704x129/vae",
    ]
    assert len({job.name for job in planned}) == len(planned)
    for subject in SUBJECTS:
        for size in subject.sizes:
            of_this = [job for job in planned if (job.subject, job.size) == (subject, size)]
            assert {job.method for job in of_this} == {"plain", *STAGES, *METHODS, *PEERS}
            assert {job.compiled for job in of_this} == {False, True}


def test_every_method_leaves_a_record_and_a_killed_run_goes_on(bench: Bench, tmp_path: Path) -> None:
    planned = few(("plain", *METHODS, "diffusers.first_block_cache"))
    file, heard = tmp_path / "records.jsonl", []
    run(file, planned[:2], bench)
    first = file.read_text()
    found = run(file, planned, bench, report=lambda record, done, all: heard.append(record.name))
    assert file.read_text().startswith(first)
    assert [record.name for record in found] == [job.name for job in planned]
    assert heard == [job.name for job in planned[2:]]
    assert records.read(file) == found
    for record in found:
        assert record.extra["outcome"] == "measured", record.extra
        assert record.extra["finite"]
        assert record.extra["seconds_full"] > 0
    run(file, planned, bench, report=lambda record, done, all: pytest.fail("measured again"))


def test_what_is_recorded_is_what_was_run(bench: Bench, tmp_path: Path) -> None:
    by = {record.name: record for record in run(tmp_path / "records.jsonl", few(("plain", "disca", "taylor")), bench)}
    job = few(("disca",))[0]
    plain, disca, taylor = (by[replace(job, method=name).name] for name in ("plain", "disca", "taylor"))
    cost = bench.cost(job)
    assert plain.transformer_evaluations == plain.steps == ALTERNATE.steps
    assert disca.full_steps == taylor.full_steps == ALTERNATE.full_steps
    assert disca.extra["cache_bytes"] == cost.cache_bytes == 4 * 256 * sum(cost.tokens)
    assert taylor.extra["cache_bytes"] == 2 * cost.cache_bytes
    assert plain.flops == 6 * cost.full.flops
    assert disca.flops == 3 * cost.full.flops + 3 * cost.forecast.flops
    assert disca.extra["flop_ratio"] == cost.forecast.flops / cost.full.flops
    assert disca.extra["waits_added"] == 0
    for schedule in (DISCA_8, DISCA_20):
        record = by[replace(job, schedule=schedule).name]
        assert record.full_steps == schedule.full_steps
        assert record.speedup == pytest.approx(100 * plain.extra["seconds_full"] / record.seconds)
        assert record.extra["bound"] == cost.speedup(schedule, flops)
        assert record.extra["speedup_over_stock"] == pytest.approx(record.speedup / 2)


def test_what_does_not_fit_is_recorded_with_its_need(bench: Bench, tmp_path: Path) -> None:
    """A model that needs more memory than there is: its class says so, as CUDA's allocator would."""
    (plain, disca, *_), path = few(("plain", "disca")), tmp_path / "records.jsonl"
    (measured,) = run(path, [plain], bench)
    known = replace(measured, extra={**measured.extra, "peak_bytes": 10**9})

    class Full(Bench):
        def _sampler(self, job: Job) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    record = Full(CPU, torch.float32, small=True).measure(disca, [known])
    cost = bench.cost(disca)
    assert record.extra["outcome"] == "out of memory"
    assert record.extra["need_bytes"] == 10**9 + cost.predictor_bytes + cost.cache_bytes
    assert record.seconds is None
    assert record.full_steps == ()


def test_what_is_not_for_a_model_is_recorded_as_such(bench: Bench) -> None:
    """diffusers knows no blocks of HunyuanVideo-1.5."""
    (job,) = few(("diffusers.first_block_cache",), ("hunyuan_video_15",))
    record = bench.measure(job)
    assert record.extra["outcome"].startswith("not for this model")


def test_two_constants_are_fitted_to_the_steps(bench: Bench, tmp_path: Path) -> None:
    """Seconds that two constants made are explained by them; those of a run on this machine, to some extent."""
    found = run(tmp_path / "records.jsonl", few(("plain", "disca"))[:2], bench)
    machine, errors = fitted(found)
    assert len(errors) == 3
    assert machine.flops_per_second > 0
    true, cost = Machine("true", 1e12, 1e10), bench.cost(few(("plain",))[0])
    seconds = {"seconds_full": true.seconds(cost.full), "seconds_forecast": true.seconds(cost.forecast)}
    exact = [replace(one, extra={**one.extra, **seconds}) for one in found]
    machine, errors = fitted(exact)
    assert machine.flops_per_second == pytest.approx(1e12)
    assert max(map(abs, errors.values())) < 1e-6


def test_small_is_a_fiftieth() -> None:
    for subject in SUBJECTS:
        for size in subject.sizes:
            small = subject.small_size
            assert small.width * small.height * small.frames < size.width * size.height * size.frames / 50


def test_every_model_runs_in_the_dtype_of_large_ones(tmp_path: Path) -> None:
    planned = few(("disca",), tuple(subject.name for subject in SUBJECTS))
    planned = [job for job in planned if job.schedule == ALTERNATE and job.subject.name != "wan_14b"]
    bench = Bench(CPU, torch.bfloat16, small=True)
    for job, record in zip(planned, run(tmp_path / "records.jsonl", planned, bench), strict=True):
        assert record.extra["outcome"] == "measured", record.extra
        assert record.extra["cache_bytes"] == bench.cost(job).cache_bytes


@pytest.mark.long
def test_compiled_blocks_are_measured_too(bench: Bench, tmp_path: Path) -> None:
    chosen = [subject for subject in SUBJECTS if subject.name == "wan_1.3b"]
    planned = [job for job in jobs(chosen, small=True) if job.compiled]
    found = run(tmp_path / "records.jsonl", planned, bench)
    assert [record.extra["outcome"] for record in found] == ["measured", "measured"]


def test_whole_runs_are_told_from_prompt_to_pixels(bench: Bench, tmp_path: Path) -> None:
    """Two prompts for two passes, one for one; the stock pipeline of HunyuanVideo makes 50 steps of one pass."""
    by = {r.name: r for r in run(tmp_path / "records.jsonl", few(("plain", "disca", TEXT, DECODE)), bench)}
    job = few(("plain",))[0]
    plain, text, vae = (by[replace(job, method=name).name] for name in ("plain", TEXT, DECODE))
    for stage in (text, vae):
        assert stage.extra["outcome"] == "measured"
        assert stage.extra["finite"]
        assert stage.transformer_evaluations == 0
        assert len(stage.extra["calls"]) == 3
    each, found = plain.extra["seconds_full"], vae.extra["end_to_end"]
    assert found["seconds_base"] == pytest.approx(100 * each + 2 * text.seconds + vae.seconds)
    assert found["seconds_stock"] == pytest.approx(50 * each + text.seconds + vae.seconds)
    for schedule in (DISCA_8, DISCA_20):
        name = replace(job, method="disca", schedule=schedule).name
        seconds = by[name].seconds + text.seconds + vae.seconds
        assert found[name]["seconds"] == pytest.approx(seconds)
        assert found[name]["speedup"] == pytest.approx(found["seconds_base"] / seconds)
        assert found[name]["speedup_over_stock"] == pytest.approx(found["seconds_stock"] / seconds)


def test_a_stage_that_does_not_fit_is_recorded_with_its_need(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(plan: Plan, device: torch.device) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("disca.bench.real_size.measured", full)
    for job in few(STAGES):
        record = bench.measure(job)
        asked = Plan(name=job.method, host=job.subject.host, size=job.size, dtype=torch.float32, small=True)
        cost = cost_of_stage(asked)
        assert record.extra["outcome"] == "out of memory"
        assert record.extra["need_bytes"] == cost.parameter_bytes + cost.tensor_bytes > cost.parameter_bytes
        assert record.seconds is None


def test_every_peer_has_settings_under_which_it_spares_a_step(bench: Bench) -> None:
    assert set(PEERS) <= set(SETTINGS)
    for job in few(tuple(PEERS)):
        record = bench.measure(job)
        assert record.extra["outcome"] == "measured", (job.method, record.extra)
        assert 0 in record.full_steps
        assert record.transformer_evaluations < ALTERNATE.steps


def test_other_methods_are_sampled_whole_at_the_end(bench: Bench) -> None:
    planned = jobs(small=True, compiled=False)
    last = [job for job in planned if job.schedule == TENTH]
    assert planned[-len(last) :] == last
    assert {"fora", "taylorseer", "hicache"} <= {job.method for job in last}
    (job,) = (job for job in last if job.method == "fora" and job.subject.name == "wan_1.3b")
    record = bench.measure(job)
    assert record.extra["outcome"] == "measured"
    assert record.steps == 50
    assert 10 <= record.transformer_evaluations <= 13
