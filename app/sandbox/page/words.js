// FHIR resources and decision outcomes in words a person reads.

import { plural } from "./dom.js";

export function conceptText(concept) {
  const coding = concept?.coding?.[0];
  return concept?.text ?? coding?.display ?? coding?.code ?? "";
}

/** A laboratory's long name without what every result of its kind repeats. */
export function shortText(text) {
  return text.replace(/ \[(?:Mass|Moles|#|Enzymatic activity|Units)\/volume\]/, "")
    .replace(/ in (?:Serum or Plasma|Serum, Plasma or Blood|Blood by Automated count|Blood|Platelet poor plasma)\b.*$/, "");
}

export function drugText(resource) {
  return conceptText(resource.medicationCodeableConcept) || resource.medicationReference?.display
    || (resource.contained ?? []).map((each) => conceptText(each.code)).find(Boolean)
    || resource.medicationReference?.reference || "drug not named";
}

export function nameText(patient) {
  const name = (patient?.name ?? []).find((each) => each.use === "official") ?? patient?.name?.[0];
  return name?.text ?? ([...(name?.given ?? []), name?.family].filter(Boolean).join(" ") || patient?.id || "");
}

export function sexText(patient) {
  return { male: "Male", female: "Female", other: "Other", unknown: "Sex unknown" }[patient?.gender] ?? "Sex not recorded";
}

export function yearsOld(patient, now = new Date()) {
  const match = /^(\d{4})(?:-(\d\d))?(?:-(\d\d))?/.exec(patient?.birthDate ?? "");
  if (!match) return null;
  const [year, month, day] = [Number(match[1]), Number(match[2] ?? 1), Number(match[3] ?? 1)];
  const before = now.getMonth() + 1 < month || (now.getMonth() + 1 === month && now.getDate() < day);
  return now.getFullYear() - year - (before ? 1 : 0);
}

export function recordNumber(patient) {
  const known = (patient?.identifier ?? []).find((each) => each.type?.coding?.some((coding) => coding.code === "MR"));
  return (known ?? patient?.identifier?.[0])?.value ?? patient?.id ?? "";
}

export function quantityText(quantity) {
  if (quantity?.value === undefined) return "";
  const unit = quantity.unit ?? quantity.code ?? "";
  return `${quantity.comparator ?? ""}${quantity.value}${unit ? ` ${unit}` : ""}`;
}

export function valueText(observation) {
  const absent = conceptText(observation.dataAbsentReason);
  const own = quantityText(observation.valueQuantity) || conceptText(observation.valueCodeableConcept)
    || observation.valueString || observation.valueInteger?.toString() || observation.valueBoolean?.toString()
    || observation.valueDateTime || "";
  const parts = (observation.component ?? []).map((part) => `${conceptText(part.code)} ${valueText(part)}`);
  return [own, ...parts].filter(Boolean).join(", ") || (absent ? `not available (${absent})` : "no value");
}

export function timeOf(resource) {
  const period = resource.effectivePeriod ?? resource.performedPeriod ?? resource.period;
  return resource.effectiveDateTime ?? resource.effectiveInstant ?? resource.performedDateTime ?? period?.end ?? period?.start
    ?? resource.authoredOn ?? resource.onsetDateTime ?? resource.onsetPeriod?.start ?? resource.recordedDate ?? resource.occurrenceDateTime ?? "";
}

/** How long ago, short enough for a column: "35 min", "8 h", "3 d". Empty if there is no time. */
export function ageText(iso, now = Date.now()) {
  const at = Date.parse(iso);
  if (Number.isNaN(at)) return "";
  const minutes = Math.round((now - at) / 60_000);
  if (minutes < -1) return "in the future";
  if (minutes < 60) return `${Math.max(0, minutes)} min`;
  if (minutes < 48 * 60) return `${Math.round(minutes / 60)} h`;
  const days = Math.round(minutes / 1440);
  return days < 730 ? `${days} d` : `${Math.round(days / 365.25)} y`;
}

export function bytesText(count) {
  return count < 1000 ? `${count} B` : `${(count / 1000).toFixed(count < 10_000 ? 1 : 0)} kB`;
}

const UNITS = { s: "second", min: "minute", h: "hour", d: "day", wk: "week", mo: "month" };

export function frequencyText(repeat) {
  if (!repeat?.frequency && !repeat?.period) return "";
  const times = { 1: "once", 2: "twice" }[repeat.frequency ?? 1] ?? `${repeat.frequency} times`;
  const unit = UNITS[repeat.periodUnit] ?? repeat.periodUnit ?? "day";
  return Number(repeat.period ?? 1) === 1 ? `${times} ${unit === "hour" ? "an" : "a"} ${unit}` : `${times} every ${plural(repeat.period, unit)}`;
}

function dayText(iso) {
  const at = new Date(iso.length === 10 ? `${iso}T12:00:00` : iso);
  return Number.isNaN(at.getTime()) ? iso : at.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
}

export function boundsText(repeat) {
  const { boundsDuration: duration, boundsPeriod: period } = repeat ?? {};
  if (duration?.value) return `for ${plural(duration.value, UNITS[duration.code ?? duration.unit] ?? duration.unit)}`;
  if (period?.start && period?.end) {
    const day = (text) => Date.parse(text.slice(0, 10));
    const days = Math.round((day(period.end) - day(period.start)) / 86_400_000) + 1;
    return `${dayText(period.start)} to ${dayText(period.end)} (${plural(days, "day")})`;
  }
  if (period?.start) return `from ${dayText(period.start)}`;
  return repeat?.count ? plural(repeat.count, "dose") : "";
}

export function routeText(route) {
  const text = conceptText(route).replace(/ route$/, "");
  return /^[A-Z][a-z ]+$/.test(text) ? text.toLowerCase() : text;
}

export function doseText(dosage) {
  const rate = dosage.doseAndRate?.[0];
  const range = rate?.doseRange;
  return quantityText(rate?.doseQuantity) || (range ? `${quantityText(range.low)} to ${quantityText(range.high)}` : "")
    || quantityText(rate?.rateQuantity);
}

/** One line per dosage step: dose, route, frequency, duration; the step's own text where it is not coded. */
export function dosageLines(request) {
  const steps = [...(request.dosageInstruction ?? [])].sort((a, b) => (a.sequence ?? 0) - (b.sequence ?? 0));
  return steps.map((step) => {
    const coded = codedParts(step);
    return coded.length > 1 ? coded.join(", ") : step.text ?? coded.join("") ?? "";
  }).filter(Boolean);
}

/** What a dosage step says in codes and numbers: dose, route, frequency, duration. */
export function codedParts(step) {
  const repeat = step.timing?.repeat;
  return [doseText(step), routeText(step.route), frequencyText(repeat), boundsText(repeat)].filter(Boolean);
}

const OUTCOMES = {
  "patient-user": ["No card for this user", "The signed-in user is a patient or a relative; these cards are for clinicians only."],
  "identity-mismatch": ["Not evaluated: another patient", "The data sent belong to another patient than the chart; nothing was evaluated."],
  "not-evaluated": ["Not evaluated", "No data could be looked at, so nothing was evaluated."],
  disabled: ["The service is switched off", "The service is switched off for this client; nothing is shown."],
  silent: ["The service runs silently", "The service evaluated this patient but is set to show no cards here."],
  deceased: ["No card: the patient has died", "The patient is recorded as deceased; no treatment is discussed."],
  "not-the-population": ["No card: not the population", "The patient is outside the population of the protocol, by age or because SARS-CoV-2 is not confirmed."],
  snoozed: ["No card: shown before", "The same undetermined state was shown to this user a short while ago and has not changed."],
  "not-met": ["No card: thresholds not met", "The data were read, and the protocol's thresholds are not met."],
  "out-of-scope": ["No card: out of scope", "Nothing suggests that this chart is about severe COVID-19 under ventilation, so the service does not speak."],
  "nothing-to-say": ["No card: nothing to say", "The order was checked, and there is nothing to say about it."],
};

/** [title, sentence] for an answer without cards. */
export function silenceText(decision) {
  const [title, sentence] = OUTCOMES[decision?.outcome] ?? [
    "No card, and no reason given",
    decision?.outcome
      ? `The service gave the outcome “${decision.outcome}”, which this page does not know. Do not read it as an all-clear.`
      : "The service did not say why it has no card. Do not read it as an all-clear.",
  ];
  const would = decision?.would_be ? ` It would have been: ${decision.would_be}.` : "";
  return [title, sentence + would];
}

const STATUSES = {
  0: ["The service could not be reached", "Nothing was evaluated."],
  400: ["The request was refused (400)", "The service found the request malformed. Nothing was evaluated."],
  401: ["Not authorised (401)", "The service does not accept this client. Nothing was evaluated."],
  403: ["Forbidden (403)", "This client may not use the service. Nothing was evaluated."],
  404: ["No such service (404)", "The address does not exist at the service. Nothing was evaluated."],
  412: ["Precondition failed (412)", "The service could not look at any data of this patient. Nothing was evaluated."],
  413: ["Too large (413)", "The request is larger than the service takes. Nothing was evaluated."],
  429: ["Too many requests (429)", "The service asks to wait. Nothing was evaluated."],
  500: ["The service failed (500)", "An error inside the service. Nothing was evaluated."],
  503: ["The service is overloaded (503)", "The service asks to try again later. Nothing was evaluated."],
};

export function failureText(status) {
  return STATUSES[status] ?? [`The service answered ${status}`, "That is not an answer to the hook. Nothing was evaluated."];
}

/** JSON text with line breaks and indents, every other character as it came: no number is read and rewritten. */
export function indented(json) {
  let depth = 0;
  return json.replace(/"(?:[^"\\]|\\.)*"|[{[]\s*[}\]]|[{}[\],:]|\s+/g, (part) => {
    const fresh = () => `\n${"  ".repeat(Math.max(0, depth))}`;
    if (part[0] === "\"" || part.length > 1 && /^[{[]/.test(part)) return part;
    if (/^\s/.test(part)) return "";
    if (part === ":") return ": ";
    if (part === ",") return `,${fresh()}`;
    depth += part === "{" || part === "[" ? 1 : -1;
    return part === "{" || part === "[" ? part + fresh() : fresh() + part;
  });
}
