"""JSON that is no good JSON: whatever a text holds, what stands beside it is read, and nothing else is ever raised."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol import lenient


class Said(msgspec.Struct, frozen=True):
    state: int
    text: str = ""


_said = msgspec.json.Decoder(Said)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'{"state":1,"text":"a\tb"}', "a\tb"),
        (b'{"state":1,"text":"\x1b[31mred\x07"}', r"\x1b[31mred\x07"),
        (b'{"state":1,"text":"K\xfche \xc3\xbc"}', r"K\xfche " + "ü"),
        (rb'{"state":1,"text":"\ud83d"}', r"\ud83d"),
        (b'\xef\xbb\xbf{"state":1,"text":"a"}', "a"),
        (b'{"state":1,"text":"\x07","x":' + b"9" * 5000 + b"}", r"\x07"),
    ],
)
def test_odd_text_is_escaped_and_what_stands_beside_it_is_read(raw, text):
    assert lenient.parse(_said, raw) == Said(1, text)


@pytest.mark.parametrize("raw", [b"", b"\xff", b"{", b'{"state":"\xfc"}', b'{"state":1}x', b"[" * 60_000])
def test_what_is_no_json_or_has_no_state_is_refused(raw):
    with pytest.raises(Invalid, match="The body cannot be read"):
        lenient.parse(_said, raw)


@given(st.text(max_size=50))
def test_what_is_readable_is_left_as_it_is_and_can_always_be_stored(text):
    made = lenient.readable(text)
    json.dumps(made).encode()
    made.encode()
    assert "\0" not in made
    assert lenient.readable(made) == made
