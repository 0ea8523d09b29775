"""Errors a user can act on: each says what is wrong, where, and what mends it."""


class LiftloopError(Exception):
    """Something the operator can mend; the message says how."""


class ContractError(LiftloopError):
    """A delivery, a table or a configuration breaks the contract it must keep."""


class LandingError(LiftloopError):
    """A landed file is gone or may not be read; its content is not to blame."""


class SupportError(LiftloopError):
    """The log holds too little evidence for what was asked of it."""


class BudgetError(LiftloopError):
    """No assignment can respect the budget."""


class InterferenceError(LiftloopError):
    """Programmes act on each other: their effects can't be added."""


class PromotionError(LiftloopError):
    """A policy may not become, or is not fit to be, the champion."""


class TrackingError(LiftloopError):
    """MLflow does not answer."""


class WarehouseError(LiftloopError):
    """The warehouse can't be opened."""


class SealedNightError(LiftloopError):
    """A sealed night would be changed."""


class ModelError(LiftloopError):
    """A model can't be built, trained or read as asked."""
