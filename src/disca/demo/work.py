"""One piece of work at a time, and one that waits: in threads of their own, told step by step, stopped at will."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Generic, TypeVar

T = TypeVar("T")
POLL = 0.1
"""Seconds between two looks of a job that waits for its turn."""


class Cancelled(Exception):
    """The work was asked to stop."""


@dataclass(frozen=True)
class Progress:
    """How far work is. ``total`` is 0 where nobody knows."""

    what: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Done(Generic[T]):
    """What the work gave."""

    value: T


@dataclass(frozen=True)
class Failed:
    """Why it gave nothing."""

    error: Exception


Tell = Callable[[Progress], None]
"""How a job says how far it is. It raises :class:`Cancelled` when the job is to stop."""


class Desk:
    """Takes jobs from many owners and does one at a time; one may wait."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._door = Lock()
        self._stops: list[tuple[str, Event]] = []

    def run(self, owner: str, job: Callable[[Tell], T]) -> Generator[Progress | Done[T] | Failed, None, None]:
        """Do a job; the last thing that comes is what it gave, or why it gave nothing.

        A job that nobody listens to any more (this iterator was closed) is stopped after its step.

        Raises:
            ValueError: a job is under way and another waits.
        """
        stop = self._admit(owner)
        news: SimpleQueue[Progress | Done[T] | Failed] = SimpleQueue()
        Thread(target=self._work, args=(job, stop, owner, news.put), daemon=True).start()
        try:
            while isinstance(event := news.get(), Progress):
                yield event
            yield event
        finally:
            stop.set()

    def cancel(self, owner: str) -> bool:
        """Stop the jobs of an owner, each after its step; whether there was one."""
        with self._door:
            stops = [stop for name, stop in self._stops if name == owner]
        for stop in stops:
            stop.set()
        return bool(stops)

    @property
    def busy(self) -> int:
        """How many jobs are under way or wait."""
        return len(self._stops)

    def _admit(self, owner: str) -> Event:
        stop = Event()
        with self._door:
            if len(self._stops) >= 2:
                raise ValueError("Another run is under way and one waits already. Try again in a moment.")
            self._stops.append((owner, stop))
        return stop

    def _work(
        self, job: Callable[[Tell], T], stop: Event, owner: str, put: Callable[[Progress | Done[T] | Failed], None]
    ) -> None:
        def tell(progress: Progress) -> None:
            if stop.is_set():
                raise Cancelled
            put(progress)

        try:
            with self._my_turn(tell):
                result: Done[T] | Failed = Done(job(tell))
        except Exception as error:
            result = Failed(error)
        with self._door:
            self._stops.remove((owner, stop))
        put(result)

    @contextmanager
    def _my_turn(self, tell: Tell) -> Iterator[None]:
        if not self._turn.acquire(blocking=False):
            tell(Progress("Waiting for another run to end"))
            while not self._turn.acquire(timeout=POLL):
                tell(Progress("Waiting for another run to end"))
        try:
            yield
        finally:
            self._turn.release()
