"""Tokens end to end: a bakery whose customers read and click, its planted drivers looked for."""

from dataclasses import replace

import numpy as np
import polars as pl
import torch
from scipy import sparse

from benchmarks.studies.effects.judging import value_effects
from benchmarks.studies.effects.logs import KnownLog, draw_log
from ml.interactors.encoders import (
    BagEncoder,
    Encoder,
    PhraseEncoder,
    SequenceSettings,
    TextEncoder,
    load_text_model,
    train_sequence_encoder,
)
from ml.interactors.histories import Histories, find_newest, learn_vocabulary, read_histories
from ml.interactors.policy_tree import TreeSettings, grow_tree
from ml.interactors.search import SearchSettings
from ml.pipeline.candidates import (
    AttributeReader,
    Candidates,
    Codes,
    fit_attributes,
    join_candidates,
    learn_codes,
)
from ml.pipeline.find_interactors import (
    MEASURING,
    SEARCHED,
    TEACHING,
    InteractorSettings,
    find_interactors,
    score_options,
    split_roles,
)
from ml.pipeline.learn import fit_candidate
from ml.pipeline.policies import UpliftScorer
from ml.pipeline.tree_policy import measure_actions, predict_by_tree
from ml.simulate.worlds import find_world
from ml.uplift.fitting import LearningSettings

ENCODERS = ("bag", "phrases", "sequence", "text", "attributes")
"""The last stands for whatever knows no tokens: what customers are and did, the belief's inputs."""
N_DECISIONS, N_QUICK = 440_000, 30_000
"""Of training customers: three fifths of them are searched, which leaves some 200,000 decisions
between a coupon and no offer."""
_WORLD = "bakery_readers"
_LEAST_CORRELATION = 0.7
_RIDGE = 1.0
_SETTINGS = InteractorSettings(search=SearchSettings(n_draws=199, relevance=0.1))
_QUICK = InteractorSettings(
    n_coders=2,
    codes=replace(_SETTINGS.codes, n_steps=1_000),
    search=SearchSettings(n_draws=99, relevance=0.1),
)


def run_bakery(seed: int, *, encoder: str, is_quick: bool = False) -> pl.DataFrame:
    """Look for the drivers of coupons' effects through one encoder.

    Parameters
    ----------
    seed
        Of the world.
    encoder
        One of ``ENCODERS``.
    is_quick
        A small log, few steps.

    Returns
    -------
    pl.DataFrame
        seed, encoder, figure, subject, value. 'linear' and 'code': how well a ridge of the vectors
        and the best code correlate with each planted driver, on customers who taught neither;
        'selected': each selected code's largest correlation with one; 'attribute': each selected
        attribute's with what else the world's effects depend on; 'recall', 'decisions'
        searched; with the bag also true net values a decision.
    """
    torch.set_num_threads(1)
    log = draw_log(
        replace(find_world(_WORLD), seed=seed), n_decisions=N_QUICK if is_quick else N_DECISIONS
    )
    settings = _QUICK if is_quick else _SETTINGS
    frame = log.snapshot.training.contexts.frame
    roles = split_roles(frame["customer_id"], settings)
    teaches = roles == TEACHING
    teachers = frame["customer_id"].filter(pl.Series(teaches)).unique()
    vocabulary = learn_vocabulary(
        log.tokens.filter(pl.col("customer_id").is_in(teachers.implode()))
    )
    histories = read_histories(log.tokens, frame, vocabulary=vocabulary)
    if encoder == "text":
        # Some 70 texts a second: each customer's is read once, as of their first decision.
        histories = histories.take(_find_first(frame))
    reader = fit_attributes(log.snapshot.training.contexts)
    attributes = reader.read(log.snapshot.training.contexts)
    planted = _list_planted(log, frame)
    rows: list[tuple[str, str, float]] = []
    if encoder == "attributes":
        vectors = attributes.matrix.toarray()
    else:
        # A vector for each decision, whole: its best linear reading is measured too.
        vectors = _choose_encoder(encoder, histories, frame, teaches, is_quick).encode(histories)
    linear = _read_linearly(vectors, planted.to_numpy().astype(float), teaches)
    rows += [("linear", name, value) for name, value in zip(planted.columns, linear, strict=True)]
    if encoder != "attributes":
        present = histories.take(teaches).find_present()
        codes = learn_codes(
            vectors[teaches], present, vocabulary, settings.codes, n_coders=settings.n_coders
        )
        candidates = join_candidates(attributes, codes.write(vectors))
        selected, found = _search(log, candidates, attributes, planted, roles, settings)
        rows += found
        if encoder == "bag" and selected:
            rows += _value_tree(log, roles, codes, vocabulary, reader, candidates, selected)
    schema = {"figure": pl.String, "subject": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").select(
        pl.lit(seed).alias("seed"), pl.lit(encoder).alias("encoder"), pl.all()
    )


