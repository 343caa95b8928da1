"""The facts of the last published Microvisor OpenAPI document (2025-07-03), compactly, for comparison with ours.

Each operation: method, path, operationId, path and query parameters, form parameters (``!`` marks a required one),
status of success, and the answer: a schema of ``SCHEMAS`` or a list's key.
"""

PAGING = "PageSize Page PageToken"


def _store(base, whose, noun):
    path = base.count("{") and "DeviceSid"
    before = f"{path} " if path else ""
    key = f"{noun.lower()}s"
    schema = f"{whose.lower()}_{noun.lower()}"
    return [
        ("GET", base, f"List{whose}{noun}", f"{before}{PAGING}", "", 200, [key, schema]),
        ("POST", base, f"Create{whose}{noun}", before, "Key! Value!", 201, schema),
        ("GET", f"{base}/{{Key}}", f"Fetch{whose}{noun}", f"{before}Key", "", 200, schema),
        ("POST", f"{base}/{{Key}}", f"Update{whose}{noun}", f"{before}Key", "Value!", 200, schema),
        ("DELETE", f"{base}/{{Key}}", f"Delete{whose}{noun}", f"{before}Key", "", 204, None),
    ]


OPERATIONS = [
    ("GET", "/v1/Apps", "ListApp", PAGING, "", 200, ["apps", "app"]),
    ("GET", "/v1/Apps/{Sid}", "FetchApp", "Sid", "", 200, "app"),
    ("DELETE", "/v1/Apps/{Sid}", "DeleteApp", "Sid", "", 204, None),
    ("GET", "/v1/Apps/{AppSid}/Manifest", "FetchAppManifest", "AppSid", "", 200, "app_manifest"),
    ("GET", "/v1/Devices", "ListDevice", PAGING, "", 200, ["devices", "device"]),
    ("GET", "/v1/Devices/{Sid}", "FetchDevice", "Sid", "", 200, "device"),
    (
        "POST",
        "/v1/Devices/{Sid}",
        "UpdateDevice",
        "Sid",
        "UniqueName TargetApp LoggingEnabled RestartApp",
        200,
        "device",
    ),
    *_store("/v1/Configs", "Account", "Config"),
    *_store("/v1/Secrets", "Account", "Secret"),
    *_store("/v1/Devices/{DeviceSid}/Configs", "Device", "Config"),
    *_store("/v1/Devices/{DeviceSid}/Secrets", "Device", "Secret"),
]

SCHEMAS = {
    "account_config": "key date_updated value url",
    "account_secret": "key date_rotated url",
    "app": "sid account_sid hash unique_name date_created date_updated url links",
    "app_manifest": "app_sid hash encoded_bytes url",
    "device": "sid unique_name account_sid app logging date_created date_updated url links",
    "device_config": "device_sid key value date_updated url",
    "device_secret": "device_sid key date_rotated url",
}
META = "first_page_url key next_page_url page page_size previous_page_url url"
