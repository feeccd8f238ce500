"""Damaging valid files: bytes, lines of a header, JSON. Everything is drawn from the given random generator."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes], bytes]

NUMBERS = (
    "0", "-0", "-1", "1", "2", "3", "7", "255", "256", "65535", "65536", "2147483647", "-2147483648", "4294967296",
    "9223372036854775807", "18446744073709551616", "1e999", "-1e999", "1e-320", "nan", "-nan", "inf", "-inf", "NaN",
    "Infinity", "0x10", "1_000", "0.5", "1.5e3", "\u0663", "1" * 400, "9" * 5000, "", "--1", "1,2", "(1,0,0)", "none",
)  # fmt: skip
TEXTS = (
    "", " ", "\n", "\0", "a\0b", "..", "../../etc/passwd", "/etc/passwd", "C:\\Windows\\win.ini", "\\\\server\\share",
    "CON", "nul.txt", "COM1", "name.", "name ", "a:b", "a/b", "a\\b", "~", "x" * 300, "x" * 70_000, "\u202egpj.exe",
    "\u200b", "e\u0301", "\u00e9", "\ud800", "\U0001f9e0", "<script>alert(1)</script>", "{{7*7}}", "%s%n",
    "=cmd|' /C calc'!A0", "\x1b]0;title\x07\x1b[2J", "true", "null", "M0", "M1", "MX", "brain", "train", "CT",
    "2024-02-30T25:61:00Z",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    -float("inf"), [], {}, [[]], [None], {"": None}, [0] * 1000, ["x"] * 300, {"schema_version": 2},
)  # fmt: skip


def mutated_bytes(random: Random, data: bytes) -> bytes:
    """One to four changes anywhere."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        random.choice((_flip, _flip, _flip, _cut, _insert, _repeat, _integer, _integer, _nothing))(random, changed)
    return bytes(changed)


def _place(random: Random, data: bytearray) -> int:
    """Headers lie in front, and are more worth while."""
    return random.randrange(min(len(data), random.choice((16, 400, len(data) or 1))) or 1) if data else 0


def _flip(random: Random, data: bytearray) -> None:
    if data:
        data[_place(random, data)] = random.choice((0, 0xFF, 0x7F, 0x80, random.randrange(256)))


def _cut(random: Random, data: bytearray) -> None:
    start = _place(random, data)
    del data[start : random.choice((len(data), start + random.randrange(1, 64)))]


def _insert(random: Random, data: bytearray) -> None:
    start = _place(random, data)
    data[start:start] = random.choice((random.randbytes(random.randrange(1, 64)), bytes(300), b"\n", b"\xff\xfe"))


def _repeat(random: Random, data: bytearray) -> None:
    start = _place(random, data)
    data[start:start] = data[start : start + random.randrange(1, 200)] * random.choice((1, 2, 50))


def _integer(random: Random, data: bytearray) -> None:
    """A field of 2, 4 or 8 bytes becomes an extreme or a special float."""
    kind = random.choice("hHiIqQfd")
    size = struct.calcsize(kind)
    start = _place(random, data) // size * size
    value: float = random.choice((0, 1, 2, 127, 32767, 2**31 - 1, 2**63 - 1))
    if kind in "fd":
        value = random.choice((0.0, -1.0, float("nan"), float("inf"), 1e38, 1e-40))
    elif kind.islower():
        value = random.choice((value, -value - 1))
    limit = (1 << (8 * size - (1 if kind.islower() else 0))) - 1
    if kind not in "fd":
        value = max(-limit - 1 if kind.islower() else 0, min(limit, value))
    data[start : start + size] = struct.pack(random.choice("<>") + kind, value)


def _nothing(random: Random, data: bytearray) -> None: ...


