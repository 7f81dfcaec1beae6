"""Exposure to drugs (reading 3.11): orders, administrations and statements, by code; text only raises doubt."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from app.clinical.chart import Chart, hours_text
from app.clinical.knowledge import Group, Leaf
from app.clinical.reading import Evidence, Note, Reading, Reason, decimal_text
from fhir_mappings.facts import MedicationUse

LISTS = ("orders", "administrations")
"""The active orders and the administrations: what makes a medication list complete (a statement never does)."""


def exposure(chart: Chart, leaf: Leaf) -> Reading:
    """Whether a drug of the group acts: given inside its look-back, ordered, or taken; systemic forms only.

    `params`: group; daily_mg_above / daily_mg_up_to (fluconazole: an unreadable dose counts as above).
    """
    group = chart.knowledge.groups[str(leaf.params["group"])]
    acting, doubtful = _acting(chart, group)
    if "daily_mg_above" in leaf.params or "daily_mg_up_to" in leaf.params:
        acting = [use for use in acting if _dose_fits(use, leaf)]
    if acting:
        use, how = acting[0]
        evidence = _evidence(chart, (u for u, _ in acting))
        return Reading(_exposed(chart, use, how, group), state="present", evidence=evidence, shown=_name(use, group))
    missing = ("medications",)
    if doubtful:
        use = doubtful[0]
        code = "text-only-drug" if group.ingredients.isdisjoint(use.ingredients) else "ended-outside"
        reason = Reason.of(code, drug=_name(use, group), title=group.title)
        return Reading(reason, missing=missing, unreadable=True, evidence=_evidence(chart, doubtful))
    lost = _uncovered(chart, group.lookback)
    if lost is not None:
        return Reading(lost.reason, missing=missing, failed=lost.failed)
    return Reading(Reason.of("none-on-record"), state="absent", shown="none")


def medications(chart: Chart, leaf: Leaf) -> Reading:
    """Whether the ICU medication list is known (reading 3.11)."""
    missing = (chart.input(leaf.input).missing,)
    window = chart.hours("medication_list_hours")
    lost = _uncovered(chart, chart.hours("administrations_hours"))
    if lost is not None:
        return Reading(lost.reason, missing=missing, failed=lost.failed)
    broken = next((g for g in chart.facts.gaps if g.concept == "medication" and g.displaces), None)
    if broken is not None:
        return Reading(Reason.refused("refused", broken), missing=missing, unreadable=True)
    unnamed = [u for u in chart.facts.medications if u.identity == "none" and _recent(chart, u, window=None)]
    if unnamed:
        reason = Reason.of("medication-unidentified", count=len(unnamed))
        return Reading(reason, missing=missing, unreadable=True, evidence=_evidence(chart, unnamed))
    current = [u for u in chart.facts.medications if _icu(u) and _recent(chart, u, window=window)]
    if not current:
        return Reading(Reason.of("no-icu-list"), missing=missing)
    by_name = sum(1 for u in chart.facts.medications if u.identity == "text" and not u.possibly)
    reading = Reading(Reason.of("list-known", count=len(current)), state="known", shown=f"{len(current)} current")
    return reading.with_notes(Note(Reason.of("named-by-text", count=by_name))) if by_name else reading


def neuromuscular_block(chart: Chart, leaf: Leaf) -> Reading:
    """An infusion, or two doses at least an hour apart, inside the window; one bolus or suxamethonium is no block."""
    group = chart.knowledge.groups["nmba"]
    spec = chart.input(leaf.input)
    since = chart.since(leaf.input)
    missing = (spec.missing,)
    given = _given(chart, group.ingredients)
    inside = [(use, end) for use, end in given if since is None or end >= since]
    sustained = [(use, end) for use, end in inside if "suxamethonium" not in use.ingredients]
    infusions = [(use, end) for use, end in sustained if use.infusion]
    apart = timedelta(hours=float(chart.limit("nmba_doses_apart_hours")))
    ends = sorted(end for _, end in sustained)
    if infusions or (len(ends) > 1 and ends[-1] - ends[0] >= apart):
        use, end = max(infusions or sustained, key=lambda pair: pair[1])
        reason = Reason.of("given", drug=_name(use, group), age=hours_text(chart.age(end)))
        return Reading(reason, state="yes", evidence=_evidence(chart, [use]), shown="yes")
    lost = chart.uncovered(spec.needs, since)
    if lost is not None:
        return Reading(lost.reason, missing=missing, failed=lost.failed)
    if any(not group.ingredients.isdisjoint(u.possibly) for u in chart.facts.medications):
        return Reading(
            Reason.of("text-only-drug", drug=group.title, title=group.title), missing=missing, unreadable=True
        )
    if inside:
        return Reading(Reason.of("single-bolus"), missing=missing, evidence=_evidence(chart, [u for u, _ in inside]))
    if _ordered(chart, group.ingredients):
        return Reading(Reason.of("ordered-not-given"), missing=missing)
    if given:
        last = max(end for _, end in given)
        limit = hours_text(spec.window or chart.age(last))
        return Reading(Reason.of("too-long-ago", age=hours_text(chart.age(last)), limit=limit), state="no", shown="no")
    return Reading(Reason.of("no-record"), missing=missing)


def inhaled_or_infused(chart: Chart, leaf: Leaf) -> Reading:
    """Inhaled nitric oxide or almitrine as a state: the newest record of giving, not giving or ppm decides."""
    spec = chart.input(leaf.input)
    group = chart.knowledge.groups[leaf.input]
    since = chart.since(leaf.input)
    missing = (spec.missing,)
    lost = chart.uncovered(spec.needs, since)
    if lost is not None:
        return Reading(lost.reason, missing=missing, failed=lost.failed)
    events: list[tuple[datetime, str, Evidence]] = []
    for use in chart.facts.medications:
        if use.kind != "administration" or group.ingredients.isdisjoint(use.ingredients):
            continue
        end = chart.exposure_end(use)
        if end is not None:
            events.append((end, "no" if use.state == "not-done" else "yes", _one(use, end)))
    charted = chart.values(spec.concept) if spec.concept else []
    events += [(m.when.earliest, "yes" if (m.value or 0) > 0 else "no", Evidence.measured(m)) for m in charted]
    doubt = any(not group.ingredients.isdisjoint(u.possibly) for u in chart.facts.medications)
    moment, state, evidence = max(events, key=lambda e: (e[0], e[1] == "yes"), default=(chart.now, "", None))
    age = hours_text(chart.age(moment))
    fresh = since is None or moment >= since
    if evidence is not None and fresh and (state == "yes" or not doubt):
        reason = Reason.of("receiving" if state == "yes" else "not-receiving", age=age)
        return Reading(reason, state=state, evidence=(evidence,), shown=state)
    if doubt:
        return Reading(
            Reason.of("text-only-drug", drug=group.title, title=group.title), missing=missing, unreadable=True
        )
    if events:
        return Reading(
            Reason.of("state-stale", age=age, limit=hours_text(spec.window or chart.age(moment))), missing=missing
        )
    if _ordered(chart, group.ingredients):
        return Reading(Reason.of("ordered-not-given"), missing=missing)
    return Reading(Reason.of("no-record"), missing=missing)


def chronic_steroid(chart: Chart, leaf: Leaf) -> Reading:  # noqa: ARG001
    """A chronic systemic corticosteroid above 10 mg prednisone equivalent a day, not for COVID-19 (trial register)."""
    limit = chart.limit("chronic_steroid_prednisone_mg")
    group = chart.knowledge.groups["corticosteroid"]
    missing = ("medications",)
    unreadable: list[MedicationUse] = []
    for use in chart.facts.medications:
        if group.ingredients.isdisjoint(use.ingredients) or not _chronic(chart, use):
            continue
        dose = _prednisone_mg(chart, use)
        if dose is None:
            unreadable.append(use)
        elif dose > limit:
            mg = decimal_text(dose.quantize(Decimal("0.1")))
            reason = Reason.of("steroid", drug=_name(use, group), mg=mg, how=use.state)
            return Reading(reason, state="present", evidence=_evidence(chart, [use]), shown=_name(use, group))
    if unreadable:
        reason = Reason.of("steroid-dose-unreadable", drug=_name(unreadable[0], group))
        return Reading(reason, missing=missing, unreadable=True, evidence=_evidence(chart, unreadable))
    doubt = [u for u in chart.facts.medications if not group.ingredients.isdisjoint(u.possibly) and _chronic(chart, u)]
    if doubt:
        reason = Reason.of("text-only-drug", drug=group.title, title=group.title)
        return Reading(reason, missing=missing, unreadable=True, evidence=_evidence(chart, doubt))
    lost = chart.uncovered(("orders", "statements"), None)
    if lost is not None:
        return Reading(lost.reason, missing=missing, failed=lost.failed)
    return Reading(Reason.of("none-on-record"), state="absent", shown="none")


def study_drug(chart: Chart, leaf: Leaf) -> Reading:
    """Anakinra or ruxolitinib already on record: an active order, an active statement, or any dose within 180 d."""
    names = frozenset(str(leaf.params["ingredient"]).split())
    horizon = chart.now - chart.hours("study_drug_hours")
    found: list[tuple[MedicationUse, datetime | None, str]] = []
    doubt: list[MedicationUse] = []
    for use in chart.facts.medications:
        if use.state not in {"given", "ordered", "taken"}:
            continue
        moment = chart.exposure_end(use) if use.state == "given" else chart.latest_possible(use.start)
        if use.state == "given" and moment is not None and moment < horizon:
            continue
        if not names.isdisjoint(use.ingredients):
            found.append((use, moment, use.state))
        elif not names.isdisjoint(use.possibly):
            doubt.append(use)
    if found:
        use, moment, how = min(found, key=lambda f: f[1] or chart.now)
        since = "date not stated" if moment is None else moment.astimezone(chart.zone).date().isoformat()
        reason = Reason.of(
            "study-drug", drug="/".join(sorted(names.intersection(use.ingredients))), how=how, since=since
        )
        return Reading(reason, state="present", evidence=_evidence(chart, (f[0] for f in found)), shown=how)
    missing = ("medications",)
    if doubt:
        reason = Reason.of("text-only-drug", drug=" or ".join(sorted(names)), title="")
        return Reading(reason, missing=missing, unreadable=True, evidence=_evidence(chart, doubt))
    lost = chart.lost(("orders", None), ("statements", None), ("long-acting", horizon))
    if lost is not None:
        return Reading(lost.reason, missing=missing, failed=lost.failed)
    return Reading(Reason.of("none-on-record"), state="absent", shown="none")


def first_dose(chart: Chart, name: str) -> datetime | None:
    """The first administration of a study drug on record."""
    starts = [
        started
        for use in chart.facts.medications
        if use.state == "given" and name in use.ingredients
        for started in [chart.latest_possible(use.start or use.end)]
        if started is not None
    ]
    return min(starts, default=None)


def on_record_before(chart: Chart, name: str, moment: datetime) -> bool:
    """Whether any order, statement or administration of the drug is dated before the moment; a draft is no order."""
    for use in chart.facts.medications:
        if name in use.ingredients and use.state not in {"not-done", "draft"}:
            started = use.start or use.end
            if started is not None and started.earliest < moment:
                return True
    return False


def recent(chart: Chart, names: Iterable[str], lookback: timedelta) -> list[tuple[MedicationUse, datetime | None]]:
    """Uses of these ingredients that act, newest first, for the card's line on standard treatment."""
    group = Group("", frozenset(names), lookback, "")
    acting, _ = _acting(chart, group)
    dated = [
        (use, chart.exposure_end(use) if use.state == "given" else chart.latest_possible(use.start))
        for use, _ in acting
    ]
    return sorted(dated, key=lambda pair: pair[1] or chart.now, reverse=True)


