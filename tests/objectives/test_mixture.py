"""Restricted MeanFlow on a flow with a known answer in the plane: the student must beat its teacher's plain steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from disca.flow import Instant, Restricted, Terminal, Uniform, expand, heun, integrate, max_interval, sigmas
from disca.objectives import mean_flow
from disca.training.average import Average

SHIFT = 5.0


@dataclass(frozen=True)
class Mixture:
    """Data from Gaussians of one spread around ``means`` ``[n, 2]``; its velocity is the components', weighed by how
    likely each is."""

    means: Tensor
    std: float = 0.3

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        which = torch.randint(len(self.means), (count,), generator=generator)
        return self.means[which] + self.std * torch.randn(count, 2, generator=generator)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        t = expand(t, x).unsqueeze(1)
        spread = ((1 - t) * self.std) ** 2 + t**2
        off = x.unsqueeze(1) - (1 - t) * self.means
        weight = (-off.square().sum(-1, keepdim=True) / (2 * spread)).softmax(1)
        each = -self.means + off * (t - (1 - t) * self.std**2) / spread
        return (weight * each).sum(1)


class Student(nn.Module):
    """The velocity field, changed by a network that starts at nothing; times are fed as they are, without a factor."""

    def __init__(self, teacher: Mixture, width: int = 256) -> None:
        super().__init__()
        self.teacher = teacher
        layers: list[nn.Module] = []
        for before in (2 + 2 * 8, width, width):
            layers += [nn.Linear(before, width), nn.SiLU()]
        self.net = nn.Sequential(*layers, nn.Linear(width, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        waves = torch.stack([t, t - r], 1)[:, :, None] * torch.tensor([1.0, 2.0, 4.0, 8.0])
        times = torch.cat([waves.sin(), waves.cos()], 2).flatten(1)
        change = self.net(torch.cat([x, times], 1))
        return self.teacher.velocity(x, t) + change


def trained(teacher: Mixture, iterations: int, batch: int) -> Iterator[Student]:
    torch.manual_seed(0)
    student, generator = Student(teacher), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    parts = ((0.5, Restricted(0.2)), (0.25, Terminal(max_interval(10, SHIFT))), (0.25, Instant(Uniform(shift=SHIFT))))
    average = Average(student, 0.998)
    for iteration in range(iterations):
        drawn = [part.sample(round(share * batch), generator) for share, part in parts]
        t, r = (torch.cat(ends) for ends in zip(*drawn, strict=True))
        x0, noise = teacher.sample(len(t), generator), torch.randn(len(t), 2, generator=generator)
        loss = mean_flow(student, teacher.velocity, x0, noise, t, r)
        optimiser.zero_grad()
        loss.value.backward()
        optimiser.step()
        schedule.step()
        average.update(iteration)
    with average.applied():
        yield student


@pytest.mark.long
def test_ten_steps_of_the_student_are_three_times_nearer_than_ten_of_its_teacher() -> None:
    corners = torch.tensor([[2.0, 2.0], [-2.0, 2.0], [2.0, -2.0], [-2.0, -2.0]])
    teacher = Mixture(corners)
    students = trained(teacher, 5000, 1024)
    student = next(students)
    x = torch.randn(4096, 2, generator=torch.Generator().manual_seed(9))
    one, zero = torch.ones(len(x)), torch.zeros(len(x))
    exact = heun(teacher.velocity, x.double(), one.double(), zero.double(), substeps=400).float()
    times = sigmas(10, SHIFT)
    with torch.no_grad():
        plain = (integrate(lambda x, t, r: teacher.velocity(x, t), x, times) - exact).norm(dim=1).mean()
        learned = (integrate(student, x, times) - exact).norm(dim=1).mean()
        many = sigmas(50, SHIFT)
        field = integrate(lambda x, t, r: teacher.velocity(x, t), x, many)
        own = integrate(lambda x, t, r: student(x, t, t), x, many)
    assert learned * 3 <= plain, (learned.item(), plain.item())
    off, mine = ((end - exact).norm(dim=1).mean() for end in (field, own))
    assert mine <= 1.1 * off, (mine.item(), off.item())
