"""Learn: what offers' effects depend on: tokens of histories to codes, searched, read, and a tree.

Reads: lake marts, customer_tokens, training_beliefs, the champion. Writes: lake interactors; MLflow
runs; versions of assignment_policy; reports/interactors-<night>.html.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from ml.core.errors import LiftloopError
from ml.core.schemas import Interactors
from ml.pipeline.snapshots import take_snapshot
from ml.pipeline.validate import count_sent
from ml.plots.interactors import plot_interactors, plot_tree
from orchestration.assets.embedding import embed_figure, explain, tabulate
from orchestration.assets.snapshots import (
    find_training_date,
    newest_night,
    read_matured,
    read_snapshot,
    read_tokens,
)
from orchestration.champions import find_base, tag_candidate
from orchestration.files import write_text
from orchestration.interactor_page import name_unit, render_interactors
from orchestration.lake import Lake, describe
from orchestration.page import Panel
from orchestration.resources import Mlflow, ProgrammeFile, Reports

if TYPE_CHECKING:
    from ml.pipeline.explain_effects import Explained

NEEDED = "the search for interactors needs torch: pip install -c constraints.txt '.[control]'"
EXAMPLES = "Histories in which a code is most active"


class InteractorConfig(dg.Config):
    """What is looked for, and how.

    ``family`` of offers that count as the offer, empty: all; ``relevance``: the least share of the
    effect's root mean square that a driver must move it by; ``n_draws`` of the offers; ``n_steps``
    of each training of codes; ``n_halves`` for stability; ``declares_sufficiency``: candidates
    measure all that modifies the effect, which nobody but you can know; ``encoder`` of histories
    (bag, phrases, text, sequence), or belief.
    """

    encoder: str = "bag"
    family: str = ""
    relevance: float = 0.2
    n_draws: int = 199
    n_steps: int = 4_000
    n_halves: int = 10
    declares_sufficiency: bool = False


@dg.asset(
    deps=[
        "logged_decisions",
        "realised_outcomes",
        "customer_features",
        "customer_tokens",
        "training_beliefs",
    ],
    description=explain(Interactors),
    group_name="learn",
    kinds={"pytorch", "mlflow", "parquet"},
)
def interactors(
    context: dg.AssetExecutionContext,
    config: InteractorConfig,
    lake: Lake,
    programme: ProgrammeFile,
    mlflow: Mlflow,
    reports: Reports,
) -> dg.MaterializeResult:
    """Search what effects depend on, among attributes and codes of histories; measure and draw."""
    if find_spec("torch") is None:
        raise LiftloopError(NEEDED)
    from ml.interactors.search import SearchSettings
    from ml.pipeline.explain_effects import explain_effects
    from ml.pipeline.find_interactors import InteractorSettings
    from ml.pipeline.representation import BELIEF_ENCODER
    from ml.pipeline.tree_scorer import save_tree
    from ml.tracking.registry import PolicyRegistry
    from ml.tracking.runs import track_run

    night = newest_night(lake)
    has_beliefs = config.encoder == BELIEF_ENCODER
    # A tree stands on the champion's heads: where these need beliefs, it asks of the same.
    champion = PolicyRegistry(mlflow.tracking_uri).load_champion()
    belief_version = champion.policy.belief_version if champion is not None else None
    snapshot, actions = read_snapshot(lake, programme, night, has_beliefs=has_beliefs)
    settings, usual = programme.read(), InteractorSettings()
    own = replace(
        usual,
        codes=replace(usual.codes, n_steps=config.n_steps),
        search=SearchSettings(n_draws=config.n_draws, relevance=config.relevance),
    )
    found = explain_effects(
        # The evaluation customers are the gate's.
        snapshot.training,
        read_tokens(lake, until=night),
        _read_outside(lake, until=night),
        family=config.family,
        actions=actions,
        programme=settings,
        settings=own,
        encoder=config.encoder,
        belief_version=belief_version,
        is_randomised=snapshot.fitted is None,
        is_sufficient=config.declares_sufficiency,
        n_halves=config.n_halves,
        progress=context.log.info,
    )
    reading = found.reading
    receipt = lake.write(reading.interactors, "interactors", night, schema=Interactors)
    figures = {
        f"effects_on_{outcome}": plot_interactors(
            reading.interactors, outcome=outcome, unit=name_unit(outcome, settings.currency)
        )
        for outcome in found.findings.by_outcome
    }
    if reading.tree is not None and reading.leaves is not None:
        figures["tree"] = plot_tree(reading.tree, reading.leaves, currency=settings.currency)
    standing = describe_search(found, config)
    tables = {
        "Effects on customers who took no part in the search": _shorten(reading.interactors),
        "The tree's leaves": reading.leaves,
        "By protected group": reading.protected,
        EXAMPLES: found.examples,
        "The search's path": _list_steps(found),
    }

    def write_page(shown: Mapping[str, pl.DataFrame | None]) -> str:
        return render_interactors(
            title=f"What drives effects, as of {night}",
            standing=standing,
            panels=[Panel(name.replace("_", " "), figure) for name, figure in figures.items()],
            tables=shown,
        )

    file = Path(reports.root) / f"interactors-{night}.html"
    write_text(write_page(tables), file)
    with track_run(
        mlflow.tracking_uri,
        experiment=mlflow.experiment,
        name=f"interactors {night}",
        tags={"dagster/run_id": context.run_id, "dagster/asset": "interactors"},
    ) as run:
        run.log_params({**config.model_dump(), "n_searched": found.n_searched})
        run.log_text(write_page(take_shared(tables)), "interactors.html")
        if reading.tree is not None:
            with TemporaryDirectory() as scratch:
                reader = found.reader.narrow(reading.tree.names)
                save_tree(reading.tree, reader, Path(scratch))
                run.log_folder(Path(scratch), "tree")
        for name, figure in figures.items():
            run.log_figure(figure, f"{name}.png")
    return dg.MaterializeResult(
        metadata={
            "mlflow_run": mlflow.link(run.page),
            "page": dg.MetadataValue.path(file),
            "standing": dg.MetadataValue.text("\n".join(standing)),
            "interactors": tabulate(_shorten(reading.interactors)),
            "protected_groups": tabulate(reading.protected),
            **{name: embed_figure(figure) for name, figure in figures.items()},
            **describe([receipt], Interactors),
        },
        data_version=dg.DataVersion(receipt.sha256),
    )


@dg.asset(
    deps=["interactors", "uplift_heads", "randomisation_checks", "training_beliefs"],
    description="The policy tree of the run's search as a candidate for the gate.",
    group_name="learn",
    kinds={"mlflow"},
    pool="mlflow_registry",
    output_required=False,
)
def tree_policy(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile, mlflow: Mlflow
) -> Iterator[dg.MaterializeResult]:
    """Make the tree that this run's search grew the candidate; none if it found nothing to ask."""
    if find_spec("torch") is None:
        raise LiftloopError(NEEDED)
    from ml.pipeline.tree_scorer import fit_tree_policy, load_tree
    from ml.tracking.registry import PolicyRegistry
    from ml.tracking.runs import fetch_folder, track_run

    tree, reader = None, None
    # A run that is taken up where it failed goes on with the search of the first.
    for run_id in (context.run_id, context.run.root_run_id):
        searched = {"dagster/run_id": run_id or "", "dagster/asset": "interactors"}
        with TemporaryDirectory() as scratch:
            folder = fetch_folder(mlflow.tracking_uri, searched, name="tree", scratch=Path(scratch))
            if folder is not None and tree is None:
                tree, reader = load_tree(folder)
    if tree is None or reader is None or not tree.keep_asked().names:
        context.log.warning("nothing was found to ask of: no tree is offered to the gate")
        return
    asked = tree.keep_asked().names
    registry = PolicyRegistry(mlflow.tracking_uri)
    _, base = find_base(registry)
    training_date, settings = find_training_date(lake), programme.read()
    snapshot = take_snapshot(
        read_matured(
            lake,
            training_date,
            has_beliefs=True,
            has_histories=reader.narrow(asked).needs_histories,
        ),
        programme=replace(settings, attributes=base.policy.attributes),
        actions=base.policy.actions,
    )
    candidate = fit_tree_policy(snapshot, base.policy, tree, reader, programme=settings)
    tags = tag_candidate(base, training_date, data_hash=snapshot.data_hash)
    with track_run(
        mlflow.tracking_uri,
        experiment=mlflow.experiment,
        name=f"tree_policy {training_date}",
        tags={"dagster/run_id": context.run_id, "dagster/asset": "tree_policy"},
    ) as run:
        run.log_params(tags)
        registered = registry.register(candidate, programme=settings, tags=tags)
    registry.mark_candidate(registered.version)
    yield dg.MaterializeResult(
        metadata={
            "candidate": registered.version,
            "stands_on": base.version,
            "asks_of": ", ".join(asked),
            "mlflow_run": mlflow.link(run.page),
            "sent": tabulate(count_sent(snapshot.evaluation, {"tree": candidate})),
        },
        data_version=dg.DataVersion(registered.policy_hash),
    )


