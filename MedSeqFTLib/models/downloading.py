"""A published file from its publisher's server: over https alone, never more than was announced. Free of torch."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.models.catalogue import PublishedFile
from MedSeqFTLib.workspace.files import sha256_of, storage_errors

_SLACK = 1 << 20  # bytes: sizes on pages are sometimes rounded
_LARGEST = 16 << 30  # bytes, of a file whose size is not known
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without an answer
Open = Callable[[Request, float], Any]  # gives what urllib's opener gives
Step = Callable[[int, int], None]  # bytes done and in all; it may raise to stop


class _OnlyHttps(HTTPRedirectHandler):
    """Follows no redirection that would leave https."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        _check_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(request: Request, timeout: float) -> Any:
    opener: OpenerDirector = build_opener(_OnlyHttps)
    return opener.open(request, timeout=timeout)


def _check_https(url: str) -> None:
    if not url.startswith("https://"):
        raise InputError(f"{url} is not an https address; nothing was downloaded.")


def download(
    file: PublishedFile, folder: Path, step: Step = lambda done, total: None, opening: Open | None = None
) -> Path:
    """Fetch a published file into a folder, under its published name.

    Raises:
        InputError: it has no address, the server cannot be reached, or what came is not what was published.
        StorageError: it cannot be written, for instance because the disk is full.
    """
    if file.url is None:
        raise InputError(f"{file.name} has no address that it could be downloaded from.")
    _check_https(file.url)
    target = folder / Path(file.name).name
    with _network_errors(file.url):
        answer = (opening or _open)(Request(file.url, headers={"User-Agent": "MedSeqFT"}), _TIMEOUT)
    with answer:
        announced = answer.headers.get("Content-Length", "")
        total = file.size or (int(announced) if announced.isdigit() else 0)
        done = 0
        with storage_errors(target), target.open("xb") as out:
            for chunk in _chunks(answer, file.url, (file.size or _LARGEST) + _SLACK):
                out.write(chunk)
                done += len(chunk)
                step(done, total)
    if done < total:
        raise InputError(f"{file.url} broke off after {done} of {total} bytes; try again.")
    if file.sha256 is not None and (found := sha256_of(target)) != file.sha256:
        raise InputError(f"{file.url} gave another file: its SHA-256 is {found}, published is {file.sha256}.")
    return target


def _chunks(answer: IO[bytes], url: str, most: int) -> Iterator[bytes]:
    """What the server sends. Raises InputError when it sends more than `most` bytes."""
    done = 0
    with _network_errors(url):
        while chunk := answer.read(_CHUNK):
            done += len(chunk)
            if done > most:
                raise InputError(f"{url} sends more than the file's {most - _SLACK} bytes; stopped.")
            yield chunk


@contextmanager
def _network_errors(url: str) -> Iterator[None]:
    try:
        yield
    except HTTPError as error:
        raise InputError(f"{url} cannot be downloaded: the server says {error.code} {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{url} cannot be downloaded: {reason}. Is this computer connected?") from error
