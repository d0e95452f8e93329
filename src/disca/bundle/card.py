"""A bundle's model card, from what the bundle itself records: nothing in it is said that no file says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from disca import records
from disca.files import write_text_atomic
from disca.records import Record

CARD, RECORDS, TRAINING = "README.md", "records.jsonl", "training"
IMAGE_HOSTS = ("FluxTransformer2DModel", "QwenImageTransformer2DModel")
LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "openrail")
"""Names of licences that the hub knows; others are ``other`` there, and spelled out in the card."""
PARTS = {
    "student": "a transformer that takes the place of the base's, and needs fewer steps",
    "lora": "low-rank changes that make the base's transformer a student, which needs fewer steps",
    "second_time": "an embedder that tells the transformer where a step ends, beside where it begins",
    "predictor": "a small network that stands in for the transformer's blocks on steps that are not full",
}


@dataclass(frozen=True)
class Facts:
    """What a bundle's folder says of itself."""

    folder: Path
    stored: Mapping[str, Any]
    """``bundle.json``."""
    training: Mapping[str, Mapping[str, Any]]
    """How parts were trained, by name, as ``disca train`` notes it."""
    rows: Sequence[Record]
    """What was measured with it."""

    @classmethod
    def of(cls, folder: str | Path) -> Facts:
        """Read them; no weights are loaded.

        Raises:
            ValueError: the folder is no bundle, or a file of it is damaged.
        """
        folder = Path(folder)
        stored = _json(folder / "bundle.json")
        path = folder / RECORDS
        return cls(folder, stored, training_of(folder), records.read(path) if path.is_file() else [])


def write_card(folder: str | Path, *, name: str | None = None) -> Path:
    """Write ``README.md`` into a bundle's folder; an earlier one is replaced.

    Args:
        name: its heading, and what the example loads; the folder's name and the folder by default.

    Raises:
        ValueError: the folder is no bundle, or a file of it is damaged.
    """
    path = Path(folder) / CARD
    write_text_atomic(path, card(Facts.of(folder), name=name))
    return path


def card(facts: Facts, *, name: str | None = None) -> str:
    """The card as Markdown with the front matter of the hub."""
    title = (name or facts.folder.resolve().name).rpartition("/")[2]
    parts = [f"---\n{front_matter(facts)}---", f"# {title}", *_what(facts), "## Use", _use(facts, name)]
    parts += ["## How it was trained", *_trained(facts), "## Measured", *_measured(facts)]
    parts += ["## Limits", _bullets(_limits(facts)), "## Licence", _licence(facts)]
    return "\n\n".join(parts) + "\n"


