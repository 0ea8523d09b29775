"""Learn: the world model of customer-days, the beliefs that it holds, and who may use which."""

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import polars as pl

from ml.core.errors import SupportError
from ml.core.hashing import hash_uniform
from ml.core.programme import Programme
from ml.world_model.encoding import Encoder, fit_encoder
from ml.world_model.fitting import FittedWorldModel, fit_world_model
from ml.world_model.learning import TrainingConfig
from ml.world_model.model import WorldModel
from ml.world_model.training import Epoch

_FEWEST_STEPS, _EPOCHS, _BATCHES, _UNITS = 1_600, (15, 60), (256, 512), (32, 64)
_MANY = 40_000
STALE_DAYS, _RECENT_DAYS = 28, 28
_MOST_ROWS = 200_000
_VALIDATION_SHARE = 0.1
_ATTRIBUTE = "attribute_"
_WEEKS = {"visit_days": 7, "purchase_days": 7, "redemption_days": 7, "offer_days": 4}
_NUMBERS = (
    "tenure_days",
    "days_since_visit",
    "days_since_purchase",
    "visits_90d",
    "purchases_90d",
    "spend_90d",
)
_LEAST_PLAUSIBLE, _MOST_IMPLAUSIBLE = 0.01, 0.03


def train_world_model(
    days: pl.DataFrame,
    *,
    programme: Programme,
    config: TrainingConfig | None = None,
    most_rows: int = _MOST_ROWS,
    checkpoints: Path | None = None,
    progress: Callable[[Epoch], None] = lambda _: None,
) -> FittedWorldModel:
    """Train the world model on the days of customers who are in no evaluation.

    A tenth of them is held out for its health; their newest four weeks say what is plausible, since
    a log that begins shows more of everybody from week to week. Dates on which nothing was known of
    anybody, those before the log begins, are left out.

    Parameters
    ----------
    days
        Rows of customer_days.
    programme
        Its attributes, but for the protected ones.
    config
        Of the training; None: by the number of rows, as ``choose_training`` has it.
    most_rows
        Of more, the days of as many customers as have so many, chosen by hash.
    checkpoints, progress
        As for ``fit_world_model``.

    Returns
    -------
    FittedWorldModel
        Ready to be registered if no gate failed.

    Raises
    ------
    SupportError
        If there are too few days.
    """
    is_known = pl.any_horizontal(pl.col(*_WEEKS, "visits_90d", "purchases_90d") > 0)
    known = days.filter(
        ~pl.col("is_evaluation") & ~pl.col("is_holdout") & is_known.any().over("decision_date")
    )
    if known.is_empty():
        raise SupportError("there are no customer-days to train the world model on")
    share = min(1.0, most_rows / known.height)
    place = hash_uniform(known["customer_id"], salt=f"world-model-{programme.seed}")
    usable = [each for each in programme.attributes if not each.is_protected]
    known = prepare_days(known, [each.name for each in usable])
    known = known.with_columns(pl.Series("_place", place)).filter(pl.col("_place") < share)
    is_held = known["_place"] < share * _VALIDATION_SHARE
    training, validation = known.filter(~is_held), known.filter(is_held)
    encoder = fit_encoder(
        training,
        categories=[
            "weekday",
            "lifecycle",
            *(_ATTRIBUTE + each.name for each in usable if each.kind == "category"),
        ],
        numbers=[
            *_NUMBERS,
            *(_ATTRIBUTE + each.name for each in usable if each.kind == "number"),
        ],
        days=_WEEKS,
    )
    dates = known["decision_date"]
    is_recent = pl.col("decision_date").dt.offset_by(f"{_RECENT_DAYS}d") > dates.max()
    return fit_world_model(
        training,
        validation,
        encoder,
        config or choose_training(training.height),
        segment="lifecycle",
        calibrated_on=validation.select(is_recent).to_series(),
        notes={"first_date": str(dates.min()), "last_date": str(dates.max())},
        checkpoints=checkpoints,
        progress=progress,
    )


def choose_training(n_rows: int) -> TrainingConfig:
    """Return how a network is trained on so many rows.

    Few rows get fewer units, smaller batches and more passes: below 1,600 steps chains are still
    on their way.
    """
    is_many = n_rows >= _MANY
    batch = _BATCHES[is_many]
    n_epochs = min(max(-(-_FEWEST_STEPS * batch // max(1, n_rows)), _EPOCHS[0]), _EPOCHS[1])
    return TrainingConfig(hidden=(_UNITS[is_many],), n_epochs=n_epochs, batch_size=batch)


def prepare_days(days: pl.DataFrame, attributes: Sequence[str]) -> pl.DataFrame:
    """Return customer_days with what the encoder reads beside them: weekday, attributes."""
    return days.with_columns(
        pl.col("decision_date").dt.strftime("%a").alias("weekday"),
        *(
            pl.col("attributes").str.json_path_match(f"$['{name}']").alias(_ATTRIBUTE + name)
            for name in attributes
        ),
    )


def infer_beliefs(model: WorldModel, version: str, days: pl.DataFrame) -> pl.DataFrame:
    """Infer what a world model believes of customer-days, and how plausible they are.

    Parameters
    ----------
    model
        Frozen.
    version
        Registered; goes into every row.
    days
        Rows of customer_days.

    Returns
    -------
    pl.DataFrame
        customer_id, decision_date, version, belief, plausibility, in the order of ``days``.
    """
    prepared = prepare_days(days, _list_attributes(model.encoder))
    belief = model.believe(prepared)
    return days.select("customer_id", "decision_date").with_columns(
        pl.lit(version).alias("version"),
        pl.Series("belief", belief, dtype=pl.Array(pl.Float32, model.n_belief)).arr.to_list(),
        pl.Series("plausibility", model.judge(prepared, prepared["lifecycle"]), dtype=pl.Float64),
    )


def count_implausible(beliefs: pl.DataFrame) -> pl.DataFrame:
    """Return, per version, how many days are odder than one in a hundred, and whether too many.

    By chance it is one in a hundred; three times as many say that the log or the customers changed
    since the world model was trained.

    Parameters
    ----------
    beliefs
        Of one night.

    Returns
    -------
    pl.DataFrame
        version, n_days, share, limit (two standard errors above three in a hundred), is_usual.
    """
    error = (_MOST_IMPLAUSIBLE * (1 - _MOST_IMPLAUSIBLE) / pl.col("n_days")).sqrt()
    return (
        beliefs.group_by("version", maintain_order=True)
        .agg(
            pl.len().alias("n_days"),
            (pl.col("plausibility") <= _LEAST_PLAUSIBLE).mean().alias("share"),
        )
        .with_columns((_MOST_IMPLAUSIBLE + 2 * error).alias("limit"))
        .with_columns((pl.col("share") <= pl.col("limit")).alias("is_usual"))
    )


def explain_staleness(last: date, today: date) -> str:
    """Return why a world model that knows days until ``last`` is too old; empty if it isn't."""
    age = (today - last).days
    if age <= STALE_DAYS:
        return ""
    return f"the world model knows days until {last}, {age} days ago (at most {STALE_DAYS})"


def _list_attributes(encoder: Encoder) -> list[str]:
    """Return the attributes that an encoder reads."""
    return [
        each.name.removeprefix(_ATTRIBUTE)
        for each in encoder.columns
        if each.name.startswith(_ATTRIBUTE)
    ]
