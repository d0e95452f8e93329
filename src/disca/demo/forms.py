"""The values of the page's controls, and how a change of one settles the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from disca.demo import wishes
from disca.demo.options import options_of
from disca.demo.subjects import Shelf
from disca.demo.timeline import COUNTED, beginning, clicked, takes_full_steps


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the controls say, whatever it is."""

    subject: Any
    prompt: Any
    method: Any
    steps: Any
    seed: Any
    full: Any = ()
    """What is pressed on the timeline."""
    options: Mapping[str, Any] = field(default_factory=dict)


def blank(shelf: Shelf) -> Form:
    """The form of a page that was just opened."""
    first = next(iter(shelf.subjects.values()))
    form = Form(subject=first.name, prompt=first.prompt, method=None, steps=first.steps, seed=0)
    return settled(shelf, form, "subject")


def settled(shelf: Shelf, form: Form, changed: str) -> Form:
    """A form in which ``changed`` (``subject``, ``method``, ``steps``, ``full``, ``options``) was changed by hand, with
    what follows from it.

    Raises:
        ValueError: a model or method that there is not.
    """
    subject = shelf[form.subject]
    if changed == "subject":
        method = form.method if form.method in subject.methods else subject.methods[0]
        prompt = subject.prompt if _is_own(shelf, form.prompt) else form.prompt
        form = replace(form, method=method, steps=subject.steps, prompt=prompt)
    if changed in ("subject", "method"):
        form = replace(form, options=starts(form.method))
    if changed in ("subject", "method", "steps"):
        return replace(form, full=_beginning(subject.schedules, form.steps))
    if changed == "full":
        return replace(form, full=_clicked(form), options=_uncounted(form))
    return form


def starts(method: str) -> dict[str, Any]:
    """Options to begin with."""
    return {option.name: option.start for option in options_of(method)}


def _is_own(shelf: Shelf, prompt: Any) -> bool:
    """Whether a prompt is none, or one that the page chose."""
    return not prompt or any(prompt == one.prompt or prompt in one.prompts for one in shelf.subjects.values())


def _beginning(schedules: Any, steps: Any) -> tuple[int, ...]:
    try:
        return beginning(wishes.steps(steps), schedules)
    except ValueError:
        return (0,)


def _clicked(form: Form) -> tuple[int, ...]:
    try:
        return clicked(form.full, wishes.steps(form.steps))
    except ValueError:
        return (0,)


def _uncounted(form: Form) -> dict[str, Any]:
    """Options without those that say in words what a click says."""
    if not takes_full_steps(form.method):
        return dict(form.options)
    own = {option.name: option.default for option in options_of(form.method)}
    return {**form.options, **{name: own[name] for name in (*COUNTED, "threshold") if name in own}}
