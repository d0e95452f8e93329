"""A second time for hosts that take only one: where the step goes to, beside where it starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from diffusers import ModelMixin  # noqa: F401  pipelines look for it here to learn how to load the component
from diffusers.configuration_utils import register_to_config
from diffusers.hooks import ModelHook
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from disca import hooks
from disca.adapters import adapter_for
from disca.clock import SchedulerClock
from disca.companion import Companion, describe_host
from disca.features import Moment
from disca.meanflow.euler import require_euler

Layout = Literal["sum", "average"]
Input = Literal["interval", "r"]
Times = Callable[[Tensor], tuple[Tensor, Tensor]]
HOOK = "disca_second_time"


class SecondTime(Companion):
    """An embedder of the second time, joined to the output of the host's own time embedder.

    ``sum`` adds it. Its last layer starts at zero, so at first the host is itself, bit for bit, whatever r is: the
    right mean velocity of short intervals. ``average`` is the layout of the authors' HunyuanVideo 1.0 weights,
    ``(time_in(t) + time_r_in(r)) / 2``; it starts as a copy of the host's embedder, so the host is itself at ``r = t``.

    What is embedded is the ``interval`` t - r or the time ``r``, in the host's units. To first order a mean velocity
    differs from the velocity by a multiple of the interval, and the host knows t already. So new models take the
    interval: the network need not find a small difference between two large sinusoids, and ``r = t`` is one point of
    its input at every t. ``average`` takes r, since a copy of the embedder of t has to be given t where ``r = t``.

    The text refiner of HunyuanVideo has a time embedder of its own and goes on seeing t only. Tokens that are clean
    from the start, as the first frame of an image-to-video model, are at time 0 and stay there: their r is 0 too.
    """

    kind: ClassVar[str] = "second time"

    @register_to_config
    def __init__(
        self,
        *,
        host: str,
        host_config: dict[str, Any],
        width: int,
        channels: int = 256,
        layout: Layout = "sum",
        input: Input = "interval",
        time_scale: float = 1000.0,
        time_ascends: bool = False,
    ) -> None:
        super().__init__()
        _check_layout(layout, input)
        self.sinusoid = Timesteps(channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embedder = TimestepEmbedding(channels, width)
        self._times: Times | None = None

    @classmethod
    def for_host(cls, transformer: nn.Module, *, layout: Layout = "sum", input: Input | None = None) -> SecondTime:
        """One that leaves the transformer's velocity as it is, to be trained; on its device and in its dtype.

        ``input`` is ``interval`` by default for ``sum`` and ``r`` for ``average``.

        Raises:
            ValueError: a family without a known time embedder, or a layout and an input that do not go together.
        """
        adapter, description = adapter_for(transformer), describe_host(transformer)
        if adapter.takes_second_time(transformer):
            raise ValueError(f"This transformer takes r itself, as {adapter.second_timestep}. It needs no other.")
        embedder = _embedder(transformer)
        with embedder.linear_1.weight.device if embedder.linear_1.weight.is_meta else nullcontext():
            second = cls(
                **description,
                width=embedder.linear_2.out_features,
                channels=embedder.linear_1.in_features,
                layout=layout,
                input=input or ("interval" if layout == "sum" else "r"),
                time_scale=adapter.sinusoid_scale,
                time_ascends=adapter.time_ascends,
            )
        second.embedder.load_state_dict(embedder.state_dict())
        if layout == "sum":
            nn.init.zeros_(second.embedder.linear_2.weight)
            nn.init.zeros_(second.embedder.linear_2.bias)
        return second.to(embedder.linear_1.weight)  # its device and dtype

    def forward(self, t: Tensor, r: Tensor) -> Tensor:
        """The embedding ``[batch, width]`` of times ``[batch]`` in [0, 1]; in the host's units, and in float32 through
        the sinusoid."""
        weight = self.embedder.linear_1.weight
        if self.config.input == "interval":
            return self.embedder(self._sinusoid(t - r).to(weight))
        return self.embedder(self._sinusoid(1 - r if self.config.time_ascends else r).to(weight))

    def join(self, embedded: Tensor, sinusoid: Tensor) -> Tensor:
        """The host's embedding of t, ``[batch, width]``, or of one t for each token: ``[batch tokens, width]`` or
        ``[batch, tokens, width]``, with that of the second time. ``sinusoid`` is what the host embedded."""
        if self._times is _silent:
            return embedded
        if self._times is None:
            raise RuntimeError(
                "The transformer has a second time but was not told it. Call it inside `with second.at(t, r):`, or "
                "sample inside `with second.attach(pipe):`."
            )
        clean = self._is_clean(sinusoid)
        t, r = (_spread(time.to(clean.device), clean).masked_fill(clean, 0).flatten() for time in self._times(embedded))
        second = self(t, r).view_as(embedded).to(embedded.dtype)
        return embedded + second if self.config.layout == "sum" else (embedded + second) / 2

    def _sinusoid(self, time: Tensor) -> Tensor:
        weight = self.embedder.linear_1.weight
        return self.sinusoid((self.config.time_scale * time).float().to(weight.device))

    def _is_clean(self, sinusoid: Tensor) -> Tensor:
        """Which of the sinusoids are of the time 0, where no step begins."""
        if not self.config.time_ascends:
            return ~sinusoid[..., sinusoid.shape[-1] // 2 :].any(-1)  # the sines: all are 0 there, and nowhere else
        data = torch.ones(1, device=sinusoid.device)
        return (sinusoid == self._sinusoid(data).to(sinusoid)).all(-1)

    def install(self, transformer: nn.Module) -> None:
        """Give the transformer its second time until :meth:`remove`; calls of it then go inside :meth:`at`.

        A copy made while installed would compute with the original's weights; it refuses to. Copy first.

        Raises:
            ValueError: the transformer is not the host this was made for, or it has a second time already.
        """
        self.matches(transformer)
        hooks.install(_embedder(transformer), _Join(self), HOOK)

    def remove(self, transformer: nn.Module) -> None:
        """Undo :meth:`install`, without a trace."""
        hooks.remove(_embedder(transformer), HOOK)

    def adopt(self, transformer: nn.Module) -> None:
        """Make the embedder a part of the transformer, beside its time embedder and named like it with ``_r`` added: it
        moves and is saved with it, and appears in its state dict."""
        parent, _, name = second_path(transformer).rpartition(".")
        hooks.add_child(transformer.get_submodule(parent), name, self.embedder)

    def leave(self, transformer: nn.Module) -> None:
        """Undo :meth:`adopt`."""
        parent, _, name = second_path(transformer).rpartition(".")
        hooks.remove_child(transformer.get_submodule(parent), name)

    @staticmethod
    def of(transformer: nn.Module) -> SecondTime | None:
        """The second time that is installed in a transformer."""
        path = adapter_for(transformer).time_embedder
        hook = None if path is None else hooks.find(transformer.get_submodule(path), HOOK)
        return hook.second if isinstance(hook, _Join) else None

    @contextmanager
    def told_by(self, moment: Callable[[], Moment]) -> Iterator[None]:
        """Calls inside step from and to the times of the moment they are made at, at full precision."""

        def times(embedded: Tensor) -> tuple[Tensor, Tensor]:
            now = moment()
            t, r = (  # filled in where they are needed, since a copy from here would wait for the device
                torch.full((1,), time, dtype=torch.float64, device=embedded.device) for time in (now.t, now.r)
            )
            return t, r

        with self._told(times):
            yield

    @contextmanager
    def at(self, t: Tensor, r: Tensor) -> Iterator[None]:
        """Calls inside step from ``t`` to ``r``, ``[batch]`` or ``[1]``, in [0, 1] and float32 or better.

        Raises:
            ValueError: half precision, in which neighbouring times are one.
        """
        for name, time in (("t", t), ("r", r)):
            if not time.is_floating_point() or time.dtype.itemsize < 4:
                raise ValueError(f"{name} is {time.dtype}; times are given in float32 or float64.")
        with self._told(lambda _: (t, r)):
            yield

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Calls inside are the host's own, as if there were no second time: the teacher of a student that shares its
        weights."""
        with self._told(_silent):
            yield

    @contextmanager
    def attach(self, target: Any) -> Iterator[SecondTime]:
        """Install for the length of the block, also after :meth:`install`. A pipeline's steps are then told by its
        scheduler, at full precision; calls of a bare transformer still go inside :meth:`at`.

        Raises:
            ValueError: as :meth:`install`; a scheduler under whose steps a mean velocity is not exact.
        """
        piped = hasattr(target, "transformer") and hasattr(target, "scheduler")
        transformer = target.transformer if piped else target
        if piped:
            require_euler(target.scheduler, ascends=self.config.time_ascends)
        already = SecondTime.of(transformer)
        if already is None:
            self.install(transformer)
        elif already is not self:
            raise ValueError(
                "The transformer has another second time already. Remove that one first, or take the model without it."
            )
        try:
            with self._scheduled(target) if piped else nullcontext():
                yield self
        finally:
            if already is None:
                self.remove(transformer)

    def _scheduled(self, pipe: Any) -> AbstractContextManager[None]:
        ascends = self.config.time_ascends
        check = partial(require_euler, ascends=ascends)
        clock = SchedulerClock(lambda: pipe.scheduler, ascends=ascends, check=check)
        return self.told_by(clock.moment)

    @contextmanager
    def _told(self, times: Times | None) -> Iterator[None]:
        before, self._times = self._times, times
        try:
            yield
        finally:
            self._times = before


