"""The command line behind the Makefile: nightly, approve, recalibrate, rollback and others.

Reads: landing, lake. Writes: standard output; the jobs write the rest.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Protocol

import polars as pl
from sqlalchemy.exc import DatabaseError

from ml.core.errors import ContractError, LiftloopError, PromotionError
from orchestration.begun import begin_night, end_night, find_open_night
from orchestration.files import describe_system_error, write_text
from orchestration.holding import hold_home
from orchestration.lake import Lake
from orchestration.media_report import describe_media_mix
from orchestration.settings import REPOSITORY, Settings, prepare_home, read_settings
from orchestration.summary import describe_gate


class Source(Protocol):
    """Something that lands deliveries; the pipeline never knows which."""

    def first_night(self) -> date:
        """Return the first night that can be decided."""
        ...

    def land(self, night: date) -> None:
        """Land everything that is delivered for a night."""
        ...


class LandedSource:
    """The company's own systems deliver; nothing to do here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def first_night(self) -> date:
        """Return the programme's first decision date."""
        return self._settings.programme().first_decision_date

    def land(self, night: date) -> None:
        """Do nothing: the files are there or ingestion says what is missing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors that a user can mend are printed without a traceback."""
    parsed = _build_parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except LiftloopError as error:
        print(f"\nerror: {error}", file=sys.stderr)
    except OSError as error:
        print(f"\nerror: {describe_system_error(error)}", file=sys.stderr)
    except DatabaseError as error:
        print(
            f"\nerror: the records of Dagster or MLflow can't be written ({error.orig}): free "
            "space or grant it, and run the same command again; nothing decided was changed",
            file=sys.stderr,
        )
    return 1


def run_nightly(parsed: argparse.Namespace) -> int:
    """Land, catch up, train if due, decide the night, print its summary."""
    started = time.monotonic()
    settings = read_settings()
    prepare_home(settings)
    source = _open_source(parsed, settings)
    # Fixed before waiting: who asks twice for a night gets that night, not the one after it.
    night = parsed.date or find_open_night(settings) or _next_night(settings, source)
    if night > date.today():
        raise ContractError(f"night {night} has not begun yet")
    # Dagster's part is imported after landing, alerts before: landing may fail too.
    from orchestration.alerts import tell_of_failure

    with (
        hold_home(settings, command=f"nightly for {night}"),
        tell_of_failure(settings, f"nightly {night}"),
    ):
        print(f"> Land: {parsed.source} source, night {night}", flush=True)
        source.land(night)
        # Jobs read the landing folder's first date, so they are imported after landing.
        from orchestration.night import run_night

        asked = begin_night(
            settings, night, is_reissue=parsed.reissue, has_export=parsed.export_csv
        )
        print("\n" + run_night(settings, asked))
        end_night(settings)
    print(
        f"\nDone in {time.monotonic() - started:.0f} s. Look at it: make ui{_home_hint(settings)}"
    )
    return 0


def run_restore(parsed: argparse.Namespace) -> int:
    """Build a lost warehouse from the lake, and lost lake partitions from landing."""
    settings = read_settings()
    prepare_home(settings)
    from orchestration.night import restore

    with hold_home(settings, command="restore"):
        restore(settings)
    print("lake and warehouse hold what landing delivered")
    return 0


def run_approve(parsed: argparse.Namespace) -> int:
    """Promote the candidate that waits for it, its record verified once more."""
    settings = read_settings()
    prepare_home(settings)
    with hold_home(settings, command="approve"):
        _run_alone(settings, "promotion", {"champion": {"config": {"is_approved": True}}})
        lake = Lake(root=str(settings.lake))
        days = lake.dates("promotions")
        decided = lake.read("promotions", days[-1]).row(0, named=True)
    if not decided["is_promoted"]:
        raise PromotionError(decided["reason"])
    print(f"version {decided['champion_version']} decides from the next night on")
    return 0


def run_recalibrate(parsed: argparse.Namespace) -> int:
    """Calibrate the champion on what matured since a drift; the gate decides about it."""
    since = str(parsed.since) if parsed.since else ""
    _run_for_gate("recalibration", {"recalibrated_policy": {"config": {"since": since}}})
    return 0


def run_agent(parsed: argparse.Namespace) -> int:
    """Train an agent on what has matured; the gate decides about it."""
    config = {"agent_policy": {"config": {"n_updates": parsed.updates}}}
    _run_for_gate("agent_training", config)
    return 0


