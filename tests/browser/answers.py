"""Cards and answers as a service might give them, and what a text on the page has to be to be read."""

from __future__ import annotations

from typing import Any

CARD = "6f2cd87c-6c1e-5f0e-9d6b-4f1d3a7b0001"
DETAIL = """\
Meets **all six** criteria of the pilot protocol.

| Criterion | Value | Age | Threshold | Result |
| --- | ---: | --- | --- | --- |
| P-CRP | 262 mg/L | 4 h | &gt; 100 mg/L | **met** |
| P-FERRITIN | &gt; 1650 µg/L | 5 h | &gt; 1000 µg/L | **met** |
| P-SEVERITY | P/F 75 mmHg | 3 h | &lt; 80 mmHg \\| static Crs ≤ 30 | **met** |
| P-RESCUE | prone | 6 h | tried | **met** |

**Confirm before ordering**

- no ECMO on record
- dialysis: nothing on record\\
  (creatinine is normal on continuous dialysis)

Evidence: *uncontrolled*, eleven patients. See [the letter](https://example.org/letter).
"""


def order(drug: str, dose: float = 1, *, times: int, route: str = "enteral") -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "status": "draft",
        "intent": "proposal",
        "subject": {"reference": "Patient/ada"},
        "medicationCodeableConcept": {"text": drug},
        "dosageInstruction": [
            {
                "sequence": 1,
                "route": {"text": route},
                "timing": {
                    "repeat": {
                        "frequency": times,
                        "period": 1,
                        "periodUnit": "d",
                        "boundsPeriod": {"start": "2026-03-01", "end": "2026-03-14"},
                    }
                },
                "doseAndRate": [{"doseQuantity": {"value": dose, "unit": "mg"}}],
            }
        ],
    }


def suggestion(label: str, resource: dict[str, Any]) -> dict[str, Any]:
    action = {"type": "create", "description": f"Create the draft order: {label}", "resource": resource}
    return {"label": label, "uuid": f"00000000-0000-5000-8000-{len(label):012}", "actions": [action]}


def card(**changes: Any) -> dict[str, Any]:
    made = {
        "uuid": CARD,
        "summary": "Thresholds of the anakinra + ruxolitinib rescue protocol are met",
        "indicator": "info",
        "detail": DETAIL,
        "source": {
            "label": "rescue-cds pilot-full 1.0 (draft)",
            "topic": {"system": "urn:oid:2.25.1", "code": "rescue"},
        },
        "selectionBehavior": "any",
        "suggestions": [
            suggestion("Anakinra 300 mg IV once a day", order("anakinra", 300, times=1, route="intravenous")),
            suggestion("Ruxolitinib 5 mg twice a day", order("ruxolitinib", 5, times=2, route="enteral")),
        ],
        "overrideReasons": [{"code": "infection", "system": "urn:x", "display": "Infection not controlled"}],
        "links": [{"label": "The letter", "url": "https://example.org/letter", "type": "absolute"}],
    }
    return made | changes


def answer(*cards: dict[str, Any], outcome: str = "card", **more: Any) -> dict[str, Any]:
    return {"cards": list(cards), "extension": {"org.rescue-cds.decision": {"id": "d-1", "outcome": outcome, **more}}}


CONTRAST = """(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = (color) => color.slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const color = parse(getComputedStyle(each).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility() || node.closest('.visually-hidden, :disabled')) continue;
    const [a, b] = [luminance(parse(getComputedStyle(node).color)), luminance(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const what = `${node.className || node.localName}: ${text.data.trim().slice(0, 40)}`;
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${what}`);
  }
  return poor;
})()"""
