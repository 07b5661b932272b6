"""What to call a device, and which family its system belongs to."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb.columns import STRING
from koodrive_nb.privacy import PSEUDONYM


def device_label() -> nw.Expr:
    """Name a device and give the last four digits of its id: names are not unique.

    A pseudonym is given whole: there is no name with it, and four characters are not unique.
    """
    name = nw.col("device_name").fill_null("").str.strip_chars()
    last_four = nw.col("device_id").str.tail(4)
    is_pseudonym = nw.col("device_id").str.contains(f"^{PSEUDONYM.pattern}$")
    return (
        nw.when(nw.col("device_id").is_null())
        .then(nw.lit("(unknown device)"))
        .when((name == "") & is_pseudonym)
        .then(nw.col("device_id"))
        .when(name == "")
        .then(nw.concat_str(nw.lit("(no name) ·"), last_four))
        .otherwise(nw.concat_str(name, nw.lit(" ·"), last_four))
    )


def os_family() -> nw.Expr:
    """Sort the free text of device systems ("iOS 18_2", "HarmonyOS NEXT 5") into families."""
    text = nw.col("device_os").fill_null("").str.strip_chars().str.to_lowercase()
    chain: Any = nw.when(text.is_in(["", "unknown"])).then(nw.lit("unknown"))
    for part, family in (
        ("harmony", "harmonyos"),
        ("android", "android"),
        ("ios", "ios"),
        ("ipad", "ios"),
        ("iphone", "ios"),
        ("windows", "windows"),
        ("mac", "macos"),
        ("linux", "linux"),
    ):
        chain = chain.when(text.str.contains(part, literal=True)).then(nw.lit(family))
    result: nw.Expr = chain.otherwise(nw.lit("other"))
    return result


def label_devices(devices: pd.DataFrame) -> pd.DataFrame:
    """Add to devices what to call them and the family of their system."""
    # Systems are few, however many the devices.
    places, texts = pd.factorize(devices["device_os"], use_na_sentinel=False)
    systems = nw.from_native(pd.DataFrame({"device_os": pd.Series(list(texts), dtype=STRING)}))
    families = systems.select(os_family()).to_native().iloc[:, 0]
    labelled: pd.DataFrame = (
        nw.from_native(devices).with_columns(device_label=device_label()).to_native()
    )
    return labelled.assign(os_family=families.array.take(places))


def devices_of(records: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Give each device of the records once, labelled, and for each record the place of its own.

    Text for each of a million records would cost more than all other analysis of them.
    """
    told = ["device_id", "device_name", "device_os"]
    # Without its index, whose levels may be named as columns are.
    plain = records[told].reset_index(drop=True)
    places = plain.groupby(told, sort=False, dropna=False, observed=True).ngroup().to_numpy()
    _, first = np.unique(places, return_index=True)
    return label_devices(plain.iloc[first]), places