def take_shared(tables: Mapping[str, pl.DataFrame | None]) -> dict[str, pl.DataFrame | None]:
    """Return the tables that MLflow gets: many read it, so no customer's history goes there."""
    return {name: table for name, table in tables.items() if name != EXAMPLES}


def describe_search(found: "Explained", config: InteractorConfig) -> list[str]:
    """Return what was done and may be said, a line each."""
    reading = found.reading
    offer = f"an offer of the family {config.family}" if config.family else "any offer"
    lines = [
        f"{found.n_searched:,} decisions between {offer} and none were searched, "
        f"{len(found.candidates.names)} candidates for each of "
        f"{', '.join(found.findings.by_outcome)}; that anything is found where nothing is has "
        f"probability 5 % over all of them; a driver must move the effect by at least "
        f"{config.relevance:.0%} of its root mean square (share_low says up to which such share a "
        "finding would stand).",
        _describe_codes(found),
        "Where the log's mix of offers depends on the customer it was made even, by leaving "
        "decisions out at random.",
    ]
    for outcome, words in reading.words.items():
        residual = reading.residuals[outcome]
        if residual is None:
            left = "no customer has two decisions, so whether something is hidden can't be told"
        elif residual.is_proven:
            left = (
                f"something else drives it: customers' effects differ by a further "
                f"{residual.spread:.3f} (standard deviation; p {residual.p_value:.3f}) that no "
                "interactor here explains, so none may be called a cause"
            )
        else:
            left = (
                f"nothing tells of further differences between customers' effects (p "
                f"{residual.p_value:.3f}; at most {residual.spread_high:.3f})"
            )
        lines.append(f"Effect on {outcome}: each is called a {words}; {left}.")
    if not found.findings.selected:
        lines.append("Nothing was found: the effect may be the same for everybody.")
    return lines


