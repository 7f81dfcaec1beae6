"""Access tokens of the service's own: SMART Backend Services, with a signed assertion in place of a secret.

For a tenant that gives the service credentials: its FHIR server is then also read where a hook brings no token, or
one that does not suffice. Such a token is not limited to the user in front of the chart, so whether it may be used
is the site's decision (knowledge: security 2.2).

One token a tenant, in memory only. Many reads need it at the same moment, so there is one request for all of them; it
belongs to none: whoever waits for it leaves at the end of its own deadline, and the token is there for the next. The
errors are made where they are raised and not where the request failed, so that none carries a request in its context.

Source: SMART App Launch 2.2, "Backend Services" and "Client Authentication: Asymmetric (public key)".
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import stat
import time
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlencode

import aiohttp
import httpx
import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from app.gateway import door, scopes
from app.gateway.budget import Deadline
from app.gateway.errors import GatewayError, NotFhirJson, NoToken, Refused, TokenScope, TooLarge

Algorithm = Literal["ES384", "RS384"]
Key = ECKey | RSAKey

ASSERTION_SECONDS: Final = 150
"""Half of the five minutes that an assertion may live, so that clocks may differ by half of them either way."""

BACK_OFF_SECONDS: Final = 5.0
REFRESH_AT: Final = 0.8
SERVE_UNTIL: Final = 0.95
"""Parts of a token's life, counted from when it was asked for. What is left after the second is for reads it starts."""

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LONGEST_BODY: Final = 64 * 1024
_LONGEST_LIFE: Final = 3600
_CONNECT_SECONDS: Final = 1.0
_PASSING: Final = frozenset({502, 503, 504})
_SMALLEST_RSA: Final = 2048
_LONGEST_KEY_FILE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who the service is to one authorisation server, and what it needs there.

    `token_url` is also the audience of an assertion, so it stands here exactly as the server knows it. `jwks_url` is
    sent as `jku` where it is set, and has to be the one that was registered. `scopes` are asked for together.
    """

    client_id: str
    token_url: str
    algorithm: Algorithm
    key_id: str
    key: Key = field(repr=False)
    scopes: tuple[str, ...] = scopes.SYSTEM_READ
    jwks_url: str = ""


@dataclass(frozen=True, slots=True)
class _Held:
    """A token, and the moments (monotonic) from which it is replaced, and no longer given out."""

    token: str = field(repr=False)
    refresh_at: float
    serve_until: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why there is no token. `passing`: worth asking once more at once."""

    kind: type[GatewayError] = NoToken
    status: int | None = None
    passing: bool = False

    def error(self) -> GatewayError:
        """A new error: one that is raised to many waiters would gather all their tracebacks."""
        return self.kind(status=self.status)


class _Answer(msgspec.Struct):
    """A token response. msgspec takes no number for a text and no text, fraction or null for a number."""

    access_token: str
    token_type: str
    expires_in: int = 300
    scope: str = ""


class _Refusal(msgspec.Struct):
    error: str = ""


