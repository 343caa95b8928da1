"""Writes the reference pages that are made from the code: limits, settings, update error codes, the command
line; and the parts of other pages that are: grammar, tables of codes, the plot of the guard.

``python -m scripts.generate_docs`` writes them; tests/test_house.py compares them.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from fleetvisor.api import error_pages
from fleetvisor.features.devices import grammar
from fleetvisor.features.explain import reasons
from fleetvisor.features.rollouts import decisions, guard, service, waiting
from fleetvisor.ground import memory, stored
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.guard_settings import SETTINGS, Setting
from fleetvisor.protocol.lifecycle import ErrorCode
from fleetvisor.settings import Settings
from scripts import cli_reference, plot_guard

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"

UPDATE_ERRORS = {
    ErrorCode.NONE: "no error",
    ErrorCode.DOWNLOAD_FAILED: "the download failed",
    ErrorCode.HASH_MISMATCH: "the hash of the downloaded or installed bytes is wrong",
    ErrorCode.DOES_NOT_FIT: "the app does not fit into the device's flash",
    ErrorCode.REFUSED_BY_POLICY: "the device refused it because of its signature or a policy",
    ErrorCode.INCOMPATIBLE_HARDWARE: "the app is for other hardware",
    ErrorCode.INSTALL_FAILED: "the installation failed",
    ErrorCode.REVERTED: "the new app did not start properly, and the device reverted to its previous app",
    ErrorCode.REFUSED_BY_APPLICATION: "the running application refused the update",
    ErrorCode.NO_REPORT: "the device fetched the update and did not report in time",
    ErrorCode.OTHER: "another reason",
}


def limits_page() -> str:
    """Render every bound with its number and its error."""
    lines = [
        "# Limits",
        "",
        "This page lists every bound of the server. Each bound is a setting: `FLEETVISOR_LIMIT_<NAME>` in the server's",
        "environment. Sizes are in bytes, times in seconds.",
        "Generated from `ground/limits.py` by `make docs`.",
        "",
        "| name | what it bounds | default | if exceeded (HTTP status, code) |",
        "|---|---|---:|---|",
    ]
    for field in fields(Limits):
        about, error = field.metadata["about"], field.metadata["error"]
        lines.append(f"| `{field.name}` | {about} | {field.default:,} | {error} |")
    return "\n".join([*lines, *_memory_lines(), *_stored_lines()]) + "\n"


def _memory_lines() -> list[str]:
    """Render the bound in bytes of everything that the server keeps in memory."""
    rooms = [room for room in vars(memory).values() if isinstance(room, memory.Room)]
    return [
        "",
        "## Memory",
        "",
        "This table lists the maps and caches in the server's memory, with the maximum bytes of each. If a row has a",
        "size per entry, each entry has at most that size, and the number of entries is bounded. Otherwise the server",
        "measures each entry. If there is no room, the oldest entries are dropped, and are read or verified again when",
        "needed. These bounds are not settings. Layers (`layer_cache_bytes`) and held polls (`held_polls_max`, about 4",
        "KiB each) have limits in the table above.",
        "",
        "| what is kept | maximum bytes | bytes per entry |",
        "|---|---:|---:|",
        *(
            f"| {room.about} | {room.bytes_max:,} | {f'{room.member_bytes:,}' if room.member_bytes else ''} |"
            for room in rooms
        ),
    ]


def _stored_lines() -> list[str]:
    """Render what bounds each table that a device's requests make larger."""
    return [
        "",
        "## Database",
        "",
        "This table lists what the requests of one device can add to the database, and the limits that bound the",
        "total. An event takes about 600 bytes with its indexes. A device that exceeds its budget of events still",
        "works: the server stores what it runs and its updates, and one event represents all further changes. No other",
        "table gets rows from devices.",
        "",
        "| table | bound for one device |",
        "|---|---|",
        *(f"| `{table}` | {bound} |" for table, bound in stored.GROWN_BY_DEVICES.items()),
    ]


