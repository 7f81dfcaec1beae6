"""A decision made again of what is stored: the same facts, knowledge, moment and switches have to give the same answer.

What is run is what the service runs (`patient_view.conclude`, `order_hooks.conclude`, `answers`); here the call is put
together as it was, and what comes out is compared with the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from app import answers, attributes, kept, order_hooks, patient_view, switches
from app.call import Call
from app.clinical.assessment import Assessment
from app.clinical.orders import Hook, of_concern
from app.decisions.records import Record
from app.gather import at_site
from app.kept import Asked, Kept
from app.knowledge import Bedside
from app.outlook import Outlook, flips, look_ahead
from app.protocols import orders as checks
from app.settings import Caller, Tenant
from app.store import chain
from app.switches import Switches
from cds_hooks.request import Context as HookContext
from cds_hooks.request import HookRequest
from fhir_mappings.context import Context
from fhir_mappings.facts import DraftOrder, Facts, MedicationUse, Overlay, Source

Verdict = Literal["identical", "differs", "not possible"]

MOST_DIFFERENCES: Final = 50

NO_FACTS: Final = "the patient's data have been removed"
UNKNOWN_UNTIL: Final = "until when the verdict holds is as recorded: the records it rests on are not kept"
BY_DRUG: Final = (
    "the drafts were looked at by their drugs alone: nothing else of them is kept where no check looks at them"
)
OF_ANOTHER: Final = "that the orders are another patient's is as recorded: they are not kept"
NOT_READ: Final = "that nothing could be read is as recorded"
FIRST_READS: Final = "that the first reads sufficed is as recorded"
SNOOZED: Final = "that the same had been shown before is as recorded"
OLD_FORM: Final = "cards and switches are not compared: the record is from before they were kept"

_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER: Final = msgspec.json.Encoder(decimal_format="string")
_PATIENT_VIEW: Final = "patient-view"
_HOOKS: Final[Mapping[str, Hook]] = {"order-select": "order-select", "order-sign": "order-sign"}
_AS_SHOWN: Final = frozenset({"would_be", "would_show", "suggested"})
"""Members of the verdicts that depend on switches."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where the two are not the same."""

    path: str
    then: str
    now: str


@dataclass(frozen=True, slots=True)
class Rerun:
    """What came of it. `why` it was not possible; `as_recorded`: what could not be evaluated again, and was taken from
    the record."""

    id: str
    verdict: Verdict
    why: str = ""
    differences: tuple[Difference, ...] = ()
    as_recorded: tuple[str, ...] = ()
    made_by: str = ""
    run_by: str = ""
    knowledge: str = ""

    @property
    def is_removed(self) -> bool:
        """Whether there is nothing left to evaluate."""
        return self.why == NO_FACTS


class _Impossible(ValueError):
    """Why it cannot be done."""


class _Gone(LookupError):
    """The records would have to be mapped again at a later moment."""


def rerun(record: Record, *, bedside: Bedside) -> Rerun:
    """Evaluates a decision again, with the knowledge of its hash."""
    made = Rerun(
        record.id,
        "identical",
        made_by=record.versions.get("service", "unknown"),
        run_by=bedside.version,
        knowledge=bedside.library.knowledge.hash,
    )
    try:
        differences, as_recorded = _Again(record, bedside=bedside).compared()
    except (_Impossible, kept.Unknown) as error:
        return replace(made, verdict="not possible", why=str(error))
    except msgspec.ValidationError:
        return replace(made, verdict="not possible", why="the record says something that this version cannot read")
    verdict: Verdict = "differs" if differences else "identical"
    return replace(made, verdict=verdict, differences=tuple(differences), as_recorded=as_recorded)


