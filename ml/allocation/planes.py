"""The lower envelope of a convex function's tangent planes, minimised in a box: Kelley's master.

Planes are added to one linear programme, which HiGHS solves anew from where it was.
"""

from dataclasses import dataclass

import highspy
import numpy as np

from ml.core.errors import BudgetError

_OPTIONS = {
    "output_flag": False,
    "threads": 1,
    "presolve": "off",
    "primal_feasibility_tolerance": 1e-10,
    "dual_feasibility_tolerance": 1e-10,
}
_FINER = 1e-3
_WIDEST, _ROUNDING = 1e-9, 1e-14


@dataclass(frozen=True)
class Lowest:
    """The envelope's minimum: where, how far below the best value, and the planes' shares.

    ``point`` has shape (m,); ``shares``, shape (planes,), sum to 1: the mixture of planes whose
    slope is 0, or leads out of the box.
    """

    point: np.ndarray
    gap: float
    shares: np.ndarray


class Planes:
    """Tangent planes of a convex function in a box (Kelley 1960)."""

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        """Begin without planes.

        Parameters
        ----------
        low, high : shape (m,)
            The box.
        """
        self._low, self._width = low, np.maximum(high - low, 1e-300)
        self._top = (high - low) / self._width
        self._points: list[np.ndarray] = []
        self._values: list[float] = []
        self._slopes: list[np.ndarray] = []
        self._unit = self._steepest = 0.0
        self._origin, self._zero = low, 0.0
        self._programme = highspy.Highs()

    def add(self, point: np.ndarray, value: float, slopes: np.ndarray) -> None:
        """Add the tangent plane at a point.

        Parameters
        ----------
        point : shape (m,)
            In the box.
        value
            Of the function there.
        slopes : shape (m,)
            A subgradient.
        """
        self._points.append(point)
        self._values.append(value)
        self._slopes.append(slopes)
        self._steepest = max(self._steepest, float(np.abs(slopes) @ self._width))
        if self._unit:
            self._add_row(len(self._points) - 1)

    def solve(self, best: np.ndarray, least: float) -> Lowest:
        """Return the lowest point of the envelope.

        Parameters
        ----------
        best : shape (m,)
            Where the function's least value was found.
        least
            That value.

        Returns
        -------
        Lowest
            Gap at least 0.

        Raises
        ------
        BudgetError
            If the solver gives up.
        """
        # In finer units numbers are too large for the solver.
        finest = max(_WIDEST * self._steepest, _ROUNDING * max(1.0, abs(least)))
        if not self._unit:
            self._rebuild(best, least, max(self._steepest, finest))
        point, bottom, shares = self._run()
        gap = max(0.0, least - bottom)
        if finest < gap < _FINER * self._unit:
            # Seen from the best point and in units of the gap, digits are kept.
            self._rebuild(best, least, max(gap, finest))
            point, bottom, shares = self._run()
            gap = max(0.0, least - bottom)
        return Lowest(point, gap, shares)

    def _rebuild(self, best: np.ndarray, least: float, unit: float) -> None:
        """State the programme anew around a point: offsets in box widths, values in units."""
        self._origin, self._zero, self._unit = best, least, unit
        programme = self._programme = highspy.Highs()
        for name, value in _OPTIONS.items():
            programme.setOptionValue(name, value)
        offset = (best - self._low) / self._width
        for lower, upper in zip(-offset, self._top - offset, strict=True):
            programme.addVar(lower, upper)
        programme.addVar(-highspy.kHighsInf, highspy.kHighsInf)
        programme.changeColCost(len(best), 1.0)
        for plane in range(len(self._points)):
            self._add_row(plane)

    def _add_row(self, plane: int) -> None:
        slopes, at = self._slopes[plane], self._points[plane]
        here = self._values[plane] - self._zero + float(slopes @ (self._origin - at))
        columns = np.arange(len(slopes) + 1, dtype=np.int32)
        row = np.append(-slopes * self._width / self._unit, 1.0)
        self._programme.addRow(here / self._unit, highspy.kHighsInf, len(row), columns, row)

    def _run(self) -> tuple[np.ndarray, float, np.ndarray]:
        """Return the lowest point, its value and the planes' shares."""
        self._programme.run()
        status = self._programme.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise BudgetError(f"the limits' prices could not be found: the solver says {status}")
        solution = self._programme.getSolution()
        found = np.array(solution.col_value)
        point = self._origin + found[:-1] * self._width
        shares = np.maximum(np.array(solution.row_dual), 0.0)
        return (
            np.clip(point, self._low, self._low + self._top * self._width),
            self._zero + float(found[-1]) * self._unit,
            shares / shares.sum(),
        )
