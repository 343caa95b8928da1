"""Devices' keys, and the tokens that they sign, as a device makes them."""

import base64
import json

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from fleetvisor.protocol.signing import point


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    """A P-256 key that signs compact tokens."""

    def __init__(self):
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.point = point(self.private.public_key())
        self.public = encoded(self.point)

    def sign(self, claims, header=None):
        parts = [json.dumps(header or {"alg": "ES256"}), claims if isinstance(claims, str) else json.dumps(claims)]
        signed = ".".join(encoded(part.encode()) for part in parts)
        r, s = decode_dss_signature(self.private.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{encoded(r.to_bytes(32) + s.to_bytes(32))}"

    def jwt(self, sid, aud, now_s, life_s=600, **more):
        return self.sign({"iss": sid, "aud": aud, "iat": now_s, "exp": now_s + life_s} | more)

    def proof(self, token, aud, now_s, **more):
        """The proof with which this key enrols by an enrolment token's text."""
        return self.sign({"sub": "ET" + token.removeprefix("fve_").split("_")[0], "aud": aud, "iat": now_s} | more)
