"""Every bound of the server, in one frozen value; ``docs/reference/limits.md`` is generated from it.

Built from the settings by ``server/build``; nobody else sees settings. Sizes are bytes, times seconds.
Each field's metadata gives ``error`` (what a caller gets beyond it) and ``about``.
"""

from dataclasses import dataclass, field
from typing import Any


def _bound(default: int, error: str, about: str) -> Any:  # noqa: ANN401  (a dataclass field stands for any type)
    return field(default=default, metadata={"error": error, "about": about})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds in force."""

    bundle_bytes_max: int = _bound(16 << 20, "413, 20413", "size of an uploaded bundle")
    firmware_bytes_max: int = _bound(2 << 30, "413, 20413", "size of uploaded firmware of another kind")
    bundle_entries_max: int = _bound(64, "400, 20001", "entries in a bundle's zip")
    bundle_inflated_bytes_max: int = _bound(64 << 20, "400, 20001", "unpacked size of all entries of a bundle")
    manifest_bytes_max: int = _bound(64 << 10, "400, 20001", "size of a manifest")
    internal_flash_bytes: int = _bound(1 << 20, "400, 20001", "internal flash that regions may cover, from offset 0")
    external_flash_bytes: int = _bound(16 << 20, "400, 20001", "external flash that regions may cover, from offset 0")
    config_key_chars_max: int = _bound(100, "400, 20001", "characters of a config or secret key (printable ASCII)")
    config_value_chars_max: int = _bound(4096, "400, 20001", "characters of a config or secret value")
    configs_per_owner_max: int = _bound(
        5000, "409, 20409", "configs of one account or of one device; the same for secrets"
    )
    config_fetch_items_max: int = _bound(64, "400, 20001", "items of one configs/fetch request")
    devices_per_account_max: int = _bound(10_000_000, "409, 20409", "devices of one account")
    apps_per_account_max: int = _bound(10_000, "409, 20409", "apps of one account")
    account_chunk: int = _bound(
        50, "none", "devices or other rows of an ended account that are removed in one transaction"
    )
    keys_per_account_max: int = _bound(100, "409, 20409", "API keys of one account")
    unique_name_chars_max: int = _bound(64, "400, 20001", "characters of an App's unique name")
    device_name_chars_max: int = _bound(256, "400, 20001", "characters of a Device's unique name")
    label_chars_max: int = _bound(128, "400, 20001", "characters of a version or hardware class")
    labels_max: int = _bound(32, "400, 20001", "labels of one device")
    credentials_max: int = _bound(8, "409, 20409", "tokens and keys of one device")
    token_overlap_s_max: int = _bound(
        30 * 24 * 3600, "400, 20001", "time for which a replaced device token still works"
    )
    enrollment_tokens_max: int = _bound(1000, "409, 20409", "enrolment tokens of one account")
    enrollment_ttl_s_max: int = _bound(10 * 365 * 24 * 3600, "400, 20001", "lifetime of an enrolment token (0: no end)")
    enrollment_refusals_bytes: int = _bound(
        4 << 20, "the oldest are dropped", "memory for refused enrolments, which are refused again without a look-up"
    )
    waiting_devices_max: int = _bound(1000, "403, 20006", "devices of one account that wait to be accepted")
    import_rows_max: int = _bound(100_000, "400, 20001", "devices of one import")
    import_bytes_max: int = _bound(64 << 20, "413, 20413", "size of a file of devices to import")
    key_ttl_s_max: int = _bound(10 * 365 * 24 * 3600, "400, 20001", "lifetime of an API key (0: no end)")
    events_kept_s: int = _bound(400 * 24 * 3600, "none", "time for which events are kept")
    refusals_kept_s: int = _bound(30 * 24 * 3600, "none", "time for which events of refused requests are kept")
    refusals_per_address_max: int = _bound(
        100, "summed, every 10 minutes", "events per hour for refused requests from one address (IPv6: /64)"
    )
    refusals_per_hour_max: int = _bound(1000, "summed, every 10 minutes", "events per hour for all refused requests")
    device_events_per_hour_max: int = _bound(
        500, "merged into one", "events that one device causes in an hour (0: no bound)"
    )
    device_events_per_day_max: int = _bound(
        2000, "merged into one", "events that one device causes in a UTC day (0: no bound)"
    )
    failed_proofs_max: int = _bound(
        20, "429, 20429", "failed authentications per minute of one identity from one address"
    )
    failed_proofs_per_address_max: int = _bound(
        300, "429, 20429", "failed authentications per minute from one address (IPv6: /64)"
    )
    key_requests_per_s: int = _bound(200, "429, 20429", "requests per second with one API key (0: no limit)")
    key_requests_burst: int = _bound(1000, "429, 20429", "requests with one API key in a burst")
    auth_token_requests_per_s: int = _bound(
        1000, "429, 20429", "requests per second with an account's Auth Tokens (0: no limit)"
    )
    auth_token_requests_burst: int = _bound(5000, "429, 20429", "requests with an account's Auth Tokens in a burst")
    device_writes_per_s: int = _bound(
        50, "429, 20429", "reports and other writes per second of one device (0: no limit)"
    )
    device_writes_burst: int = _bound(1000, "429, 20429", "reports and other writes of one device in a burst")
    selector_chars_max: int = _bound(2000, "400, 20001", "characters of a selector")
    selector_values_max: int = _bound(100, "400, 20001", "terms and values of a selector")
    selector_rows_max: int = _bound(10_000, "a short page", "devices examined for one page of a selector")
    scans_waiting_max: int = _bound(4, "429, 20429", "counts and plans of one account that wait while another runs")
    scan_time_s: int = _bound(60, "503, 20503", "time that a count or a plan may take, including the wait")
    rollout_waves_max: int = _bound(20, "400, 20001", "waves of one rollout")
    rollouts_max: int = _bound(10_000, "409, 20409", "rollouts of one account")
    rollouts_open_max: int = _bound(100, "409, 20409", "rollouts of one account that are under way")
    rollout_chunk: int = _bound(12, "none", "devices of a rollout that are offered its app in one transaction")
    penalty_failures: int = _bound(
        3, "rollouts skip it", "failures of an app on a device after which rollouts skip the device"
    )
    new_device_s: int = _bound(
        24 * 3600, "none", "time after its enrolment in which a device that no operator accepted is not evidence"
    )
    rollout_sample_max: int = _bound(1000, "400, 20001", "devices of each wave that a rollout's plan lists (Sample)")
    page_size_max: int = _bound(1000, "clamped", "items of one page")
    page_size_default: int = _bound(50, "none", "items of one page if PageSize is absent")
    form_bytes_max: int = _bound(64 << 10, "413, 20413", "body of a form request")
    device_body_bytes_max: int = _bound(64 << 10, "413, 20413", "body of a device request")
    header_bytes_max: int = _bound(16 << 10, "431 or a closed connection", "header block of a request")
    request_time_s: int = _bound(
        30, "503, 20503", "time in which a request's body must arrive and the server must answer"
    )
    upload_time_s: int = _bound(3600, "503, 20503", "time in which an upload must arrive")
    parsers_max: int = _bound(4, "the upload waits", "uploads that are parsed at a time; one account gets at most half")
    parse_time_s: int = _bound(
        30, "400, 20001", "time in which an upload must be parsed, plus one second for each 4 MiB"
    )
    parse_wait_s: int = _bound(600, "503, 20503", "time for which an upload may wait to be parsed")
    wait_s_max: int = _bound(300, "clamped", "time for which a poll may be held")
    held_polls_max: int = _bound(100_000, "answered at once", "polls that one server holds at a time")
    held_polls_per_device_max: int = _bound(4, "answered at once", "polls of one device that are held at a time")
    layer_cache_bytes: int = _bound(256 << 20, "read from disk", "memory for layers that devices download")
    downloads_bytes_max: int = _bound(
        1 << 30, "503, 20503", "memory for current downloads that are larger than 32 KiB, 288 KiB each"
    )
    download_bytes_min: int = _bound(
        4 << 10,
        "the connection closes",
        "bytes of a download that a device must read in download_window_s (0: no limit)",
    )
    download_window_s: int = _bound(
        60, "none", "time in which a device must read download_bytes_min, measured in pieces of 32 KiB"
    )
    connections_max: int = _bound(0, "the connection waits", "open connections (0: from the descriptor limit)")
    connections_per_address_max: int = _bound(
        10_000,
        "the connection is closed",
        "connections that one address (IPv6: /64) may keep while fewer than a tenth of the places are free and it holds"
        " more than a quarter of them; at most that quarter (0: no limit; trusted proxies have no limit)",
    )
    update_retries_max: int = _bound(3, "update_status error", "retries after a device left its target by itself")
    report_timeout_s: int = _bound(
        3600, "update error 9", "time in which a device must report after it has fetched an update"
    )
    cancel_timeout_s: int = _bound(600, "the update closes", "time in which a device must answer a request to cancel")
    update_log_lines_max: int = _bound(200, "the oldest are dropped", "log lines kept of one update")
    update_logs_max: int = _bound(20, "the oldest are dropped", "updates of one device whose log lines are kept")
    update_log_line_chars_max: int = _bound(1000, "cut off", "characters kept of such a log line")
    attributes_max: int = _bound(100, "omitted and reported", "attributes of one device")
    attribute_key_chars_max: int = _bound(128, "omitted and reported", "characters of an attribute's key")
    attribute_value_chars_max: int = _bound(512, "omitted and reported", "characters of an attribute's value")
    poll_interval_s_max: int = _bound(24 * 3600, "400, 20001", "time between polls of one device (PollInterval)")
    logging_s: int = _bound(24 * 3600, "logging ends", "time for which LoggingEnabled=true stays in effect")
    poll_interval_s: int = _bound(60, "none", "time between polls that the server asks devices for")
    layer_check_s: int = _bound(
        7 * 24 * 3600, "none", "time after which the server checks a stored layer again (0: never)"
    )
    layer_check_bytes_per_s: int = _bound(
        8 << 20, "none", "bytes of stored layers that the server checks again per second"
    )
    layer_grace_s: int = _bound(3600, "none", "time for which the server keeps bytes that no app uses")