class BackendServices:
    """The tokens of one set of credentials. Shares the transport of the gateway, and leaves closing it to its owner."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        transport: httpx.AsyncBaseTransport,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        request_seconds: float = 5.0,
    ) -> None:
        self._credentials = credentials
        self._transport = transport
        self._now = now
        self._clock = clock
        self._request_seconds = request_seconds
        self._held: _Held | None = None
        self._failure = _Failure()
        self._failed_until = self._forced_until = float("-inf")
        self._refreshing: asyncio.Task[_Held | _Failure] | None = None

    async def token(self, *, deadline: Deadline, rejected: str | None = None) -> str:
        """A token, from memory where one is held; waits no longer than the deadline.

        `rejected` is a token that the FHIR server has just answered 401 to: it is not given out again, unless the
        authorisation server does. Raises NoToken, TokenScope, and Refused where the server answered 401 to a token
        that came in place of another rejected one less than BACK_OFF_SECONDS ago: then the next would fare no better.
        """
        moment = self._clock()
        held = None if self._held is None else self._held.token
        if rejected is not None and held == rejected:
            if moment < self._forced_until:
                raise Refused(status=401)
            self._forced_until = moment + BACK_OFF_SECONDS
            self._held = None
        if self._held is None or moment >= self._held.serve_until:
            return await self._awaited(moment, deadline=deadline)
        if moment >= self._held.refresh_at and moment >= self._failed_until:
            self._refresh()
        return self._held.token

    async def aclose(self) -> None:
        """End a request that is under way. Who waits for it gets NoToken."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})

    async def _awaited(self, moment: float, *, deadline: Deadline) -> str:
        if self._refreshing is None or self._refreshing.done():
            if moment < self._failed_until:
                raise self._failure.error()
            if not deadline.remaining():
                raise NoToken
        task = self._refresh()
        # Unlike wait_for, wait leaves the task alone when the time is up or the waiter is cancelled.
        done, _ = await asyncio.wait({task}, timeout=deadline.remaining())
        if not done or task.cancelled():
            raise NoToken
        outcome = task.result()
        if isinstance(outcome, _Failure):
            raise outcome.error()
        return outcome.token

    def _refresh(self) -> asyncio.Task[_Held | _Failure]:
        """The request that is under way, begun if there is none. An empty context: it belongs to no caller."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refreshed(), context=contextvars.Context())
        return self._refreshing

    async def _refreshed(self) -> _Held | _Failure:
        try:
            async with asyncio.timeout(self._request_seconds):
                outcome = await self._asked_up_to_twice()
        except Exception:  # noqa: BLE001  (a task of nobody: whatever it is, who waits is told, and it is tried again)
            outcome = _Failure()
        if isinstance(outcome, _Held):
            self._held = outcome
        else:
            self._failure = outcome
            self._failed_until = self._clock() + BACK_OFF_SECONDS
        return outcome

    async def _asked_up_to_twice(self) -> _Held | _Failure:
        outcome = await self._asked()
        if isinstance(outcome, _Failure) and outcome.passing:
            return await self._asked()
        return outcome

    async def _asked(self) -> _Held | _Failure:
        begun = self._clock()
        try:
            status, body = await self._posted()
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return _Failure(passing=True)
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            # A connection that was kept open may have ended meanwhile: asking again costs one token, which expires.
            return _Failure(passing=not isinstance(error, httpx.TimeoutException | TimeoutError))
        if status != 200:
            kind = TokenScope if _reason(body) == "invalid_scope" else NoToken
            return _Failure(kind, status, passing=status in _PASSING)
        answer = _answer(body)
        if answer is None:
            return _Failure(status=status)
        # Without a scope: SMART requires it, and a server may leave it out because it grants nothing (oidc-provider).
        if scopes.missing(self._credentials.scopes, granted=answer.scope):
            return _Failure(TokenScope)
        life = min(answer.expires_in, _LONGEST_LIFE)
        return _Held(answer.access_token, begun + life * REFRESH_AT, begun + life * SERVE_UNTIL)

    async def _posted(self) -> tuple[int, bytes]:
        """Status and body, which is empty where it is too large or cannot be decoded."""
        form = {
            "grant_type": "client_credentials",
            "scope": " ".join(self._credentials.scopes),
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": self._assertion(),
        }
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": "rescue-cds",
        }
        content = urlencode(form).encode("ascii")
        request = httpx.Request("POST", self._credentials.token_url, headers=headers, content=content)
        timeout = httpx.Timeout(self._request_seconds, connect=min(self._request_seconds, _CONNECT_SECONDS))
        request.extensions["timeout"] = timeout.as_dict()
        response = await self._transport.handle_async_request(request)
        try:
            return response.status_code, await _body(response)
        finally:
            await response.aclose()

    def _assertion(self) -> str:
        """A JWT that is good for one request, at this token address only."""
        own = self._credentials
        header = {"alg": own.algorithm, "kid": own.key_id, "typ": "JWT"}
        if own.jwks_url:
            header["jku"] = own.jwks_url
        issued = int(self._now().timestamp())
        claims = {
            "iss": own.client_id,
            "sub": own.client_id,
            "aud": own.token_url,
            "iat": issued,
            "exp": issued + ASSERTION_SECONDS,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(header, claims, own.key, algorithms=[own.algorithm])


async def _body(response: httpx.Response) -> bytes:
    size = 0

    def weigh(more: int) -> None:
        nonlocal size
        size += more
        if size > _LONGEST_BODY:
            raise TooLarge

    try:
        return await door.bounded(response, weigh=weigh)
    except (NotFhirJson, TooLarge):
        return b""


def _reason(body: bytes) -> str:
    """The OAuth error code of a refusal, or ''."""
    try:
        return msgspec.json.decode(body, type=_Refusal).error
    except (msgspec.MsgspecError, RecursionError):
        return ""


def _answer(body: bytes) -> _Answer | None:
    """A token response that can be used, or None."""
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.MsgspecError, RecursionError):
        return None
    usable = answer.token_type.lower() == "bearer" and answer.expires_in > 0 and door.is_token(answer.access_token)
    return answer if usable else None


def load_key(path: Path, *, algorithm: Algorithm) -> Key:
    """The private key of a PEM or JWK (JSON) file.

    Raises ValueError with a text that says what is wrong and what helps, and that holds nothing of the file.
    """
    raw = _private_bytes(path).strip()
    kind: type[Key] = ECKey if algorithm == "ES384" else RSAKey
    key: Key | None = None
    locked = False
    try:
        with warnings.catch_warnings(action="ignore"):  # of short RSA keys, which are refused below
            key = kind.import_key(msgspec.json.decode(raw) if raw.startswith(b"{") else raw)
    except TypeError:
        locked = True  # for a PEM file, which is read without a password
    except Exception:  # noqa: BLE001, S110  # nosec B110 # allowed: silent an open list of errors, answered below
        pass  # what joserfc and cryptography raise for bytes that are no key
    # Raised out here, so that the error has no context: the texts of the libraries are not ours to vouch for.
    if locked:
        raise ValueError("the key is protected by a password, which nobody is there to type: store it without one")
    if key is None:
        raise ValueError(f"holds no {kind.key_type} private key, as {algorithm} needs it, in PEM or JWK (JSON) form")
    if not key.is_private:
        raise ValueError("holds a public key: the private one is needed, the public one is what you register")
    if isinstance(key, ECKey) and key.raw_value.curve.name != "secp384r1":
        raise ValueError("the EC key is on another curve: ES384 needs P-384 (secp384r1)")
    if isinstance(key, RSAKey) and key.raw_value.key_size < _SMALLEST_RSA:
        raise ValueError(f"the RSA key is too short: make one of {_SMALLEST_RSA} bits or more")
    if not _signs(key, algorithm=algorithm):
        raise ValueError(f"the JWK's own alg, use or key_ops do not allow signing with {algorithm}: make a key for it")
    return key


def _signs(key: Key, *, algorithm: Algorithm) -> bool:
    try:
        jwt.encode({"alg": algorithm}, {}, key, algorithms=[algorithm])
    except JoseError:
        return False
    return True


def _private_bytes(path: Path) -> bytes:
    """The content of a file that nobody else can read. Raises ValueError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a file")
        if hasattr(os, "geteuid") and is_shared(status.st_mode, owner=status.st_uid, reader=os.geteuid()):
            raise ValueError("others may read the key: chmod 600 the file (640 where it belongs to root)")
        if status.st_size > _LONGEST_KEY_FILE:
            raise ValueError("is too large for a key")
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror
    raise ValueError(f"cannot be read: {reason}")


def is_shared(mode: int, *, owner: int, reader: int) -> bool:
    """True when more people than the reader can read a file, or write it.

    A group may read what belongs to root, as PostgreSQL has it for its keys: that is how secrets are mounted for a
    process without rights, and the group is then its own.
    """
    return bool(mode & (0o037 if owner == 0 and reader != 0 else 0o077))