def front_matter(facts: Facts) -> str:
    """What the hub reads: library, base, licence, task and tags, as YAML."""
    from huggingface_hub import ModelCardData

    base, licence = facts.stored["base"], facts.stored["licence"]
    known: dict[str, Any] = {"library_name": "disca", "pipeline_tag": _task(facts.stored), "tags": _tags(facts)}
    if _is_hub_id(base):
        known |= {
            "base_model": base,
            "base_model_relation": "finetune" if "student" in facts.stored["parts"] else "adapter",
        }
    if licence and licence.lower() in LICENCES:
        known["license"] = licence.lower()
    elif licence:
        known |= {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", licence.lower())[:60].strip("-")}
    return ModelCardData(**known).to_yaml() + "\n"


def keep_records(folder: str | Path, path: str | Path) -> None:
    """Keep the records of a file in a bundle, in the place of earlier ones. They have to be of this bundle.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no bundle, or the file holds no valid records.
    """
    Facts.of(folder)
    rows = records.read(path)
    if not rows:
        raise ValueError(f"{path} holds no records to keep.")
    records.write(Path(folder) / RECORDS, rows)


def training_of(folder: Path) -> dict[str, Any]:
    """How the parts of a bundle were trained, by name: of the files in ``training/``, and of the ``training.json`` that
    ``disca train`` leaves beside what it exports."""
    found = {path.stem: _json(path) for path in sorted((folder / TRAINING).glob("*.json"))}
    own = folder / "training.json"
    return found | ({"student": _json(own)} if own.is_file() and "student" not in found else {})


def _is_hub_id(base: str | None) -> bool:
    return bool(base) and re.fullmatch(r"[\w.-]+/[\w.-]+", str(base)) is not None


def _task(stored: Mapping[str, Any]) -> str:
    base = (stored["base"] or "").lower()
    if stored["host"] in IMAGE_HOSTS:
        return "text-to-image"
    image = "image-to-video" in base or "i2v" in base or "Framepack" in stored["host"]
    return "image-to-video" if image else "text-to-video"


def _tags(facts: Facts) -> list[str]:
    parts = facts.stored["parts"]
    tags = ["diffusers", "disca"]
    tags += ["feature-caching"] if "predictor" in parts else []
    tags += ["distillation", "mean-flow"] if {"student", "lora"} & set(parts) else []
    return [*tags, facts.stored["host"]]


def _what(facts: Facts) -> Iterator[str]:
    stored, whole = facts.stored, _host_parameters(facts.stored)
    base = stored["base"] or "a base that the bundle does not name"
    yield (
        f"A [disca](https://arxiv.org/abs/2602.05449) bundle: what accelerates the `{stored['component']}` "
        f"(`{stored['host']}`, {whole:,} parameters) of {base}."
    )
    rows = []
    for part in stored["parts"]:
        count = _parameters(part, facts.folder / part, whole)
        rows.append(f"**{part}**: {PARTS[part]}; {count:,} parameters, {count / whole:.1%} of the transformer's.")
    yield _bullets(rows) if rows else "It has no parts."
    if stored["schedules"]:
        lists = [f"{one['steps']} steps with {_numbers(one['full_steps'])} in full" for one in stored["schedules"]]
        yield f"Its schedules: {'; '.join(lists)}."


def _use(facts: Facts, name: str | None) -> str:
    stored = facts.stored
    base, where = stored["base"], name or facts.folder.name
    loaded = f'DiffusionPipeline.from_pretrained("{base}")' if _is_hub_id(base) else f"...  # {base or 'the base'}"
    steps = f", num_inference_steps={stored['schedules'][0]['steps']}" if stored["schedules"] else ""
    lines = [
        "import disca",
        *(["from diffusers import DiffusionPipeline"] if _is_hub_id(base) else []),
        "",
        f"pipe = {loaded}",
        f'bundle = disca.Bundle.from_pretrained("{where}")',
        "with bundle.attach(pipe) as run:",
        f'    output = pipe("a prompt"{steps})',
        "print(run.summary())",
    ]
    return "```python\n" + "\n".join(lines) + "\n```"


def _trained(facts: Facts) -> Iterator[str]:
    if not facts.training:
        yield "The bundle does not record how it was trained."
    for part, about in facts.training.items():
        recipe = about.get("recipe", {})
        words = [f"{name} {recipe[name]}" for name in ("iterations", "batch", "seed") if name in recipe]
        said = f"**{part}**: recipe `{recipe.get('name', '?')}`, stage `{recipe.get('stage', '?')}`, {', '.join(words)}"
        yield said + f"; {_where(about)}."
        if about.get("objective") or recipe.get("objective"):
            options = ", ".join(f"{name} = {_short(value)}" for name, value in recipe["objective"].items())
            yield f"Options of the stage: {options}."
        if about.get("validation"):
            values = ", ".join(f"{name} {value:.4g}" for name, value in about["validation"].items())
            yield f"Validation at the end: {values}."


def _measured(facts: Facts) -> Iterator[str]:
    checked = facts.stored["measured"]
    if not facts.rows and not checked:
        yield "Nothing that was measured with this bundle is recorded in it: neither speed nor quality is known."
        return
    if facts.rows:
        yield _table(facts.rows)
        yield _origin(facts.rows)
    else:
        yield "Speed, and quality beyond the check below, were not recorded."
    if checked:
        yield (
            f"`disca check` found its forecast runs {checked['relative_l2']:.4f} from its full runs (relative L2 of "
            f"the last latents): {checked['steps']} steps, prompt “{checked['prompt']}”, seeds "
            f"{_numbers(checked['seeds'])}."
        )


def _table(rows: Sequence[Record]) -> str:
    columns = {
        "s / clip": lambda row: _number(row, "seconds", ".3g"),
        "speed-up": lambda row: _number(row, "speedup", ".1f", "×"),
        "PSNR, dB": lambda row: _number(row, "psnr", ".1f"),
        "relative L2": lambda row: _number(row, "relative_l2", ".3f"),
        "semantics": lambda row: _number(row, "semantic_accuracy", ".3f"),
    }
    shown = {name: words for name, words in columns.items() if any(words(row) for row in rows)}
    lines = [
        "| " + " | ".join(("row", "steps", "full passes", *shown)) + " |",
        "|---" + "|--:" * (len(shown) + 2) + "|",
    ]
    for row in rows:
        name = str(row.extra.get("label") or row.name).replace("|", "\\|")
        cells = [name, str(row.steps), str(row.transformer_evaluations), *(words(row) for words in shown.values())]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(row: Record, name: str, form: str, unit: str = "") -> str:
    value, pair = getattr(row, name), row.intervals.get(name)
    if value is None:
        return ""
    spread = f" ({pair[0]:{form}}–{pair[1]:{form}})" if pair and pair[0] != pair[1] else ""
    return f"{value:{form}}{unit}{spread}"


def _origin(rows: Sequence[Record]) -> str:
    over = ", ".join(dict.fromkeys(f"`{row.speedup_over}`" for row in rows if row.speedup_over))
    to = ", ".join(dict.fromkeys(f"`{row.reference}`" for row in rows if row.reference))
    first = rows[0]
    sentences = [f"{len(first.prompts)} clips for each row; in brackets 95 % intervals."] if first.prompts else []
    sentences += [f"Speed-up over {over}."] if over else []
    sentences += [f"PSNR and relative L2 to {to}."] if to else []
    made = {"hardware": first.hardware, "versions": first.versions, "date": first.date}
    return " ".join([*sentences, f"Measured on {_where(made)}, by `{first.command}`; records in `{RECORDS}`."])


def _limits(facts: Facts) -> Iterator[str]:
    stored = facts.stored
    yield f"It fits a `{stored['host']}` of the configuration in `bundle.json`; another is refused."
    known = {name: value for name, value in stored["made_for"].items() if value is not None}
    made_for = [f"{name} {' x '.join(map(str, v)) if isinstance(v, list) else v}" for name, v in known.items()]
    if made_for:
        yield f"It was made for {', '.join(made_for)}. Its quality elsewhere is not known; `disca check` measures it."
    else:
        yield "It does not record which resolution, shift or guidance it was made for."
    if stored["schedules"]:
        yield f"It has schedules for {_numbers(one['steps'] for one in stored['schedules'])} steps; others are refused."
    if {"student", "lora"} & set(stored["parts"]):
        yield "A student gives mean velocities: it is exact under Euler steps only, and other schedulers are refused."
    if not facts.rows:
        yield "No speed was recorded; what a schedule spares in operations, `disca describe` tells."
    elif all(row.semantic_accuracy is None and "vbench" not in row.extra for row in facts.rows):
        yield "Whether clips show what their prompt says was not measured."


def _licence(facts: Facts) -> str:
    licence = facts.stored["licence"]
    if not licence:
        return (
            "The bundle does not record the licence of its base. Students and predictors inherit it: find it out first."
        )
    return f"Students and predictors inherit the licence of the base: {licence}."


def _where(about: Mapping[str, Any]) -> str:
    """Machine, versions and date in a few words; what is not known is left out."""
    hardware, versions = about.get("hardware", {}), about.get("versions", {})
    words = [str(hardware.get("gpu") or hardware.get("cpu") or "unknown hardware")]
    words += [f"{hardware['cores']} cores"] if "cores" in hardware and "gpu" not in hardware else []
    words += [f"{name} {versions[name]}" for name in ("disca", "torch", "diffusers") if name in versions]
    return ", ".join([*words, *([about["date"]] if about.get("date") else [])])


def _host_parameters(stored: Mapping[str, Any]) -> int:
    import diffusers
    import torch

    with torch.device("meta"):
        host = getattr(diffusers, stored["host"]).from_config(stored["host_config"])
    return sum(parameter.numel() for parameter in host.parameters())


def _parameters(part: str, folder: Path, whole: int) -> int:
    """Of a part, from its configuration or, of a LoRA, the header of its file."""
    import torch
    from safetensors import safe_open

    from disca.meanflow.second_time import SecondTime
    from disca.predictor.network import Predictor

    if part == "student":
        return whole
    if part == "lora":
        with safe_open(folder / "lora.safetensors", "pt") as file:
            return sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    kinds: dict[str, Any] = {"second_time": SecondTime, "predictor": Predictor}
    with torch.device("meta"):
        module = kinds[part].from_config(_json(folder / "config.json"))
    return sum(parameter.numel() for parameter in module.parameters())


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.parent} is no whole bundle: {path.name} cannot be read ({error}).") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object.")
    return value


def _bullets(lines: Any) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _numbers(values: Any) -> str:
    return " ".join(map(str, values))


def _short(value: Any) -> str:
    text = _numbers(value) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
