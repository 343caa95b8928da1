"""What people see of a rollout: bars, counts, rates and sentences. No server."""

import io

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fleetvisor.cli import rollout_view as view
from fleetvisor.client.rollouts import Decision, Rollout, RolloutDevice, WaitsFor, Wave
from fleetvisor.protocol.guard_settings import GuardSettings

GUARD = GuardSettings(
    limit=0.05, confidence=0.95, minimum_sample=5, soak=600, silent_after=90, offline_after=86_400, on_unproven="hold"
)
SENTENCE = "1 of 40 devices failed. Devices are still deciding."


def rollout(**changes):
    plain = Rollout(
        sid="RO1",
        friendly_name="spring",
        app_sid="KA1",
        state="running",
        wave=2,
        waves=[
            Wave(position=1, size="10%", state="released", counts={"succeeded": 30, "failed": 1, "updating": 0}),
            Wave(position=2, size="100%", state="open", counts={"updating": 9}),
            Wave(position=3, size="100%", state="waiting", counts={}),
        ],
        counts={"updating": 9, "succeeded": 30, "failed": 1},
        failure_rate=0.025,
        failure_rate_lower=0.001,
        failure_rate_upper=0.12,
        guard=GUARD,
        decision=Decision(number=1, wave=2, verdict="hold", code="deciding", sentence=SENTENCE),
        waits_for=WaitsFor(code="devices", sentence="Some devices of the open wave have not decided yet."),
    )
    return msgspec.structs.replace(plain, **changes)


def drawn(shown, app="app-2", width=120, **options):
    sink = io.StringIO()
    console = Console(file=sink, width=width, highlight=False, markup=False, **options)
    console.print(view.picture(shown, app))
    return sink.getvalue()


@given(st.dictionaries(st.sampled_from(list(view.GLYPHS)), st.integers(0, 10_000_000), min_size=1))
def test_a_bar_is_as_wide_as_it_is_and_no_state_is_lost_in_it(counts):
    shares = view.cells(counts)
    assert set(shares) == {state for state, count in counts.items() if count}
    assert sum(shares.values()) == (view.BAR if shares else 0)
    assert all(share >= 1 for share in shares.values())
    assert len(view.bar(counts).plain) == (view.BAR if shares else 0)


def test_one_failure_in_a_million_is_seen():
    assert view.bar({"succeeded": 999_999, "failed": 1}).plain == "█" * 29 + "X"


def test_a_bar_can_be_read_without_colours():
    told = [view.GLYPHS[state] for state in ("succeeded", "failed", "silent", "updating", "offline")]
    assert len(set(told)) == 5


def test_states_are_counted_in_the_order_of_a_bar_those_of_a_newer_server_too():
    assert view.counted({"failed": 1, "succeeded": 2000, "updating": 0}) == "2,000 succeeded, 1 failed"
    assert view.counted({"orbiting": 3}) == "3 orbiting"
    assert view.counted({}) == "none yet"


def test_the_rate_has_its_bounds_and_its_limit():
    assert view.rate(rollout()) == "2.5 % (0.1 % to 12 % at 95 % confidence; limit 5 %)"
    assert view.rate(rollout(failure_rate=None)).startswith("none yet (")


def test_what_is_waited_for_has_its_end_if_that_is_known():
    until = WaitsFor(code="soak", sentence="The soak time of the open wave is not over.", until="2026-01-01T00:00:00Z")
    assert (
        view.waiting(rollout(waits_for=until))
        == "The soak time of the open wave is not over. Until 2026-01-01T00:00:00Z."
    )
    assert view.waiting(rollout(waits_for=None)) is None


def test_the_picture_has_a_line_for_each_wave_and_the_guards_sentence():
    lines = drawn(rollout()).splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["wave", "1", "10%"],
        ["wave", "2", "100%"],
        ["wave", "3", "100%"],
    ]
    assert "30 succeeded, 1 failed" in lines[1]
    assert lines[1].count("█") + lines[1].count("X") == view.BAR
    assert "limit 5 %" in lines[4]
    assert SENTENCE in lines[5]
    assert "still deciding" in lines[5]
    assert "devices of the open wave" in lines[6]


