"""Times our reader of device tokens beside PyJWT, and prints which spellings of one token each takes.

``docs/adr/0008-own-token-reader.md`` has the numbers. ``make check`` installs what it needs.
"""

import timeit
from collections.abc import Callable

import jwt
from tests.jws import Key

from fleetvisor.ground.clock import Millis
from fleetvisor.ground.errors import Problem
from fleetvisor.protocol import jws
from fleetvisor.reality import RealClock

ROUNDS = 300


def main() -> None:
    """Print the table."""
    key, now = Key(), RealClock().now() // 1000
    token = key.sign({"iss": f"UV{0:032x}", "aud": "fleet", "iat": now, "exp": now + 600})
    public = key.private.public_key()

    def ours(text: str) -> None:
        read = jws.parse(text)
        assert jws.is_signed_by(read, (key.point,))
        jws.check_audience(read.claims, ("fleet",))
        jws.check_times(read.claims, Millis(now * 1000))

    def theirs(text: str) -> None:
        jwt.decode(text, options={"verify_signature": False})
        jwt.decode(text, public, algorithms=["ES256"], audience="fleet", leeway=jws.SKEW_S)

    for name, read in (("protocol/jws", ours), ("PyJWT", theirs)):
        took = min(timeit.repeat(lambda read=read: read(token), number=ROUNDS, repeat=5)) / ROUNDS
        spellings = {"=": f"{token}==", "blank": f"{token} ", "line": f"{token}\n"}
        taken = [mark for mark, text in spellings.items() if _takes(read, text)]
        print(f"{name}: {took * 1e6:.0f} µs for each token; other spellings taken: {', '.join(taken) or 'none'}")


def _takes(read: Callable[[str], None], text: str) -> bool:
    try:
        read(text)
    except (Problem, jwt.PyJWTError):
        return False
    return True


if __name__ == "__main__":
    main()