class _Again:
    """One decision, evaluated once more."""

    def __init__(self, record: Record, *, bedside: Bedside) -> None:
        self.record = record
        self.bedside = bedside
        if record.is_removed:
            raise _Impossible(NO_FACTS)
        self.kept: Kept | None = None if record.facts is None else kept.decode(record.facts)
        known = switches.read(record.reading)
        self.is_old = known is None
        self.switches = known or self._supposed()
        self.way = str(record.reading.get("way", "")) or self._supposed_way()
        self.as_recorded: list[str] = []

    def _supposed(self) -> Switches:
        """As far as a record from before they were kept tells them."""
        silenced = tuple(self.record.verdicts.get("silenced", ()))
        if self.record.outcome == "disabled":
            silenced = (*silenced, checks.ID)
        zone = "UTC" if self.kept is None else self.kept.facts.zone
        return Switches(suggest_on="pilot-simple", zone=zone, silenced=silenced)

    def _supposed_way(self) -> str:
        if self.kept is None:
            raise _Impossible("the record is from before switches were kept, and has no facts")
        if self._outcome() == "identity-mismatch" and not self.kept.facts.identity_mismatch:
            return "other-patient"
        if self.record.hook == _PATIENT_VIEW and self.record.verdicts and "safety" not in self.record.verdicts:
            return "scope-first"
        return "assessed"

    def _outcome(self) -> str:
        """What was found, whoever was shown it."""
        return str(self.record.verdicts.get("would_be", self.record.outcome))

    def compared(self) -> tuple[list[Difference], tuple[str, ...]]:
        call = self._call()
        status = 200
        if not answers.is_refused(call):
            status = self._evaluated(call)
            if not self.is_old:
                self._shown(call)
        found = [*self._changed_facts(), *self._differences(call, status=status)]
        if self.is_old:
            self.as_recorded.append(OLD_FORM)
        return found[:MOST_DIFFERENCES], tuple(dict.fromkeys(self.as_recorded))

    def _call(self) -> Call:
        record, on = self.record, self.switches
        facts = None if self.kept is None else self.kept.facts
        asked = Asked() if self.kept is None else self.kept.asked
        zone = ZoneInfo(on.zone)
        tenant = Tenant(record.tenant, (), zone, Overlay() if facts is None else facts.overlay)
        context = HookContext(
            patient_id=record.patient or "",
            user_id="Patient/" if self.way == "patient-user" else None,
            encounter_id=asked.encounter or None,
            raw=b"{}",
        )
        request = HookRequest(
            hook=record.hook,
            hook_instance=record.hook_instance,
            fhir_server=None,
            fhir_authorization=None,
            context=context,
            prefetch=None,
        )
        caller = Caller(record.client, tenant, frozenset(on.modes))
        return Call(UUID(record.id), 0.0, record.created_at, caller, record.service, request, on)

    def _shown(self, call: Call) -> None:
        answers.silence(call)
        if self.record.outcome == "snoozed" and answers.may_be_snoozed(call):
            self.as_recorded.append(SNOOZED)
            answers.snooze(call)

    # --- the evaluation

    def _evaluated(self, call: Call) -> int:
        if self.record.hook == _PATIENT_VIEW:
            return self._patient_view(call)
        if self.record.hook in _HOOKS:
            return self._orders(call, hook=_HOOKS[self.record.hook])
        raise _Impossible("this version does not know the hook")

    def _facts(self) -> Kept:
        if self.kept is None:
            raise _Impossible("the record has no facts")
        return self.kept

    def _not_evaluated(self, call: Call) -> int:
        self.as_recorded.append(NOT_READ)
        lost = msgspec.convert(self.record.reading.get("lost", []), tuple[Source, ...])
        return patient_view.not_evaluated(call, lost, bedside=self.bedside, source_url=self._source_url())

    def _source_url(self) -> str | None:
        return attributes.url(self.switches.published_at)

    def _patient_view(self, call: Call) -> int:
        if self.way == "not-evaluated":
            return self._not_evaluated(call)
        facts = self._facts().facts
        if self.way == "scope-first":
            self.as_recorded.append(FIRST_READS)
            found = patient_view.assessed(call, facts, bedside=self.bedside)
            plan, _ = at_site(self.bedside.plan_for(facts.overlay), absent=facts.overlay.absent_source)
            return patient_view.silent(call, facts, found, bedside=self.bedside, plan=plan)
        return patient_view.conclude(
            call,
            facts,
            bedside=self.bedside,
            source_url=self._source_url(),
            ahead=lambda found: self._ahead(found, call, facts=facts),
        )

    def _ahead(self, found: Assessment, call: Call, *, facts: Facts) -> Outlook:
        """The outlook; worked out again unless the records would have to be mapped once more on the way."""
        asked = self._facts().asked
        context = Context(now=call.now, zone=call.caller.tenant.zone, overlay=facts.overlay, turns=set(asked.turns))
        protocols = self.bedside.speaking

        def again(_: Context) -> Facts:
            raise _Gone

        try:
            return look_ahead(
                found,
                facts=facts,
                context=context,
                again=again,
                suggest_on=self.switches.suggest_on,
                protocols=protocols,
            )
        except _Gone:
            self.as_recorded.append(UNKNOWN_UNTIL)
            return Outlook(flips(found, protocols=protocols), dict(asked.until))

    def _orders(self, call: Call, *, hook: Hook) -> int:
        drafts = _supposed_drafts(self.record.verdicts) if self.kept is None else self.kept.facts.drafts
        if self.kept is not None or self.way != "other-patient":
            looked = order_hooks.is_concern(call, drafts, concern=of_concern(self.bedside.library.knowledge))
            if self.way == "unconcerned":
                self.as_recorded.append(BY_DRUG)
                call.outcome = call.outcome or "to be looked at"
                return 200
            if not looked and self.way == "assessed":
                return 200
        if self.way == "not-evaluated":
            return self._not_evaluated(call)
        if self.way == "other-patient":
            self.as_recorded.append(OF_ANOTHER)
            call.facts = None if self.kept is None else self.kept.facts
            return patient_view.mismatch(call, order_hooks.REQUEST, bedside=self.bedside, source_url=self._source_url())
        stored = self._facts()
        return order_hooks.conclude(
            call,
            stored.facts,
            hook=hook,
            raw={place: bytes(raw) for place, raw in stored.asked.orders.items()},
            bedside=self.bedside,
            source_url=self._source_url(),
        )

    # --- the comparison

    def _changed_facts(self) -> Iterator[Difference]:
        """What was recorded, and is not what stands there: whether or not anything follows from it."""
        record = self.record
        if record.facts is not None and record.facts_digest is not None:
            now = chain.facts(record.patient or "", record.facts)
            if now != record.facts_digest:
                yield Difference("stored facts", f"digest {record.facts_digest[:12]}", f"digest {now[:12]}: changed")
        if record.answer is not None and record.status is not None and record.answer_digest is not None:
            now = chain.answer(record.status, record.answer)
            if now != record.answer_digest:
                yield Difference("stored answer", f"digest {record.answer_digest[:12]}", f"digest {now[:12]}: changed")

    def _differences(self, call: Call, *, status: int) -> Iterator[Difference]:
        record = self.record
        verdicts = record.verdicts
        now: Any = call.verdicts
        if self.is_old:
            verdicts = {name: value for name, value in verdicts.items() if name not in _AS_SHOWN}
            now = {name: value for name, value in now.items() if name not in _AS_SHOWN}
            yield from _between("outcome", self._outcome(), call.outcome)
        else:
            yield from _between("outcome", record.outcome, call.outcome)
        yield from _between("verdicts", verdicts, _plain(now))
        yield from _between("evidence", record.evidence, _plain(answers.evidence(call)))
        yield from _between("gaps", record.gaps, _plain(answers.gaps(call)))
        if self.is_old:
            return
        yield from _between("status", record.status, status)
        if record.answer is None:
            return
        body = answers.body(call, status=status)
        if body == record.answer:
            return
        different = list(_between("answer", _decoded(record.answer), _decoded(body)))
        yield from different or [Difference("answer", "the same content", "written in other bytes")]


