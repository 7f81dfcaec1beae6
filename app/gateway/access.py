"""Which token goes with which read of one hook.

The hook's own token is for the user at the bedside, so it comes first. The tenant's own credentials (SMART Backend
Services) are not limited to what that user may see: they are used only where the configuration says so, for the
resource types that the hook's token does not cover, and the record says it (knowledge: security 2.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from app.gateway.scopes import covers

if TYPE_CHECKING:
    from app.gateway.backend_services import BackendServices
    from app.gateway.budget import Deadline

Mark = Literal["none", "hook", "backend", "hook+backend"]


class Access:
    """The tokens of one request; forgotten with it.

    `token` and `scope` are those of `fhirAuthorization`. `backend` may fill in for what they do not cover, or, with
    `only_without_token`, only for a hook that brings no token at all.
    """

    __slots__ = ("_backend", "_only_without_token", "_scope", "_token", "_used")

    def __init__(
        self,
        token: str | None = None,
        *,
        scope: str = "",
        backend: BackendServices | None = None,
        only_without_token: bool = False,
    ) -> None:
        self._token = token
        self._scope = scope
        self._backend = backend
        self._only_without_token = only_without_token
        self._used: set[Literal["hook", "backend"]] = set()

    @property
    def mark(self) -> Mark:
        """Whose authority the reads used so far, for the record."""
        if len(self._used) == 2:
            return "hook+backend"
        return next(iter(self._used), "none")

    async def token(self, resource_type: str, *, deadline: Deadline) -> str | None:
        """The token for a read of this type. Raises NoToken or TokenScope when the backend's cannot be had."""
        if self._backend is None or self._by_hook(resource_type):
            if self._token is not None:
                self._used.add("hook")
            return self._token
        token = await self._backend.token(deadline=deadline)
        self._used.add("backend")
        return token

    async def renewed(self, *, rejected: str, deadline: Deadline) -> str | None:
        """A newer token in place of one that the server answered 401 to; None where there is none to be had."""
        if self._backend is None or rejected == self._token:  # allowed: compare both are tokens we hold, nobody guesses
            return None
        return await self._backend.token(deadline=deadline, rejected=rejected)

    def _by_hook(self, resource_type: str) -> bool:
        return self._token is not None and (self._only_without_token or covers(self._scope, resource_type))
