"""``fleetvisor devices``: register, list, show, label, accept and remove devices; changes are in ``device_changes``.

Deliberately thin: every rule is the server's.
"""

import itertools
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from fleetvisor.cli.bulk import Bulk
from fleetvisor.cli.options import Failure, Newest, Session, Usage, command, group
from fleetvisor.client.answers import ApiProblem, Unreachable
from fleetvisor.client.resources import App, Client, Device
from fleetvisor.features.devices import labels as label_rules
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.lifecycle import OPEN, ErrorCode

app = group("Register, list, show, change, accept and remove devices.")

# The Device's flat fields of 2022 repeat the nested ones.
REPEATED: Final = ("logging_enabled", "date_logging_expires", "app_update", "info", "status", "links")
_LOOKUPS_MAX: Final = 20

Ref = Annotated[str, typer.Argument(metavar="DEVICE", help="A device's SID or unique name.", show_default=False)]
Class = Annotated[
    str | None,
    typer.Option(
        "--hardware-class",
        metavar="CLASS",
        help="The kind of board. Apps for another class are refused.",
        show_default=False,
    ),
]

Selector = Annotated[
    str | None,
    typer.Option(
        "--selector",
        "-l",
        metavar="SELECTOR",
        help="A selector of devices, as in 'site=graz,!canary'.",
        show_default=False,
    ),
]
Everything = Annotated[bool, typer.Option("--all", help="Every device.")]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label", metavar="KEY=VALUE", help="A label for each new device; may be repeated.", show_default=False
    ),
]
Controller = Annotated[
    str | None,
    typer.Option(
        "--controller-id",
        metavar="ID",
        help="The id that the board uses over DDI; '' means its SID only. Renaming the device does not change it.",
        show_default=False,
    ),
]
Access = Annotated[
    str | None,
    typer.Option("--access", metavar="active|disabled", help="Allow or refuse the device.", show_default=False),
]
AccountSecrets = Annotated[
    bool | None,
    typer.Option(
        "--account-secrets/--no-account-secrets",
        help="Allow the device to fetch the account's secrets, or not.",
        show_default=False,
    ),
]
Refs = Annotated[list[str], typer.Argument(metavar="DEVICE…", help="SIDs or unique names.", show_default=False)]


class AppNames:
    """What people call the apps that devices name by SID; asks the server once for each, and not for too many."""

    def __init__(self, client: Client) -> None:
        """Ask ``client``."""
        self._client = client
        self._known: dict[str, str] = {}

    def __getitem__(self, sid: str | None) -> str | None:
        """Return the unique name of the app ``sid``, or its SID where it has none or is gone."""
        if sid is None:
            return None
        if sid not in self._known:
            if len(self._known) >= _LOOKUPS_MAX:
                return sid
            try:
                self._known[sid] = self._client.app(sid).name
            except ApiProblem as problem:
                if problem.status != 404:
                    raise
                self._known[sid] = sid
        return self._known[sid]

    def learn(self, app: App) -> None:
        """Take an app that is known already."""
        self._known[app.sid] = app.name


def status(device: Device) -> str:
    """Say in a few words how a device's update stands."""
    app, update = device.app, device.update
    if app.update_status == "error":
        return f"error {app.update_error_code}: {reason(app.update_error_code)}"
    if (
        update is None
        or update.app_sid != app.target_sid
        or not (app.update_status == "pending" or update.state in OPEN)
    ):
        return app.update_status  # what runs its target on trial has yet to confirm it
    if update.state == "downloading" and update.bytes_total:
        return f"downloading {update.bytes_done * 100 // update.bytes_total}%"
    return update.state


def reason(error_code: int) -> str:
    """Say what an update's error code means."""
    try:
        return ErrorCode(error_code).name.lower().replace("_", " ")
    except ValueError:
        return "unknown"


@command(app, "create")
def create(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(help="The device's unique name; with --count, NAME-1 to NAME-N.", show_default=False)
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, metavar="N", help="Register N devices.", show_default=False)
    ] = None,
    sid: Annotated[
        str | None,
        typer.Option("--sid", metavar="UV…", help="The SID that the board already has.", show_default=False),
    ] = None,
    hardware_class: Class = None,
    label: Labels = None,
    account_secrets: AccountSecrets = None,
    controller_id: Controller = None,
) -> None:
    """Register devices. Each one's token is shown this once: it is what the device proves itself with.

    With --json one line per device, also for one. When one of several cannot be registered, those that were are
    shown, and the exit status is 1.
    """
    if sid is not None and count is not None:
        raise Usage("--sid names one board, so it cannot go with --count.")
    if controller_id and count is not None:
        raise Usage("--controller-id names one board, so it cannot go with --count.")
    total = 1 if count is None else count
    board = {} if controller_id is None else {"controller_id": controller_id}
    made: list[Device] = []
    try:
        with session.out.counter("Registering devices", total) as progress:
            for number in range(1, total + 1):
                numbered = name if name is None or count is None else f"{name}-{number}"
                device = session.client.create_device(
                    numbered, sid, hardware_class, label or (), account_secrets=account_secrets, **board
                )
                made.append(device)
                if session.out.json:
                    session.out.line(device.document)
                progress(number)
    except (ApiProblem, Unreachable) as problem:
        if not made:
            raise
        detail = f"{len(made)} of {total} devices were registered, then: {problem.detail}"
        raise Failure(detail, problem.hint) from problem
    finally:
        if made and not session.out.json:
            session.out.table(("name", "sid", "token"), ((d.unique_name, d.sid, d.device_token) for d in made))
            session.out.note("\nA token is shown only once. Store it where only its device can read it.")


