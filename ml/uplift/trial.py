"""Candidates on trial for one outcome: what they predict for others, and which is chosen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from ml.core.errors import SupportError
from ml.uplift.calibration import mean_by_customer
from ml.uplift.nuisance import cross_fit_means, make_pseudo_outcomes
from ml.uplift.sample import Sample
from ml.uplift.selection import (
    CONFIRMING_FOLD,
    Candidate,
    Judged,
    admit_by_lifecycle,
    calibrate_across,
    compare_risks,
    cross_predict,
    shortlist,
)
from ml.uplift.stacking import STACK, Mixture, stack_across
from ml.uplift.trees import TreeSettings

CONSTANT = "constant"
WORTH_LEVEL = 0.10
EVIDENCE = {
    "outcome": pl.String,
    "lifecycle": pl.String,
    "candidate": pl.String,
    "refusal": pl.String,
    "risk_difference": pl.Float64,
    "standard_error": pl.Float64,
    "is_shortlisted": pl.Boolean,
    "policy_value": pl.Float64,
    "is_chosen": pl.Boolean,
}
"""Why a candidate serves: its risk against the constant effect's (below 0: better, in squared
currency) on the tuning folds; where shortlisted, the incremental net value per decision of its
policy on the confirming fold."""

Confirm = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(effects (m, K), rows (m,) indices) to each row's incremental net value under their policy."""


