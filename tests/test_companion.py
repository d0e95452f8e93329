"""What is stored beside a host: written whole, read strictly, refused by other hosts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from disca.meanflow.second_time import SecondTime

WEIGHTS = "diffusion_pytorch_model.safetensors"
MakeHost = Callable[..., nn.Module]


@pytest.fixture
def second(hunyuan: nn.Module) -> SecondTime:
    return SecondTime.for_host(hunyuan, layout="average")


@pytest.fixture
def folder(second: SecondTime, tmp_path: Path) -> Path:
    second.save_pretrained(tmp_path / "second")
    return tmp_path / "second"


def test_what_is_saved_is_what_is_loaded(second: SecondTime, folder: Path, hunyuan: nn.Module) -> None:
    loaded = SecondTime.from_pretrained(folder)
    assert dict(loaded.config).items() >= {k: v for k, v in second.config.items() if not k.startswith("_")}.items()
    assert loaded.state_dict().keys() == second.state_dict().keys()
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in loaded.state_dict().items())
    loaded.matches(hunyuan)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", WEIGHTS]


def test_a_dtype_can_be_asked_for(folder: Path) -> None:
    assert SecondTime.from_pretrained(folder, torch_dtype=torch.bfloat16).dtype == torch.bfloat16


def test_saving_again_replaces_and_a_failed_save_leaves_what_was_there(second: SecondTime, folder: Path) -> None:
    with torch.no_grad():
        second.embedder.linear_1.bias.fill_(3.0)
    second.save_pretrained(folder)
    assert (SecondTime.from_pretrained(folder).embedder.linear_1.bias == 3.0).all()
    with pytest.raises(Exception, match="meta"):
        second.to("meta").save_pretrained(folder)
    assert (SecondTime.from_pretrained(folder).embedder.linear_1.bias == 3.0).all()
    assert len(list(folder.iterdir())) == 2


def edit(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        weights = {name: value.clone() for name, value in load_file(folder / WEIGHTS).items()}
        change(weights)
        save_file(weights, folder / WEIGHTS)

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (edit(lambda w: w.pop("embedder.linear_1.bias")), r"missing weights \['embedder.linear_1.bias'\]"),
        (edit(lambda w: w.update(more=torch.ones(2))), r"unknown weights \['more'\]"),
        (edit(lambda w: w.update({"embedder.linear_1.bias": torch.ones(3)})), "embedder.linear_1.bias"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"no weights"), WEIGHTS),
        (lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100]), WEIGHTS),
        (lambda folder: (folder / WEIGHTS).unlink(), WEIGHTS),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
        (lambda folder: (folder / "config.json").write_text('{"_class_name": "SecondTime"}'), "host"),
    ],
)
def test_damaged_files_are_refused(folder: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(folder)
    with pytest.raises(ValueError, match="holds no second time that can be loaded: ") as error:
        SecondTime.from_pretrained(folder, local_files_only=True)
    assert said.replace("\\", "") in str(error.value)


def test_a_folder_of_something_else_is_refused(hunyuan: nn.Module, tmp_path: Path) -> None:
    hunyuan.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is of HunyuanVideoTransformer3DModel, not of SecondTime"):
        SecondTime.from_pretrained(tmp_path)


def test_another_host_is_refused_and_told_what_differs(second: SecondTime, make_hunyuan: MakeHost) -> None:
    second.matches(make_hunyuan(seed=1))
    with pytest.raises(ValueError, match="with num_layers=2, but the transformer has num_layers=1"):
        second.matches(make_hunyuan(num_layers=1))
    with pytest.raises(ValueError, match="with guidance_embeds=False"):
        second.matches(make_hunyuan(guidance_embeds=True))
    with pytest.raises(ValueError, match="No adapter describes Linear"):
        second.matches(nn.Linear(1, 1))
