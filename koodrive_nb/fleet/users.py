"""Lists of users: each once, checked, and a sample that is the same whenever it is drawn."""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.columns import STRING
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable


def listed(user_ids: object, call: str) -> pd.DataFrame:
    """Give the table of users with each id once, checked, in its first row.

    Raises:
        InvalidParameterError: There is no column of ids, or an id is not fit.
    """
    is_table = isinstance(user_ids, dict) or hasattr(user_ids, "columns")
    ids: list[object]
    if isinstance(user_ids, pd.DataFrame) and list(user_ids.columns).count("user_id") == 1:
        ids, table = [*user_ids["user_id"]], user_ids
    elif is_table or isinstance(user_ids, (str, bytes)) or not hasattr(user_ids, "__iter__"):
        raise InvalidParameterError(
            f"{call}() takes a list of user ids, or a pandas DataFrame with one column user_id; "
            "for one user, use client.for_user(user_id) or a list of one."
        )
    else:
        ids = [*user_ids]
        table = pd.DataFrame(index=range(len(ids)))
    checked = [
        settings.checked_id(user_id, f"user id at position {place}")
        for place, user_id in enumerate(ids)
    ]
    column = pd.Series(checked, dtype=STRING)
    is_first = ~column.duplicated().to_numpy()
    listed = table[is_first].reset_index(drop=True)
    return listed.assign(user_id=column[is_first].reset_index(drop=True))


def sampled(users: pd.DataFrame, sample: int | None, seed: int) -> pd.DataFrame:
    """Give `sample` of the users, or all where there are no more, drawn by a hash of their ids.

    Whoever is drawn depends on the seed and the ids alone, not on their order; a larger sample of
    the same seed holds the smaller one.

    Source: bottom-k sampling by SHA-256.

    Raises:
        InvalidParameterError: `sample` is no whole number from 1, or `seed` is none.
    """
    if sample is not None and not settings.is_whole(sample, 1):
        raise InvalidParameterError("sample= takes a whole number of users, from 1.")
    if not settings.is_whole(seed):
        raise InvalidParameterError("seed= takes a whole number, the same for the same sample.")
    if sample is None or sample >= len(users):
        return users
    ids = users["user_id"]
    ranks = np.fromiter((_rank(user_id, seed) for user_id in ids), np.uint64, len(ids))
    last = np.partition(ranks, sample - 1)[sample - 1]
    drawn = np.flatnonzero(ranks < last)
    # The hashes are cut, so that two may be equal: then the ids decide.
    tied = np.flatnonzero(ranks == last)
    tied = tied[ids.iloc[tied].argsort().to_numpy()][: sample - len(drawn)]
    return users.iloc[np.sort([*drawn, *tied])].reset_index(drop=True)


def digest(ids: Iterable[str], others: pd.DataFrame) -> str:
    """Tell one list of users from another, without naming anybody."""
    found = hashlib.sha256()
    for text in itertools.chain(others.columns, [""], ids):
        found.update(f"{text}\n".encode())
    for name in others.columns:
        found.update(pd.util.hash_pandas_object(others[name], index=False).to_numpy().tobytes())
    return found.hexdigest()


def _rank(user_id: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {user_id}".encode()).digest()[:8])
