"""What the users of the synthetic fleet call their devices, and how clients spell the systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

GIVEN_SHARE, UNICODE_SHARE, HOSTILE_SHARE = 0.20, 0.03, 0.001
"""Shares of devices named after a person, in other scripts, and to break something. The latter two
violate what the API allows today when a device is bound ([A-Za-z0-9-_\\s], 32 characters); older
and other clients may have written them. All others have the name of their model."""

# Sixty names. The popularity of those of a kind falls as one over the rank (Zipf).
MODELS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("phone", "android"): (
        *("Magic-v5", "Redmi Note 14", "X200 Pro", "Magic v3", "Reno 13", "Mi 15", "nova 12"),
        *("Find X8", "Galaxy S25", "iQOO 13", "P40 lite", "K80", "GT 7", "Pixel 9"),
    ),
    ("phone", "harmonyos"): (
        *("Mate 60 Pro", "Pura 70", "nova 13", "Mate X5", "Mate 60", "P60", "Mate 70 Pro"),
        *("nova 11", "Pocket 2", "Enjoy 70"),
    ),
    ("phone", "ios"): (
        *("iPhone 15", "iPhone 15 Pro", "iPhone 13", "iPhone 16", "iPhone 14", "iPhone 16 Pro"),
        *("iPhone SE", "iPhone 12"),
    ),
    ("tablet", "android"): ("Pad 6", "Pad 7 Pro", "Tab S9", "Pad Air", "Tab P12"),
    ("tablet", "harmonyos"): ("MatePad 11", "MatePad Pro", "MatePad Air", "MatePad SE", "M6"),
    ("tablet", "ios"): ("iPad", "iPad Air", "iPad Pro", "iPad mini"),
    ("pc", "windows"): (
        *("MateBook D16", "ThinkPad X1", "DESKTOP-7K2M", "Office PC", "Xiaoxin 14"),
        *("MateBook 14", "LAPTOP-Q9", "Inspiron", "HOME-PC"),
    ),
    ("pc", "macos"): ("MacBook Air", "MacBook Pro", "Mac mini", "iMac", "MacBook"),
}
GIVEN = (
    *("Li Wei", "Wang Fang", "Zhang Min", "Liu Yang", "Chen Jie", "Yang Lei", "Zhao Ting"),
    *("Huang Bo", "Zhou Yan", "Wu Hao", "Xu Lan", "Sun Qi", "Anna", "Omar", "Ivan", "Maria"),
)
UNICODE = (
    "李伟的手机",
    "王芳 Mate 60",
    "我的平板",
    "Телефон Анны",
    "هاتف أحمد",
    "\U0001f4f1 Mei \U0001f389",
    "\U0001f468‍\U0001f469‍\U0001f467 Familie",
    "Zoe\u0308s Handy",
    "ｆｕｌｌ　ｗｉｄｔｈ",
)
HOSTILE = (
    "<b>x</b>",
    "=1+1",
    " " * 32,
    "<img src=x onerror=alert(1)>",
    "‮drawkcab",  # noqa: PLE2502 -- text that runs backwards is what this one is about
    "W" * 250,
)

# How the systems are spelt, with weights. There is no dot: the API does not allow one.
SPELLINGS: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("phone", "android"): {"android": 0.40, "Android": 0.25, "Android 14": 0.35},
    ("phone", "harmonyos"): {"HarmonyOS": 0.60, "HarmonyOS NEXT 5": 0.40},
    ("phone", "ios"): {"iOS 18_2": 0.70, "iOS 17_6": 0.30},
    ("tablet", "android"): {"android": 0.40, "Android": 0.25, "Android 14": 0.35},
    ("tablet", "harmonyos"): {"HarmonyOS": 0.60, "HarmonyOS NEXT 5": 0.40},
    ("tablet", "ios"): {"iPadOS 18": 1.0},
    ("pc", "windows"): {"Windows 11": 1.0},
    ("pc", "macos"): {"macOS 15": 1.0},
}
UNSPELT: Mapping[str, float] = {"": 0.005, "unknown": 0.005}
"""Shares of devices whose system is not told."""
