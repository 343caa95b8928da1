"""A factory's file becomes devices: all or none, with every fault told by line and column, on every engine."""

import hashlib

import pytest
from tests.api.test_identity import now_s, poll
from tests.api.world import BASE, serving
from tests.jws import Key

from fleetvisor.db.sqlite import memory

HEADER = "sid,name,public_key,token_hash,labels,hardware_class\n"


async def upload(hands, text, *, ok=201, media="text/csv", path="/v1/DeviceImports"):
    content = text if isinstance(text, bytes) else text.encode()
    return await hands.call("POST", path, ok=ok, content=content, headers={"content-type": media} if media else {})


def hash_of(token):
    return hashlib.sha256(token.encode()).hexdigest()


def sid(number):
    return f"UV{number:032x}"


async def test_devices_are_made_with_all_that_their_lines_say(server, hands):
    key, token = Key(), "fvd_of_the_factory"
    text = HEADER + (
        f"{sid(1).upper()},valve 1,{key.public},,site=graz; ring=1,valve-2\n"
        f',"a ""b"", c",,{hash_of(token).upper()},,\n'
        "\n"
        f",,{Key().point.hex()},{hash_of('other')},,\n"
    )
    made = (await upload(hands, text)).json
    assert (made["count"], [row["line"] for row in made["devices"]]) == (3, [2, 3, 5])
    assert [row["unique_name"] for row in made["devices"]] == ["valve 1", 'a "b", c', None]
    first = (await hands.get(f"/v1/Devices/{sid(1)}")).json
    assert (first["unique_name"], first["hardware_class"]) == ("valve 1", "valve-2")
    assert first["labels"] == {"ring": "1", "site": "graz"}
    await poll(server, key.jwt(sid(1), BASE, now_s(server)))
    await poll(server, token)
    event = (await hands.get("/v1/Events", DeviceSid=sid(1)))["events"][0]
    assert (event["type"], event["data"]["line"], event["actor_sid"]) == ("device.created", 2, hands.auth[0])
    app = await hands.app()
    assert (await hands.post("/v1/Devices/valve%201", TargetApp=app["sid"]))["app"]["target_sid"] == app["sid"]


async def test_columns_may_come_in_any_order_and_be_left_out(hands):
    made = await upload(hands, b"\xef\xbb\xbf" + f"Token_Hash , NAME\r\n{hash_of('x')} , pump\r\n".encode())
    assert made["devices"][0]["unique_name"] == "pump"


async def test_every_fault_is_told_by_line_and_column_and_nothing_is_made(hands):
    good, token = Key().public, hash_of("t")
    text = HEADER + (
        f"UVx,,{good},,,\n"
        f",a/b,{Key().public},,,\n"
        ",c,04zz,,,\n"
        ",d,,abc,,\n"
        f",e,,{token},site,\n"
        f',f,,{hash_of("f")},,"x\ty"\n'
        ",g,,,,\n"
        f",h,{good},,,\n"
        f",h,,{token.upper()},,\n"
    )
    detail = (await upload(hands, text, ok=400))["detail"]
    for place in (
        "line 2, column sid",
        "line 3, column name",
        "line 4, column public_key",
        "line 5, column token_hash",
        "line 6, column labels",
        "line 7, column hardware_class",
        "line 8, column public_key",
        "line 9, column public_key: the same as in line 2",
        "line 10, column name: the same as in line 9",
        "line 10, column token_hash: the same as in line 6",
    ):
        assert place in detail, place
    assert (await hands.get("/v1/Devices"))["devices"] == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1"),
        (HEADER, "no devices"),
        ("name\nx\n", "line 1"),
        ("name,colour,token_hash\n", "line 1"),
        ("name,name,token_hash\n", "line 1"),
        (HEADER + "a,b\n", "line 2 has 2 cells"),
        (HEADER + 'a,"b\n', "line 2 is not CSV"),
        ((HEADER + ",x,,").encode() + b"\xff\n", "line 2 is not valid UTF-8. Save the file as CSV UTF-8"),
        (HEADER + ",x\0,,,,\n", "line 2 has a NUL"),
        (HEADER + "," + "x" * 200_000 + ",,,,\n", "line 2 has more than 65536 characters"),
        (HEADER + '"a\n",' * 30_000, "line 2 has more than 65536 characters"),
        (b"token_hash\n\xc3", "line 2 is not valid UTF-8"),
    ],
)
async def test_what_is_no_such_file_is_400(hands, text, told):
    assert told in (await upload(hands, text, ok=400))["detail"]


