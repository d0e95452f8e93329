"""Official files are read strictly, whole, and back again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import disca
from disca import official
from tests.official.golden import FOLDER, MODELS, Golden

LOADERS = {"dit": official.load_transformer, "predictor": official.load_predictor}


def test_a_transformer_in_the_split_naming_is_read() -> None:
    golden = Golden("hyvideo10_t2v")
    merged = golden.weights("dit")
    width, split = merged["img_in.proj.bias"].shape[0], {}
    for name, value in merged.items():
        module, _, kind = name.rpartition(".")
        if module.endswith("_attn_qkv") and "self_attn" not in module:
            pieces = zip("qkv", value.split(width), strict=True)
            split |= {f"{module[:-3]}{letter}.{kind}": piece.clone() for letter, piece in pieces}
        elif module.endswith("linear1"):
            sizes = [width, width, width, len(value) - 3 * width]
            pieces = zip(("q", "k", "v", "mlp"), value.split(sizes), strict=True)
            split |= {f"{module}_{letter}.{kind}": piece.clone() for letter, piece in pieces}
        else:
            split[f"{module}.fc.{kind}" if module.endswith("linear2") else name] = value
    first, second = (official.load_transformer(golden.host(), found).state_dict() for found in (merged, split))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_authors_own_split_predictor_is_read() -> None:
    golden = Golden("hyvideo10_t2v")
    host = golden.host()
    merged = official.load_predictor(host, golden.folder / "predictor.safetensors").state_dict()
    split = official.load_predictor(host, golden.folder / "predictor_split_naming.safetensors").state_dict()
    assert all(torch.equal(merged[name], split[name]) for name in merged)


def test_wrappings_are_taken_off(golden: Golden) -> None:
    there = golden.weights("predictor")
    host = golden.host()
    plain = official.load_predictor(host, there).state_dict()
    for wrapped in ({"model": there}, {f"module.predictor.{name}": value for name, value in there.items()}):
        found = official.load_predictor(host, wrapped).state_dict()
        assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_half_a_fused_tensor_is_misshapen() -> None:
    golden = Golden("hyvideo10_t2v")
    there = golden.weights("dit")
    name = "single_blocks.0.linear1.weight"
    with pytest.raises(ValueError, match=f"misshapen: {name} is"):
        official.load_transformer(golden.host(), there | {name: there[name][:-1]})


def test_files_that_are_none_are_refused(golden: Golden, part: str, tmp_path: Path) -> None:
    load, host = LOADERS[part], golden.host()
    with pytest.raises(ValueError, match="unpickling runs"):
        load(host, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="There is no file"):
        load(host, tmp_path / "weights.safetensors")
    whole = golden.folder / f"{part}.safetensors"
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        load(host, tmp_path / "cut.safetensors")


def test_another_host_is_refused(golden: Golden, part: str) -> None:
    other = next(Golden(name) for name in MODELS if name != golden.name).host()
    with pytest.raises(ValueError, match=r"do not fit|no weights of a predictor"):
        LOADERS[part](other, golden.weights(part))
    with pytest.raises(ValueError, match="No adapter describes Linear"):
        LOADERS[part](nn.Linear(1, 1), golden.weights(part))


def test_the_second_time_becomes_part_of_a_host_without_one() -> None:
    golden = Golden("hyvideo10_t2v")
    there, host = golden.weights("dit"), golden.host()
    assert official.load_transformer(host, there) is host
    state = host.state_dict()
    assert torch.equal(state["time_text_embed.timestep_embedder_r.linear_1.weight"], there["time_r_in.mlp.0.weight"])
    official.load_transformer(host, there)  # again, into the host that has one now
    assert set(host.state_dict()) == set(state)
    with pytest.raises(RuntimeError, match="was not told"):
        host(**golden.inputs(*_any(golden)))


def _any(golden: Golden) -> tuple[Any, ...]:
    single = golden.tensors("single_step", "b1.in.")
    return single, single["x_full"], single["t_full"], single["r_full"]


def test_a_predictor_has_as_many_blocks_as_its_file(golden: Golden) -> None:
    there = golden.weights("predictor")
    one = {name: value for name, value in there.items() if "blocks.1." not in name}
    predictor = official.load_predictor(golden.host(), one)
    assert len(predictor.blocks) == 1 and not any(p.requires_grad for p in predictor.parameters())


def test_a_predictor_is_stored_and_loaded_as_any_other(golden: Golden, tmp_path: Path) -> None:
    predictor = official.load_predictor(golden.host(), golden.weights("predictor"))
    predictor.save_pretrained(tmp_path)
    again = disca.Predictor.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(again[name], value) for name, value in predictor.state_dict().items())


@pytest.mark.parametrize("name", MODELS)
def test_full_size_models_map_completely(name: str) -> None:
    """Names and shapes of the published files, onto diffusers' models at full size; nothing is left on either side."""
    import diffusers

    manifest = json.loads((FOLDER / f"manifest_{name}_fullsize.json").read_text())
    with torch.device("meta"):
        host = (
            diffusers.HunyuanVideoTransformer3DModel(guidance_embeds=True)
            if name == "hyvideo10_t2v"
            else diffusers.HunyuanVideo15Transformer3DModel(use_meanflow=True)
        )
        there = {part: {k: torch.empty(shape) for k, shape in manifest[part].items()} for part in LOADERS}
    host = official.load_transformer(host, there["dit"])
    predictor = official.load_predictor(host, there["predictor"])
    assert all(value.is_meta for value in predictor.state_dict().values())
    assert 0.02 < predictor.parameter_share(host) < 0.04
    for part, module in (("dit", host), ("predictor", predictor)):
        back = official.export(module)
        assert {k: list(v.shape) for k, v in back.items()} == manifest[part]


def test_real_weights_fill_a_host_on_the_meta_device(golden: Golden) -> None:
    with torch.device("meta"):
        host = golden.host()
    there = golden.weights("dit")
    official.load_transformer(host, there)
    back = official.export(host)
    assert all(torch.equal(back[name], there[name]) for name in there)
