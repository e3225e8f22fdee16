"""The agent's instructions for one call: from a web service or a file, with the call's data filled in.

A failure does not end a call: it is logged without secrets, and the next method is used.
"""

from __future__ import annotations

import asyncio
import codecs
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import structlog
import yarl

from common.errors import DependencyError
from common.net import json_depth
from common.net.proxy import DIRECT, Proxies

TIMEOUT_SECONDS: Final = 5.0
RETRY_DELAY_SECONDS: Final = 0.25
ATTEMPTS: Final = 2
MAX_BYTES: Final = 256 * 1024
MAX_REDIRECTS: Final = 3
# All that a worker's calls ask for at the same time; more wait for their turn, within their time limit.
MAX_CONNECTIONS: Final = 64

MAX_FILLED_CHARACTERS: Final = 128 * 1024
"""Length to which placeholders may let a text grow: some 32,000 tokens.

That is a quarter of what gpt-realtime-2 keeps in mind, and all that gpt-realtime does (32k tokens:
https://github.com/openai/openai-cookbook/pull/2141). Escaped as JSON, it still fits into one record of the link.
"""
MAX_VALUE_CHARACTERS: Final = 512
"""Length of one value of the metadata; a dispatcher leaves out longer ones (`dispatcher/avr/protocol.py`)."""

_PLACEHOLDER: Final = re.compile(r"\{([\w.-]{1,64})\}")
# Other words in braces are placeholders only if the call has a value for them: `\d{4}` is a pattern.
_NAME: Final = re.compile(r"[^\W\d]")