def run_interactors(parsed: argparse.Namespace) -> int:
    """Search what effects depend on, say what was found and where the page is."""
    settings = read_settings()
    prepare_home(settings)
    from orchestration.interactor_page import describe_interactors

    with hold_home(settings, command="interactors"):
        asked = {
            "family": parsed.family,
            "relevance": parsed.relevance,
            "n_steps": parsed.steps,
            "n_halves": parsed.halves,
            "declares_sufficiency": parsed.declare_sufficiency,
            "encoder": parsed.encoder,
        }
        job = "tree_training" if parsed.candidate else "interactor_search"
        lake = Lake(root=str(settings.lake))
        before = _read_record(lake)
        _run_alone(settings, job, {"interactors": {"config": asked}})
        night = lake.dates("interactors")[-1]
        found = lake.read("interactors", night)
        record = _read_record(lake)
        is_judged = record is not None and (before is None or not record.equals(before))
        decided = _say_gate(settings, lake) if is_judged else ""
    print("\n".join(describe_interactors(found)))
    print(f"{settings.reports / f'interactors-{night}.html'} explains it")
    print(decided, end="")
    return 0


def run_media_mix(parsed: argparse.Namespace) -> int:
    """Fit the media mix on what has matured, print returns and the recommended split."""
    settings = read_settings()
    prepare_home(settings)
    with hold_home(settings, command="media-mix"):
        config = {"fit_media_mix": {"config": {"n_draws": parsed.draws}}}
        _run_alone(settings, "media_mix_fit", config)
        lake = Lake(root=str(settings.lake))
        print("\n" + "\n".join(describe_media_mix(lake, settings.programme())))
    return 0


def run_rollback(parsed: argparse.Namespace) -> int:
    """Take the champion back to the version that it replaced, or to a named one."""
    settings = read_settings()
    prepare_home(settings)
    config = {"version": parsed.version or "", "reason": parsed.reason}
    with hold_home(settings, command="rollback"):
        _run_alone(settings, "rollback", {"withdraw_champion": {"config": config}})
    return 0


def run_freeze(parsed: argparse.Namespace) -> int:
    """Make every night from now on no-offer only."""
    from orchestration.freezing import freeze

    settings = read_settings()
    if not settings.programme_file.exists():
        raise ContractError(f"{settings.home} holds no programme: nothing to freeze")
    standing = freeze(settings.freeze_file, reason=parsed.reason)
    print(
        f"frozen since {standing.since} ({standing.reason}): nights that are not sealed yet send "
        "nobody anything; make unfreeze lifts it"
    )
    return 0


def run_unfreeze(parsed: argparse.Namespace) -> int:
    """Lift the freeze."""
    from orchestration.freezing import unfreeze

    lifted = unfreeze(read_settings().freeze_file)
    if lifted is None:
        print("nothing was frozen")
    else:
        print(f"frozen since {lifted.since} ({lifted.reason}): lifted; the next night decides")
    return 0


def run_erase(parsed: argparse.Namespace) -> int:
    """Erase a customer everywhere and build what was made from their rows anew."""
    settings = read_settings()
    prepare_home(settings)
    from ml.tracking.runs import check_tracking
    from orchestration.erasure import end_erasure, erase_customer
    from orchestration.night import restore

    with hold_home(settings, command="erase"):
        # Before anything is erased: building anew needs it.
        check_tracking(settings.tracking_uri)
        erased = erase_customer(settings, parsed.customer)
        print(f"> Erased {erased.n_rows:,} rows in {erased.n_files:,} files", flush=True)
        restore(settings)
        end_erasure(settings, erased.ids)
    for path in erased.unreadable:
        print(f"  can't be searched: {path}; delete it if it may hold the customer")
    others = "no other file" if erased.unreadable else "no file"
    print(f"{others} and no table mentions the customer any more")
    return 0


def run_validate(parsed: argparse.Namespace) -> int:
    """Check a delivery against the contract, without loading it."""
    from ml.contract.files import is_landing_file
    from ml.contract.screening import NOTHING_KNOWN
    from ml.contract.tables import CONTRACT
    from ml.pipeline.identify import screen_night

    settings = read_settings()
    folder = Path(parsed.input)
    if not folder.is_dir():
        raise ContractError(f"{folder} is no folder: lay the delivery out as <table>/<file>")
    files = {
        table: sorted(
            path
            for path in folder.glob(f"{table}/*" if (folder / table).is_dir() else f"{table}.*")
            if path.is_file() and is_landing_file(path)
        )
        for table in CONTRACT
    }
    if not any(files.values()):
        raise ContractError(
            f"{folder} holds no contract table: expected {', '.join(CONTRACT)}, each a file or "
            "folder of that name"
        )
    known = NOTHING_KNOWN
    if settings.programme_file.exists() and (settings.lake / "raw_customers").exists():
        from orchestration.assets.ingestion import read_known

        known = read_known(Lake(root=str(settings.lake)), before=date.max)
    programme = settings.programme() if settings.programme_file.exists() else None
    night = parsed.date or date.today()
    screened = screen_night(files, known=known, programme=programme, night=night)
    for row in screened.counts.filter(pl.col("delivered") > 0).iter_rows(named=True):
        print(
            f"{row['table']:<16}{row['delivered']:>12,} delivered{row['accepted']:>12,} accepted"
            f"{row['quarantined']:>12,} to quarantine"
        )
    refused = screened.quarantined
    for row in refused.head(20).iter_rows(named=True):
        where = row["source_file"] + (f", row {row['row_number']}" if row["row_number"] else "")
        print(f"  {row['table']}, {where}: {'; '.join(row['reasons'])}")
    if refused.height > 20:
        print(f"  and {refused.height - 20:,} more")
    print(
        "nothing was loaded; the delivery " + ("is clean" if refused.is_empty() else "has faults")
    )
    return 0 if refused.is_empty() else 1