def _supposed_drafts(verdicts: Mapping[str, Any]) -> tuple[DraftOrder, ...]:
    """Drafts of which no more is kept than which drugs they order."""
    found: Sequence[Mapping[str, Any]] = verdicts.get("orders", {}).get("drafts", ())
    return tuple(
        DraftOrder(
            place,
            MedicationUse(
                f"draftOrders/{place}",
                "request",
                "draft",
                ingredients=tuple(draft["drugs"]),
                possibly=tuple(draft["possibly"]),
                identity=draft["identity"],
            ),
        )
        for place, draft in enumerate(found)
    )


def _plain(value: Any) -> Any:
    """As it is when it comes back from the database."""
    return msgspec.json.decode(_ENCODER.encode(value))


def _decoded(body: bytes) -> Any:
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode("utf-8", "replace")


_ABSENT: Final = object()


def _between(path: str, then: Any, now: Any) -> Iterator[Difference]:
    """Every place where two documents differ."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name in (*then, *(name for name in now if name not in then)):
            yield from _between(f"{path}.{name}", then.get(name, _ABSENT), now.get(name, _ABSENT))
    elif isinstance(then, list) and isinstance(now, list):
        for number in range(max(len(then), len(now))):
            one = then[number] if number < len(then) else _ABSENT
            other = now[number] if number < len(now) else _ABSENT
            yield from _between(f"{path}[{number}]", one, other)
    elif isinstance(then, str) and isinstance(now, str) and then != now:
        yield Difference(path, *_where(then, now))
    elif then is not now and (type(then) is not type(now) or then != now):
        yield Difference(path, _said(then), _said(now))


_AROUND: Final = 40
_LONGEST: Final = 2 * _AROUND


def _where(then: str, now: str) -> tuple[str, str]:
    """Two texts, from shortly before where they part."""
    if max(len(then), len(now)) <= _LONGEST:
        return then, now
    same = next((i for i, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), min(len(then), len(now)))
    start = max(0, same - _AROUND)
    first, second = (
        ("…" if start else "") + text[start : start + _LONGEST] + ("…" if len(text) > start + _LONGEST else "")
        for text in (then, now)
    )
    return first, second


def _said(value: Any) -> str:
    if value is _ABSENT:
        return "(not there)"
    text = value if isinstance(value, str) else _ENCODER.encode(value).decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
