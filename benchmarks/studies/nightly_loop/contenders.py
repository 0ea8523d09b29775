"""Who decides the nights: the system, and what it is measured against."""

import copy
import time
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
import polars as pl

from benchmarks.studies.nightly_loop.marts import LoopMarts
from ml.allocation.budget import cut_probabilities, solve_budget
from ml.core.actions import ActionSet
from ml.core.hashing import hash_uniform
from ml.pipeline.decide import Challenger, Night, decide_night, to_contract
from ml.pipeline.identify import check_randomisation, is_randomisation_sound
from ml.pipeline.learn import fit_candidate, fit_lifecycle_rule
from ml.pipeline.monitor import WINDOW_DAYS
from ml.pipeline.online import judge_arms
from ml.pipeline.policies import BudgetedPolicy
from ml.pipeline.recalibrate import recalibrate_policy
from ml.pipeline.snapshots import Snapshot, take_snapshot
from ml.pipeline.updates import RECALIBRATION, REST_DAYS, TRAINING, Update
from ml.pipeline.validate import evaluate_candidate
from ml.simulate.dynamics import eligible_actions
from ml.simulate.truth import compute_truth
from ml.simulate.world import World, WorldState


@dataclass(frozen=True)
class Gate:
    """What a training came to."""

    night: int
    is_passed: bool
    difference: float
    low: float

    def __str__(self) -> str:
        """Say it in a few words."""
        verdict = "promoted" if self.is_passed else "refused"
        return f"day {self.night} {verdict} ({self.difference:+.3f}, low {self.low:+.3f})"


class Contender(Protocol):
    """Decides one night."""

    name: str

    def decide(self, world: World, state: WorldState, marts: LoopMarts) -> pl.DataFrame:
        """Return the night's ``assignments``; ``marts`` hold what was delivered so far."""
        ...


class NeverSend:
    """Nobody gets anything."""

    name = "never_send"

    def decide(self, world: World, state: WorldState, marts: LoopMarts) -> pl.DataFrame:
        """Decide no-offer."""
        return world.decide_nothing(state)


class RandomOffers:
    """Due customers get random eligible offers, as many as the budget pays in expectation."""

    name = "random"

    def decide(self, world: World, state: WorldState, marts: LoopMarts) -> pl.DataFrame:
        """Decide by chance; the share of offers follows from their true mean cost."""
        rows, eligible = _decidable(world, state)
        cost = compute_truth(world, state, rows).cost.astype(float)
        uniform = eligible / eligible.sum(axis=1, keepdims=True)
        budget = world.config.budget_per_decision * len(rows)
        share = min(1.0, budget / max(float((uniform * cost).sum()), 1e-9))
        policy = share * uniform
        policy[:, 0] += 1 - share
        return _log(world, state, rows, policy, self.name)


class Oracle:
    """Knows every expected value and cost until the next decision; myopic, as it looks no further.

    Its budget holds in expectation.
    """

    name = "oracle"

    def decide(self, world: World, state: WorldState, marts: LoopMarts) -> pl.DataFrame:
        """Decide by the knapsack on the truth."""
        rows, eligible = _decidable(world, state)
        truth = compute_truth(world, state, rows)
        cost = truth.cost_effect.astype(float)
        net = truth.value_effect.astype(float) - cost
        allowed = eligible & (net > 0)
        allowed[:, 0] = True
        budget = world.config.budget_per_decision * len(rows)
        cut = solve_budget(net, cost, allowed, budget=budget)
        return _log(world, state, rows, cut_probabilities(net, cost, allowed, cut=cut), self.name)


class FixedPolicy:
    """A policy that never learns again; its budget's cut is solved every night."""

    def __init__(self, name: str, policy: BudgetedPolicy) -> None:
        self.name, self._policy = name, policy

    def decide(self, world: World, state: WorldState, marts: LoopMarts) -> pl.DataFrame:
        """Decide as the pipeline does."""
        features = marts.build_features(state.day)
        return decide_by(self._policy, self.name, features, world, state, marts.actions)


class Updater(Protocol):
    """Chooses when the system learns anew."""

    def choose(self, system: "System", world: World, state: WorldState, marts: LoopMarts) -> Update:
        """Return what to run before the night is decided."""
        ...


class Weekly:
    """Trains every week."""

    def choose(self, system: "System", world: World, state: WorldState, marts: LoopMarts) -> Update:
        """Return a training a week after the last gate."""
        is_due = state.day - system.gates[-1].night >= REST_DAYS
        return Update(TRAINING if is_due else None, "a week has passed")


