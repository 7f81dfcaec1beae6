"""A registry for tests: clients with keys of their own, and the tokens that they sign."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

BASE = "https://cds.example.org"
TENANT = '[[tenants]]\nname = "{name}"\nzone = "UTC"\nfhir_bases = {bases}\n'


@dataclass(frozen=True, slots=True)
class Ehr:
    """A client as it is: its name, and the key that only it has."""

    id: str
    issuer: str
    key: ECKey | RSAKey = field(default_factory=lambda: ECKey.generate_key("P-384"), repr=False)
    kid: str = "key-1"

    @property
    def algorithm(self) -> str:
        return "ES384" if isinstance(self.key, ECKey) else "RS384"

    def jwks(self) -> str:
        """Its public key set."""
        return json.dumps({"keys": [self.key.as_dict(private=False) | {"kid": self.kid, "use": "sig"}]})

    def block(self, folder: Path, **more: Any) -> str:
        """Its entry in the configuration; writes its key set beside it. `more` are further keys of the entry."""
        name = f"{self.id}.jwks.json"
        (folder / name).write_text(self.jwks(), encoding="utf-8")
        values = {"id": self.id, "issuer": self.issuer, "jwks_file": name} | more
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
        return "[[clients]]\n" + "\n".join(lines) + "\n"

    def token(self, path: str, *, now: datetime, base: str = BASE, **claims: Any) -> str:
        """A token for that path; `claims` are put in place of the usual ones, None takes one away."""
        issued = int(now.timestamp())
        said = {
            "iss": self.issuer,
            "aud": f"{base}{path}",
            "exp": issued + 300,
            "iat": issued,
            "jti": str(uuid.uuid4()),
        } | claims
        header = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid}
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(header, kept, self.key, algorithms=[self.algorithm])

    def headers(self, path: str, *, now: datetime, **claims: Any) -> dict[str, str]:
        """What goes with a call of that path."""
        return {"authorization": f"Bearer {self.token(path, now=now, **claims)}"}


def configuration(
    folder: Path,
    *clients: str,
    tenants: Mapping[str, Sequence[str]] | None = None,
    service: str = "",
    more: str = "",
) -> Path:
    """A configuration file with these client blocks."""
    named = tenants or {"hospital": ["https://fhir.example.org/r4"]}
    text = f'[service]\npublic_url = "{BASE}"\n{service}\n[store]\nurl = "sqlite+aiosqlite:///{folder}/decisions.db"\n'
    text += more
    text += "".join(TENANT.format(name=name, bases=json.dumps(list(bases))) for name, bases in named.items())
    path = folder / "config.toml"
    path.write_text(text + "\n".join(clients), encoding="utf-8")
    return path
