"""What of the database one device's requests make larger, and what bounds it; ``docs/reference/limits.md`` shows it.

Every table stands in one of the two: ``tests/unit/db/test_growth.py`` finds a table that nobody judged, and
``tests/api/test_device_growth.py`` floods one device's and looks at the bytes.
"""

from typing import Final

GROWN_BY_DEVICES: Final = {
    "events": "`device_events_per_hour_max`, `device_events_per_day_max`, and one more per hour for the rest, each for"
    " `events_kept_s`; refused requests: `refusals_per_address_max`, `refusals_per_hour_max`, each for"
    " `refusals_kept_s`",
    "device_events": "one row",
    "presence": "one row",
    "assignments": "one row, with the last 8 replaced journals",
    "device_attributes": "`attributes_max`, `attribute_key_chars_max`, `attribute_value_chars_max`",
    "updates": "one for each instruction of an operator, and up to `update_retries_max` retries",
    "update_log": "`update_logs_max`, `update_log_lines_max`, `update_log_line_chars_max`",
    "app_failures": "one row for each App that was its target",
    "rollout_devices": "one row for each rollout",
    "rollout_counts": "no row per device: counts for each wave and state, in shards",
    "devices": "by enrolment: the uses of the token, `waiting_devices_max`, `devices_per_account_max`",
    "device_keys": "by enrolment: one row for each device",
    "device_labels": "by enrolment: the labels of the token",
    "update_numbers": "one row",
}
"""Table and bound. What is not said to be of an account is of one device."""

GROWN_BY_OPERATORS: Final = frozenset(
    {
        "accounts",
        "app_layers",
        "apps",
        "configs",
        "device_logging",
        "device_tokens",
        "enrollment_tokens",
        "gateway_tokens",
        "keepsakes",
        "keys",
        "layers",
        "number_floor",
        "removed_blobs",
        "rollout_decisions",
        "rollout_waves",
        "rollouts",
        "schema_version",
        "seal_keys",
    }
)
"""Tables in which no device's request makes a row."""