class System:
    """The pipeline itself: learns on its log, promotes what the gate lets through.

    ``updates`` holds the jobs that ran and their seconds of the processor.
    """

    def __init__(self, world: World, name: str = "system") -> None:
        self.name = name
        self._world, self._programme = world, world.config.programme
        self.updater: Updater = Weekly()
        self.champion: BudgetedPolicy | None = None
        self.candidate: BudgetedPolicy | None = None
        self.rule: BudgetedPolicy | None = None
        self.gates: list[Gate] = []
        self._log: list[pl.DataFrame] = []
        self._accounted: pl.DataFrame | None = None
        self._awaiting: dict[int, tuple[pl.DataFrame, pl.DataFrame]] = {}
        self._version, self._versions = 0, 0
        self.arms: list[pl.DataFrame] = []
        self.judged_on: Snapshot | None = None
        self.updates: list[tuple[str, float]] = []
        self._replaced: Challenger | None = None
        self._is_compared = False

    def branch(self) -> "System":
        """Return a copy whose future is its own."""
        other = copy.copy(self)
        other.gates, other._log, other.arms = list(self.gates), list(self._log), list(self.arms)
        other._awaiting, other.updates = dict(self._awaiting), list(self.updates)
        return other

    def remember(self, decisions: pl.DataFrame, features: pl.DataFrame, day: int) -> None:
        """Keep a day's decisions with the features they were taken on."""
        self._awaiting[day] = decisions, features

    def mature(self, marts: LoopMarts, night: int) -> None:
        """Add what matured on a night to the log: it is in the next training, not in tonight's."""
        day = night - self._programme.matured_after_days
        if day in self._awaiting:
            decisions, features = self._awaiting.pop(day)
            outcomes = marts.build_outcomes(decisions, day)
            self._log.append(outcomes.join(features, on="customer_id", how="inner"))

    def account(self, marts: LoopMarts, night: int) -> None:
        """Note outcomes over the accounting horizon as of a night: the next training reads them."""
        if self._log:
            self._accounted = marts.account(pl.concat(self._log), night)

    def read_log(self) -> pl.DataFrame:
        """Return what has matured, with the accounting horizon's outcomes as of the last note."""
        log = pl.concat(self._log)
        if self._accounted is None:
            return log
        return log.join(self._accounted, on="decision_id", how="left", maintain_order="left")

    def train(self, night: int, marts: LoopMarts) -> None:
        """Fit a candidate on what had matured before the night and let the gate decide."""
        programme, actions = self._programme, marts.actions
        snapshot = take_snapshot(self.read_log(), programme=programme, actions=actions)
        if self.champion is None:
            self.rule = fit_lifecycle_rule(snapshot, programme=programme, actions=actions)
            self.champion, self._version, self._versions = self.rule, 1, 1
        self._judge(fit_candidate(snapshot, programme=programme, actions=actions), snapshot, night)

    def recalibrate(self, night: int, marts: LoopMarts) -> None:
        """Calibrate the champion on the newest weeks that matured; the gate decides on them."""
        if self.champion is None:
            raise AssertionError("training sets a champion")
        programme, actions = self._programme, marts.actions
        since = self._world.date_of(night - programme.matured_after_days - WINDOW_DAYS)
        recent = self.read_log().filter(pl.col("decision_date") >= since)
        snapshot = take_snapshot(recent, programme=programme, actions=actions)
        mended = recalibrate_policy(self.champion, snapshot, programme=programme)
        self._judge(mended, snapshot, night)

    def _judge(self, candidate: BudgetedPolicy, snapshot: Snapshot, night: int) -> None:
        """Let the gate decide about a candidate."""
        programme = self._programme
        if self.champion is None:
            raise AssertionError("training sets a champion")
        checks = check_randomisation(
            snapshot.everything, actions=candidate.actions, programme=programme
        )
        self.candidate = candidate
        self._versions += 1
        record = evaluate_candidate(
            snapshot,
            candidate=candidate,
            champion=self.champion,
            programme=programme,
            candidate_version=str(self._versions),
            champion_version=str(self._version),
            candidate_hash="-",
            training_date=self._world.date_of(night - 1),
            gate_number=1 + self._count_gates(),
            is_randomisation_sound=is_randomisation_sound(checks),
        ).record.row(0, named=True)
        gate = Gate(
            night, record["is_passed"], record["net_value_difference"], record["difference_low"]
        )
        self.gates.append(gate)
        if gate.is_passed:
            self._replaced = Challenger(self.champion, str(self._version))
            self._is_compared = False
            self.champion, self._version = candidate, self._versions
            self.judged_on = snapshot

    def _count_gates(self) -> int:
        """Return how many gates the present champion has met."""
        passed = [number for number, gate in enumerate(self.gates, start=1) if gate.is_passed]
        return len(self.gates) - (passed[-1] if passed else 0)

    def decide(self, world: World, state: WorldState, marts: LoopMarts) -> pl.DataFrame:
        """Update if it is due, then decide the night."""
        if not self.gates:
            self.train(state.day, marts)
        job = self.updater.choose(self, world, state, marts).job
        if job is not None:
            started = time.process_time()
            update = self.recalibrate if job == RECALIBRATION else self.train
            update(state.day, marts)
            self.updates.append((job, time.process_time() - started))
        if self.champion is None:
            raise AssertionError("training sets a champion")
        self._validate_online(world.date_of(state.day))
        features = marts.build_features(state.day)
        night = _decide(
            self.champion,
            str(self._version),
            features,
            world,
            state,
            marts.actions,
            challenger=self._find_challenger(),
        )
        self.arms.append(night.assignments)
        decisions = to_contract(night.assignments, self._programme)
        self.remember(decisions, features, state.day)
        self.mature(marts, state.day)
        if state.day + 1 - self.gates[-1].night >= REST_DAYS:
            self.account(marts, state.day)
        return decisions

    def _find_challenger(self) -> Challenger | None:
        """Return the policy that the champion replaced, while the two are compared."""
        if self._replaced is None or self._is_compared:
            return None
        return self._replaced

    def _validate_online(self, night: date) -> None:
        """Judge the champion's arm by what has matured; take the champion back if it harms."""
        challenger = self._find_challenger()
        if challenger is None or not self.arms:
            return
        pair = (pl.col("policy_version") == str(self._version)) & (
            pl.col("challenger_version") == challenger.version
        )
        arms = pl.concat(self.arms).filter(pair)
        outcomes = pl.concat(self._log, how="diagonal").select(
            "decision_id", (pl.col("value") - pl.col("cost")).alias("net_value")
        )
        row = judge_arms(
            arms.join(outcomes, on="decision_id"),
            champion_version=str(self._version),
            challenger_version=challenger.version,
            since=min(arms["decision_date"].to_list(), default=night),
            night=night,
        ).row(0, named=True)
        self._is_compared = row["status"] != "running"
        if row["status"] == "harmful":
            self.champion, self._version = challenger.policy, int(challenger.version)
            self._replaced = None


