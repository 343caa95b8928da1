"""What boots follows from the journal alone."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.agent.state import (
    RESERVE,
    Abandoned,
    Armed,
    Booted,
    Confirmed,
    Failed,
    Forbidden,
    Image,
    Marked,
    Reborn,
    Record,
    Reserved,
    Restarting,
    Snapshot,
    Started,
    State,
    Told,
    apply,
    decode,
    encode,
)
from fleetvisor.protocol.lifecycle import ErrorCode

A, B = Image("a" * 64, "KA" + "a" * 32), Image("b" * 64, "KA" + "b" * 32)
FRESH = State(journal="0" * 32)


def after(*records: Record, state: State = FRESH) -> State:
    for record in records:
        state = apply(state, record)
    return state


RUNS_A = after(Booted(), Started(1, A), Marked(3), Armed(), Booted(), Confirmed(), Told())


def test_a_fresh_device_runs_no_app() -> None:
    assert after(Booted()).running is None


def test_an_armed_image_gets_exactly_one_trial_boot() -> None:
    armed = after(Booted(), Started(1, A), Armed())
    assert armed.running is None
    tried = after(Booted(), state=armed)
    assert tried.running == A
    assert tried.wake_reason == 9
    reverted = after(Booted(), state=tried)
    assert reverted.running is None
    assert reverted.outcome is not None
    assert (reverted.outcome.number, reverted.outcome.code) == (1, ErrorCode.REVERTED)


def test_a_confirmed_image_survives_every_later_boot() -> None:
    state = after(Booted(), Booted(), Booted(), state=RUNS_A)
    assert state.running == A
    assert state.wake_reason == 0


def test_a_trial_that_is_not_confirmed_goes_back_to_the_confirmed_image() -> None:
    tried = after(Started(2, B), Armed(), Booted(), state=RUNS_A)
    assert tried.running == B
    assert after(Booted(), state=tried).running == A


def test_a_download_goes_to_the_slot_that_does_not_run() -> None:
    assert RUNS_A.inactive == 1
    assert after(Started(2, B), Armed(), Booted(), Confirmed(), state=RUNS_A).inactive == 0


def test_during_a_trial_no_download_starts() -> None:
    with pytest.raises(Forbidden):
        after(Started(2, B), Armed(), Booted(), Started(3, A), state=RUNS_A)


@pytest.mark.parametrize("record", [Armed(), Marked(1), Confirmed()])
def test_a_record_out_of_place_is_forbidden(record: Record) -> None:
    with pytest.raises(Forbidden):
        apply(FRESH, record)


def test_an_armed_image_is_not_confirmed_before_it_has_booted() -> None:
    with pytest.raises(Forbidden):
        after(Started(1, A), Armed(), Confirmed())


def test_a_download_does_not_go_back() -> None:
    with pytest.raises(Forbidden):
        after(Started(1, A), Marked(5), Marked(4))


def test_a_failed_or_abandoned_download_leaves_what_runs() -> None:
    failed = after(Started(2, B), Failed(2, B.manifest, 1), Booted(), state=RUNS_A)
    assert failed.running == A
    assert failed.outcome is not None
    assert not failed.outcome.told
    assert after(Told(), state=failed).outcome == msgspec.structs.replace(failed.outcome, told=True)
    abandoned = after(Started(2, B), Abandoned(), Booted(), state=RUNS_A)
    assert abandoned.running == A
    assert abandoned.download is None


def test_a_restart_wakes_the_next_boot_with_reason_2_and_only_that() -> None:
    restarted = after(Restarting(7), Booted(), state=RUNS_A)
    assert (restarted.restart_obeyed, restarted.wake_reason) == (7, 2)
    assert after(Booted(), state=restarted).wake_reason == 0


def test_every_boot_reserves_sequence_numbers_and_counts() -> None:
    state = after(Booted(), Booted(), Reserved())
    assert (state.boot_count, state.sequence_reserved) == (2, 3 * RESERVE)


def test_a_new_journal_id_starts_a_new_count() -> None:
    state = after(Booted(), Booted(), Reborn("f" * 32))
    assert (state.journal, state.sequence_reserved) == ("f" * 32, RESERVE)


IMAGES = st.sampled_from([A, B])
NUMBERS = st.integers(1, 9)
RECORDS = st.one_of(
    st.builds(Booted),
    st.builds(Reserved),
    st.builds(Started, NUMBERS, IMAGES),
    st.builds(Marked, st.integers(0, 9)),
    st.builds(Armed),
    st.builds(Confirmed),
    st.builds(Failed, NUMBERS, st.just("a" * 64), st.integers(1, 9)),
    st.builds(Abandoned),
    st.builds(Told),
    st.builds(Restarting, NUMBERS),
    st.builds(Reborn, st.just("f" * 32)),
)


@given(st.lists(RECORDS, max_size=60))
def test_in_every_history_the_running_image_was_armed_and_the_confirmed_slot_is_never_started(
    records: list[Record],
) -> None:
    """Whatever order records come in, those that are allowed never leave a slot that runs without its image."""
    state, armed = FRESH, set[Image]()
    for record in records:
        before = state
        try:
            state = apply(state, record)
        except Forbidden:
            continue
        if isinstance(record, Armed) and before.download is not None:
            armed.add(before.download.image)
        if isinstance(record, Started):
            assert before.inactive != before.active
        assert (state.active is None) == (state.running is None)
        assert state.running is None or state.running in armed
        assert decode(encode(Snapshot(state))) == Snapshot(state)
        assert apply(FRESH, Snapshot(state)) == state


@given(RECORDS)
def test_a_record_comes_back_as_it_was_kept(record: Record) -> None:
    assert decode(encode(record)) == record