def run_world(parsed: argparse.Namespace) -> int:
    """Write a simulated world's files: what a landing folder would hold, and the truth beside."""
    from orchestration.sources.simulated import write_world

    folder = Path(parsed.out)
    if folder.exists() and any(folder.iterdir()):
        raise ContractError(f"{folder} is not empty: choose another OUT")
    n_rows = write_world(
        parsed.world,
        folder,
        n_days=parsed.days,
        n_customers=parsed.customers,
        has_truth=parsed.truth,
    )
    print(f"wrote {n_rows:,} rows of the world {parsed.world} to {folder}")
    return 0


def run_plan_exploration(parsed: argparse.Namespace) -> int:
    """Say how long to explore to detect an effect."""
    from ml.ope.design import plan_exploration

    pairs = [each.partition("=") for each in parsed.propensities.split(",")]
    try:
        propensities = {name: float(value) for name, _, value in pairs}
    except ValueError:
        raise ContractError(
            f"propensities '{parsed.propensities}': write them as no_offer=.4,offer_a=.6"
        ) from None
    plans = plan_exploration(
        propensities,
        effect=parsed.effect,
        standard_deviation=parsed.standard_deviation,
        decisions_per_week=parsed.decisions_per_week,
        power=parsed.power,
    )
    print(
        f"To detect {parsed.effect} per decision (standard deviation {parsed.standard_deviation}) "
        f"with power {parsed.power:.0%} at 95 %:"
    )
    for plan in plans:
        print(
            f"  {plan.action_id:<20} propensity {plan.propensity:.3f}: {plan.n_decisions:>12,} "
            f"decisions, {plan.weeks:.1f} weeks"
        )
    print(f"Explore {max(plan.weeks for plan in plans):.1f} weeks for all of them.")
    return 0


def _run_alone(settings: Settings, job: str, ops: Mapping[str, object]) -> None:
    """Run one job in this process."""
    from orchestration.instance import open_instance
    from orchestration.night import clear_up
    from orchestration.run_jobs import run_job

    with open_instance(settings.dagster_home) as instance:
        clear_up(instance, settings)
        run_job(instance, job, config={"ops": ops})


def _run_for_gate(job: str, ops: Mapping[str, object]) -> None:
    """Run a job that ends at the gate, and print what the gate decided."""
    settings = read_settings()
    prepare_home(settings)
    with hold_home(settings, command=job):
        _run_alone(settings, job, ops)
        print(_say_gate(settings, Lake(root=str(settings.lake))), end="")


def _read_record(lake: Lake) -> pl.DataFrame | None:
    """Return the newest gate's record, None before the first."""
    days = lake.dates("evaluation_record")
    return lake.read("evaluation_record", days[-1]) if days else None


def _say_gate(settings: Settings, lake: Lake) -> str:
    """Return what the gate decided, lines behind an empty one."""
    night = lake.dates("customer_features")[-1]
    return "\n" + "\n".join(describe_gate(lake, settings.programme(), night)) + "\n"


def _open_source(parsed: argparse.Namespace, settings: Settings) -> Source:
    """Return the asked source; a state folder keeps to the one it began with."""
    marker = settings.home / "source"
    if marker.exists() and marker.read_text() != parsed.source:
        raise ContractError(
            f"{settings.home} holds the {marker.read_text()} source: use another HOME_DIR for "
            f"{parsed.source}"
        )
    if parsed.source == "simulated":
        from orchestration.sources.simulated import SimulatedSource

        source: Source = SimulatedSource(
            settings, world=parsed.world, n_customers=parsed.customers, seed=parsed.seed
        )
    elif parsed.source == "hillstrom":
        from orchestration.sources.hillstrom import HillstromSource

        source = HillstromSource(settings, path=Path(parsed.input) if parsed.input else None)
    else:
        source = LandedSource(settings)
    write_text(parsed.source, marker)
    return source


def _next_night(settings: Settings, source: Source) -> date:
    """Return the night after the last sealed one."""
    sealed = Lake(root=str(settings.lake)).dates("assignment_table")
    first = source.first_night()
    return first if not sealed else max(first, sealed[-1] + timedelta(days=1))