def settings_page() -> str:
    """Render every setting of the server with its flag and variable."""
    lines = [
        "# Settings",
        "",
        "`fleetvisor serve` reads each setting from an option, else from an environment variable, else it uses the",
        "default. A variable that holds several files is a JSON list. The [limits](limits.md) are settings too.",
        "Generated from `settings.py` by `make docs`.",
        "",
        "| option | variable | meaning | default |",
        "|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        option, variable = f"--{name.replace('_', '-')}", f"FLEETVISOR_SERVE_{name.upper()}"
        default = "required" if field.is_required() else f"`{field.default}`" if field.default else "none"
        lines.append(f"| `{option}` | `{variable}` | {field.description} | {default} |")
    return "\n".join(lines) + "\n"


def update_errors_page() -> str:
    """Render the table of update error codes."""
    lines = [
        "# Update error codes",
        "",
        "These are the values of `update_error_code` of a Device and `error_code` of an update. The table is our own:",
        "the original API published none. Generated from `protocol/lifecycle.py` by `make docs`.",
        "",
        "| code | name | meaning |",
        "|---:|---|---|",
    ]
    lines += [f"| {int(code)} | `{code.name.lower()}` | {UPDATE_ERRORS[code]} |" for code in ErrorCode]
    return "\n".join(lines) + "\n"


def selectors_page() -> str:
    """Give the page of selectors with the grammar as the server has it."""
    return put((REFERENCE / "selectors.md").read_text(), "grammar", f"```\n{grammar.GRAMMAR.strip()}\n```\n")


def put(page: str, name: str, text: str, by: str = "make docs") -> str:
    """Put ``text`` into the part of a page that is marked as generated under ``name``."""
    before, begin, rest = page.partition(f"<!-- {name}: written by {by} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->\n")
    if not end:
        raise ValueError(f"the page has no part marked as {name}")
    return f"{before}{begin}{text}{end}{after}"


def codes(table: Mapping[str, str]) -> str:
    """Render a table of codes and their sentences."""
    lines = ["| code | sentence |", "|---|---|", *(f"| `{code}` | {sentence} |" for code, sentence in table.items())]
    return "\n".join(lines) + "\n"


def guard_table() -> str:
    """Return the table of the guard's settings."""
    rows = [f"| `{setting.parameter}` | {_about(setting)} | `{setting.default}` |" for setting in SETTINGS]
    return "\n".join(["| parameter | meaning | default |", "|---|---|---|", *rows]) + "\n"


def _about(setting: Setting) -> str:
    choices = ", ".join(f"`{choice}`" for choice in setting.rule.choices)
    return setting.rule.about.rstrip(".") + (f": {choices}" if choices else "")


def rollouts_page() -> str:
    """Return the page of rollouts with the guard's settings and the codes as the server has them."""
    page = put((REFERENCE / "rollouts.md").read_text(), "guard", guard_table())
    page = put(page, "waits", codes(waiting.CODES))
    decided = {**guard.SENTENCES, "empty": decisions.EMPTY, "by_hand": service.BY_HAND}
    return put(page, "decisions", codes(decided))


def explain_page() -> str:
    """Give the page of explanations with its codes as the server has them."""
    return put((REFERENCE / "explain.md").read_text(), "reasons", codes(reasons.SENTENCES))


def pages() -> dict[Path, str]:
    """Give every generated page with its text."""
    return {
        REFERENCE / "limits.md": limits_page(),
        REFERENCE / "settings.md": settings_page(),
        REFERENCE / "update-errors.md": update_errors_page(),
        REFERENCE / "cli.md": cli_reference.render(),
        REFERENCE / "selectors.md": selectors_page(),
        REFERENCE / "rollouts.md": rollouts_page(),
        REFERENCE / "explain.md": explain_page(),
        plot_guard.PATH: plot_guard.draw(),
        REFERENCE / "errors.md": error_pages.reference_page(),
    }


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