def test_a_bar_keeps_its_width_where_there_is_little_room():
    counts = {"succeeded": 400, "failed": 1, "silent": 30, "updating": 369, "offline": 100, "skipped": 10}
    crowded = rollout(waves=[Wave(position=1, size="100%", state="released", counts=counts)])
    for width in (60, 72, 80):
        shown = drawn(crowded, width=width)
        assert view.bar(counts).plain in shown
        assert view.counted(counts) in " ".join(shown.split())


def test_colours_are_for_those_who_want_them():
    assert "\x1b[32m" in drawn(rollout(), force_terminal=True, color_system="standard")
    assert "\x1b[3" not in drawn(rollout(), force_terminal=True, color_system="standard", no_color=True)


def test_foreign_text_steers_nothing():
    foreign = rollout(friendly_name="[red]\x1b[2J", selector="\x1b]0;x\x07")
    shown = drawn(foreign, app="\x1b[1mapp")
    assert "\x1b" not in shown
    assert "[red]\\x1b[2J" in shown


def test_the_facts_of_a_rollout_name_its_app_or_what_it_takes_back():
    assert view.facts(rollout(), "app-2")["what"] == "release of app-2"
    back = view.facts(rollout(kind="rollback", rollback_of="RO0", app_sid=None), None)
    assert back["what"] == "rollback of RO0"
    assert back["guard"] == (
        "limit 5%, confidence 95%, minimum sample 5, soak 10m, silent after 90s, offline after 1d,"
        " on unproven hold, require proof no"
    )
    proof = msgspec.structs.replace(GUARD, require_proof=True)
    assert "require proof yes" in view.facts(rollout(guard=proof), None)["guard"]
    assert "decision" not in view.facts(rollout(decision=None), None)


def test_what_the_guard_waited_for_is_not_said_of_a_rollout_that_was_aborted():
    aborted = rollout(state="aborted")
    assert aborted.decision is not None
    assert "decision" not in view.facts(aborted, "app-2")
    assert aborted.decision.sentence not in view.line(aborted)


def test_rows_of_waves_fit_their_columns_and_count_every_device_once():
    counts = {"succeeded": 1, "unchanged": 2, "skipped": 3, "left": 4, "failed": 5}
    shown = rollout(waves=[Wave(position=1, size="100%", state="open", counts=counts)])
    [row] = view.wave_rows(shown)
    assert len(row) == len(view.WAVE_COLUMNS)
    assert row[3] == 15 == sum(row[4:])


@pytest.mark.parametrize(
    ("device", "text"),
    [
        (RolloutDevice(device_sid="UV1", wave=1, state="failed", error_code=7), "error 7: reverted"),
        (RolloutDevice(device_sid="UV1", wave=1, state="skipped", reason="previous_unknown"), "previous unknown"),
        (RolloutDevice(device_sid="UV1", wave=1, state="succeeded"), ""),
    ],
)
def test_why_a_device_is_in_its_state(device, text):
    assert view.outcome(device) == text


def test_a_rate_under_a_thousandth_is_told_as_that():
    assert [view.percent(rate) for rate in (0.0, 0.00000792, 0.001, 0.0313, 0.9999, 1.0)] == [
        "0 %", "under 0.1 %", "0.1 %", "3.13 %", "over 99.9 %", "100 %",
    ]  # fmt: skip


def test_a_rollback_names_whose_devices_it_is_for():
    back = rollout(kind="rollback", rollback_of="RO7", selector="")
    assert view.facts(back, None)["selector"] == "(the devices of RO7)"
    assert view.facts(rollout(selector="*"), None)["selector"] == "(every device)"
    assert view.facts(rollout(selector="site=graz"), None)["selector"] == "site=graz"
