"""The form that looks up records: by their ids, or of a user's devices."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import ipywidgets as widgets

from koodrive_nb import progress, settings
from koodrive_nb.analysis.labels import label_devices
from koodrive_nb.charts import theme
from koodrive_nb.client import Client
from koodrive_nb.errors import ConfigurationError, InvalidParameterError, KooDriveError
from koodrive_nb.forms import pasted, wording
from koodrive_nb.forms.code_line import CodeLine
from koodrive_nb.forms.doors import IdDoor, UserDoor, button
from koodrive_nb.forms.form import Form, Notice, described
from koodrive_nb.forms.hands import handled, in_order, once
from koodrive_nb.forms.retrieval import FOR_ALL, ById, OfUser, Retrieval, nothing
from koodrive_nb.forms.saving import SaveRow
from koodrive_nb.forms.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd

_BY_ID, _BY_USER = "Record ids", "User"
_ONLY_THESE = (
    "States are judged by these records alone: whether a later backup of its device supersedes an "
    "open one shows only among all records of the device."
)


class RecordForm(Form):
    """Looks up backup records by their ids, or those of a user's devices, and shows them.

    `client` is what `kd.connect` returned, `tz` the zone to show times in (KOODRIVE_TZ, else UTC).
    `records` are what came, with the columns of `kd.schema("records")`; `not_found` the ids that
    the service does not have, `refused` what is no id with the reason, and `failures` what did not
    come, as in `IncompleteError.failures`. Setting `client` goes on with another one, such as one
    with a new token; what came stays.

    Raises:
        InvalidParameterError: That is no client, or there is no such zone.
    """

    def __init__(self, client: Client, *, tz: str | None = None) -> None:
        _check(client)
        zone = settings.display_zone(tz)
        super().__init__()
        self._client = client
        self._retrieval: Retrieval | None = None
        self._records = nothing()
        self._code = ""
        self._listed: tuple[str, tuple[str, ...]] | None = None
        self.refused: dict[str, str] = {}
        self.door = described(
            widgets.ToggleButtons(options=[_BY_ID, _BY_USER]), "Look up by record id or by user"
        )
        self._id_door, self._user_door = IdDoor(), UserDoor(wording.user_of(client))
        self.ids, self.look_up_button = self._id_door.ids, self._id_door.button
        self.user, self.devices = self._user_door.user, self._user_door.devices
        self.devices_button = self._user_door.devices_button
        self.records_button = self._user_door.records_button
        self.notice = Notice()
        self.again = button("Try again", "refresh", "Ask for what did not come, and only for that")
        self.door.observe(lambda _: self._open_door(), "value")
        for each, act, *fields in (
            (self.look_up_button, lambda: self.look_up(self.ids.field.value), self.ids.field),
            (self.devices_button, lambda: self.find_devices(self._user_id()), self.user.field),
            (self.records_button, self._load, self.user.field),
            (self.again, self._try_again),
        ):
            click = handled(lambda _, act=act: act(), self.notice)
            each.on_click(once(in_order(click, *fields)))
        self._lists = widgets.HTML()
        self.shelf = Shelf(zone)
        self._code_line = CodeLine()
        self.saving = SaveRow("backup_records", zone.key, lambda: (self.records, self.code or None))
        self._fill(
            *(self.door, self._id_door, self._user_door),
            *(self.notice, self.again, self._lists, self.shelf, self._code_line, self.saving),
        )
        self._open_door()
        self._show()

    @property
    def client(self) -> Client:
        """The client that asks; set another one to go on with that."""
        return self._client

    @client.setter
    def client(self, client: Client) -> None:
        """Go on with another client.

        Raises:
            InvalidParameterError: It is none.
        """
        _check(client)
        if self.user.field.value == wording.user_of(self._client):
            self.user.field.value = wording.user_of(client)
        self._client = client

    @property
    def records(self) -> pd.DataFrame:
        """What came, with the ledger of the fetch where it was one."""
        return self._records

    @property
    def not_found(self) -> tuple[str, ...]:
        """The ids that the service does not have."""
        return self._retrieval.not_found if self._retrieval else ()

    @property
    def failures(self) -> pd.DataFrame:
        """What did not come and why, one row for each id or part."""
        return (self._retrieval or ById("", [])).failures

    @property
    def code(self) -> str:
        """The line that gives the same records without the form; empty without records."""
        return self._code

    def look_up(self, ids: str | Iterable[str]) -> None:
        """Look up records by their ids, pasted as text or given one by one.

        Raises:
            InvalidParameterError: It is neither text nor a list of texts.
        """
        found, refused = pasted.ids(ids)
        self.door.value = _BY_ID
        self.ids.field.value = ids if isinstance(ids, str) else "\n".join([*found, *refused])
        self.ids.complain("")
        if not found:
            self.refused = refused
            self._show_lists()
            self.ids.complain("There is no record id here: paste one or several.")
            return
        user_id = wording.user_of(self._client)
        self._run(ById(user_id, found), self._client, refused)

    def find_devices(self, user_id: str) -> None:
        """List the devices of a user to choose from."""
        self.door.value = _BY_USER
        client = self._for_user(user_id)
        if client is not None:
            self._list(client, user_id)

    def _list(self, client: Client, user_id: str) -> KooDriveError | None:
        with self._busy(), progress.hidden():
            self.notice.say("Asking for the devices…")
            try:
                listed = client.devices()
            except KooDriveError as error:
                self.notice.say(wording.reason(error), "error")
                return error
            except KeyboardInterrupt:
                self.notice.say("Interrupted.", "warning")
                raise
        labels = label_devices(listed)["device_label"] if len(listed) else ()
        self._listed = (user_id, tuple(listed["device_id"]))
        self.devices.offer(dict(zip(listed["device_id"], labels, strict=True)))
        self.notice.say(
            f"{theme.counted(len(listed), 'device')}: choose some, or load the records of all."
            if len(listed)
            else "This user has no devices."
        )
        return None

    def load(self, user_id: str, device_ids: Iterable[str] = ()) -> None:
        """Load the records of some of a user's devices, or all records of the user."""
        chosen = [device_ids] if isinstance(device_ids, str) else list(device_ids)
        self.door.value = _BY_USER
        client = self._for_user(user_id)
        if client is None:
            return
        try:
            for device_id in chosen:
                settings.checked_id(device_id, "device id")
        except InvalidParameterError as error:
            self.notice.say(str(error), "error")
            return
        if self._listed is None or self._listed[0] != user_id:
            refusal = self._list(client, user_id)
            if isinstance(refusal, FOR_ALL):
                return
        if self._listed is not None and set(chosen) <= set(self._listed[1]):
            self.devices.value = chosen
        self._run(OfUser(user_id, chosen), client, {})

    def _load(self) -> None:
        user_id = self._user_id()
        is_listed = self._listed is not None and self._listed[0] == user_id
        self.load(user_id, self.devices.value if is_listed else ())

    def _user_id(self) -> str:
        return str(self.user.field.value).strip()

    def _for_user(self, user_id: str) -> Client | None:
        self.user.field.value = str(user_id)
        self.user.complain("")
        try:
            return self._client.for_user(user_id)
        except (ConfigurationError, InvalidParameterError) as error:
            self.user.complain(str(error))
            return None

    def _try_again(self) -> None:
        retrieval = self._retrieval
        if retrieval is None:
            return
        client = self._for_user(retrieval.user_id)
        if client is not None:
            self._run(retrieval, client, self.refused)

    def _run(self, retrieval: Retrieval, client: Client, refused: dict[str, str]) -> None:
        """Fetch what is left, and show what is there then, however it ends."""
        self._retrieval, self.refused = retrieval, refused
        interrupted = False
        with self._busy():
            self.notice.say(wording.under_way(retrieval))
            try:
                retrieval.run(client, lambda _: self.notice.say(wording.under_way(retrieval)))
            except KeyboardInterrupt:
                interrupted = True
                raise
            finally:
                came = retrieval.records
                is_kept = came.empty and retrieval.n_done < retrieval.total
                if not is_kept:
                    self._records = came
                    self._code = wording.code(retrieval, came, self._client)
                    self._show()
                self._show_lists()
                is_old = is_kept and not self._records.empty
                text, kind = wording.outcome(
                    retrieval, len(came), is_old=is_old, is_interrupted=interrupted
                )
                self.notice.say(text, kind)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        buttons = self.look_up_button, self.devices_button, self.records_button, self.again
        try:
            for each in buttons:
                each.disabled = True
            yield
        finally:
            for each in buttons:
                each.disabled = False

    def _open_door(self) -> None:
        by_id = self.door.value == _BY_ID
        self._id_door.layout.display = None if by_id else "none"
        self._user_door.layout.display = "none" if by_id else None

    def _show(self) -> None:
        self.shelf.show(self._records, _ONLY_THESE if isinstance(self._retrieval, ById) else "")
        self._code_line.show(self._code)
        self.saving.layout.display = None if len(self._records) else "none"
        self._show_lists()

    def _show_lists(self) -> None:
        self._lists.value = wording.lists(self.refused, self._retrieval)
        left = self._retrieval is not None and self._retrieval.n_done < self._retrieval.total
        self.again.layout.display = None if left else "none"

    def _facts(self) -> str:
        facts = [theme.counted(len(self._records), "record")]
        facts += [f"{len(self.not_found):,} not found"] if self.not_found else []
        facts += [f"{len(self.failures):,} failed"] if len(self.failures) else []
        return ", ".join([*facts, wording.source_of(self._client)])


def _check(client: object) -> None:
    if not isinstance(client, Client):
        raise InvalidParameterError(
            "RecordForm() takes a client: the one that kd.connect() returned, or the .client of "
            "kd.forms.ConnectForm()."
        )
