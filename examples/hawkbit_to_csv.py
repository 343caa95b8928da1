"""Turn hawkBit's list of targets into a file for ``fleetvisor devices import``; devices keep their ids and tokens.

Usage: curl -u USER:PASSWORD 'https://HAWKBIT/rest/v1/targets?limit=500' | python3 hawkbit_to_csv.py > devices.csv
Needs nothing but Python. hawkBit gives at most 500 targets at a time: go on with &offset=500, and so on.
"""

import csv
import hashlib
import json
import sys
from collections.abc import Iterator


def rows(targets: list[dict[str, str]]) -> Iterator[tuple[str, str]]:
    """Give a line for each target that has a token: its id, and the token's SHA-256."""
    for target in targets:
        if target.get("securityToken"):
            yield target["controllerId"], hashlib.sha256(target["securityToken"].encode()).hexdigest()
        else:
            print(f"{target['controllerId']}: no securityToken; register it by hand.", file=sys.stderr)


def main() -> None:
    """Read JSON from standard input, write CSV to standard output."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("name", "token_hash"))
    writer.writerows(rows(json.load(sys.stdin)["content"]))


if __name__ == "__main__":
    main()
