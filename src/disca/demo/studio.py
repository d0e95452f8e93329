"""What happens behind the page: a form becomes a wish, a wish becomes two runs, and all of it becomes views."""

from __future__ import annotations

import shutil
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic, strftime
from typing import Any
from uuid import uuid4

from disca import records as record_files
from disca.demo import markup, wishes
from disca.demo.curve import Choice, curve
from disca.demo.forms import Form
from disca.demo.options import given
from disca.demo.runs import Outcome, compare
from disca.demo.subjects import Shelf
from disca.demo.timeline import Timeline, clicked, is_counted, takes_full_steps, timeline
from disca.demo.wishes import Wish
from disca.demo.work import Cancelled, Desk, Done, Failed, Progress
from disca.records import Record

KEPT = 20
"""Runs whose clips stay in the output folder."""
OFTEN = 0.1
"""Seconds between two views of one piece of work."""
CLEAR = (ValueError, OSError)
"""Errors that a visitor can do something about."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What the page shows next; None leaves a part as it is."""

    status: str
    result: str | None = None
    picture: str | None = None
    running: bool = False


@dataclass
class Studio:
    """All that a page works with."""

    shelf: Shelf
    records: Sequence[Record]
    output: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    """Files of constants, by the names that the page shows."""
    fps: float = markup.FPS
    desk: Desk = field(default_factory=Desk)
    _kept: deque[Path] = field(default_factory=deque)

    def wish(self, form: Form) -> Wish:
        """What a form asks for.

        Raises:
            ValueError: something that cannot be; says what was given, and what to do.
        """
        subject, steps = self.shelf[form.subject], wishes.steps(form.steps)
        prompt = wishes.prompt(form.prompt)
        subject.check(prompt)
        options = self.options(form, steps)
        timeline(form.method, options, steps)
        return Wish(
            subject=subject.name,
            prompt=prompt,
            method=form.method,
            options=options,
            steps=steps,
            seed=wishes.seed(form.seed),
        )

    def options(self, form: Form, steps: int) -> dict[str, Any]:
        """What the method is called with, the full steps of the timeline among it where they are chosen there.

        Raises:
            ValueError: a method that is not for the model, or a value that cannot be.
        """
        subject = self.shelf[form.subject]
        if form.method not in subject.methods:
            raise ValueError(
                f"{subject.name} cannot be accelerated by {str(form.method)[:40]!r}. Choose from the list."
            )
        options = given(form.method, form.options, self.files)
        if takes_full_steps(form.method) and not is_counted(form.method, options):
            options["full_steps"] = clicked(form.full, steps)
        return options

    def timeline(self, form: Form) -> Timeline:
        """The timeline of a form; where there is none, its note says why."""
        try:
            steps = wishes.steps(form.steps)
        except ValueError as error:
            return Timeline(1, (0,), False, str(error))
        try:
            return timeline(form.method, self.options(form, steps), steps)
        except CLEAR as error:
            return Timeline(steps, None, False, _message(error))

    def picture(self, form: Form, run: Record | None = None) -> str | None:
        """Records of the model, with what the form chooses marked."""
        try:
            steps = wishes.steps(form.steps)
            choice = self._choice(form.subject, form.method, self.options(form, steps), steps)
        except CLEAR:
            return None
        return markup.picture(curve(self.records, choice, run))

    def another(self, form: Form) -> str:
        """Another prompt of the model's own."""
        own = [one for one in self.shelf[form.subject].prompts if one != form.prompt]
        return Random().choice(own) if own else str(form.prompt or "")[: wishes.PROMPT]

    def run(self, owner: str, form: Form) -> Iterator[View]:
        """Sample both ways; the last view has the result, or says why there is none."""
        try:
            wish = self.wish(form)
            events = self.desk.run(owner, lambda tell: self._work(wish, tell))
            with closing(events):
                yield from self._views(wish, events)
        except CLEAR as error:
            yield View(status=markup.status(_message(error), kind="error"))

    def _work(self, wish: Wish, tell: Any) -> tuple[Outcome, str]:
        tell(Progress(f"Loading {wish.subject}"))
        outcome = compare(self.shelf.load(wish.subject), wish, tell)
        return outcome, markup.result(outcome, self._folder(), self.fps)

    def _views(self, wish: Wish, events: Iterator[Progress | Done[Any] | Failed]) -> Iterator[View]:
        said, since, last = "", 0.0, Progress("Nothing")
        for event in events:
            if isinstance(event, Progress):
                last = event
                if event.what != said or monotonic() - since > OFTEN:
                    said, since = event.what, monotonic()
                    yield View(status=markup.progress(event), running=True)
            elif isinstance(event, Done):
                yield self._shown(wish, *event.value)
            else:
                yield View(status=_why(event.error, last))

    def _shown(self, wish: Wish, outcome: Outcome, result: str) -> View:
        record = outcome.record(name=f"{wish.method}_{wish.steps}", reference="full")
        record_files.write(self._kept[-1] / "records.jsonl", [record])
        choice = self._choice(wish.subject, wish.method, wish.options, wish.steps)
        picture = markup.picture(curve(self.records, choice, record))
        return View(status="", result=result, picture=picture)

    def _choice(self, subject: str, method: str, options: Mapping[str, Any], steps: int) -> Choice:
        full = timeline(method, options, steps).full
        return Choice(rows=self.shelf[subject].rows, steps=steps, method=method, options=options, full=full)

    def _folder(self) -> Path:
        """A new folder of the output for a run; the oldest goes when there are many."""
        folder = self.output / f"{strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:6]}"
        folder.mkdir(parents=True)
        self._kept.append(folder)
        while len(self._kept) > KEPT:
            shutil.rmtree(self._kept.popleft(), ignore_errors=True)
        return folder


def _why(error: Exception, last: Progress) -> str:
    """Why there is no result, as a line of the page."""
    if isinstance(error, Cancelled):
        after = f" after step {last.done} of {last.total}" if last.total else ""
        return markup.status(f"Cancelled{after}.")
    if isinstance(error, CLEAR):
        return markup.status(_message(error), kind="error")
    traceback.print_exception(error, file=sys.stderr)
    what = _message(error)[:300]
    return markup.status(f"The run failed: {what} Where, stands in the terminal. The page goes on.", kind="error")


def _message(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