def _choose_encoder(
    name: str, histories: Histories, frame: pl.DataFrame, teaches: np.ndarray, is_quick: bool
) -> Encoder:
    """Return an encoder, taught on the teaching customers' newest histories if it learns at all."""
    if name == "bag":
        return BagEncoder()
    if name in ("phrases", "text"):
        model = load_text_model()
        return PhraseEncoder(model) if name == "phrases" else TextEncoder(model)
    taught = np.flatnonzero(teaches)
    newest = taught[find_newest(frame[taught])]
    settings = SequenceSettings(n_steps=30 if is_quick else 1_500)
    return train_sequence_encoder(histories.take(newest), settings)


def _find_first(frame: pl.DataFrame) -> np.ndarray:
    """Return the row of each row's customer's first decision, shape (n,)."""
    rows = frame.select("customer_id", "decided_at").with_row_index("row")
    first = pl.col("row").sort_by("decided_at").first().over("customer_id")
    return rows.select(first).to_series().to_numpy()


def _list_planted(log: KnownLog, frame: pl.DataFrame) -> pl.DataFrame:
    """Return who tends to each planted interactor, n rows."""
    tokens = log.population.tokens
    names = [each.name for each in find_world(_WORLD).tokens.interactors]
    rows = frame["customer_id"].cast(pl.Int64).to_numpy()
    return pl.DataFrame(tokens.tends[rows][:, : len(names)], schema=names)


def _list_drivers(log: KnownLog, frame: pl.DataFrame) -> pl.DataFrame:
    """Return what else the world's effects depend on, n rows."""
    people = log.population.people
    rows = frame["customer_id"].cast(pl.Int64).to_numpy()
    states = frame.select("decision_id").join(
        log.states.drop("customer_id"), on="decision_id", how="left", maintain_order="left"
    )
    return pl.DataFrame(
        {
            "coupon_response": people.coupon_response[rows],
            "ad_response": people.ad_response[rows],
            "preference": people.preference[rows],
            "annoyance": people.annoyance[rows],
            "has_app": people.has_app[rows],
            **{
                name: states[name].cast(pl.Float64)
                for name in ("is_dormant", "tier", "fatigue", "has_other_offer")
            },
            "has_coupon": (states["offer"] > 0) & ~states["is_redeemed"],
            "age": _read_attribute(frame, "age"),
            "income": _read_attribute(frame, "income"),
        }
    ).cast(pl.Float64)


def _read_attribute(frame: pl.DataFrame, name: str) -> pl.Series:
    return frame["attributes"].str.json_path_match(f"$.{name}").cast(pl.Float64)


def _read_linearly(vectors: np.ndarray, planted: np.ndarray, teaches: np.ndarray) -> list[float]:
    """Return correlations of a ridge's predictions with what it predicts, on other customers."""
    mean, spread = vectors[teaches].mean(axis=0), vectors[teaches].std(axis=0)
    known = (vectors - mean) / np.where(spread > 0, spread, 1)
    own, target = known[teaches], planted[teaches] - planted[teaches].mean(axis=0)
    weights = np.linalg.solve(own.T @ own + _RIDGE * np.eye(own.shape[1]), own.T @ target)
    predicted = known[~teaches] @ weights
    return np.diag(_correlate(sparse.csr_array(predicted), planted[~teaches])).tolist()


def _correlate(columns: sparse.csr_array, others: np.ndarray) -> np.ndarray:
    """Return correlations, shape (s, t), absolute."""
    n = len(others)
    mean = np.asarray(columns.mean(axis=0)).ravel()
    square = np.asarray(columns.multiply(columns).mean(axis=0)).ravel()
    spread = np.sqrt(np.maximum(square - mean**2, 1e-300))
    scaled = (others - others.mean(axis=0)) / np.maximum(others.std(axis=0), 1e-300)
    return np.abs(np.asarray(columns.T @ scaled) / n / spread[:, None])


