"""Who answers for assets: one owner of the whole loop.

Reads and writes: nothing.
"""

from collections.abc import Sequence

import dagster as dg


def own_assets(
    assets: Sequence[dg.AssetsDefinition], *, owner: str
) -> Sequence[dg.AssetsDefinition]:
    """Return assets with their owner, an e-mail address or team:name."""
    return dg.map_asset_specs(lambda spec: spec.replace_attributes(owners=[owner]), assets)
