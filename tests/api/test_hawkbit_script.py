"""The script that brings hawkBit's targets over: devices keep their ids and their tokens."""

import json
import subprocess
import sys
from pathlib import Path

from tests.api.test_ddi import Board
from tests.api.test_imports import upload

SCRIPT = Path(__file__).parents[2] / "examples/hawkbit_to_csv.py"


async def test_a_device_of_hawkbit_polls_here_with_its_old_id_and_token(server, hands):
    token = "2345678DGGDGFTDzztgf"
    targets = [
        {"controllerId": 'press,7 "x"', "name": "press", "securityToken": token, "updateStatus": "in_sync"},
        {"controllerId": "bare", "name": "bare"},
    ]
    listed = json.dumps({"content": targets, "total": 2, "size": 2})
    done = subprocess.run([sys.executable, str(SCRIPT)], input=listed, capture_output=True, text=True, check=True)
    assert "bare: no securityToken" in done.stderr
    made = (await upload(hands, done.stdout)).json
    assert [row["unique_name"] for row in made["devices"]] == ['press,7 "x"']
    board = Board(server, {"sid": made["devices"][0]["sid"], "device_token": token}, "press%2C7%20%22x%22")
    assert (await board.poll())["config"]["polling"]["sleep"] == "00:01:00"
