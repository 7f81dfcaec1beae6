"""The card of a treated patient: stops above everything, then what to look at, the day's plan, and Table 2 as a mirror.

It never says whether the treatment works. The words are `[follow_up]` of `app/protocols/shared/cards.toml` and those of
`app/protocols/pilot_followup/followup.toml`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from app import report
from app.clinical.course import Course
from app.clinical.findings import Finding
from app.clinical.followup import ActionResult, FollowUpResult
from app.clinical.knowledge import Mean, Step
from app.clinical.readers import labs
from app.clinical.reading import decimal_text, unit_text
from app.clinical.trends import Trend
from app.protocols.words import Words
from cds_hooks import markdown
from cds_hooks.markdown import Safe
from fhir_mappings.facts import Measurement

_SECTION = "follow_up"
_NONE = "–"


@dataclass(frozen=True, slots=True)
class Content:
    """What the card says; the frame around it is that of every card."""

    summary: str
    indicator: Literal["info", "warning", "critical"]
    parts: tuple[Safe, ...]


def content(result: FollowUpResult, *, running: Course, since: str, words: Words) -> Content:
    """The card of this course. `since` is the first dose on the facility's clock; `words` neutralise data."""
    page = _Page(result, running, since, words)
    return Content(page.summary(), page.indicator(), tuple(page.parts()))


def not_started(result: FollowUpResult, *, words: Words) -> list[Safe]:
    """The line of another card that a drug is ordered and was not begun; nothing where it is not so."""
    found = [a for a in result.actions if a.finding is Finding.MET]
    return [_line(a, words=words) for a in found]


@dataclass(frozen=True, slots=True)
class _Page:
    result: FollowUpResult
    running: Course
    since: str
    words: Words

    @property
    def present(self) -> list[ActionResult]:
        return [a for a in self.result.actions if a.finding is Finding.MET]

    @property
    def unknown(self) -> list[ActionResult]:
        return [a for a in self.result.actions if a.finding is Finding.UNKNOWN]

    def say(self, key: str, **words: str) -> str:
        return self.words.card(_SECTION, key, **words)

    def day(self) -> str:
        day = self.result.day
        return self.say("day", day=str(day)) if day is not None else self.say("day_at_least", day=str(self.running.low))

    def indicator(self) -> Literal["info", "warning", "critical"]:
        """Critical for a stop that is shown; what should stop or warn and could not be determined is a warning."""
        if any(a.stops for a in self.present):
            return "critical"
        return "warning" if any(a.severity != "info" for a in self.result.actions) else "info"

    def summary(self) -> str:
        present = self.present
        words = {"day": self.day(), "since": self.since}
        if not present:
            serious = [a for a in self.unknown if a.severity != "info"]
            key = "summary_unknown" if serious else "summary"
            return self.say(key, count=str(len(serious)), **words)
        more = self.say("summary_more", count=str(len(present) - 1)) if len(present) > 1 else ""
        key = "summary_stop" if present[0].stops else "summary_action"
        return self.say(key, first=present[0].action.title, more=more, **words)

    def parts(self) -> Iterable[Safe]:
        stops = [a for a in self.present if a.stops]
        if stops:
            yield markdown.bullets([_line(a, words=self.words, strong=True) for a in stops])
        yield _own(self.say("honest", day=self.day(), since=self.since))
        yield _own(self.say("masked"))
        yield from self.section("actions", [_line(a, words=self.words) for a in self.present if not a.stops])
        yield from self.section("undetermined", [_line(a, words=self.words) for a in self.unknown])
        yield from self.section("planned", [_own(line) for line in self.planned()])
        yield from self.table()
        yield _own(self.say("table_note"))

    def section(self, key: str, items: list[Safe]) -> Iterable[Safe]:
        if items:
            yield _own(f"**{self.say(f'heading_{key}')}**")
            yield markdown.bullets(items)

    def planned(self) -> Iterable[str]:
        """What the letter plans today, and what the record holds since the first dose."""
        recorded = {r.drug: r for r in self.result.recorded}
        if not self.result.planned:
            yield self.say("plan_unknown", day=self.day())
        for drug, step in self.result.planned:
            yield self.dose(drug, step)
        for drug in sorted(self.running.apart):
            yield self.say("apart", drug=drug)
        for drug, total in recorded.items():
            if total.mg is not None:
                yield self.say("recorded", drug=drug, mg=decimal_text(total.mg))
            elif total.reason is not None:
                yield self.say("not_recorded", drug=drug, why=self.words.reason(total.reason))

    def dose(self, drug: str, step: Step | None) -> str:
        if step is None:
            return self.say("plan_nothing", drug=drug)
        key = "plan_reconstructed" if step.reconstructed else "plan"
        return self.say(key, drug=drug, mg=decimal_text(step.dose_mg), times=str(step.per_day))

    def table(self) -> Iterable[Safe]:
        trends = self.result.trends
        day = next((trend.pilot[0] for trend in trends if trend.pilot is not None), None)
        columns = ["column_quantity", "column_baseline", "column_now", "column_ratio"]
        header = [self.say(key) for key in columns]
        if day is not None:
            header += [self.say(key, day=str(day)) for key in ("column_mean", "column_mean_ratio")]
        rows = [self.row(trend) for trend in trends]
        yield _own(f"**{self.say('heading_table')}**")
        yield markdown.table(tuple(_own(text) for text in header), rows)
        missing = [self.words.reason(reason) for trend in trends for reason in trend.reasons]
        yield from self.section("missing", [_own(text) for text in dict.fromkeys(missing)])

    def row(self, trend: Trend) -> tuple[Safe, ...]:
        quantity = trend.quantity
        now = self.say("not_applicable") if trend.lost == "not-applicable" else _value(trend.value)
        cells = [
            markdown.text(quantity.title),
            markdown.text(_value(trend.baseline)),
            markdown.text(now),
            _own(_NONE if trend.ratio is None else decimal_text(trend.ratio)),
        ]
        if trend.pilot is not None:
            mean = trend.pilot[1]
            cells += [_own(_mean(mean, quantity.unit)), _own(decimal_text(mean.ratio))]
        return tuple(cells)


def _line(result: ActionResult, *, words: Words, strong: bool = False) -> Safe:
    """The action, why, and what its source says."""
    title = f"**{result.action.title}**" if strong else result.action.title
    why = _why(result, words=words)
    if result.finding is Finding.UNKNOWN:
        return _own(words.card(_SECTION, "action_unknown", title=title, why=why))
    return _own(words.card(_SECTION, "action", title=title, why=why, advice=result.action.advice))


def _why(result: ActionResult, *, words: Words) -> str:
    """A value as it is compared, with the limit it is a multiple of; where there is none, the reason."""
    outcome = result.outcome
    if result.action.tree is None or result.finding is Finding.UNKNOWN:
        return report.because(outcome, words=words)
    return "; ".join(f"{words.input_title(a.input)} {markdown.text(a.shown)}" for a in outcome.because)


def _value(m: Measurement | None) -> str:
    """The value with its unit; a score or a ratio has none."""
    return _NONE if m is None else labs.shown(m).removesuffix(" 1")


def _mean(mean: Mean, unit: str) -> str:
    shown = "" if unit == "1" else f" {unit_text(unit)}"
    return f"{decimal_text(mean.mean)} ± {decimal_text(mean.sd)}{shown}"


def _own(value: str) -> Safe:
    """Our own words around words already neutralised."""
    return markdown.literal(value)
