"""An app is installed only if it is what its manifest says, and never below the counter of what was confirmed."""

import msgspec
import pytest
from tests.unit.agent.script import GEOMETRY, MANIFESTS, Play, app, desired, manifest, manifest_bytes, running

from fleetvisor.agent.commands import Failure, Fetched, FetchManifest, Reboot, Taken, Tell, Wait
from fleetvisor.agent.state import Armed, Booted, Confirmed, Failed, Image, Marked, Started, apply
from fleetvisor.agent.trust import judge_manifest
from fleetvisor.protocol.lifecycle import ErrorCode
from fleetvisor.protocol.native import flash_layers


def asked(target):
    """Give a script that stands where the manifest is asked for."""
    play = Play(running("v0"), manifests=False)
    play.boot_report()
    play.polled(desired(target))
    assert play.command == FetchManifest(target.manifest)
    return play


def judged(target, raw):
    return judge_manifest(target, flash_layers(target), raw, GEOMETRY)


def test_nothing_is_downloaded_before_the_manifest_was_seen():
    play = asked(app("v1", 2))
    play.answer(Fetched(manifest_bytes("v1")))
    assert isinstance(play.kept[-1], Started)
    play.download("v1")


def test_another_manifest_than_the_desired_one_fails_with_2():
    play = asked(app("v1", 2))
    assert isinstance(play.answer(Fetched(manifest_bytes("v2"))), Tell)
    assert play.kept == [Failed(2, manifest("v1"), ErrorCode.HASH_MISMATCH)]


@pytest.mark.parametrize(
    "change", [{"sha256": "0" * 64}, {"measurement": "0" * 64}, {"region_start": 64, "region_size": 448}]
)
def test_a_layer_that_the_manifest_does_not_name_fails_with_4(change):
    target = app("v1", 2)
    layer = msgspec.structs.replace(target.layers[0], **change)
    play = asked(msgspec.structs.replace(target, layers=(layer,)))
    assert isinstance(play.answer(Fetched(manifest_bytes("v1"))), Tell)
    assert play.kept == [Failed(2, manifest("v1"), ErrorCode.REFUSED_BY_POLICY)]


def test_a_layer_too_few_or_too_many_is_refused():
    target = app("v1", 2, region=128, size=100)
    more = msgspec.structs.replace(target.layers[0], region_start=128)
    doubled = msgspec.structs.replace(target, layers=(*target.layers, more))
    assert judged(doubled, manifest_bytes("v1", 100, 128)) is ErrorCode.REFUSED_BY_POLICY


def test_bytes_that_are_no_manifest_are_refused_though_their_hash_is_right():
    from hashlib import sha256

    target = msgspec.structs.replace(app("v1", 2), manifest=sha256(b"x").hexdigest())
    assert judged(target, b"x") is ErrorCode.REFUSED_BY_POLICY


def test_a_manifest_that_cannot_be_had_fails_with_1_after_some_refusals_and_waits_out_what_may_pass():
    play = asked(app("v1", 2))
    assert isinstance(play.answer(Failure(503, "busy")), Wait)
    for _ in range(200):
        if play.kept:
            break
        match play.command:
            case FetchManifest():
                play.answer(Failure(404, "gone"))
            case Tell():
                play.answer(Taken(taken=True))
            case Wait():
                play.answer(Fetched(b""))
            case _:
                play.polled(desired(app("v1", 2)))
    assert play.kept == [Failed(2, manifest("v1"), ErrorCode.DOWNLOAD_FAILED)]


def confirmed(counter):
    """Give the state of a device that confirmed an app with a security counter."""
    state = running("v0")
    records = [Started(2, Image(manifest("v1"), "KA" + "1" * 32, counter)), Marked(8), Armed(), Booted(), Confirmed()]
    for record in records:
        state = apply(state, record)
    return state


def test_a_lower_security_counter_is_refused_with_4_whatever_the_server_says():
    state = confirmed(5)
    assert state.security_counter == 5
    play = Play(state)
    while isinstance(play.command, Tell):
        play.answer(Taken(taken=True))
    play.polled(desired(msgspec.structs.replace(app("v2", 3), security_counter=4)))
    assert Failed(3, manifest("v2"), ErrorCode.REFUSED_BY_POLICY) in play.kept


@pytest.mark.parametrize("counter", [None, 5, 6])
def test_the_same_or_a_higher_counter_or_none_is_installed(counter):
    play = Play(confirmed(5))
    while isinstance(play.command, Tell):
        play.answer(Taken(taken=True))
    play.polled(desired(msgspec.structs.replace(app("v2", 3), security_counter=counter)))
    play.download("v2")
    play.polled(desired(msgspec.structs.replace(app("v2", 3), security_counter=counter)))
    assert isinstance(play.command, Reboot)


def test_an_app_without_a_counter_leaves_the_one_that_was_confirmed():
    state = confirmed(5)
    for record in (Started(3, Image(manifest("v2"), "KA" + "2" * 32)), Marked(8), Armed(), Booted(), Confirmed()):
        state = apply(state, record)
    assert state.security_counter == 5
    assert manifest("v2") in MANIFESTS
