"""The registry of candidates: each module here defines LEARNER, and that is all it takes."""

from importlib import import_module
from pkgutil import iter_modules

from ml.core.errors import ContractError
from ml.uplift.ensemble import Learner

LEARNERS: dict[str, Learner] = {
    module.name: import_module(f"{__name__}.{module.name}").LEARNER
    for module in iter_modules(__path__)
}


def find_learner(name: str) -> Learner:
    """Return a learner by its module's name.

    Parameters
    ----------
    name
        Such as 'hurdle'.

    Returns
    -------
    Learner
        The registered one.

    Raises
    ------
    ContractError
        If there is none of that name.
    """
    if name not in LEARNERS:
        raise ContractError(f"no learner '{name}': there are {', '.join(sorted(LEARNERS))}")
    return LEARNERS[name]