def _describe_codes(found: "Explained") -> str:
    if found.taught is None:
        return f"Attributes alone, no codes: {found.why_not}."
    codes, own = found.taught.codes, found.taught.representation
    return (
        f"{len(codes.names)} codes of what represents customers ({own.name}) recur over trainings "
        f"({codes.share_recurring:.0%} of the active ones); they leave {codes.loss:.0%} of its "
        "variance."
    )


def _read_outside(lake: Lake, *, until: date) -> pl.DataFrame:
    """Return the holdout's due dates: customers whom no offer is drawn for."""
    return (
        lake.scan("customer_features", until=until)
        .filter("is_holdout")
        .select("customer_id", pl.col("decision_date").cast(pl.Datetime("us")).alias("decided_at"))
        .collect()
    )


def _shorten(interactors: pl.DataFrame) -> pl.DataFrame:
    return interactors.select(
        "outcome",
        "name",
        "is_selected",
        "p_value",
        "share",
        "share_low",
        "stability",
        "n_offered",
        "n_left",
        "effect_active",
        "effect_inactive",
        "difference",
        "difference_low",
        "difference_high",
        "members",
    )


def _list_steps(found: "Explained") -> pl.DataFrame:
    rows = [
        {
            "outcome": outcome,
            "step": step.kind,
            "candidate": found.candidates.names[step.candidate],
            "statistic": step.statistic,
            "p_value": step.p_value,
            "share": step.share,
            "share_low": step.share_low,
        }
        for outcome, each in found.findings.by_outcome.items()
        for step in each.path
    ]
    return pl.DataFrame(rows)
