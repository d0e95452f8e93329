"""`disca encode`, end to end: real files and whole pipelines on disk go in, shards come out."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from disca.cli import main
from disca.data import Shards, form_for
from disca.data.captions import prompts, videos
from disca.data.encode import encode
from disca.data.index import Index, Plan, Teacher
from disca.data.teacher import generator
from disca.data.videos import Cut, read, to_pixels
from tests.data.clips import grey, write_video
from tests.data.hosts import HOSTS
from tests.families import Draw
from tests.pipelines import picture

CAPTIONS = {"a.mp4": "a red boat on a lake", "b.webm": "a dog runs", "c.mov": "two birds"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three readable videos in three formats, and four files that give no clip."""
    where = tmp_path / "videos"
    for index, name in enumerate(CAPTIONS):
        write_video(where / name, grey(9, step=4 + 4 * index))
    write_video(where / "short.mp4", grey(3))
    (where / "empty.mp4").write_bytes(b"")
    write_video(where / "silent.mp4", grey(9))
    rows = {**CAPTIONS, "short.mp4": "a dog", "empty.mp4": "a dog", "gone.mp4": "a dog"}
    lines = [json.dumps({"file": name, "caption": text}) for name, text in rows.items()]
    (where / "captions.jsonl").write_text("\n".join(lines))
    return where


def saved(name: str, folder: Path) -> Path:
    HOSTS[name]().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["WanPipeline", "HunyuanVideoPipeline", "WanImageToVideoPipeline"])