class Replay:
    """The system's decisions as they were sealed elsewhere."""

    name = "system"

    def __init__(self, tables: dict[int, pl.DataFrame]) -> None:
        self._tables = tables

    def decide(self, world: World, state: WorldState, marts: LoopMarts) -> pl.DataFrame:
        """Return the night's sealed decisions."""
        return self._tables[state.day]


class Shadow:
    """Follows sealed decisions while the direct path decides beside them, and counts the gap."""

    name = "system"

    def __init__(self, system: System, tables: dict[int, pl.DataFrame]) -> None:
        self._system, self._tables = system, tables
        self.n_compared = self.n_differing = 0

    def decide(self, world: World, state: WorldState, marts: LoopMarts) -> pl.DataFrame:
        """Compare the night's two tables row by row, return the sealed one."""
        sealed = self._tables[state.day].sort("decision_id")
        own = self._system.decide(world, state, marts).sort("decision_id")
        columns = ["decision_id", "action_id", "propensity"]
        same = sealed.select(columns).join(own.select(columns), on=columns, how="semi").height
        self.n_compared += sealed.height
        self.n_differing += max(sealed.height, own.height) - same
        return sealed


def decide_by(
    policy: BudgetedPolicy,
    version: str,
    features: pl.DataFrame,
    world: World,
    state: WorldState,
    catalogue: ActionSet,
) -> pl.DataFrame:
    """Return a night's ``assignments`` by a policy, through the pipeline's own decision."""
    night = _decide(policy, version, features, world, state, catalogue)
    return to_contract(night.assignments, world.config.programme)


def _decide(
    policy: BudgetedPolicy,
    version: str,
    features: pl.DataFrame,
    world: World,
    state: WorldState,
    catalogue: ActionSet,
    *,
    challenger: Challenger | None = None,
) -> Night:
    return decide_night(
        features,
        policy=policy,
        policy_version=version,
        catalogue=catalogue,
        programme=world.config.programme,
        decision_date=world.date_of(state.day),
        challenger=challenger,
    )


def _decidable(world: World, state: WorldState) -> tuple[np.ndarray, np.ndarray]:
    """Return who is decided on and which actions may reach them."""
    people = world.population.people
    rows = np.flatnonzero(world.due(state) & ~people.is_holdout)
    eligible = eligible_actions(people.take(rows), state.customers.take(rows), world.channel_of)
    return rows, eligible


def _log(
    world: World, state: WorldState, rows: np.ndarray, policy: np.ndarray, name: str
) -> pl.DataFrame:
    """Draw a policy's actions and log them."""
    keys = world.population.customer_id[rows] + f":{state.day}"
    taken = world.draw(policy, hash_uniform(keys, salt=f"{name}-{world.config.seed}"))
    return world.log_decisions(state, rows, taken, policy, arm=name, policy_version=name)
