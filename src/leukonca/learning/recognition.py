"""Which cells of a table a model has seen, under whatever name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from leukonca.cells.framing import Framing
from leukonca.cells.manifest import Manifest
from leukonca.learning.preparation import read_framed
from leukonca.nca.firing import image_id

__all__ = ["identities", "in_groups_of"]


def identities(manifest: Manifest, framing: Framing, *, progress: bool = False) -> npt.NDArray[np.int64]:
    """Return the identity of each picture, int64 [N]; 0 where it cannot be read (no hash is known to be 0).

    Args:
        manifest: The cells; those whose content hash it does not know are read.
        framing: How they are framed, which does not change their identity.
        progress: Whether to show a progress bar.
    """
    hashes = manifest.frame["hash"].to_numpy(dtype=object, copy=True)
    unknown = np.flatnonzero(hashes == "")
    cells = read_framed(manifest.frame["path"].iloc[unknown].tolist(), framing)
    shown = tqdm(cells, total=len(unknown), desc="recognising", unit=" cells", disable=not progress)
    for row, (_, hash_, _) in zip(unknown, shown, strict=True):
        hashes[row] = hash_
    return np.array([image_id(hash_) if hash_ else 0 for hash_ in hashes], dtype=np.int64)


def in_groups_of(frame: pd.DataFrame, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Bool [N]: the cell is of a group that one of the chosen cells is of. Two sets may name groups alike."""
    groups = pd.MultiIndex.from_frame(frame[["source", "group"]])
    related: npt.NDArray[np.bool_] = groups.isin(groups[chosen]) & (frame["group"] != "").to_numpy()
    return related
