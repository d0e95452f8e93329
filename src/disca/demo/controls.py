"""The page's controls in gradio: they fill in a form, and are told what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from disca.caching.methods import METHODS
from disca.demo import markup
from disca.demo.forms import Form
from disca.demo.options import Option, all_names, options_of
from disca.demo.studio import Studio
from disca.demo.timeline import Timeline

FIRST = ("every", "order", "threshold", "ratio", "error", "skips", "attention", "constants")
"""Options that are shown at once; others are below them."""


@dataclass(frozen=True, kw_only=True)
class Controls:
    """The controls of a form, and what belongs to them: a note below the timeline, a button."""

    subject: Any
    prompt: Any
    method: Any
    steps: Any
    seed: Any
    full: Any
    options: Mapping[str, Any]
    note: Any
    another: Any
    """The button for another prompt."""

    @property
    def inputs(self) -> list[Any]:
        return [self.subject, self.prompt, self.method, self.steps, self.seed, self.full, *self.options.values()]

    def form(self, values: Sequence[Any]) -> Form:
        """What the controls say."""
        subject, prompt, method, steps, seed, full, *rest = values
        options = dict(zip(self.options, rest, strict=True))
        return Form(subject=subject, prompt=prompt, method=method, steps=steps, seed=seed, full=full, options=options)

    def told(self, studio: Studio, form: Form, changed: str) -> dict[Any, Any]:
        """Updates of the controls for a form that a change led to."""
        line = studio.timeline(form)
        updates = {self.full: gr.update(**pressed(line)), self.note: markup.timeline_note(line)}
        if changed in ("subject", "method", "full"):
            own = {option.name: option for option in options_of(form.method, studio.files)}
            for name, control in self.options.items():
                update = _set(type(control), own[name], True, form) if name in own else {"visible": False}
                updates[control] = gr.update(**update)
        if changed == "subject":
            subject = studio.shelf[form.subject]
            updates |= {self.prompt: form.prompt, self.steps: form.steps}
            updates[self.method] = gr.update(choices=list(subject.methods), value=form.method)
            updates[self.another] = gr.update(visible=bool(subject.prompts))
        return updates


def words(studio: Studio, form: Form) -> dict[str, Any]:
    """The controls that are written in, and the button for another prompt, by their names in :class:`Controls`."""
    names, subject = list(studio.shelf.subjects), studio.shelf[form.subject]
    own = gr.Dropdown(names, value=form.subject, label="Model", visible=len(names) > 1, elem_id="model")
    prompt = gr.Textbox(form.prompt, label="Prompt", lines=2, max_lines=4, max_length=20_000, elem_id="prompt")
    another = gr.Button("Another prompt", size="sm", visible=bool(subject.prompts), elem_id="another")
    with gr.Row():
        steps = gr.Number(form.steps, label="Steps", min_width=90, elem_id="steps")
        seed = gr.Number(form.seed, label="Seed", min_width=90, elem_id="seed")
    method = gr.Dropdown(list(subject.methods), value=form.method, label="Method", elem_id="method")
    parts = {"subject": own, "prompt": prompt, "another": another}
    return {**parts, "method": method, "steps": steps, "seed": seed}


def options(studio: Studio, form: Form) -> dict[str, Any]:
    """A control for each option that any method has; those of other methods are hidden."""
    with gr.Row(elem_classes="options"):
        shown = {name: _option(name, studio, form) for name in all_names() if name in FIRST}
    with gr.Accordion("More options", open=False), gr.Row(elem_classes="options"):
        others = {name: _option(name, studio, form) for name in all_names() if name not in FIRST}
    return {**shown, **others}


def _option(name: str, studio: Studio, form: Form) -> Any:
    any_of = next(one for method in METHODS for one in options_of(method, studio.files) if one.name == name)
    kinds: dict[str, Any] = {"switch": gr.Checkbox, "choice": gr.Dropdown}
    own = {option.name: option for option in options_of(form.method, studio.files)}
    make = kinds.get(any_of.kind, gr.Textbox)
    return make(
        label=name.replace("_", " ").capitalize(), min_width=110, **_set(make, own.get(name, any_of), name in own, form)
    )


def _set(make: Any, option: Option, visible: bool, form: Form) -> dict[str, Any]:
    """What a control of an option is told."""
    value = form.options.get(option.name)
    told: dict[str, Any] = {"value": value, "visible": visible, "info": option.help}
    if make is gr.Dropdown:
        return {**told, "choices": list(option.choices)}
    return told if make is gr.Checkbox else {**told, "value": "" if value is None else f"{value}", "max_length": 80}


def pressed(line: Timeline) -> dict[str, Any]:
    """What the timeline's control is told."""
    choices = [(str(step), step) for step in range(line.steps)]
    return {"choices": choices, "value": list(line.full or ()), "interactive": line.clickable and line.full is not None}