def _search(
    log: KnownLog,
    candidates: Candidates,
    attributes: Candidates,
    planted: pl.DataFrame,
    roles: np.ndarray,
    settings: InteractorSettings,
) -> tuple[list[int], list[tuple[str, str, float]]]:
    """Search; return what was selected and the table's rows about it."""
    logged, searched = log.snapshot.training, roles == SEARCHED
    coupons = log.actions.select(actions=(), channels=(), families=("coupon",))
    found = find_interactors(
        logged.take(searched), candidates.take(searched), coupons, settings=settings
    )
    n_known = len(attributes.names)
    mine = candidates.matrix[searched]
    truth = planted.to_numpy().astype(float)[searched]
    codes = _correlate(mine[:, n_known:], truth)
    rows = [
        ("code", name, value)
        for name, value in zip(planted.columns, codes.max(axis=0), strict=True)
    ]
    selected = list(found.selected)
    own = [each - n_known for each in selected if each >= n_known]
    known = [each for each in selected if each < n_known]
    rows += [("selected", candidates.names[n_known + each], codes[each].max()) for each in own]
    if known:
        frame = logged.contexts.frame.filter(pl.Series(searched))
        near = _correlate(mine[:, known], _list_drivers(log, frame).to_numpy())
        rows += [
            ("attribute", candidates.names[each], value)
            for each, value in zip(known, near.max(axis=1), strict=True)
        ]
    recall = float((codes[own] >= _LEAST_CORRELATION).any(axis=0).mean()) if own else 0.0
    rows += [("recall", "", recall), ("decisions", "", float(found.n_searched))]
    return selected, rows


def _value_tree(
    log: KnownLog,
    roles: np.ndarray,
    codes: Codes,
    vocabulary: tuple[str, ...],
    reader: AttributeReader,
    candidates: Candidates,
    selected: list[int],
) -> list[tuple[str, str, float]]:
    """Return true net values a decision at the programme's budget: tree, heads, best there is."""
    logged, judged = log.snapshot.training, log.snapshot.evaluation
    scores, rows = score_options(logged, candidates, log.actions)
    names = tuple(candidates.names[each] for each in selected)
    tree, _ = grow_tree(
        scores,
        candidates.matrix[rows][:, selected].toarray(),
        names,
        is_growing=roles[rows] != MEASURING,
        is_log=candidates.is_log[selected],
        settings=TreeSettings(least_decisions=len(rows) // 150),
    )
    histories = read_histories(log.tokens, judged.contexts.frame, vocabulary=vocabulary)
    seen = join_candidates(
        reader.read(judged.contexts), codes.write(BagEncoder().encode(histories))
    )
    asked = seen.matrix[:, [seen.names.index(each) for each in names]].toarray()
    by_tree = predict_by_tree(tree, asked, log.actions, measure_actions(logged, log.actions))
    programme = find_world(_WORLD).programme
    black_box = fit_candidate(
        log.snapshot,
        programme=programme,
        actions=log.actions,
        settings=LearningSettings(n_threads=1),
    )
    if not isinstance(black_box.scorer, UpliftScorer):
        raise AssertionError("fit_candidate fits uplift heads")
    effects = black_box.scorer.predict(judged.contexts)
    return [
        (
            "net_value",
            name,
            value_effects(value, cost, log, per_decision=programme.budget_per_decision),
        )
        for name, value, cost in (
            ("tree", *by_tree[:2]),
            ("heads", effects.value_effect, effects.cost_effect),
            ("oracle", log.value_effect, log.cost_effect),
        )
    ]


def report_bakery(lived: pl.DataFrame) -> dict[str, float]:
    """Print what each encoder knows and finds; return the line's figures."""
    figures: dict[str, float] = {}
    for (encoder,), own in lived.group_by("encoder", maintain_order=True):
        n_seeds = own["seed"].n_unique()
        print(f"\n{encoder}, {n_seeds} seeds: correlation with planted drivers")
        for figure in ("linear", "code"):
            each = (
                own.filter(figure=figure)
                .group_by("subject", maintain_order=True)
                .agg(pl.col("value").mean())
            )
            text = ", ".join(f"{name} {value:.2f}" for name, value in each.iter_rows())
            print(f"  {figure}: {text}")
        for figure in ("selected", "attribute"):
            for seed, name, value in (
                own.filter(figure=figure).select("seed", "subject", "value").iter_rows()
            ):
                print(f"  {figure}, seed {seed}: {name} ({value:.2f})")
        selected = own.filter(figure="selected")["value"].to_numpy()
        if own.filter(figure="recall").height:
            recall = float(own.filter(figure="recall")["value"].to_numpy().mean())
            wrong = float((selected < _LEAST_CORRELATION).mean()) if len(selected) else 0.0
            n = own.filter(figure="decisions")["value"].to_numpy().mean()
            print(
                f"  recall {recall:.3f}, false {wrong:.3f} of {len(selected)} selected codes, "
                f"{n:,.0f} decisions searched"
            )
            figures[f"planted_recall_{encoder}"] = recall
            figures[f"planted_false_{encoder}"] = wrong
        values = own.filter(figure="net_value").pivot("subject", index="seed", values="value")
        if values.height:
            share = (values["tree"] / values["heads"]).to_numpy()
            print(f"  net value a decision: {values}")
            figures["tree_value_share"] = float(share.mean())
    if "planted_recall_bag" in figures:
        figures["planted_recall"] = figures["planted_recall_bag"]
        figures["planted_false"] = figures["planted_false_bag"]
    return figures
