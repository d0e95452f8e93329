"""The page in gradio: controls that fill in a form, and places for views. What they mean is in `studio.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from disca.demo import markup
from disca.demo.controls import Controls, options, pressed, words
from disca.demo.forms import blank, settled
from disca.demo.studio import Studio, View

LEAD = (
    "One prompt and one noise, sampled twice: with every step in full, and with most of the work forecast from what "
    "earlier steps computed."
)
MASTHEAD = f'<header class="masthead"><h1>Full and accelerated, side by side</h1><p>{LEAD}</p></header>'
HELLO = "Choose what to sample, and run it."
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "preprocess": False}
"""Of all events. Nothing is looked at by gradio, whose choices may lag behind: the studio says what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where views go."""

    start: Any
    stop: Any
    status: Any
    result: Any
    picture: Any

    @property
    def outputs(self) -> list[Any]:
        return [self.start, self.stop, self.status, self.result, self.picture]

    def show(self, view: View) -> dict[Any, Any]:
        """A view as updates."""
        parts = {self.status: view.status, self.result: view.result, self.picture: view.picture}
        buttons = {self.start: gr.update(interactive=not view.running), self.stop: gr.update(interactive=view.running)}
        return {**buttons, **{place: html for place, html in parts.items() if html is not None}}


def build(studio: Studio) -> gr.Blocks:
    """The page."""
    form = blank(studio.shelf)
    with gr.Blocks(title="disca", analytics_enabled=False) as page:
        _html(MASTHEAD)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=2, min_width=290, elem_classes="controls"):
                written = words(studio, form)
                with gr.Row(elem_classes="buttons"):
                    start = gr.Button("Run", variant="primary", elem_id="run", min_width=110)
                    stop = gr.Button("Cancel", interactive=False, elem_id="cancel", min_width=110)
                choices = options(studio, form)
            with gr.Column(scale=6, min_width=320, elem_classes="views"):
                line = studio.timeline(form)
                full = gr.CheckboxGroup(label="Steps in full", elem_id="timeline", **pressed(line))
                note = _html(markup.timeline_note(line), elem_id="timeline-note")
                status = _html(markup.status(HELLO), elem_id="status")
                result = _html("", elem_id="result")
                picture = _html(studio.picture(form) or "", elem_id="picture")
        controls = Controls(**written, full=full, options=choices, note=note)
        places = Places(start=start, stop=stop, status=status, result=result, picture=picture)
        _wire_controls(studio, controls, places.picture)
        _wire_runs(page, studio, controls, places)
    return page


def _html(value: str, **where: Any) -> Any:
    return gr.HTML(value, apply_default_css=False, js_on_load=None, **where)


def _wire_controls(studio: Studio, controls: Controls, picture: Any) -> None:
    """A change of one control by hand settles the others."""

    def settle(changed: str, *values: Any) -> dict[Any, Any]:
        form = settled(studio.shelf, controls.form(values), changed)
        drawn = studio.picture(form)
        return controls.told(studio, form, changed) | ({} if drawn is None else {picture: drawn})

    outputs = [*controls.inputs, controls.note, controls.another, picture]
    hand = {name: [getattr(controls, name)] for name in ("subject", "method", "steps", "full")}
    for changed, sources in {**hand, "options": list(controls.options.values())}.items():
        triggers = [source.input for source in sources]
        gr.on(triggers, partial(settle, changed), controls.inputs, outputs, queue=False, **PRIVATE)
    controls.another.click(
        lambda *values: studio.another(controls.form(values)), controls.inputs, controls.prompt, queue=False, **PRIVATE
    )


def _wire_runs(page: gr.Blocks, studio: Studio, controls: Controls, places: Places) -> None:
    def run(request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        for view in studio.run(str(request.session_hash), controls.form(values)):
            yield places.show(view)

    def cancel(request: gr.Request) -> None:
        studio.desk.cancel(str(request.session_hash))

    gr.on(
        [places.start.click, controls.prompt.submit],
        run,
        controls.inputs,
        places.outputs,
        concurrency_limit=None,
        trigger_mode="once",
        **PRIVATE,
    )
    places.stop.click(cancel, queue=False, **PRIVATE)
    page.unload(cancel)