@command(app, "import")
def import_file(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="One line for each device.", show_default=False)],
) -> None:
    """Register the devices of a factory's CSV file: all of them, or none.

    Its first line names the columns, of sid, name, public_key, token_hash, labels and hardware_class. What is wrong
    is told by line and column.
    """
    with session.out.upload(file) as progress:
        made = session.identity.import_devices(file, progress)
    if session.out.json:
        for device in made.devices:
            session.out.line(msgspec.json.encode(device))
        return
    session.out.note(f"Registered {made.count} devices.")


@command(app, "list")
def list_all(
    session: Session,
    limit: Newest = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Show only devices that wait to be accepted.")] = False,
    selector: Selector = None,
) -> None:
    """List the devices, newest first."""
    terms = [term for term in (selector, "access=waiting" if waiting else None) if term]
    found = itertools.islice(session.client.devices(",".join(terms), session.out.warn), limit)
    if session.out.json:
        for device in found:
            session.out.line(device.document)
        return
    show_table(session, list(found))


@command(app, "count")
def count_all(
    session: Session,
    selector: Selector = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="WHAT",
            help="status, app, target, hardware, access, or the key of a label, such as site.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Count the devices."""
    counts = session.client.count_devices(selector, by)
    for warning in counts.warnings:
        session.out.warn(warning)
    if session.out.json or by is None:
        session.out.record(counts.document if session.out.json else {"total": counts.total})
        return
    names = AppNames(session.client)
    rows = [(names[g.value] if by in {"app", "target"} else g.value, g.count) for g in counts.groups]
    rows += [("others", counts.others)] if counts.others else []
    session.out.table((by, "devices"), [*rows, ("in all", counts.total)])


@command(app, "label")
def label_all(
    session: Session,
    changes: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE…", help="Labels to set; KEY- removes one.", show_default=False)
    ],
    selector: Selector = None,
    devices: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="DEVICE", help="A device; may be repeated.", show_default=False),
    ] = None,
) -> None:
    """Set and remove labels of the devices that -l selects, and of those named.

    Each device is labelled as the list is walked. One that has them so already is passed over, so run it again after
    an interruption; one that would have too many is told of at the end, and the exit status is 1.
    """
    if is_blank(selector) or not (selector or devices):
        raise Usage("Say which devices: -l SELECTOR or --device DEVICE.")
    try:
        label_rules.parse(changes, Limits())
    except Invalid as problem:
        raise Usage(problem.detail, "See: fleetvisor devices label --help") from problem
    named = {device.sid: device for device in map(session.client.device, devices or ())}

    def label(device: Device) -> bool:
        if _labelled(device, changes):
            return False
        session.client.update_device(device.sid, labels=changes)
        return True

    bulk = Bulk(session.out, "Labelling devices", "labelled", frozenset({400, 409}))
    total = count_for_change(session, selector) if selector else 0
    found = session.client.devices(selector) if selector else ()
    others = (device for device in found if device.sid not in named)
    bulk.run(itertools.chain(named.values(), others), len(named) + total, label)
    if session.out.json:
        session.out.record({"changed": bulk.changed, "unchanged": bulk.unchanged})
    else:
        session.out.note(f"Labelled {bulk.changed} devices; {bulk.unchanged} had it so already.")
    if not bulk.met:
        session.out.warn(f"No device is selected by {selector}")
    bulk.judge()


def count_for_change(session: Session, selector: str) -> int:
    """Return how many devices a selector selects for a change. Raises ``Usage`` for a label that nothing has."""
    counts = session.client.count_devices(selector)
    if counts.warnings:
        raise Usage(counts.warnings[0])
    return counts.total


def is_blank(selector: str | None) -> bool:
    """Return whether a selector was given that says nothing: in a script, a variable that is not set."""
    return selector is not None and not selector.strip()


def _labelled(device: Device, changes: list[str]) -> bool:
    """Return whether a device's labels are as the changes would make them."""
    for change in changes:
        key, equals, value = change.partition("=")
        if (device.labels.get(key) != value) if equals else (key[:-1] in device.labels):
            return False
    return True


def show_table(session: Session, devices: list[Device]) -> None:
    """Show devices as a table: what each should run, what it runs, and how the way there stands."""
    names = AppNames(session.client)
    session.out.table(
        ("name", "sid", "status", "target", "reported", "last seen"),
        (
            (d.unique_name, d.sid, status(d), names[d.app.target_sid], names[d.app.reported_sid], d.date_last_seen)
            for d in devices
        ),
    )


@command(app, "show")
def show(session: Session, device: Ref) -> None:
    """Show one device."""
    session.out.record(session.client.device(device).document, hidden=REPEATED)


@command(app, "accept")
def accept(session: Session, devices: Refs) -> None:
    """Let devices in that registered themselves and wait: the same as --access active. With --json one line each."""
    for device in devices:
        accepted = session.client.update_device(device, access="active")
        if session.out.json:
            session.out.line(accepted.document)
        else:
            session.out.note(f"Accepted device {device}.")


@command(app, "remove")
def remove(session: Session, devices: Refs) -> None:
    """Remove devices, with their configs, secrets and updates: their tokens open nothing any more."""
    for device in devices:
        session.client.remove_device(device)
        removed(session, "device", device)


def removed(session: Session, what: str, ref: str) -> None:
    """Tell that something was removed."""
    if session.out.json:
        session.out.line({"removed": ref})
    else:
        session.out.note(f"Removed {what} {ref}.")
