"""The guard's settings: each is defined once, and everything that names it is made from that."""

import re
from pathlib import Path

import msgspec
import pytest
from scripts import cli_reference

import fleetvisor
from fleetvisor.api import guard_form
from fleetvisor.client.rollouts import Rollout
from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol.guard_settings import MILLION, SETTINGS, GuardSettings, describe, render_form

SOURCES = Path(fleetvisor.__file__).parent
DOCS = Path(__file__).parents[3] / "docs"
HOME = "protocol/guard_settings.py"
#: Who decides by a setting, or chooses one for a purpose of its own. Nobody else names it.
USES = {
    "minimum_sample": {"features/rollouts/guard.py", "features/rollouts/decisions.py"},
    "silent_after": {"features/rollouts/members.py", "features/rollouts/ticker.py", "cli/scenario.py"},
    "offline_after": {"features/rollouts/members.py", "features/rollouts/ticker.py"},
    "on_unproven": {"features/rollouts/guard.py", "cli/scenario.py"},
    "require_proof": {"features/rollouts/guard.py"},
}


def files_that_name(setting):
    """List the files that name a setting in any of its spellings; the simulator makes up whole rollouts."""
    pattern = re.compile(rf"\b(?:{setting.name}|{setting.parameter}|{setting.option[2:]})\b")
    files = (path for path in SOURCES.rglob("*.py") if path.parent.name != "sim")
    return {path.relative_to(SOURCES).as_posix() for path in files if pattern.search(path.read_text())}


def test_a_setting_is_named_at_home_and_where_it_is_used():
    """A new setting is a field in one file, and whoever uses it. Names of one word are the words of other things too."""
    telling = {setting.name: files_that_name(setting) for setting in SETTINGS if "_" in setting.name}
    assert telling == {name: {HOME, *USES.get(name, ())} for name in telling}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_has_its_parameter_its_option_its_row_and_its_place_in_json(setting):
    assert setting.parameter in {param.name for param in guard_form.PARAMS}
    assert f"| `{setting.parameter}` |" in (DOCS / "reference/rollouts.md").read_text()
    page = cli_reference.render()
    for command in ("create", "rollback"):
        part = page.partition(f"### `fleetvisor rollouts {command}`\n")[2].partition("\n### ")[0]
        [row] = re.findall(rf"^\| `{setting.option}\b.*$", part, re.MULTILINE)
        assert setting.rule.kind == "flag" or f"If absent: {setting.spell(setting.usual)}." in row
    assert setting.name in msgspec.json.schema_components([Rollout])[1]["GuardSettings"]["properties"]


def form(**fields):
    return {name: (text,) for name, text in fields.items()}


def test_what_is_rendered_as_a_form_is_parsed_the_same():
    chosen = {
        "limit": "2.5%", "confidence": "99%", "minimum_sample": 7, "soak": 7200, "silent_after": 90,
        "offline_after": 0, "on_unproven": "stop", "require_proof": True,
    }  # fmt: skip
    assert set(chosen) == {setting.name for setting in SETTINGS}
    parsed = guard_form.parse(form(**render_form(chosen)))
    assert parsed == GuardSettings(0.025, 0.99, 7, 7200, 90, 0, "stop", True)
    assert guard_form.parse({}) == GuardSettings()
    assert parsed.limit_ppm == 25_000


def test_a_name_that_is_no_setting_is_a_mistake_of_the_program():
    with pytest.raises(KeyError):
        render_form({"soaking": 1})


def test_no_share_loses_a_millionth_on_its_way():
    """The limit is compared with counts: 29 of 100 devices are not more than 29 %."""
    for ppm in (0, 1, 249, 251, 290_000, 999_999, MILLION):
        stored = msgspec.json.encode(GuardSettings(limit=ppm / MILLION))
        assert msgspec.json.decode(stored, type=GuardSettings).limit_ppm == ppm


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("Confidence", "49%", "between 50% and 99.9999%"),
        ("Confidence", "100%", "between 50% and 99.9999%"),
        ("Limit", "101%", "between 0% and 100%"),
        ("OnUnproven", "maybe", "must be hold, stop or release"),
        ("MinimumSample", "10000001", "at most 10000000"),
        ("Soak", str(366 * 86_400 + 1), "at most 31622400"),
        ("RequireProof", "perhaps", "true or false"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_the_bounds(name, text, told):
    with pytest.raises(Invalid, match=told) as caught:
        guard_form.parse(form(**{name: text}))
    assert str(caught.value.detail).startswith(name)


def test_all_settings_are_described_in_one_line():
    assert describe(GuardSettings()) == (
        "limit 5%, confidence 95%, minimum sample 5, soak 10m, silent after 30m, offline after 1d, on unproven hold,"
        " require proof no"
    )