async def test_what_exists_already_is_409_with_its_line_and_nothing_is_made(server, hands):
    key, stranger = Key(), await server.stranger()
    await upload(hands, HEADER + f"{sid(7)},seven,{key.public},,,\n,eight,,{hash_of('eight')},,\n")
    fresh = f",nine,,{hash_of('nine')},,\n"
    for row, column in (
        (f"{sid(7)},,,{hash_of('a')},,", "sid"),
        (f",seven,,{hash_of('a')},,", "name"),
        (f",,{key.public},,,", "public_key"),
        (f",,,{hash_of('eight')},,", "token_hash"),
    ):
        detail = (await upload(hands, HEADER + fresh + row + "\n", ok=409))["detail"]
        assert f"line 3, column {column}" in detail, detail
    await upload(stranger, HEADER + f"{sid(7)},,,{hash_of('b')},,\n", ok=409)  # a SID is one board's everywhere
    await upload(stranger, HEADER + f",seven,{key.public},,,\n")  # a name is not
    assert len((await hands.get("/v1/Devices"))["devices"]) == 2
    await hands.delete(f"/v1/Devices/{sid(7)}")
    await upload(hands, HEADER + f"{sid(7)},,{key.public},,,\n", ok=409)  # its key is refused until it is freed


async def test_the_body_and_the_number_of_devices_are_bounded(tmp_path):
    bounds = {"import_rows_max": 3, "import_bytes_max": 2000, "devices_per_account_max": 4}
    async with serving(memory(), tmp_path, **bounds) as server:
        hands = server.hands
        lines = [f",,,{hash_of(str(number))},,\n" for number in range(40)]
        await upload(hands, HEADER + "".join(lines[:4]), ok=400)
        await upload(hands, HEADER + "".join(lines), ok=413)
        await upload(hands, HEADER + "".join(lines[:3]))
        await upload(hands, HEADER + "".join(lines[4:6]), ok=409)
        await upload(hands, HEADER + lines[4])
        for media in ("application/json", "text/csv; charset=latin-1", None):
            await upload(hands, HEADER, ok=415, media=media)
        await hands.get("/v1/DeviceImports", ok=405)


def table(separator, end="\r\n", tail=""):
    rows = [["name", "token_hash", "labels"]]
    rows += [[f"s{number}", hash_of(f"{separator}{end}{tail}{number}"), '"site=graz;ring=1"'] for number in range(3)]
    return end.join(separator.join(row) + tail for row in rows)


@pytest.mark.parametrize(
    "text",
    [
        table(";"), table("\t"), table(","), table(",", end="\r"), table(",", tail=",,,"), table(";", tail=";;"),
        table(",") + "\r\n,,,\r\n,,\r\n,\r\n\r\n", table(";") + "\r\n;;;\r\n", table(",", end="\n") + "\n , ,\n",
        "\ufeff" + table(";"),
    ],
)  # fmt: skip
async def test_a_table_that_a_spreadsheet_wrote_is_taken(hands, text):
    made = (await upload(hands, text)).json
    assert [row["unique_name"] for row in made["devices"]] == ["s0", "s1", "s2"]
    assert [row["line"] for row in made["devices"]] == [2, 3, 4]
    assert (await hands.get("/v1/Devices/s1"))["labels"] == {"ring": "1", "site": "graz"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
async def test_a_table_in_utf_16_is_refused_with_the_cause(hands, encoding):
    detail = (await upload(hands, ("\ufeff" * (encoding != "utf-16") + table("\t")).encode(encoding), ok=400))["detail"]
    assert "UTF-16" in detail
    assert "UTF-8" in detail


async def test_faulty_lines_count_against_the_bound_and_reading_stops_after_a_hundred_faults(tmp_path):
    async with serving(memory(), tmp_path, import_rows_max=300) as server:
        bad = "name,token_hash\n" + "x/y,abc\n" * 2_000
        detail = (await upload(server.hands, bad, ok=400))["detail"]
        assert "lines after 27 were not read" in detail
        assert "and 82 more" in detail
        half = "name,token_hash\n" + "".join(f"a{n},{hash_of(str(n))}\n" for n in range(290)) + "b,abc\n" * 20
        assert "more than 300 devices" in (await upload(server.hands, half, ok=400))["detail"]