def _silent(embedded: Tensor) -> tuple[Tensor, Tensor]:
    raise AssertionError("stands for no second time; never asked")


class _Join(ModelHook):
    """Joins the second time to what a time embedder returns."""

    def __init__(self, second: SecondTime) -> None:
        super().__init__()
        self.second = second
        self.module: nn.Module | None = None
        self.sinusoid: Tensor | None = None

    def initialize_hook(self, module: nn.Module) -> nn.Module:
        self.module = module
        return module

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.sinusoid = args[0]
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Tensor) -> Tensor:
        if module is not self.module:
            raise RuntimeError(
                "A transformer was copied while its second time was installed. Copy it before install()."
            )
        assert self.sinusoid is not None
        sinusoid, self.sinusoid = self.sinusoid, None
        return self.second.join(output, sinusoid)


def _embedder(transformer: nn.Module) -> Any:
    adapter, name = adapter_for(transformer), type(transformer).__name__
    if not adapter.flow:
        raise ValueError(f"{name} is not sampled along a flow, so it has no mean velocity and no second time.")
    if adapter.time_embedder is None:
        raise ValueError(f"{name} has no time embedder that a second time could be joined to.")
    return transformer.get_submodule(adapter.time_embedder)


def _spread(time: Tensor, rows: Tensor) -> Tensor:
    """Times ``[batch]`` or ``[1]``, shaped like ``rows``: ``[batch]``, ``[batch tokens]`` or ``[batch, tokens]``."""
    if time.numel() == 1:
        return time.expand(rows.shape)
    return time.repeat_interleave(rows.numel() // time.numel()).view(rows.shape)


def second_path(transformer: nn.Module) -> str:
    """Where :meth:`SecondTime.adopt` puts the embedder."""
    return f"{adapter_for(transformer).time_embedder}_r"


def _check_layout(layout: str, input: str) -> None:
    if layout not in ("sum", "average") or input not in ("interval", "r"):
        raise ValueError(
            f"A second time is layout 'sum' or 'average' of input 'interval' or 'r', not {layout}, {input}."
        )
    if layout == "average" and input != "r":
        raise ValueError("The layout 'average' starts as a copy of the embedder of t, so its input is 'r'.")