@dataclass(frozen=True)
class OutcomeTrial:
    """What candidates predict for customers that they weren't fitted on.

    ``control``, shape (n,), is the mean without an offer, cross-fitted. ``raw`` and ``calibrated``
    map a candidate's name to effects of shape (n, K); ``mixtures`` a lifecycle to the weights of
    its stack; ``admitted`` a lifecycle to the candidates that take part there; ``refusals`` a name
    to why it took none anywhere, ``absences`` a name to why it took none in a lifecycle.
    """

    outcome: str
    sample: Sample
    judged: Judged
    control: np.ndarray
    raw: Mapping[str, np.ndarray]
    calibrated: Mapping[str, np.ndarray]
    mixtures: Mapping[str, Mixture]
    admitted: Mapping[str, Sequence[str]]
    refusals: Mapping[str, str]
    absences: Mapping[str, Mapping[str, str]]

    def choose(
        self, lifecycles: Sequence[str], *, confirm: Confirm | None = None
    ) -> tuple[dict[str, str], pl.DataFrame]:
        """Choose a candidate for every lifecycle.

        Parameters
        ----------
        lifecycles
            Names.
        confirm
            What effects are worth on the confirming fold; None: the lowest risk is chosen.

        Returns
        -------
        tuple
            Lifecycle to candidate, and the evidence, with the columns of ``EVIDENCE``.
        """
        chosen, evidence = {}, []
        for name in lifecycles:
            rows = self.judged.lifecycle == name
            part = self.judged.take(rows)
            effects = {key: each[rows] for key, each in self.calibrated.items()}
            risks = compare_risks(effects, part, against=CONSTANT)
            takes_part = pl.col("candidate").is_in([*self.admitted[name], STACK])
            listed = shortlist(risks.filter(takes_part), effects, part)
            worth = {} if confirm is None else self._confirm(listed, rows, confirm)
            chosen[name] = _take_best(listed, worth, self.judged.customer)
            values = {key: float(each.mean()) for key, (each, _) in worth.items()}
            for candidate, difference, error in risks.iter_rows():
                evidence.append(
                    {
                        "outcome": self.outcome,
                        "lifecycle": name,
                        "candidate": candidate,
                        "refusal": None
                        if candidate in (*self.admitted[name], STACK)
                        else self.absences.get(candidate, {}).get(
                            name, "not proven better than pooled"
                        ),
                        "risk_difference": difference,
                        "standard_error": error,
                        "is_shortlisted": candidate in listed,
                        "policy_value": values.get(candidate),
                        "is_chosen": candidate == chosen[name],
                    }
                )
            for candidate, reason in self.refusals.items():
                evidence.append(
                    {
                        **dict.fromkeys(EVIDENCE),
                        "outcome": self.outcome,
                        "lifecycle": name,
                        "candidate": candidate,
                        "refusal": reason,
                        "is_shortlisted": False,
                        "is_chosen": False,
                    }
                )
        return chosen, pl.DataFrame(evidence, schema=EVIDENCE)

    def resolve(self, lifecycle: str, candidate: str) -> Mixture:
        """Return the learners that a candidate stands for, with their weights."""
        return self.mixtures[lifecycle] if candidate == STACK else {candidate: 1.0}

    def stitch(self, chosen: Mapping[str, str], *, is_calibrated: bool = True) -> np.ndarray:
        """Return the effects of each row by its lifecycle's candidate, shape (n, K)."""
        source = self.calibrated if is_calibrated else self.raw
        effects = np.zeros_like(self.judged.pseudo)
        for name, candidate in chosen.items():
            rows = self.judged.lifecycle == name
            effects[rows] = source[candidate][rows]
        return effects

    def _confirm(
        self, listed: Sequence[str], rows: np.ndarray, confirm: Confirm
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return each candidate's contributions on the confirming fold, and the rows."""
        held = np.flatnonzero(rows & (self.judged.fold == CONFIRMING_FOLD))
        if not len(held):
            return {}
        return {name: (confirm(self.calibrated[name][held], held), held) for name in listed}


def run_trial(
    outcome: str,
    sample: Sample,
    judged: Judged,
    candidates: Sequence[Candidate],
    *,
    settings: TreeSettings,
    n_threads: int = 1,
    progress: Callable[[str], None],
) -> OutcomeTrial:
    """Let every candidate, and their stack, predict customers that they weren't fitted on.

    Parameters
    ----------
    outcome
        Name of the outcome.
    sample
        n decisions and the outcome.
    judged
        The same rows; its pseudo-outcomes are made here.
    candidates
        On trial; the constant effect must be among them.
    settings
        Tree settings.
    n_threads
        Folds fitted side by side.
    progress
        Called with a line per candidate.

    Returns
    -------
    OutcomeTrial
        Ready to choose from.
    """
    means = cross_fit_means(sample, settings=settings)
    judged = judged.with_pseudo(make_pseudo_outcomes(sample, means))
    raw, calibrated, refusals, absences = {}, {}, {}, {}
    for number, candidate in enumerate(candidates, start=1):
        about = f"{outcome}: candidate {number} of {len(candidates)}, {candidate.name}"
        try:
            effects, absences[candidate.name] = cross_predict(
                candidate,
                sample,
                fold=judged.fold,
                lifecycle=judged.lifecycle,
                settings=settings,
                n_threads=n_threads,
            )
        except SupportError as error:
            refusals[candidate.name] = str(error)
            progress(f"{about}: {error}")
            continue
        raw[candidate.name] = effects
        calibrated[candidate.name] = calibrate_across(effects, judged)
        progress(f"{about}: predicted")
    admitted = admit_by_lifecycle(calibrated, judged, refused=absences)
    raw[STACK], mixtures = stack_across(raw, judged, admitted=admitted)
    calibrated[STACK] = calibrate_across(raw[STACK], judged)
    return OutcomeTrial(
        outcome=outcome,
        sample=sample,
        judged=judged,
        control=means[:, 0],
        raw=raw,
        calibrated=calibrated,
        mixtures=mixtures,
        admitted=admitted,
        refusals=refusals,
        absences=absences,
    )


def _take_best(
    listed: Sequence[str],
    worth: Mapping[str, tuple[np.ndarray, np.ndarray]],
    customer: np.ndarray,
) -> str:
    """Return the stack if it is listed, else the lowest risk; or what is worth more than that.

    Candidates that risk can't tell apart are better averaged than drawn from. More worth means
    proven so at 10 %, among as many as are listed (Bonferroni): the best of several noisy values
    flatters.
    """
    first = STACK if STACK in listed else listed[0]
    if not worth:
        return first
    best = max(listed, key=lambda name: float(worth[name][0].mean()))
    values, rows = worth[best]
    gain, error = mean_by_customer(values - worth[first][0], customer[rows])
    needed = float(stats.norm.ppf(1 - WORTH_LEVEL / max(1, len(listed) - 1)))
    return best if gain > needed * error else first
