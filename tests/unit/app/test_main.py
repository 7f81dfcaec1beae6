"""The wiring: what starts, what must not, and that it ends cleanly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.configuration import SettingsError
from app.gateway.fhir import Gateway
from app.main import create_app
from app.settings import dev
from app.store.decisions import Store
from app.store.errors import BadDatabase

MEMORY = "sqlite+aiosqlite:///:memory:"


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/openapi.json", "/cds-services/x", "/favicon.ico"])
async def test_nothing_is_served_beside_the_standard(path: str) -> None:
    app = create_app(dev(db=MEMORY))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://h") as client:
        assert (await client.get(path)).status_code in {404, 405}


def test_a_wrong_database_stops_the_start() -> None:
    with pytest.raises(BadDatabase):
        create_app(dev(db="postgresql+nothing://x"))


@pytest.mark.parametrize(
    ("profile", "query", "starts"),
    [
        ("site", "", False),
        ("site", "?ssl=prefer", False),
        ("site", "?ssl=require", True),
        ("site", "?ssl=disable", True),
        ("dev", "", True),
    ],
)
def test_a_site_says_how_the_line_to_its_database_is_protected(profile: str, query: str, starts: bool) -> None:
    settings = replace(dev(db=f"postgresql://cds:secret-word@db.example.org/cds{query}"), profile=profile)
    if starts:
        create_app(settings)
        return
    with pytest.raises(SettingsError, match=r"store\.url.*verify-full.*ssl=disable") as refused:
        create_app(settings)
    assert "secret-word" not in str(refused.value)


async def test_a_database_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadDatabase):
        create_app(dev(db=f"sqlite+aiosqlite:///{tmp_path / 'no-folder' / 'd.db'}"))
    broken = tmp_path / "d.db"
    broken.write_bytes(b"no database at all" * 100)
    app = create_app(dev(db=f"sqlite+aiosqlite:///{broken}"))
    with pytest.raises(BadDatabase):
        async with app.router.lifespan_context(app):
            pass


async def test_the_knowledge_is_kept_before_the_first_decision(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'd.db'}"
    app = create_app(dev(db=url))
    knowledge = app.state.service.bedside.library.knowledge
    for _ in range(2):  # a second start with the same knowledge adds nothing
        async with app.router.lifespan_context(app):
            pass
        app = create_app(dev(db=url))
    async with Store(url) as store:
        kept = await store.knowledge(knowledge.hash)
    assert kept is not None
    assert b"P-FERRITIN" in kept


class Closing(httpx.AsyncBaseTransport):
    closed = 0

    async def aclose(self) -> None:
        Closing.closed += 1


async def test_the_gateway_is_closed_with_the_service(tmp_path: Path) -> None:
    app = create_app(dev(db=f"sqlite+aiosqlite:///{tmp_path / 'd.db'}"), gateway=Gateway(Closing()))
    async with app.router.lifespan_context(app):
        assert Closing.closed == 0
    assert Closing.closed == 1


async def test_a_file_profile_allows_only_its_origins(tmp_path: Path) -> None:
    settings = replace(
        dev(db=f"sqlite+aiosqlite:///{tmp_path / 'd.db'}"), profile="site", cors_origins=("https://ehr.example.org",)
    )
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://h") as client:
        for origin, allowed in (("https://ehr.example.org", True), ("http://localhost:3000", False)):
            answer = await client.get("/cds-services", headers={"origin": origin})
            assert ("access-control-allow-origin" in answer.headers) is allowed
