"""Which steps to compute in full: exact plans from a table of what forecasts err. Arithmetic only, without tensors.

A table says how a forecast errs at each step, given the full steps that it was made from; a plan's cost is the sum over
the gaps between its full steps. Between gaps nothing is shared but those full steps, so a dynamic programme over the
number of full steps and the last two of them finds the cheapest plan of every size in one pass.
"""

from disca.planning.costs import NONE, Costs, Form, Gap, Key, Rows, aggregate, quantile_of, rows_of
from disca.planning.frontier import Frontier, Point
from disca.planning.plans import Plan, cost_from, cost_of, larger, neighbours, smaller, solve, within_budget

__all__ = [
    "NONE",
    "Costs",
    "Form",
    "Frontier",
    "Gap",
    "Key",
    "Plan",
    "Point",
    "Rows",
    "aggregate",
    "cost_from",
    "cost_of",
    "larger",
    "neighbours",
    "quantile_of",
    "rows_of",
    "smaller",
    "solve",
    "within_budget",
]
