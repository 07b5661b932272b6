"""What clients write about a backup: JSON as text, none at all, or text that is cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from koodrive_nb.sandbox.fleet import PROPERTIES
from koodrive_nb.sandbox.habits import RHYTHMS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from koodrive_nb.sandbox.fleet import Fleet

_MISSING, _EMPTY, _MALFORMED, _ = range(len(PROPERTIES))
_CUT_AFTER = 20


def texts(fleet: Fleet, rows: NDArray[np.int64]) -> pa.Array:
    """Give the properties of these records, as they were sent."""
    records = fleet.records
    kind = records.properties[rows]
    is_manual = fleet.devices.rhythm[records.device[rows]] == list(RHYTHMS).index("manual")
    pieces: list[Any] = [
        '{"fileCount":',
        pa.array(records.files[rows]).cast(pa.string()),
        ',"totalSize":',
        pa.array(records.size[rows]).cast(pa.string()),
        ',"trigger":"',
        pc.if_else(pa.array(is_manual), "manual", "auto"),
        '","net":"',
        pc.if_else(pa.array(records.is_mobile[rows]), "mobile", "wifi"),
        '"}',
        "",
    ]
    told = pc.binary_join_element_wise(*pieces)
    told = pc.if_else(
        pa.array(kind == _MALFORMED), pc.utf8_slice_codeunits(told, 0, _CUT_AFTER), told
    )
    told = pc.if_else(pa.array(kind == _EMPTY), "{}", told)
    return pc.if_else(pa.array(kind == _MISSING), pa.scalar(None, pa.string()), told)