class NotLoadedError(DependencyError):
    """Instructions could not be loaded; the reason has no secrets."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


def http_client() -> aiohttp.ClientSession:
    """Make the process's HTTP client for `fetch`; it has no cookies, because calls are independent."""
    connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def fetch(
    http: aiohttp.ClientSession,
    url: str,
    *,
    uuid: str,
    metadata: Mapping[str, str],
    proxies: Proxies = DIRECT,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> dict[str, Any]:
    """Ask the web service of OPENAI_URL_INSTRUCTIONS about a call.

    Time-outs, lost connections and answers of 500 and above are retried once.

    Args:
        http: see `http_client`.
        url: parameters in it win over metadata of the same name.
        uuid: sent as X-AVR-UUID.
        metadata: sent as query parameters.
        proxies: on the way there.
        timeout_seconds: of each attempt.

    Returns:
        The JSON object of the answer, also from a list of one; {}: it has none. Text is `system`.
    """
    log = structlog.get_logger().bind(uuid=uuid)
    target = yarl.URL(url)
    known = target.query
    target = target.extend_query({name: value for name, value in metadata.items() if name not in known})
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await ask(http, target, uuid, proxies.of(str(target)), timeout_seconds)
        except NotLoadedError as error:
            again = error.again and attempt < ATTEMPTS
            log.warning("OPENAI_URL_INSTRUCTIONS failed", url=shown(target), reason=str(error), tried_again=again)
            if not again:
                break
            await asyncio.sleep(RETRY_DELAY_SECONDS)
    return {}


async def read(path: Path, *, uuid: str) -> str | None:
    """Read the file of OPENAI_FILE_INSTRUCTIONS; None, and a line in the log, where that fails."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await asyncio.to_thread(read_now, path)
    except TimeoutError:
        reason = f"it was not read within {TIMEOUT_SECONDS:g} s"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except NotLoadedError as error:
        reason = str(error)
    log = structlog.get_logger().bind(uuid=uuid)
    log.warning("OPENAI_FILE_INSTRUCTIONS failed", path=str(path), reason=reason)
    return None


def fill(text: str, *, uuid: str, metadata: Mapping[str, str], absent: set[str] | None = None) -> str:
    """Replace `{from}`, `{to}`, `{uuid}` and other names in braces by the call's data.

    A name without a value is replaced by nothing, because the agent would otherwise say "from", in braces. Other
    braces stay, because instructions have JSON and patterns. A value becomes one line, with its placeholders.
    A filled text is truncated to `MAX_FILLED_CHARACTERS`, or to its former length if that is more.

    Args:
        text: instructions, or a welcome message.
        uuid: id of the call.
        metadata: metadata of the call.
        absent: receives the names without a value.
    """
    lines = {name: " ".join(value.split()) for name, value in {**metadata, "uuid": uuid}.items()}
    values = {name: value[:MAX_VALUE_CHARACTERS] for name, value in lines.items()}
    limit = max(MAX_FILLED_CHARACTERS, len(text))
    pieces: list[str] = []
    length = end = 0
    is_truncated = False
    for found in _PLACEHOLDER.finditer(text):
        name = found[1]
        value = values.get(name)
        if value is None:
            if not _NAME.match(name):
                continue
            value = ""
            if absent is not None:
                absent.add(name)
        is_truncated = is_truncated or len(value) < len(lines.get(name, ""))
        pieces += (text[end : found.start()], value)
        length += found.start() - end + len(value)
        end = found.end()
        if length > limit:
            break
    filled = "".join((*pieces, text[end:]))
    if is_truncated or len(filled) > limit:
        filled = filled[:limit]
        structlog.get_logger().warning(
            "instructions truncated",
            uuid=uuid,
            reason="the call's data makes them too long",
            characters=len(filled),
        )
    return filled


def shown(url: yarl.URL) -> str:
    """Return the URL of the web service without what may be secret: its user, its query and its fragment."""
    return str(url.with_user(None).with_query(None).with_fragment(None))


async def ask(
    http: aiohttp.ClientSession, url: yarl.URL, uuid: str, proxy: str | None, timeout_seconds: float
) -> dict[str, Any]:
    """Ask the web service once: see `fetch`.

    Raises:
        NotLoadedError: it has no usable answer.
    """
    try:
        async with http.get(
            url,
            headers={"X-AVR-UUID": uuid, "Accept": "application/json"},
            proxy=proxy,
            max_redirects=MAX_REDIRECTS + 1,  # aiohttp does not follow the last one
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        ) as response:
            if not 200 <= response.status < 300:
                raise NotLoadedError(f"HTTP {response.status}", again=response.status >= 500)
            body, charset = await _read_body(response), response.charset
    except TimeoutError as error:
        raise NotLoadedError(f"no answer within {timeout_seconds:g} s", again=True) from error
    except aiohttp.TooManyRedirects as error:
        raise NotLoadedError(f"more than {MAX_REDIRECTS} redirects") from error
    except (aiohttp.ClientSSLError, aiohttp.NonHttpUrlClientError, ValueError) as error:
        # Their own words may repeat the URL.
        raise NotLoadedError(type(error).__name__) from error
    except aiohttp.ClientHttpProxyError as error:
        raise NotLoadedError(f"the proxy answered HTTP {error.status}", again=error.status >= 500) from error
    except aiohttp.ClientProxyConnectionError as error:
        raise NotLoadedError("the proxy cannot be reached", again=True) from error
    except aiohttp.ClientConnectorError as error:
        raise NotLoadedError(f"cannot be reached: {error.strerror or type(error).__name__}", again=True) from error
    except aiohttp.ClientError as error:
        raise NotLoadedError(f"the connection broke off: {type(error).__name__}", again=True) from error
    return _answer(body.removeprefix(codecs.BOM_UTF8), charset or "utf-8")


def _answer(body: bytes, charset: str) -> dict[str, Any]:
    """Return what a body says of a call: JSON of whatever content type, else the instructions themselves."""
    try:
        answer = json_depth.read(body)
    except json_depth.TooDeep as error:
        raise NotLoadedError(f"the answer {error}") from error
    except orjson.JSONDecodeError:
        answer = _text(body, charset)
    match answer:
        case dict():
            return answer
        case [dict() as only]:  # as n8n answers
            return only
        case None:
            return {}
        case str():
            if not answer.strip():
                raise NotLoadedError("the answer is empty")
            return {"system": answer}
        case list() if all(isinstance(each, dict) for each in answer):
            raise NotLoadedError(f"the answer is a list of {len(answer)}: one is needed")
    raise NotLoadedError("the answer is neither a JSON object, a list of one, nor text")


def _text(body: bytes, charset: str) -> str:
    """Return a body other than JSON as text, unless it cannot be meant as instructions."""
    try:
        text = body.decode(charset).strip()
    except UnicodeError:
        raise NotLoadedError(f"the answer is not {charset.upper()}") from None
    except LookupError:
        raise NotLoadedError("the answer has a charset that is not known") from None
    if text.startswith("{"):
        raise NotLoadedError("the answer is not JSON")
    if text[:16].lower().startswith(("<!doctype", "<html")):
        raise NotLoadedError("the answer is a web page")
    return text


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_BYTES:
            raise NotLoadedError(f"the answer is longer than {MAX_BYTES} bytes")
    return bytes(body)


def read_now(path: Path) -> str:
    """Read the file of OPENAI_FILE_INSTRUCTIONS. It blocks.

    Raises:
        NotLoadedError, OSError, UnicodeDecodeError: it cannot be read, or is no text for instructions.
    """
    # A pipe or a device could block the thread without end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise NotLoadedError("it is not a file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise NotLoadedError(f"it is longer than {MAX_BYTES} bytes")
    text = content.decode("utf-8-sig").strip()
    if not text:
        raise NotLoadedError("it is empty")
    return text
