"""An upload read as it streams: one ``File`` part into a spool file, and what is said of it in a few fields.

The multipart syntax is python-multipart's; this module decides which parts there may be and keeps the bounds, so
that memory does not grow with the file. The part's file name and type are ignored. Spec: the API reference, 3.1.
"""

from pathlib import Path
from typing import BinaryIO, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from fleetvisor.api import parameters
from fleetvisor.api.routes import Param
from fleetvisor.features.apps.model import Upload
from fleetvisor.ground.errors import Invalid, TooLarge, UnsupportedMediaType
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.names import is_text
from fleetvisor.ground.offload import Offload
from fleetvisor.protocol.images import KINDS, ZIP_MAGICS, Kind
from fleetvisor.web.requests import Request
from fleetvisor.web.values import parse_options

_OVERHEAD_MAX: Final = 64 << 10
_FIELD_MAX: Final = 4096
_PARTS_MAX: Final = 16
_HEADERS_MAX: Final = 8 << 10
#: What an upload may say. Other parts are ignored, as the original ignores them, but not a slip of one of these.
PARAMS: Final = (
    Param("File", "The bundle, or firmware of another kind.", "file", required=True),
    Param("UniqueName", "A name for the App."),
    Param("Kind", f"What the File must be: {', '.join(KINDS)}; by default told by its content, which raw skips."),
    Param("Version", "The version of a File that states none."),
    Param("HardwareClass", "The hardware class of a File that states none."),
)
_KNOWN: Final = frozenset(param.name for param in PARAMS)
_FIELDS: Final = _KNOWN - {"File"}
_MAGIC_BYTES: Final = 4
_BLOCK: Final = 256 << 10


class _Parts:
    """Takes the parser's callbacks: keeps what belongs to ``File`` and to the fields, counts the rest."""

    def __init__(self, limits: Limits) -> None:
        self.block: list[bytes] = []
        self.names: list[str] = []
        self.file_bytes = 0
        self.ended = False
        self._limits = limits
        self._magic = b""
        self._field = bytearray()
        self._fields: dict[str, str] = {}
        self._name = ""
        self._header_bytes = 0
        self._header_name = b""
        self._header_value = b""

    def upload(self) -> Upload:
        """Return what the fields say of the file; an empty one says nothing. Raises ``Invalid``."""
        fields = self._fields
        asked = fields.get("Kind") or None
        kind: Kind | None = next((known for known in KINDS if known == asked), None)
        if asked is not None and kind is None:
            raise Invalid(f"Kind must be one of {', '.join(KINDS)}.")
        return Upload(
            fields.get("UniqueName") or None, kind, fields.get("Version") or None, fields.get("HardwareClass") or None
        )

    def on_part_begin(self) -> None:
        self._name = ""
        self._field.clear()
        self._header_name = self._header_value = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += self._counted(data[start:end])

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += self._counted(data[start:end])

    def _counted(self, data: bytes) -> bytes:
        self._header_bytes += len(data)
        if self._header_bytes > _HEADERS_MAX:
            raise Invalid(f"The headers of the parts have more than {_HEADERS_MAX} bytes.")
        return data

    def on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            kind, options = parse_options(self._header_value)
            if kind == b"form-data":
                self._name = _decode(options.get(b"name", b""), "A part's name")
        self._header_name = self._header_value = b""

    def on_headers_finished(self) -> None:
        if not self._name:
            raise Invalid("A part has no Content-Disposition: form-data with a name.")
        if self._name not in _KNOWN:
            parameters.refuse_near(self._name, PARAMS)
        if self._name in self.names and self._name in _KNOWN:
            raise Invalid(f"There is more than one part {self._name}; send one.")
        self.names.append(self._name)
        if len(self.names) > _PARTS_MAX:
            raise Invalid(f"There are more than {_PARTS_MAX} parts.")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "File":
            self._take(data[start:end])
            return
        self._field += data[start:end]
        if len(self._field) > _FIELD_MAX:
            raise Invalid(f"The part {self._name!a} has more than {_FIELD_MAX} bytes.")

    def _take(self, piece: bytes) -> None:
        self.file_bytes += len(piece)
        if len(self._magic) < _MAGIC_BYTES:
            self._magic = (self._magic + piece)[:_MAGIC_BYTES]
        if self.file_bytes > self._limits.firmware_bytes_max:
            raise TooLarge(f"The File part is larger than {self._limits.firmware_bytes_max} bytes.")
        if self.file_bytes > self._limits.bundle_bytes_max and self._is_bundle():
            raise TooLarge(
                f"The File part is a zip larger than a bundle of {self._limits.bundle_bytes_max} bytes. "
                "To keep it as a file of the kind raw, send Kind=raw before the File."
            )
        self.block.append(piece)

    def _is_bundle(self) -> bool:
        return self._magic in ZIP_MAGICS and self._fields.get("Kind") != "raw"

    def on_part_end(self) -> None:
        if self._name in _FIELDS:
            self._fields[self._name] = _decode(bytes(self._field), self._name)

    def on_end(self) -> None:
        self.ended = True

    def callbacks(self) -> dict[str, object]:
        """Return the callbacks by the parser's names."""
        names = (
            "on_part_begin",
            "on_header_field",
            "on_header_value",
            "on_header_end",
            "on_headers_finished",
            "on_part_data",
            "on_part_end",
            "on_end",
        )
        return {name: getattr(self, name) for name in names}


