"""Whether compiled functions are kept on disk, for the next process."""

import os
from typing import Final

IS_KEPT: Final = bool(os.environ.get("NUMBA_CACHE_DIR"))
"""Only where NUMBA_CACHE_DIR names a folder: numba refuses to start where it can write to none, and
runs what it finds there, so nobody else may write to it."""