def mutated_lines(random: Random, data: bytes) -> bytes:
    """Changes of the lines of a text: a header, TOML, JSON lines."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    for _ in range(random.choice((1, 1, 2, 3))):
        random.choice((_number, _number, _number, _word, _drop, _again, _swap, _long))(random, lines)
    return "\n".join(lines).encode("utf-8", "surrogatepass" if random.random() < 0.5 else "replace")


def _number(random: Random, lines: list[str]) -> None:
    with_numbers = [n for n, line in enumerate(lines) if re.search(r"\d", line)]
    if not with_numbers:
        return
    row = random.choice(with_numbers)
    found = random.choice(list(re.finditer(r"-?\d+(\.\d+)?", lines[row])))
    lines[row] = lines[row][: found.start()] + random.choice(NUMBERS) + lines[row][found.end() :]


def _word(random: Random, lines: list[str]) -> None:
    row = random.randrange(len(lines))
    found = random.choice(list(re.finditer(r"[A-Za-z_.\-]+|$", lines[row])))
    lines[row] = lines[row][: found.start()] + random.choice(TEXTS) + lines[row][found.end() :]


def _drop(random: Random, lines: list[str]) -> None:
    if len(lines) > 1:
        del lines[random.randrange(len(lines))]


def _again(random: Random, lines: list[str]) -> None:
    lines.insert(random.randrange(len(lines) + 1), random.choice(lines))


def _swap(random: Random, lines: list[str]) -> None:
    first, second = random.randrange(len(lines)), random.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]


def _long(random: Random, lines: list[str]) -> None:
    row = random.randrange(len(lines))
    lines[row] += random.choice((" 1" * 2000, "x" * 100_000, "\n" * 2000, "\r", "=" * 50))


def header_then_bytes(end: bytes) -> Mutation:
    """For a text header, which `end` ends, before binary data: mostly the header is changed."""

    def mutated(random: Random, data: bytes) -> bytes:
        if random.random() < 0.2:
            return mutated_bytes(random, data)
        head, mark, rest = data.partition(end)
        return mutated_lines(random, head) + mark + (rest if random.random() < 0.8 else mutated_bytes(random, rest))

    return mutated


def within_gzip(inner: Mutation) -> Mutation:
    """For a compressed file: what is in it, or how it is packed."""

    def mutated(random: Random, data: bytes) -> bytes:
        if random.random() < 0.2:
            return mutated_bytes(random, data)
        return gzip.compress(inner(random, gzip.decompress(data)), 1)

    return mutated


def mutated_json(random: Random, data: bytes) -> bytes:
    """Another value, a missing, doubled or unknown key somewhere; deep nesting; or other bytes."""
    if random.random() < 0.15:
        return random.choice((mutated_bytes, mutated_lines))(random, data)
    document = json.loads(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        document = _changed(random, document)
    text = json.dumps(document, ensure_ascii=random.random() < 0.5)
    if random.random() < 0.05:
        text = re.sub(r'"(\w+)": ', lambda key: f'"{key[1]}": null, {key[0]}', text, count=random.randrange(1, 4))
    return text.encode("utf-8", "surrogatepass")


def mutated_json_lines(random: Random, data: bytes) -> bytes:
    """As `mutated_json`, in one of several lines."""
    if random.random() < 0.2:
        return mutated_lines(random, data)
    lines = data.splitlines(keepends=True)
    row = random.randrange(len(lines))
    lines[row] = mutated_json(random, lines[row]) + random.choice((b"\n", b"\n", b"\n", b"\r\n", b""))
    return b"".join(lines)


def _changed(random: Random, node: Any) -> Any:
    """The document with one node changed, mostly a deep one."""
    if isinstance(node, dict) and node and random.random() < 0.85:
        key = random.choice(list(node))
        how = random.random()
        if how < 0.08:
            return {name: value for name, value in node.items() if name != key}
        if how < 0.14:
            return {**node, random.choice(TEXTS): node[key]}
        return {**node, key: _changed(random, node[key])}
    if isinstance(node, list) and node and random.random() < 0.85:
        place = random.randrange(len(node))
        how = random.random()
        if how < 0.1:
            return node[:place] + node[place + 1 :]
        if how < 0.2:
            return node + [node[place]] * random.choice((1, 300))
        return [*node[:place], _changed(random, node[place]), *node[place + 1 :]]
    return _hostile(random)


def _hostile(random: Random) -> Any:
    if random.random() < 0.03:
        return _nested(random.choice((50, 300)))
    return random.choice((random.choice(VALUES), random.choice(TEXTS), random.choice(NUMBERS)))


def _nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


_MEMBER_NAMES = [text for text in TEXTS if 0 < len(text) < 300 and text != "\ud800" and text[0] != "\0"]


def mutated_safetensors(random: Random, data: bytes) -> bytes:
    """The JSON header, with its length made right again; or any bytes."""
    if random.random() < 0.3:
        return mutated_bytes(random, data)
    length = struct.unpack("<Q", data[:8])[0]
    head = mutated_json(random, data[8 : 8 + length])
    stated = len(head) if random.random() < 0.9 else random.choice((0, 1, 2**31, 2**63, 2**64 - 1))
    return struct.pack("<Q", stated) + head + data[8 + length :]


def mutated_archive(random: Random, data: bytes, often: str = ".pkl", inner: Mutation = mutated_bytes) -> bytes:
    """A member of a zip file, or its name; or any bytes.

    Args:
        often: the end of the names of members that are chosen more often, and changed by `inner`.
    """
    if random.random() < 0.3:
        return mutated_bytes(random, data)
    target = io.BytesIO()
    packing = zipfile.ZIP_STORED if random.random() < 0.95 else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w", packing) as archive:
        names = source.namelist()
        chosen = random.choice([name for name in names if name.endswith(often)] * 3 + names)
        for name in names:
            content = source.read(name)
            if name == chosen:
                content = (inner if name.endswith(often) else mutated_bytes)(random, content)
                name = name if random.random() < 0.95 else random.choice(_MEMBER_NAMES)
            archive.writestr(name, content)
    return target.getvalue()
