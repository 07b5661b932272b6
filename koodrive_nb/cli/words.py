"""What the library says in calls, said as it is typed on a command line."""

from __future__ import annotations

_WORDS = {
    " or pass endpoint=, user_id= and auth=kd.TokenAuth(...) or kd.AppAuth(...) to connect()": "",
    'kd.connect("sandbox") needs none': "--sandbox needs none",
    ", or pass auth=": "",
    "connect with auth=kd.AppAuth(...) to see others": (
        "set KOODRIVE_APP_ID and KOODRIVE_APP_SECRET in the place of KOODRIVE_TOKEN to see others"
    ),
    "finish that one, choose": (
        "finish that one with the list and the options that began it, choose"
    ),
    "restart=True": "--restart",
    "Snapshots(uri, drafts='folder')": "--drafts FOLDER",
    "drafts=": "--drafts",
}


def typed(message: str) -> str:
    """Put the options of the command in the place of calls and arguments."""
    for call, option in _WORDS.items():
        message = message.replace(call, option)
    return message