def test_real_videos_become_shards(name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = saved(name, tmp_path / "model"), tmp_path / "shards"
    command = ["encode", str(folder), "--model", str(model), "--output", str(output), "--size", "32x16x5"]
    assert main([*command, "--dtype", "float32", "--per-shard", "2"]) == 0
    out = capsys.readouterr().out
    assert "4 files gave no clip" in out and "3 clips in 2 shards" in out
    assert "short.mp4: it has 3 frames, 5 are needed" in out and "silent.mp4: it has no caption" in out
    data = Shards.open(output)
    assert data.latent_shape == (4, 2, 2, 4) and set(data.index.skipped) == {
        "short.mp4",
        "empty.mp4",
        "silent.mp4",
        "gone.mp4",
    }
    pipe = type(HOSTS[name]()).from_pretrained(model)
    data.check(pipe)
    batch = data.stream(3).at(0)
    form = form_for(pipe)
    for at, (file, text) in enumerate(zip(batch["names"], batch["texts"], strict=True)):
        assert CAPTIONS[file] == text
        pixels = read(folder / file, Cut(width=32, height=16, frames=5))
        with torch.no_grad():
            latents = form.encode_clip(pipe, to_pixels(pixels))
        torch.testing.assert_close(batch["latents"][at], latents[0])
    assert ("channels" in batch["condition"]) == (name == "WanImageToVideoPipeline")
    kwargs = form.inputs(pipe, batch["latents"], batch["prompt"], batch["condition"])
    with torch.no_grad():
        velocity = pipe.transformer(**kwargs, timestep=torch.full((3,), 500.0), return_dict=False)[0]
    assert velocity.shape == batch["latents"].shape


def _set(name: str, output: Path, folder: Path, **changes: Any) -> Index:
    pipe = HOSTS[name]()
    items, skipped = videos(folder)
    plan = Plan(**{"width": 32, "height": 16, "frames": 5, "dtype": "float32", **changes})
    return encode(pipe, items, plan, output, skipped=skipped, per_shard=1)


def test_it_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    whole = _set("WanPipeline", tmp_path / "whole", folder)
    (tmp_path / "videos/b.webm").rename(tmp_path / "b.webm")
    part = _set("WanPipeline", tmp_path / "part", folder)
    assert [one.clips for one in part.shards] == [1, 1] and "b.webm" in part.skipped
    stamps = [(tmp_path / "part" / one.file).stat().st_mtime_ns for one in part.shards]
    (tmp_path / "b.webm").rename(tmp_path / "videos/b.webm")
    again = _set("WanPipeline", tmp_path / "part", folder)
    assert [one.clips for one in again.shards] == [1, 1, 1] and again.skipped == whole.skipped
    assert stamps == [(tmp_path / "part" / one.file).stat().st_mtime_ns for one in part.shards]
    assert _clips(tmp_path / "part") == _clips(tmp_path / "whole")


def _clips(folder: Path) -> dict[str, list[float]]:
    """First values of every clip by name."""
    data = Shards.open(folder)
    batch = data.stream(len(data)).at(0)
    return {
        name: latents.flatten()[:5].tolist() for name, latents in zip(batch["names"], batch["latents"], strict=True)
    }


def test_what_was_made_in_another_way_is_not_continued(folder: Path, tmp_path: Path) -> None:
    _set("WanPipeline", tmp_path / "a", folder)
    with pytest.raises(ValueError, match="3 clips that were made in another way: plan differ"):
        _set("WanPipeline", tmp_path / "a", folder, take="centre")
    with pytest.raises(ValueError, match=r"pipeline, encoders, .*differ"):
        _set("HunyuanVideoPipeline", tmp_path / "a", folder)
    (folder / "captions.jsonl").write_text(json.dumps({"file": "a.mp4", "caption": "a cat"}))
    with pytest.raises(ValueError, match=r"1 clips whose text has changed since, such as a.mp4"):
        _set("WanPipeline", tmp_path / "a", folder)


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_shards_of_other_encoders_are_refused(folder: Path, tmp_path: Path, part: str) -> None:
    _set("WanPipeline", tmp_path, folder)
    data, pipe = Shards.open(tmp_path), HOSTS["WanPipeline"]()
    data.check(pipe)
    with torch.no_grad():
        next(getattr(pipe, part).parameters()).add_(0.1)
    with pytest.raises(ValueError, match=f"made with another {part} than this pipeline's .weights"):
        data.check(pipe)
    with pytest.raises(ValueError, match="made with a WanPipeline, this is a HunyuanVideoPipeline"):
        data.check(HOSTS["HunyuanVideoPipeline"]())


def test_the_index_says_how_it_was_made(folder: Path, tmp_path: Path) -> None:
    index = _set("WanPipeline/two_experts", tmp_path, folder)
    assert Index.read(tmp_path) == index
    assert index.boundary == 0.875 and Shards.open(tmp_path).boundary == 0.875
    assert index.normalised["latents_std"] == [0.5, 2.0, 1.0, 1.5]
    assert {"vae", "text_encoder", "tokenizer"} == set(index.encoders)
    assert index.provenance["versions"]["torch"] == torch.__version__


def test_not_one_readable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"videos/{name}.mp4").write_bytes(b"")
        (tmp_path / f"videos/{name}.txt").write_text("a dog")
    with pytest.raises(ValueError, match=r"Not one of 2 files gave a clip.*a.mp4: the file is empty"):
        _set("WanPipeline", tmp_path / "out", tmp_path / "videos")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A limit on the size of files that this process writes stands for a disk that fills up."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_what_was_written_whole(folder: Path, tmp_path: Path) -> None:
    output, items = tmp_path / "out", videos(folder)[0]
    plan, pipe = Plan(width=32, height=16, frames=5, dtype="float32"), HOSTS["WanPipeline"]()
    encode(pipe, items[:1], plan, output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    room = len(before["shard-00000.safetensors"])
    with files_of_at_most(room), pytest.raises(OSError, match=r"shard-00001.*no space left.*same command again"):
        encode(pipe, items, plan, output)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert encode(pipe, items, plan, output).clips == len(_clips(output)) == 3


def test_what_was_encoded_before_an_interruption_is_kept(folder: Path, tmp_path: Path) -> None:
    pipe, seen = HOSTS["WanPipeline"](), []

    def interrupt(*_: Any) -> None:
        seen.append(1)
        if len(seen) == 5:  # a clip's first frame, then its others
            raise KeyboardInterrupt

    hook = pipe.vae.encoder.register_forward_pre_hook(interrupt)
    items, plan = videos(folder)[0], Plan(width=32, height=16, frames=5)
    with pytest.raises(KeyboardInterrupt):
        encode(pipe, items, plan, tmp_path / "out")
    assert Index.read(tmp_path / "out").clips == 2
    hook.remove()
    assert encode(pipe, items, plan, tmp_path / "out").clips == 3


@pytest.mark.parametrize("name", ["WanPipeline", "HunyuanVideoPipeline/guidance_embeds"])
def test_without_videos_the_teacher_samples(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = saved(name, tmp_path / "model"), tmp_path / "shards"
    (tmp_path / "prompts.txt").write_text("a dog runs\ntwo birds\n")
    command = ["encode", "--prompts", str(tmp_path / "prompts.txt"), "--model", str(model), "--size", "32x16x5"]
    command += ["--dtype", "float32", "--repeats", "2", "--output"]
    assert main([*command, str(output)]) == 2
    assert "--steps and --guidance" in capsys.readouterr().err
    assert main([*command, str(output), "--steps", "3", "--guidance", "2.5"]) == 0
    data = Shards.open(output)
    assert data.index.plan.teacher == Teacher(steps=3, guidance=2.5) and len(data) == 4
    batch = data.stream(4).at(0)
    at = batch["names"].index("prompt-000001.1")
    pipe = type(HOSTS[name]()).from_pretrained(model)
    again = pipe(
        prompt="two birds",
        negative_prompt="",
        guidance_scale=2.5,
        num_inference_steps=3,
        height=16,
        width=32,
        num_frames=5,
        generator=generator(0, "prompt-000001.1"),
        output_type="latent",
    ).frames
    torch.testing.assert_close(batch["latents"][at], again[0])
    assert batch["latents"].flatten(1).unique(dim=0).shape[0] == 4


def test_an_image_to_video_teacher_begins_with_the_prompt_s_image(tmp_path: Path) -> None:
    picture(Draw(1), 60, 20).save(tmp_path / "p.png")
    rows = [{"prompt": "a dog runs", "image": "p.png"}, {"prompt": "two birds"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    plan = Plan(width=32, height=16, frames=5, dtype="float32", teacher=Teacher(steps=2, guidance=1.0))
    pipe = HOSTS["WanImageToVideoPipeline/expand_timesteps"]()
    index = encode(pipe, prompts(tmp_path / "p.jsonl"), plan, tmp_path / "out")
    assert index.clips == 1 and "begins with an image" in index.skipped["prompt-000001.0"]
    batch = Shards.open(tmp_path / "out").stream(1).at(0)
    torch.testing.assert_close(batch["latents"][:, :, :1], batch["condition"]["first_frame"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "32x16"], "WIDTHxHEIGHTxFRAMES"),
        (["--size", "30x16x5"], "multiples of 16"),
        (["--size", "32x16x5", "--steps", "3"], "--steps go with --prompts"),
        (["--size", "32x16x5", "--prompts", "p.txt"], "either a folder of videos or --prompts"),
        (["--size", "32x16x5", "--fps", "0"], "--fps is 0"),
        (["--size", "32x16x5", "--model", "nowhere"], "is no pipeline of diffusers"),
    ],
)
def test_a_wrong_command_says_what_to_do(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    model = [] if "--model" in options else ["--model", str(saved("WanPipeline", tmp_path / "model"))]
    assert main(["encode", str(folder), *model, "--output", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_what_is_not_finite_is_not_stored(folder: Path, tmp_path: Path) -> None:
    pipe, seen = HOSTS["WanPipeline"](), []

    def spoil(module: Any, given: Any, output: Any) -> Any:
        seen.append(1)
        return {"last_hidden_state": output[0] * (float("nan") if len(seen) == 2 else 1.0)}

    pipe.text_encoder.encoder.register_forward_hook(lambda m, g, o: type(o)(**spoil(m, g, o)))
    index = encode(pipe, videos(folder)[0], Plan(width=32, height=16, frames=5), tmp_path / "out")
    assert index.clips == 2 and "not finite; bfloat16 may be too narrow" in index.skipped["a.mp4"]
