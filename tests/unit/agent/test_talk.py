"""When the agent speaks and when it is silent."""

from tests.unit.agent.script import FRESH, Play, desired

from fleetvisor.agent.commands import Done, Event, Failure, Poll, Taken, Tell, Unchanged, Wait
from fleetvisor.agent.state import RESERVE, Reborn, Reserved

NONE = desired(None)


def polling() -> Play:
    """Give an agent that has made its first poll and holds the second."""
    play = Play()
    play.boot_report()
    play.polled(NONE)
    assert play.command == Poll('"1"', 50)
    return play


def pause(play: Play, event: Event, *, after_s: float = 0.1) -> float:
    """Answer the poll; give how long the agent is silent before the next one."""
    play.answer(event, after_s=after_s)
    if not isinstance(play.command, Wait):
        return 0.0
    delay_s = play.command.delay_s
    play.answer(Done(), after_s=delay_s)
    assert isinstance(play.command, Poll)
    return delay_s


def test_a_poll_that_was_held_is_followed_at_once() -> None:
    assert pause(polling(), Unchanged(), after_s=50) == 0


def test_a_poll_that_was_not_held_is_followed_after_the_poll_interval() -> None:
    assert 54 <= pause(polling(), Unchanged()) + 0.1 <= 66


def test_the_servers_poll_interval_is_obeyed() -> None:
    play = Play()
    play.boot_report()
    play.polled(desired(None, poll_interval_s=1000))
    assert 900 <= pause(play, Unchanged()) + 0.1 <= 1100


def test_a_change_is_followed_at_once_but_not_for_ever() -> None:
    """A server whose answer changes at every poll is not hammered."""
    play = polling()
    silent_s = 0.0
    for number in range(20):
        play.polled(NONE, f'"{number}"')
        if isinstance(play.command, Wait):
            silent_s += play.command.delay_s
            play.answer(Done(), after_s=play.command.delay_s)
    assert silent_s > 10 * 54


def test_retry_after_is_obeyed_with_an_unchanged_poll_and_with_a_failure() -> None:
    assert 20 <= pause(polling(), Unchanged(retry_after_s=20)) <= 50
    assert 120 <= pause(polling(), Failure(503, "busy", 120)) <= 150


def test_a_connection_cut_after_a_hold_counts_as_an_unchanged_poll() -> None:
    for status in (None, 502, 504):
        play = polling()
        for _ in range(10):
            assert pause(play, Failure(status, "cut"), after_s=49) <= 1


def test_quick_failures_back_off_further_and_further_with_jitter() -> None:
    longest = [0.0] * 12
    for after_s in range(40):
        play = polling()
        play.now_s += after_s
        for attempt in range(12):
            longest[attempt] = max(longest[attempt], pause(play, Failure(None, "refused")))
    assert longest[0] <= 2
    assert longest[3] <= 16
    assert 100 < max(longest) <= 300
    play = polling()
    first = [pause(play, Failure(500, "broken")) for _ in range(8)]
    assert len(set(first)) == 8


def test_a_success_ends_the_backing_off() -> None:
    play = polling()
    for _ in range(10):
        pause(play, Failure(500, "broken"))
    pause(play, Unchanged(), after_s=50)
    assert pause(play, Failure(500, "broken")) <= 2


def test_a_credential_that_is_refused_is_not_shown_again_for_long() -> None:
    for status in (401, 403):
        assert 450 <= pause(polling(), Failure(status, "who?")) <= 1350


def test_every_report_has_a_higher_sequence_number_and_the_numbers_are_reserved_first() -> None:
    play = Play()
    numbers: list[int] = []
    for _ in range(3 * RESERVE):
        assert isinstance(play.command, Tell | Wait)
        if isinstance(play.command, Tell):
            numbers.append(play.command.report.sequence)
            assert play.command.report.sequence <= play.core.state.sequence_reserved
        play.answer(Failure(None, "lost") if isinstance(play.command, Tell) else Done())
    assert numbers == sorted(set(numbers))
    assert Reserved() in play.kept


def test_a_report_that_the_server_does_not_take_is_sent_again_under_a_new_journal() -> None:
    """Only an older copy of the flash can make our count fall behind."""
    play = Play()
    play.answer(Taken(taken=False))
    assert isinstance(play.command, Tell)
    assert [type(record) for record in play.kept] == [Reborn]
    assert play.command.report.journal != FRESH.journal
    assert play.command.report.sequence == 1
    assert isinstance(play.answer(Taken(taken=True)), Poll)


def test_a_server_that_never_takes_a_report_is_not_hammered() -> None:
    play = Play()
    for _ in range(20):
        play.answer(Taken(taken=False) if isinstance(play.command, Tell) else Done())
    assert len([record for record in play.kept if isinstance(record, Reborn)]) == 1
    assert play.now_s > 1000


def test_a_report_that_the_server_refuses_does_not_keep_the_agent_from_polling() -> None:
    play = Play()
    assert isinstance(play.answer(Failure(400, "bad")), Poll)