def _home_hint(settings: Settings) -> str:
    """Return what to add to a make command for another state folder than the default."""
    return "" if settings.home == REPOSITORY / ".liftloop" else f" HOME_DIR={settings.home}"


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="liftloop", description=__doc__)
    commands = parser.add_subparsers(required=True)
    nightly = commands.add_parser("nightly", help="run the loop for one night")
    nightly.add_argument("--source", choices=("simulated", "hillstrom", "landing"), required=True)
    nightly.add_argument("--input", help="the source's file, for hillstrom")
    nightly.add_argument("--date", type=_parse_date, help="YYYY-MM-DD; default: the next night")
    nightly.add_argument("--world", help="name of a new simulated world; see docs/worlds.md")
    nightly.add_argument("--customers", type=int, help="size of a new simulated world")
    nightly.add_argument("--seed", type=int, help="seed of a new simulated world")
    nightly.add_argument("--reissue", action="store_true", help="redo a sealed night")
    nightly.add_argument("--export-csv", action="store_true", help="write a CSV for the provider")
    nightly.set_defaults(run=run_nightly)
    world = commands.add_parser("world", help="write a simulated world's files")
    world.add_argument("--world", required=True, help="a name of docs/worlds.md")
    world.add_argument("--out", required=True, help="folder; gets a landing folder's layout")
    world.add_argument("--days", type=int, help="days from day 0 on; default: the world's own")
    world.add_argument("--customers", type=int)
    world.add_argument("--truth", action="store_true", help="write each decision's truth beside")
    world.set_defaults(run=run_world)
    validate = commands.add_parser("validate", help="check a delivery without loading it")
    validate.add_argument("--input", required=True)
    validate.add_argument("--date", type=_parse_date, help="its night; default: today")
    validate.set_defaults(run=run_validate)
    erase = commands.add_parser("erase", help="erase a customer from the state folder")
    erase.add_argument("--customer", required=True, help="customer_id as delivered")
    erase.set_defaults(run=run_erase)
    approve = commands.add_parser("approve", help="promote the candidate that waits for it")
    approve.set_defaults(run=run_approve)
    mended = commands.add_parser("recalibrate", help="calibrate the champion on recent nights")
    mended.add_argument("--since", type=_parse_date, help="YYYY-MM-DD; default: four weeks")
    mended.set_defaults(run=run_recalibrate)
    agent = commands.add_parser("agent", help="train an agent that looks beyond the next week")
    agent.add_argument("--updates", type=int, default=600, help="gradient steps of each network")
    agent.set_defaults(run=run_agent)
    drivers = commands.add_parser("interactors", help="search what offers' effects depend on")
    drivers.add_argument("--family", default="", help="of offers; default: any offer")
    drivers.add_argument("--relevance", type=float, default=0.2, help="least share of the effect")
    drivers.add_argument("--encoder", default="bag", help="bag, phrases, text, sequence, belief")
    drivers.add_argument("--candidate", action="store_true", help="offer the tree to the gate")
    drivers.add_argument("--steps", type=int, default=4_000, help="of each training of codes")
    drivers.add_argument("--halves", type=int, default=10, help="half-samples for stability")
    drivers.add_argument("--declare-sufficiency", action="store_true", help="see docs/methods.md")
    drivers.set_defaults(run=run_interactors)
    mixed = commands.add_parser("media-mix", help="fit the media mix, recommend a split")
    mixed.add_argument("--draws", type=int, default=800, help="of each of four chains")
    mixed.set_defaults(run=run_media_mix)
    back = commands.add_parser("rollback", help="take the champion back")
    back.add_argument("--version", help="to this version; default: the one before")
    back.add_argument("--reason", default="asked for by make rollback")
    back.set_defaults(run=run_rollback)
    frozen = commands.add_parser("freeze", help="every following night is no-offer only")
    frozen.add_argument("--reason", default="asked for by make freeze")
    frozen.set_defaults(run=run_freeze)
    lifted = commands.add_parser("unfreeze", help="lift the freeze")
    lifted.set_defaults(run=run_unfreeze)
    restored = commands.add_parser("restore", help="build what is lost from what is left")
    restored.set_defaults(run=run_restore)
    plan = commands.add_parser("plan-exploration", help="how long to explore")
    plan.add_argument("--effect", type=float, required=True)
    plan.add_argument("--standard-deviation", type=float, required=True)
    plan.add_argument("--decisions-per-week", type=float, required=True)
    plan.add_argument("--propensities", required=True, help="no_offer=.4,offer_a=.3,offer_b=.3")
    plan.add_argument("--power", type=float, default=0.8)
    plan.set_defaults(run=run_plan_exploration)
    return parser


def _parse_date(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


if __name__ == "__main__":
    # LightGBM, DuckDB and Polars each bring threads of their own; two cores are shared fairly.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