class _Reader:
    """Feeds the parser from the first boundary on: a preamble, which the parser knows nothing of, is skipped."""

    def __init__(self, boundary: bytes, parts: _Parts) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._seen: bytes | None = b"\r\n"
        callbacks = parts.callbacks()
        try:
            self._parser = MultipartParser(boundary, callbacks)  # pyright: ignore
        except FormParserError as error:
            raise Invalid(f"The boundary of the Content-Type is malformed: {error}.") from None

    def feed(self, chunk: bytes) -> None:
        """Parse another piece of the body. Raises ``Invalid``, ``TooLarge``."""
        if self._seen is not None:
            chunk = self._seen + chunk
            start = chunk.find(self._delimiter)
            if start < 0:
                self._seen = chunk[1 - len(self._delimiter) :]
                return
            chunk, self._seen = chunk[start + 2 :], None
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Invalid(f"The multipart body is malformed: {error}.") from None


async def receive(request: Request, spooled: Path, limits: Limits, offload: Offload) -> Upload:
    """Read a multipart upload: its ``File`` into ``spooled`` (a new file, the caller's from then on); give its fields.

    Raises ``UnsupportedMediaType``, ``Invalid``, ``TooLarge`` (before reading, when the length says so),
    ``Unavailable`` (too slow) and ``Disconnected``.
    """
    parts = _Parts(limits)
    reader = _Reader(_boundary(request), parts)
    most = limits.firmware_bytes_max + _OVERHEAD_MAX
    if (request.content_length() or 0) > most:
        raise TooLarge(f"The upload is larger than a file of {limits.firmware_bytes_max} bytes can make it.")
    around = 0
    file = await offload(lambda: _create(spooled))
    try:
        async for chunk in request.chunks(most, what="The upload", time_s=limits.upload_time_s):
            reader.feed(chunk)
            around += len(chunk)
            if around - parts.file_bytes > _OVERHEAD_MAX:
                raise TooLarge(f"There are more than {_OVERHEAD_MAX} bytes beside the File part.")
            await _keep(parts, file, offload)
    finally:
        await offload(file.close)
    if not parts.ended:
        raise Invalid("The multipart body is truncated: its closing boundary is missing.")
    if "File" not in parts.names:
        raise Invalid("There is no part named File; it holds the bundle or other firmware.")
    return parts.upload()


async def spool(request: Request, spooled: Path, limits: Limits, offload: Offload) -> None:
    """Read a factory's file into ``spooled``, a new file, the caller's from then on. Raises as ``Request.chunks``."""
    file = await offload(lambda: _create(spooled))
    try:
        block: list[bytes] = []
        async for chunk in request.chunks(limits.import_bytes_max):
            block.append(chunk)
            if sum(map(len, block)) >= _BLOCK:
                raw, block = b"".join(block), []
                await offload(lambda raw=raw: file.write(raw))
        await offload(lambda: file.write(b"".join(block)))
    finally:
        await offload(file.close)


def _create(spooled: Path) -> BinaryIO:
    """Open a new file, in a folder that somebody may have removed."""
    spooled.parent.mkdir(mode=0o700, exist_ok=True)
    return spooled.open("xb")


def _boundary(request: Request) -> bytes:
    kind, options = parse_options(request.header(b"content-type"))
    if kind != b"multipart/form-data":
        raise UnsupportedMediaType("Upload firmware as multipart/form-data with a part named File.")
    boundary = options.get(b"boundary")
    if not boundary:
        raise Invalid("The Content-Type multipart/form-data has no boundary.")
    return boundary


async def _keep(parts: _Parts, file: BinaryIO, offload: Offload) -> None:
    if parts.block:
        block = b"".join(parts.block)
        parts.block.clear()
        await offload(lambda: file.write(block))


def _decode(raw: bytes, what: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid(f"{what} is not valid UTF-8.") from None
    if not is_text(text):
        raise Invalid(f"{what} contains a NUL character.")
    return text
