"""JSON over HTTP, for providers that are asked without an SDK.

Over aiohttp: the SDKs' transports get fewer answers a second out of one core (benchmarks/labeling.py).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from silvertune.errors import UserError
from silvertune.llms.interface import TransientError, UnusableError

if TYPE_CHECKING:
    import aiohttp

_KEY = "labeler.llm.<name>"
Response = tuple[int, Mapping[str, str], str]
"""Status (200 for every kind of success), headers, body."""


def check_address(base_url: str) -> None:
    """UserError unless it is an address that holds no secret; the address is not repeated."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{_KEY}.base_url: want an address such as https://api.openai.com/v1")
    if parts.username or parts.password or parts.query:
        raise UserError(f"{_KEY}.base_url: has a user, a password or a query in it; keys go by {_KEY}.api_key_env")


def session(base_url: str, headers: Mapping[str, str]) -> "aiohttp.ClientSession":
    """Connections that are kept open, without limits of their own."""
    import aiohttp

    return aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
        timeout=aiohttp.ClientTimeout(total=None),
        proxy=_proxy(base_url),
    )


async def send(
    session: "aiohttp.ClientSession",
    method: str,
    url: str,
    *,
    data: "bytes | aiohttp.FormData | None" = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Send one request, once. Raises TransientError where no answer comes back."""
    import aiohttp

    try:
        async with session.request(method, url, data=data, headers=headers, allow_redirects=False) as response:
            status, received, content = response.status, response.headers, await response.read()
    except aiohttp.InvalidURL:
        raise UnusableError(f"{_KEY}.base_url: is no address") from None
    except (aiohttp.ClientError, OSError) as error:
        raise TransientError(f"{type(error).__name__} on the way to {_KEY}.base_url") from None
    # Some servers and proxies answer 201 or 203, or put a mark of the byte order before the JSON.
    return 200 if 200 <= status < 300 else status, received, content.decode("utf-8-sig", "replace")


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address (`HTTPS_PROXY`, `NO_PROXY` and their like).

    Not by aiohttp's `trust_env`: that looks it up in a thread for each request, and where `~/.netrc` has credentials
    for the host it refuses every request that carries a key.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
