"""Finding an operation, and reading its form."""

import pytest

from fleetvisor.api.forms import find_flag, find_text, get_text
from fleetvisor.api.routes import Route, Routes
from fleetvisor.ground.errors import Invalid


async def nothing(_):
    raise AssertionError


ROUTES = Routes(
    [
        Route(method, template, f"{method} {template}", "", nothing)
        for method, template in [
            ("GET", "/v1/Devices"),
            ("POST", "/v1/Devices"),
            ("GET", "/v1/Devices/{Sid}"),
            ("GET", "/v1/Devices/{DeviceSid}/Configs"),
            ("GET", "/v1/Devices/{DeviceSid}/Configs/{Key}"),
        ]
    ]
)


@pytest.mark.parametrize(
    ("path", "template", "args"),
    [
        ("/v1/Devices", "/v1/Devices", ()),
        ("/v1/Devices/d", "/v1/Devices/{Sid}", ("d",)),
        ("/v1/Devices/Configs", "/v1/Devices/{Sid}", ("Configs",)),
        ("/v1/Devices/d/Configs", "/v1/Devices/{DeviceSid}/Configs", ("d",)),
        ("/v1/Devices/d/Configs/k", "/v1/Devices/{DeviceSid}/Configs/{Key}", ("d", "k")),
        ("/v1/Devices/*/Configs/*", "/v1/Devices/{DeviceSid}/Configs/{Key}", ("*", "*")),
    ],
)
def test_a_path_leads_to_its_operation(path, template, args):
    found = ROUTES.find(tuple(path.split("/")[1:]))
    assert found is not None
    by_method, parts = found
    assert by_method["GET"].template == template
    assert parts == args


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/Devices/",
        "/v1/Devices/d/",
        "/v1/Devices//Configs",
        "/v1/Devices/d/Configs/",
        "/v1/*",
        "/v1/Devices/d/Secrets",
        "/v1/Devices/d/Configs/k/x",
    ],
)
def test_another_path_leads_nowhere(path):
    assert ROUTES.find(tuple(path.split("/")[1:])) is None


def test_parameters_are_given_once_and_spelt_exactly():
    form = {"A": ("1",), "B": ("1", "2"), "Empty": ("",)}
    assert find_text(form, "A") == get_text(form, "A") == "1"
    assert find_text(form, "a") is None
    assert find_text(form, "Empty") == ""
    for name in ("B", "a"):
        with pytest.raises(Invalid):
            get_text(form, name)


@pytest.mark.parametrize(
    ("text", "flag"), [("true", True), ("TRUE", True), ("True", True), ("false", False), ("FALSE", False)]
)
def test_flags_are_words_in_any_case(text, flag):
    assert find_flag({"F": (text,)}, "F") is flag


@pytest.mark.parametrize("text", ["", "1", "0", "yes", "t", " true", "truе"])
def test_no_other_word_is_a_flag(text):
    with pytest.raises(Invalid):
        find_flag({"F": (text,)}, "F")
    assert find_flag({}, "F") is None
