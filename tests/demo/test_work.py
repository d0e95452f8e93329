"""One thing at a time, whoever asks, and whatever becomes of it."""

from __future__ import annotations

from threading import Event

import pytest

from disca.demo.work import Cancelled, Desk, Done, Failed, Progress, Tell


def test_work_tells_and_gives() -> None:
    def job(tell: Tell) -> int:
        tell(Progress("going", 1, 2))
        return 7

    assert list(Desk().run("a", job)) == [Progress("going", 1, 2), Done(7)]


def test_an_error_comes_back_and_the_desk_goes_on() -> None:
    def job(tell: Tell) -> None:
        raise RuntimeError("broken")

    desk = Desk()
    (event,) = desk.run("a", job)
    assert isinstance(event, Failed) and str(event.error) == "broken"
    assert list(desk.run("a", lambda tell: 1)) == [Done(1)] and not desk.busy


def endless(running: Event) -> object:
    def job(tell: Tell) -> None:
        running.set()
        while True:
            tell(Progress("going"))

    return job


def test_cancelling_stops_an_owner_s_work_only() -> None:
    desk, running = Desk(), Event()
    events = desk.run("a", endless(running))
    next(events)
    assert not desk.cancel("b") and desk.cancel("a")
    *_, last = events
    assert isinstance(last, Failed) and isinstance(last.error, Cancelled)


def test_work_that_nobody_listens_to_ends() -> None:
    """A tab that was closed: the next visitor gets its turn."""
    desk, running = Desk(), Event()
    events = desk.run("a", endless(running))
    next(events)
    events.close()
    *_, last = desk.run("b", lambda tell: "mine")
    assert last == Done("mine")


def test_two_never_work_at_once_and_a_third_is_told() -> None:
    desk, running, others = Desk(), Event(), []
    first = desk.run("a", endless(running))
    next(first)
    second = desk.run("b", lambda tell: others.append(desk.busy))
    assert next(second) == Progress("Waiting for another run to end")
    with pytest.raises(ValueError, match="one waits already"):
        next(desk.run("c", lambda tell: None))
    assert not others
    desk.cancel("a")
    assert isinstance(list(first)[-1], Failed)
    assert list(second)[-1] == Done(None) and others == [1]


def test_one_that_waits_can_be_cancelled() -> None:
    desk, running = Desk(), Event()
    first = desk.run("a", endless(running))
    next(first)
    second = desk.run("b", lambda tell: None)
    next(second)
    desk.cancel("b")
    *_, last = second
    assert isinstance(last, Failed) and isinstance(last.error, Cancelled)
    desk.cancel("a")
    assert list(first)
