"""Compact signatures: read strictly, judged by time and audience, verified; and public keys in every form."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.jws import Key, encoded

from fleetvisor.ground.errors import ClockSkew, Invalid, Unauthenticated
from fleetvisor.protocol import jws

KEY = Key()
NOW = 1_800_000_000
GOOD = KEY.jwt("UV" + "0" * 32, "https://a", NOW)
HEAD, BODY, SIGNATURE = GOOD.split(".")


def test_a_token_is_read_and_verified_by_its_key_only():
    parsed = jws.parse(GOOD)
    assert (parsed.claims.iss, parsed.claims.aud) == ("UV" + "0" * 32, "https://a")
    assert jws.is_signed_by(parsed, (Key().point, KEY.point))
    assert not jws.is_signed_by(parsed, (Key().point,))
    assert not jws.is_signed_by(parsed, ())


@pytest.mark.parametrize(
    ("token", "rule"),
    [
        ("", "three parts"),
        ("a.b", "three parts"),
        (GOOD + ".x", "three parts"),
        (GOOD + "=", "without padding"),
        (f"{HEAD}.{BODY}.", "without padding"),
        (f"{HEAD}.{BODY}.{SIGNATURE[:-2]}", "64 bytes"),
        (f"{HEAD}.{BODY}.{encoded(bytes(64))}", "64 bytes"),
        (f"{HEAD}.{encoded(b'[1]')}.{SIGNATURE}", "cannot be read"),
        (f"{HEAD}.{encoded(b'{')}.{SIGNATURE}", "cannot be read"),
        ("é." + BODY + "." + SIGNATURE, "without padding"),
        (KEY.sign({}, {"alg": "none"}), "ES256"),
        (KEY.sign({}, {"alg": "HS256"}), "ES256"),
        (KEY.sign({}, {"alg": "es256"}), "ES256"),
        (KEY.sign({}, {"typ": "JWT"}), "cannot be read"),
        (KEY.sign({}, {"alg": "ES256", "crit": ["exp"]}), "crit"),
        (KEY.sign({}, {"alg": "ES256", "crit": None}), "crit"),
        (KEY.sign({}, {"alg": "ES256", "b64": False}), "crit or b64"),
        (KEY.sign({"iat": -1}), "cannot be read"),
        (KEY.sign({"exp": 1e30}), "cannot be read"),
        (KEY.sign({"aud": "x" * 4000}), "more than 4096"),
    ],
)
def test_what_is_no_such_token_is_refused_with_the_rule(token, rule):
    with pytest.raises(Unauthenticated, match=rule):
        jws.parse(token)


def test_a_token_has_at_most_4096_characters():
    tokens = [
        KEY.sign({"aud": "x" * size}, {"alg": "ES256", "typ": "J" * more})
        for size in (2900, 2901, 2902)
        for more in range(99)
    ]
    by_length = {len(token): token for token in tokens}
    assert len(jws.parse(by_length[4096]).claims.aud) >= 2900
    with pytest.raises(Unauthenticated, match="more than 4096"):
        jws.parse(by_length[4097])


def test_a_time_is_of_this_age_of_the_world():
    assert (claims(iat=0).iat, claims(exp=1 << 40).exp) == (0, 1 << 40)
    for time in (-1, (1 << 40) + 1):
        with pytest.raises(Unauthenticated, match="cannot be read"):
            claims(nbf=time)


def test_a_signature_is_of_its_own_header_and_claims():
    other = KEY.jwt("UV" + "1" * 32, "https://a", NOW).split(".")
    assert jws.is_signed_by(jws.parse(GOOD), (KEY.point,))
    for mixed in (f"{HEAD}.{other[1]}.{SIGNATURE}", f"{HEAD}.{BODY}.{other[2]}"):
        assert not jws.is_signed_by(jws.parse(mixed), (KEY.point,))
    spaced = encoded(b'{"alg": "ES256" }')
    assert not jws.is_signed_by(jws.parse(f"{spaced}.{BODY}.{SIGNATURE}"), (KEY.point,))


@given(st.data())
def test_no_changed_token_is_verified(data):
    place = data.draw(st.integers(0, len(GOOD) - 1))
    changed = GOOD[:place] + data.draw(st.characters()) + GOOD[place + 1 :]
    try:
        verified = jws.is_signed_by(jws.parse(changed), (KEY.point,))
    except Unauthenticated:
        return
    # The last character of 64 bytes in base64url has four bits that count.
    assert not verified or changed == GOOD or place == len(GOOD) - 1


def claims(**given):
    return jws.parse(KEY.sign(given)).claims


def test_the_audience_is_one_of_the_servers():
    with pytest.raises(Unauthenticated, match="aud must be a or b"):
        jws.check_audience(claims(aud="c"), ("a", "b"))
    for aud in ("b", ["x", "b"]):
        jws.check_audience(claims(aud=aud), ("a", "b"))
    for given_claims in ({}, {"aud": "c"}, {"aud": []}, {"aud": "b/"}):
        with pytest.raises(Unauthenticated):
            jws.check_audience(claims(**given_claims), ("a", "b"))


def test_a_proof_says_when_it_was_issued():
    with pytest.raises(Unauthenticated, match="iat") as caught:
        jws.check_issued(claims(exp=NOW), NOW * 1000)
    assert type(caught.value) is Unauthenticated


@pytest.mark.parametrize("now", [NOW * 1000 - 1, NOW * 1000 + 999, (NOW - 300) * 1000, (NOW + 300) * 1000 + 999])
def test_times_are_compared_in_whole_seconds(now):
    jws.check_issued(claims(iat=NOW), now)
    assert jws.check_times(claims(iat=NOW, exp=NOW + 1), (NOW + 300) * 1000 + 999) == (NOW + 301) * 1000


@pytest.mark.parametrize("iat", [NOW, NOW - 300, NOW + 300])
def test_a_proof_is_of_about_now(iat):
    jws.check_issued(claims(iat=iat), NOW * 1000)


@pytest.mark.parametrize("iat", [0, NOW - 301, NOW + 301])
def test_a_proof_of_another_time_says_that_the_clock_is_wrong(iat):
    with pytest.raises(ClockSkew):
        jws.check_issued(claims(iat=iat), NOW * 1000)


@pytest.mark.parametrize(
    ("iat", "exp", "now", "nbf"),
    [
        (NOW, NOW + 3600, NOW, 0),
        (NOW, NOW + 60, NOW + 359, 0),
        (NOW + 300, NOW + 301, NOW, 0),
        (NOW, NOW + 9, NOW, NOW),
        (NOW, NOW + 9, NOW, NOW + 300),
        (NOW, NOW + 9, NOW, None),
        (NOW, NOW + 1, NOW, 0),
    ],
)
def test_a_token_is_in_force_with_the_skew_of_clocks(iat, exp, now, nbf):
    assert jws.check_times(claims(iat=iat, exp=exp, nbf=nbf), now * 1000) == (exp + 300) * 1000


@pytest.mark.parametrize(
    ("given_claims", "now", "error"),
    [
        ({"iat": NOW, "exp": NOW + 60}, NOW + 360, ClockSkew),
        ({"iat": NOW, "exp": NOW + 60}, NOW - 301, ClockSkew),
        ({"iat": NOW, "exp": NOW + 60, "nbf": NOW + 400}, NOW, ClockSkew),
        ({"iat": NOW, "exp": NOW + 60, "nbf": NOW + 301}, NOW, ClockSkew),
        ({"iat": NOW, "exp": NOW - 1}, NOW, Unauthenticated),
        ({"iat": NOW, "exp": NOW + 3601}, NOW, Unauthenticated),
        ({"iat": NOW, "exp": NOW}, NOW, Unauthenticated),
        ({"exp": NOW}, NOW, Unauthenticated),
        ({"iat": NOW}, NOW, Unauthenticated),
    ],
)
def test_a_token_out_of_its_time_is_refused(given_claims, now, error):
    with pytest.raises(error) as caught:
        jws.check_times(claims(**given_claims), now * 1000)
    assert type(caught.value) is error


def test_a_public_key_is_taken_in_every_form():
    pem = KEY.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for text in (
        pem,
        KEY.public,
        KEY.point.hex(),
        base64.b64encode(KEY.point).decode(),
        f" {KEY.public}\n",
        f"\n {pem}",
    ):
        assert jws.parse_public_key(text) == KEY.point
        assert jws.parse_common_key(text) == KEY.point
    compressed = KEY.private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    der = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + compressed
    short = f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(der).decode()}\n-----END PUBLIC KEY-----\n"
    for text in (KEY.point.hex(" "), short, f"\n {short}", pem.replace("\n", "\r\n") + "\n"):
        assert jws.parse_public_key(text) == KEY.point


def test_the_fingerprint_of_a_key_is_the_sha_256_of_its_point():
    point = (
        ec.derive_private_key(1, ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    )
    assert jws.fingerprint(point) == "698bea63dc44a344663ff1429aea10842df27b6b991ef25866b2c6c02cdcc5be"


def test_base64_is_taken_in_both_alphabets_with_padding_and_without():
    points = [
        ec.derive_private_key(number, ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        for number in range(1, 20)
    ]
    texts = [base64.b64encode(point).decode() for point in points]
    assert any("+" in text for text in texts)
    assert any("/" in text for text in texts)
    for point, text in zip(points, texts, strict=True):
        web_safe = text.replace("+", "-").replace("/", "_")
        for form in (text, web_safe, text.rstrip("="), web_safe.rstrip("="), f"\n{text} "):
            assert jws.parse_public_key(f"{form[:30]} {form[30:]}") == point
            assert jws.parse_public_key(form) == point


@pytest.mark.parametrize(
    "text",
    ["", "x", "04" * 65, encoded(b"\x04" + b"\x01" * 64), "-----BEGIN PUBLIC KEY-----\nx", "-----BEGIN\ud800", "é"],
)
def test_what_is_no_public_key_is_refused(text):
    with pytest.raises(Invalid):
        jws.parse_public_key(text)


def test_a_point_of_our_curve_that_says_another_curve_is_refused():
    der = KEY.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert der[22] == 7  # the last number of the curve's name
    other = base64.b64encode(der[:22] + b"\x06" + der[23:]).decode()
    text = f"-----BEGIN PUBLIC KEY-----\n{other[:64]}\n{other[64:]}\n-----END PUBLIC KEY-----\n"
    assert jws.parse_common_key(text) is None
    with pytest.raises(Invalid):
        jws.parse_public_key(text)


def test_a_key_of_another_curve_is_refused():
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(Invalid):
        jws.parse_public_key(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())
