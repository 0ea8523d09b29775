"""Two real e-mails (Hillstrom's public test): what their effects depend on, and what doesn't."""

from pathlib import Path

import numpy as np
import polars as pl

from ml.core.errors import SupportError
from ml.interactors.randomisation import Trial
from ml.interactors.reading import measure_groups, measure_stability, split_clusters
from ml.interactors.search import SearchSettings, search_interactors

MAILS = ("Mens E-Mail", "Womens E-Mail")
OUTCOMES = ("visit", "conversion", "spend")
_NONE = "No E-Mail"
_SEARCHED = 0.6
_RATE = 0.05
_SEED = 7


def run_mails(mail: str, *, file: Path, n_halves: int = 50) -> pl.DataFrame:
    """Search what one e-mail's effects depend on, and measure it on other customers.

    Parameters
    ----------
    mail
        One of ``MAILS``.
    file
        The public file.
    n_halves
        Half-samples of the searched customers.

    Returns
    -------
    pl.DataFrame
        A row per outcome and candidate: mail, outcome, name, is_selected, is_tested, p_value and
        share of the step that added or refused it, stability, effect where it is high and low on
        customers who took no part, with the difference's 95 % interval.
    """
    rows = pl.read_csv(file, infer_schema_length=None).filter(
        pl.col("segment").is_in([mail, _NONE])
    )
    names, candidates = list_candidates(rows)
    offered = (rows["segment"] == mail).to_numpy()
    n = rows.height
    searched = split_clusters(
        Trial(np.zeros(n), offered, np.full(n, 0.5), np.arange(n)), share=_SEARCHED, seed=_SEED
    )
    # The rate is of all six searches together.
    settings = SearchSettings(alpha=_RATE / (len(MAILS) * len(OUTCOMES)), seed=_SEED)
    tables = []
    for outcome in OUTCOMES:
        value = rows[outcome].cast(pl.Float64).to_numpy()
        # Mailed or not was drawn with even odds among these two thirds of the customers.
        trial = Trial(value, offered, np.full(n, 0.5), np.arange(n))
        mine = trial.take(searched)
        own = candidates[searched]
        try:
            found = search_interactors(mine, own, settings=settings)
            tested, selected, path = found.tested, found.selected, found.path
        except SupportError:
            tested, selected, path = np.zeros(len(names), dtype=bool), (), ()
        stability = measure_stability(mine, own, settings=settings, n_halves=n_halves)
        active = candidates > np.median(candidates, axis=0)
        # Of two values, the larger is active.
        binary = np.array([len(np.unique(column)) == 2 for column in candidates.T])
        active[:, binary] = candidates[:, binary] > 0
        measured = measure_groups(trial.take(~searched), active[~searched], names)
        steps = {step.candidate: step for step in path}
        tables.append(
            measured.select(
                "name", "effect_active", "effect_inactive", "^difference.*$"
            ).with_columns(
                pl.lit(mail).alias("mail"),
                pl.lit(outcome).alias("outcome"),
                pl.Series("is_selected", [each in selected for each in range(len(names))]),
                pl.Series("is_tested", tested),
                pl.Series(
                    "p_value",
                    [steps[e].p_value if e in steps else None for e in range(len(names))],
                    dtype=pl.Float64,
                ),
                pl.Series(
                    "share",
                    [steps[e].share if e in steps else None for e in range(len(names))],
                    dtype=pl.Float64,
                ),
                pl.Series("stability", stability),
            )
        )
    return pl.concat(tables)


def list_candidates(rows: pl.DataFrame) -> tuple[list[str], np.ndarray]:
    """Return what the file knows of customers: names, and a matrix of a row each."""
    known = rows.select(
        "recency",
        pl.col("history").log1p(),
        "mens",
        "womens",
        "newbie",
        *(
            (pl.col(column) == level).alias(f"{column}={level}")
            for column, levels in (
                ("zip_code", ("Urban", "Surburban", "Rural")),
                ("channel", ("Web", "Phone", "Multichannel")),
            )
            for level in levels
        ),
    ).cast(pl.Float64)
    return known.columns, known.to_numpy()


def report_mails(lived: pl.DataFrame) -> dict[str, float]:
    """Print what was found and what wasn't; return the line's figures."""
    figures: dict[str, float] = {}
    for (mail, outcome), own in lived.group_by("mail", "outcome", maintain_order=True):
        print(f"\n{mail}, {outcome}: {own['is_tested'].sum()} of {own.height} candidates tested")
        looked_at = own.filter(
            pl.col("is_selected") | (pl.col("stability") > 0) | pl.col("p_value").is_not_null()
        )
        with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=160, float_precision=4):
            print(looked_at.drop("mail", "outcome", "is_tested").sort("stability", descending=True))
        figures[f"selected_{str(mail).split()[0].lower()}_{outcome}"] = float(
            own["is_selected"].sum()
        )
    return figures
