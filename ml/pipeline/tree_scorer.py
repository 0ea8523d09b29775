"""Decide: a policy tree's policy, whose offers are worth what was measured in each leaf."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ml.allocation.depths import order_by_depth
from ml.core.actions import ActionSet
from ml.core.contexts import Contexts
from ml.core.errors import ContractError, SupportError
from ml.core.programme import Programme
from ml.interactors.encoders import TEXT_ENCODERS, TEXT_PACKAGES
from ml.interactors.policy_tree import PolicyTree, read_tree, write_tree
from ml.pipeline.learn import limit_offers, set_up_policy
from ml.pipeline.policies import TREE, BudgetedPolicy, Scorer, Scores, UpliftScorer
from ml.pipeline.representation import InteractorReader, load_reader, save_reader
from ml.pipeline.snapshots import Snapshot
from ml.pipeline.tree_policy import measure_actions, predict_by_tree
from ml.uplift.heads import Effects


@dataclass(frozen=True)
class TreeScorer:
    """Net value per customer and action by the leaf that the customer's interactors lead to.

    What offers bring after the learning horizon, guardrails and pruning are ``uplift``'s; caution
    isn't asked of leaves, which were measured on customers who chose none of them. The tree
    knows kinds of offers; ``value_ratio`` and ``cost_ratio``, shape (K,), say how much of its
    kind's effect each action has (``measure_actions``).
    """

    uplift: UpliftScorer
    tree: PolicyTree
    reader: InteractorReader
    actions: ActionSet
    value_ratio: np.ndarray
    cost_ratio: np.ndarray

    @property
    def kind(self) -> str:
        """Name in reports."""
        return TREE

    @property
    def belief_version(self) -> str | None:
        """Of its reader, or of the heads that it stands on."""
        return self.reader.belief_version or self.uplift.belief_version

    @property
    def needs_histories(self) -> bool:
        """Whether it asks of histories."""
        return self.reader.needs_histories

    def stand_on(self, uplift: UpliftScorer) -> "TreeScorer":
        """Return it on other heads."""
        return replace(self, uplift=uplift)

    def score(self, contexts: Contexts) -> Scores:
        """Score by what was measured in the leaf, less its cost there."""
        asked = self.reader.read(contexts, self.tree.names)
        value, cost, is_known = predict_by_tree(
            self.tree, asked, self.actions, (self.value_ratio, self.cost_ratio)
        )
        depths, nothing = self.uplift.guardrails.depths, np.zeros_like(value)
        value = order_by_depth(value, depths, is_known)
        cost = order_by_depth(cost, depths, is_known)
        effects = Effects(np.zeros(len(value)), value, cost, nothing, nothing, is_known)
        whole = value + self.uplift.later_effect
        return self.uplift.weigh_pairs(contexts, effects, whole=whole, bound=whole)


def fit_tree_policy(
    snapshot: Snapshot,
    base: BudgetedPolicy,
    tree: PolicyTree,
    reader: InteractorReader,
    *,
    programme: Programme,
) -> BudgetedPolicy:
    """Make a policy of a tree that was grown and measured on training customers.

    Parameters
    ----------
    snapshot
        Matured decisions, with histories where the tree asks of them.
    base
        A policy with heads, which it stands on.
    tree
        Of ``read_interactors``.
    reader
        Of its interactors.
    programme
        Budget and floor.

    Returns
    -------
    BudgetedPolicy
        Its cut solved on the training customers' decisions: a candidate like any other.

    Raises
    ------
    ContractError
        If the base has no heads, or offers that the tree doesn't know.
    SupportError
        If the tree asks nothing, or tree and heads need beliefs of different world models.
    """
    uplift, logged = base.scorer.uplift, snapshot.training
    if uplift is None:
        raise ContractError(f"a {base.kind} policy has no heads to stand on: run weekly_training")
    asked = tree.keep_asked()
    if not asked.names:
        raise SupportError("the tree asks nothing: one rule for everybody needs no tree")
    own = reader.narrow(asked.names)
    if own.belief_version and uplift.belief_version not in (None, own.belief_version):
        raise SupportError(
            f"the tree asks of beliefs of world model {own.belief_version}, the heads of "
            f"{uplift.belief_version}: run weekly_training"
        )
    ratios = measure_actions(logged, base.actions)
    scorer = limit_offers(TreeScorer(uplift, asked, own, base.actions, *ratios), snapshot)
    encoding = replace(programme, attributes=base.attributes)
    return set_up_policy(scorer, snapshot, programme=encoding, actions=base.actions)


def save_tree(tree: PolicyTree, reader: InteractorReader, folder: Path) -> None:
    """Write a tree and what reads its interactors: JSON and safetensors, no pickle."""
    save_reader(reader, folder)
    (folder / "tree.json").write_text(write_tree(tree))


def load_tree(folder: Path) -> tuple[PolicyTree, InteractorReader]:
    """Read what ``save_tree`` wrote."""
    return read_tree((folder / "tree.json").read_text()), load_reader(folder)


def list_requirements(scorer: Scorer) -> list[str]:
    """Return the packages that a tree's representation needs beside torch."""
    own = scorer.reader.representation if isinstance(scorer, TreeScorer) else None
    return list(TEXT_PACKAGES) if own is not None and own.name in TEXT_ENCODERS else []