def _acting(chart: Chart, group: Group) -> tuple[list[tuple[MedicationUse, str]], list[MedicationUse]]:
    since = chart.now - group.lookback
    acting: list[tuple[MedicationUse, str]] = []
    doubtful: list[MedicationUse] = []
    apart = group.ingredients.isdisjoint
    for use in [u for u in chart.facts.medications if not (apart(u.ingredients) and apart(u.possibly))]:
        if use.systemic is False or use.state == "not-done":
            continue
        how = _how(chart, use, since)
        if how == "":
            continue
        if how != "perhaps" and not apart(use.ingredients):
            acting.append((use, how))
        else:
            doubtful.append(use)
    order = ("given", "taken", "took", "ordered", "drafted")
    return sorted(acting, key=lambda pair: order.index(pair[1])), doubtful


def _exposed(chart: Chart, use: MedicationUse, how: str, group: Group) -> Reason:
    """Why a drug counts as acting: what was done with it, and when. Given is not ordered, and a given drug whose order
    was stopped is told apart from one that goes on (clinical 2.6)."""
    names = {"drug": _name(use, group), "title": group.title}
    if how not in {"given", "took"}:
        return Reason.of("exposed", how=how, **names)
    end = chart.exposure_end(use)
    if end is None:
        return Reason.of("exposed-undated", how=how, **names)
    if how == "given" and use.running and end == chart.now:
        return Reason.of("exposed-running", **names)
    stopped = how == "given" and _order_ended(chart, use.ingredients)
    code = "exposed-stopped" if stopped else "exposed-ago"
    return Reason.of(code, how=how, age=hours_text(chart.age(end)), **names)


