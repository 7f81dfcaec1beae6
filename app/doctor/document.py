"""The findings as one JSON document, schema 1 (docs/connect-your-fhir-server.md). Absent members are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from statistics import median
from typing import Any, Final

from app.clinical.reading import decimal_text
from app.doctor import words
from app.doctor.coverage import CALCULATED, Found, Input, Refused
from app.doctor.draft import is_percent
from app.doctor.findings import EXIT, Findings, Hook, Search
from app.doctor.lookalikes import MOST_OTHERS, LookAlike
from app.plan import PATIENT
from app.protocols.words import Words
from app.report import age_hours, instant, printable
from fhir_mappings import observations
from fhir_mappings.facts import Source

SCHEMA: Final = 1

_TOO_WIDE: Final = frozenset({"timeout", "server-error", "operation-outcome", "too-large"})


def document(findings: Findings, *, texts: Words) -> dict[str, Any]:
    """Everything that the report says, for machines."""
    server = findings.server
    return {
        "schema": SCHEMA,
        "version": findings.version,
        "now": instant(findings.now),
        "zone": findings.zone,
        "status": findings.status,
        "exit": EXIT[findings.status],
        "server": _present(
            base=printable(server.base),
            capability="read" if server.known else "not-read",
            software=server.software,
            fhir_version=server.fhir_version,
            missing_types=list(server.missing_types),
            missing_parameters=[_parameter(need, name) for need, name in server.missing_parameters],
        ),
        "patients": {
            "chosen": findings.chosen,
            "examined": [
                {"patient": one.label, "other_patient": one.other_patient, "mixed": list(one.mixed)}
                | ({} if one.hook is None else {"hook": _hook(one.hook, texts=texts)})
                for one in findings.patients
            ],
            "not_examined": list(findings.not_examined),
        }
        | ({"why": why} if (why := _not_chosen(findings, texts=texts)) else {}),
        "deadline_seconds": findings.deadline_seconds,
        "late": list(findings.late),
        "lost": _lost(findings.lost, texts=texts),
        "inputs": [_input(one) for one in findings.inputs],
        "searches": [_searches(group, texts=texts) for group in _grouped(findings)],
        "concepts": [_concept(need, one, findings=findings) for need, one in findings.found],
        "records": dict(findings.records),
        "refused": [_refused(one) for one in findings.refused],
        "look_alikes": [_look_alike(one) for one in findings.look_alikes],
        "uncoded": {words.name(name): count for name, count in findings.uncoded.items()},
        "other_codes": {
            "count": len(findings.others),
            "listed": [_look_alike(one) for one in findings.others[:MOST_OTHERS]],
        },
    }


def _present(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value not in ("", [], None)}


def _parameter(need: str, name: str) -> dict[str, str]:
    return {"need": need, "parameter": name, "means": str(words.texts()["parameter"].get(name, ""))}


def _not_chosen(findings: Findings, *, texts: Words) -> list[str]:
    """Why patients could not be chosen as they should be."""
    return list(dict.fromkeys(_why(one, texts=texts) for one in findings.choosing if one.outcome == "failed"))


def _hook(hook: Hook, *, texts: Words) -> dict[str, Any]:
    return {
        "ms": round(hook.ms),
        "requests": hook.requests,
        "bytes": hook.bytes,
        "late": list(hook.late),
        "lost": _lost(hook.lost, texts=texts),
    }


def _lost(searches: Iterable[Search], *, texts: Words) -> list[dict[str, str]]:
    """Each need and reason once."""
    listed = dict.fromkeys((one.key, _why(one, texts=texts)) for one in searches)
    return [{"need": need, "why": why} for need, why in listed]


def _input(one: Input) -> dict[str, Any]:
    return {
        "input": one.name,
        "title": one.title,
        "rules": list(one.rules),
        "ready": one.ready,
        "patients": dict(one.states),
        "reasons": [{"why": why, "count": count} for why, count in one.reasons],
    }


def _grouped(findings: Findings) -> Iterable[list[Search]]:
    """The searches by what they asked for: for patients, then of all patients in the order of the plan."""
    groups: dict[tuple[str, str, bool], list[Search]] = {}
    for searches in (findings.choosing, *(patient.searches for patient in findings.patients)):
        for search in searches:
            groups.setdefault((search.key, search.how, search.planned), []).append(search)
    return groups.values()


def _searches(group: Sequence[Search], *, texts: Words) -> dict[str, Any]:
    first = group[0]
    troubled = [one for one in group if not one.whole]
    why = dict.fromkeys(_why(one, texts=texts) for one in troubled)
    times = [one.ms for one in group]
    return _present(
        need=first.key,
        resource_type=first.resource_type,
        how=first.how,
        planned=first.planned,
        own=first.own,
        searches=len(group),
        failed=sum(one.outcome == "failed" for one in group),
        partial=sum(one.outcome == "partial" for one in group),
        why=list(why),
        remedy=list(dict.fromkeys(filter(None, map(_search_remedy, troubled)))),
        results=sum(one.results for one in group),
        most_pages=max(one.pages for one in group),
        requests=sum(one.requests for one in group),
        bytes=sum(one.bytes for one in group),
        median_ms=round(median(times)),
        slowest_ms=round(max(times)),
        unsent=sorted({name for one in group for name in one.unsent}),
    )


def _why(search: Search, *, texts: Words) -> str:
    return texts.source(Source(search.key, search.resource_type, search.outcome, search.why, None, search.params))


def _search_remedy(search: Search) -> str:
    """What to do about the status that was seen, else about the reason."""
    known = words.texts()["search"]
    why = "no-patient" if (search.key, search.why) == (PATIENT, "not-found") else search.why
    status = dict(search.params).get("status", "")
    names = (f"{why}-{status}", f"{why}-{status[:1]}xx", why)
    text = str(next((known[name] for name in names if name in known), "")).format(type=search.resource_type)
    # Of all patients is more than of one; a server that answers nobody will not answer that, either.
    wide = search.key.startswith("choosing") and (status in {"400", "403"} or why in _TOO_WIDE)
    return f"{text}; {known['choosing']}" if wide else text


def _concept(need: str, one: Found, *, findings: Findings) -> dict[str, Any]:
    overlay = findings.overlay
    like = sum(look.kind == "codes" and one.concept in look.like for look in findings.look_alikes)
    return _present(
        concept=one.concept,
        text=observations.concepts()[one.concept].text,
        need=need,
        found=bool(one.count),
        looked=findings.looked(need),
        results=one.count,
        patients=one.patients,
        codes=[
            {"code": printable(mark), "count": count} | ({"site": True} if mark in overlay.codes else {})
            for mark, count in one.codes
        ],
        units=[{"unit": unit, "count": count} for unit, count in one.units],
        newest=_newest(one, findings=findings),
        refused=one.refused,
        look_alikes=like,
    )


def _newest(one: Found, *, findings: Findings) -> dict[str, str] | None:
    newest = one.newest
    if newest is None:
        return None
    age = age_hours(findings.now, newest.when.earliest)
    if newest.value is None:
        return {"answer": words.name(newest.coded), "age_hours": age}
    value = newest.value.quantize(Decimal("0.1")) if newest.kind in CALCULATED else newest.value
    return {"value": f"{newest.comparator}{decimal_text(value)}", "unit": newest.unit, "age_hours": age}


def _refused(one: Refused) -> dict[str, Any]:
    remedy = words.texts()["remedy"][one.why]
    helps = remedy.get("key", "")
    if helps == "percent_means_fraction" and not is_percent(one):
        helps = ""
    return _present(
        concept=one.concept,
        source=one.source,
        why=one.why,
        text=one.text,
        count=one.count,
        example=one.example,
        unit=one.unit,
        codes=[printable(mark) for mark in one.codes],
        remedy=str(remedy["text"]),
        overlay=helps,
    )


def _look_alike(one: LookAlike) -> dict[str, Any]:
    return _present(
        element=one.element,
        code=printable(one.mark),
        display=one.display,
        count=one.count,
        units=[{"unit": unit, "count": count} for unit, count in one.units],
        like=list(one.like),
        unit_accepted=one.fits if one.kind == "codes" and one.like else None,
        overlay=("" if not one.mark or (one.kind == "codes" and not one.like) else one.kind),
    )
