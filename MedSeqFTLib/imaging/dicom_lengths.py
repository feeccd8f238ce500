"""The lengths that the elements of a DICOM file state, against the bytes that are there.

GDCM takes memory for an element before it looks whether the file goes on: four bytes may ask for 4 GiB.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from MedSeqFTLib.errors import InputError

_PREAMBLE = 132  # bytes, with DICM
_UNDEFINED = 0xFFFFFFFF
_ITEM, _END = 0xFFFE, (0xFFFE, 0xE0DD)
_SYNTAX, _PIXELS = (0x0002, 0x0010), (0x7FE0, 0x0010)
_IMPLICIT = {"1.2.840.10008.1.2", "1.2.840.113619.5.2"}
_BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_LONGEST_SYNTAX = 64  # characters


def check_lengths(path: Path) -> None:
    """Raise InputError if an element of a DICOM file claims more bytes than the file has; OSError as `open`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(_PREAMBLE)
        syntax, packed = "", False
        while len(head := file.read(8)) == 8:
            if head[:2] != b"\2\0" and syntax == _DEFLATED:
                return
            tag, length, enters = _element(file, head, syntax)
            if length > size - file.tell():
                raise InputError(
                    f"{path} is a DICOM file that cannot be read: an element of it claims {length} bytes, more than it "
                    "has; copy it again, or move it away if it is no image."
                )
            if tag == _SYNTAX:
                syntax = file.read(min(length, _LONGEST_SYNTAX)).rstrip(b"\0 ").decode("ascii", "replace")
            elif not enters or (packed and tag[0] == _ITEM):
                file.seek(length, 1)
            packed = (tag == _PIXELS and enters) or (packed and tag != _END)


def _element(file: BinaryIO, head: bytes, syntax: str) -> tuple[tuple[int, int], int, bool]:
    """Tag and length of the element that begins with `head`, and whether what follows are elements, too.

    Items, sequences and packed pixels are entered.
    """
    is_meta = head[:2] == b"\2\0"
    order = ">" if syntax == _BIG_ENDIAN and not is_meta else "<"
    group, element = struct.unpack(order + "HH", head[:4])
    kind = head[4:6]
    length = int(struct.unpack(order + "I", head[4:])[0])
    if group == _ITEM:
        return (group, element), 0 if length == _UNDEFINED else length, True
    if is_meta or (syntax not in _IMPLICIT and kind.isalpha() and kind.isupper()):
        length = int(struct.unpack(order + "H", head[6:])[0])
        if kind in _LONG:
            length = int(struct.unpack(order + "I", file.read(4).ljust(4, b"\0"))[0])
    enters = kind == b"SQ" or length == _UNDEFINED
    return (group, element), 0 if length == _UNDEFINED else length, enters