def _order_ended(chart: Chart, names: Iterable[str]) -> bool:
    """An order of one of these drugs has ended, and none is active."""
    orders = [u for u in chart.facts.medications if u.kind == "request" and not set(names).isdisjoint(u.ingredients)]
    return any(u.state == "past" for u in orders) and not any(u.state == "ordered" for u in orders)


def _how(chart: Chart, use: MedicationUse, since: datetime) -> str:
    """given, taken, took (a statement that ended), ordered (not yet proven given), drafted, perhaps (ended, outside
    hospital), or '' (no longer)."""
    if use.state == "draft":
        return "drafted"
    if use.state == "ordered":
        return "ordered"
    if use.state == "taken":
        return "taken"
    end = chart.exposure_end(use)
    if end is not None and end < since:
        return ""
    if use.state == "given":
        return "given"
    if use.kind == "statement":
        return "took"
    return "perhaps" if use.inpatient is False else ""


def _dose_fits(pair: tuple[MedicationUse, str], leaf: Leaf) -> bool:
    dose = pair[0].daily_mg
    above = leaf.params.get("daily_mg_above")
    if above is not None:
        return dose is None or dose > Decimal(str(above))
    return dose is not None and dose <= Decimal(str(leaf.params["daily_mg_up_to"]))


def _uncovered(chart: Chart, lookback: timedelta) -> Reading | None:
    """Orders and administrations for the look-back; past the general one, the search by code reaches further."""
    general = min(lookback, chart.hours("administrations_hours"))
    asked: list[tuple[str, datetime | None]] = [("orders", None), ("administrations", chart.now - general)]
    if lookback > general:
        asked.append(("long-acting", chart.now - lookback))
    return chart.lost(*asked)


