"""Enrol a board that has a key of its own: python enroll.py URL TOKEN KEY.pem CA.pem prints the answer with its SID.

Makes the key if the file is not there. Needs the package ``cryptography``. What is sent stands in
docs/reference/device-api.md, "Enrolment".
"""

import base64
import json
import ssl
import sys
import time  # noqa: TID251  (a script beside the server, without its ports)
import urllib.request
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils


def base64url(raw: bytes) -> str:
    """Return bytes as JWT has them."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the board's key; make it the first time."""
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.touch(mode=0o600)
        path.write_bytes(made.private_bytes(*pem))
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        sys.exit(f"{path} is no P-256 key.")
    return key


def prove(key: ec.EllipticCurvePrivateKey, claims: dict[str, object]) -> str:
    """Return a JWT of the claims, signed with ES256."""
    parts = [base64url(json.dumps(part).encode()) for part in ({"alg": "ES256"}, claims)]
    der = key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256()))
    signature = b"".join(number.to_bytes(32, "big") for number in utils.decode_dss_signature(der))
    return ".".join([*parts, base64url(signature)])


url, token, key_file, ca_file = sys.argv[1:]
key = load_key(Path(key_file))
point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
claims = {"sub": "ET" + token.split("_")[1], "aud": url, "iat": int(time.time())}
body = {"token": token, "public_key": base64url(point), "proof": prove(key, claims)}
request = urllib.request.Request(
    f"{url}/device/v1/enroll", json.dumps(body).encode(), {"Content-Type": "application/json"}
)
with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=ca_file)) as answer:
    print(answer.read().decode())