def _icu(use: MedicationUse) -> bool:
    """An administration, or an order that is not from outside the hospital."""
    return use.kind == "administration" or (use.kind == "request" and use.inpatient is True)


def _recent(chart: Chart, use: MedicationUse, *, window: timedelta | None) -> bool:
    if use.state in {"ordered", "taken"}:
        return True
    if use.state != "given":
        return False
    end = chart.exposure_end(use)
    return end is None or window is None or chart.age(end) <= window


def _given(chart: Chart, names: frozenset[str]) -> list[tuple[MedicationUse, datetime]]:
    found = []
    for use in chart.facts.medications:
        if use.state == "given" and not names.isdisjoint(use.ingredients):
            end = chart.exposure_end(use)
            if end is not None:
                found.append((use, end))
    return found


def _ordered(chart: Chart, names: frozenset[str]) -> bool:
    return any(u.state == "ordered" and not names.isdisjoint(u.ingredients) for u in chart.facts.medications)


def _chronic(chart: Chart, use: MedicationUse) -> bool:
    """Taken at home or for long, into the whole body, and not for COVID-19."""
    if use.systemic is False or "covid19" in use.reasons:
        return False
    return use.state == "taken" or (use.state == "ordered" and (use.inpatient is False or _long(chart, use)))


def _long(chart: Chart, use: MedicationUse) -> bool:
    """An order that spans so long that it is not the treatment of this illness; one without an end lasts until now."""
    if use.start is None:
        return False
    until = chart.now if use.end is None else use.end.latest
    return until - use.start.earliest > chart.hours("chronic_order_hours")


def _prednisone_mg(chart: Chart, use: MedicationUse) -> Decimal | None:
    factors = [chart.knowledge.steroid_equivalents.get(name) for name in use.ingredients]
    known = [f for f in factors if f is not None]
    return None if use.daily_mg is None or not known else use.daily_mg * max(known)


def _name(use: MedicationUse, group: Group) -> str:
    return ", ".join(sorted(group.ingredients.intersection((*use.ingredients, *use.possibly)))) or group.title


def _one(use: MedicationUse, moment: datetime | None) -> Evidence:
    concept = use.ingredients[0] if use.ingredients else "medication"
    return Evidence(concept, use.reference, original=use.state, effective=moment, label=use.label)


def _evidence(chart: Chart, uses: Iterable[MedicationUse]) -> tuple[Evidence, ...]:
    found = []
    for use in uses:
        moment = chart.exposure_end(use) if use.state == "given" else chart.latest_possible(use.start)
        found.append(_one(use, moment))
    return tuple(found[:5])
