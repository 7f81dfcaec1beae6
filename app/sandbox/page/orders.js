// Draft orders as FHIR R4 resources: written from a choice of the pad, read for its fields, changed, compared.

import { boundsText, codedParts, conceptText, doseText, drugText, frequencyText, routeText } from "./words.js";

const DAY = 86_400_000;

/** A calendar day so many days after `date`, as the clock on the wall has it: "2026-03-01". */
function dayAfter(date, days) {
  const at = new Date(date.getFullYear(), date.getMonth(), date.getDate() + days);
  return [at.getFullYear(), String(at.getMonth() + 1).padStart(2, "0"), String(at.getDate()).padStart(2, "0")].join("-");
}

const dayNumber = (iso) => Date.parse(iso.slice(0, 10)) / DAY;
const shifted = (iso, days) => new Date((dayNumber(iso) + days) * DAY).toISOString().slice(0, 10) + iso.slice(10);

/** "MedicationRequest/x", an address ending so, or "x": the id. */
export const idOf = (reference) => String(reference ?? "").split("/").at(-1);
export const referenceOf = (order) => `MedicationRequest/${order.id}`;

/** The context's draftOrders: every unsigned order. */
export const draftOrders = (orders) => ({ resourceType: "Bundle", type: "collection", entry: orders.map((resource) => ({ resource })) });

/** The drafts that a choice of the pad makes for a patient, an order each; `pad` is what demo.json says of orders. */
export function written(choice, { pad, patientId, encounterId, now }) {
  return choice.orders.map((line) => {
    let day = 0;
    const steps = line.steps.map((step, index) => {
      const first = day;
      day += step.days;
      const bounds = line.bounds === "period"
        ? { boundsPeriod: { start: dayAfter(now, first), end: dayAfter(now, day - 1) } }
        : { boundsDuration: { ...pad.day, value: step.days } };
      return {
        sequence: index + 1,
        timing: { repeat: { ...bounds, frequency: step.times, period: 1, periodUnit: "d" } },
        route: line.route,
        doseAndRate: [{ doseQuantity: { ...step.quantity } }],
      };
    });
    return worded({
      resourceType: "MedicationRequest",
      id: newId(),
      status: "draft",
      intent: "order",
      ...pad.order,
      medicationCodeableConcept: line.medication,
      subject: { reference: `Patient/${patientId}` },
      ...(encounterId && { encounter: { reference: `Encounter/${encounterId}` } }),
      authoredOn: now.toISOString(),
      dosageInstruction: steps,
    });
  });
}

const newId = () => `draft-${crypto.randomUUID().slice(0, 8)}`;

/** The same order with the text of each step made from its codes and numbers. */
function worded(order) {
  const steps = order.dosageInstruction.map((step) => ({ ...step, text: [drugText(order), codedParts(step).join(", ")].join(" ") }));
  return { ...order, dosageInstruction: steps };
}

/** A suggested order as a draft of the pad: this clinician's order from here on, under an id that no draft has. */
export function adopted(resource, { pad, encounterId, taken, now }) {
  return {
    ...pad.order,
    ...(encounterId && { encounter: { reference: `Encounter/${encounterId}` } }),
    ...resource,
    id: resource.id && !taken.has(resource.id) ? resource.id : newId(),
    status: "draft",
    intent: "order",
    authoredOn: now.toISOString(),
  };
}

/** A signed draft as the FHIR server gets it: the server gives the id. */
export function activated(draft, now) {
  const { id: _own, ...rest } = draft;
  return { ...rest, status: "active", intent: "order", authoredOn: now.toISOString() };
}

function daysOf({ boundsDuration: duration, boundsPeriod: period }) {
  if (duration?.value) return duration.code === "d" || (!duration.code && /^d(ays?)?$/.test(duration.unit ?? "")) ? duration.value : null;
  return period?.start?.length >= 10 && period?.end?.length >= 10 ? dayNumber(period.end) - dayNumber(period.start) + 1 : null;
}

/** What the pad can edit of a dosage step, {dose, unit, times, days}, or null when the step is written another way. */
export function fields(step) {
  const repeat = step.timing?.repeat ?? {};
  const dose = step.doseAndRate?.length === 1 ? step.doseAndRate[0].doseQuantity : null;
  const days = daysOf(repeat);
  const plain = dose?.value > 0 && !dose.comparator && repeat.frequency > 0 && repeat.period === 1 && repeat.periodUnit === "d" && days > 0;
  return plain ? { dose: dose.value, unit: dose.unit ?? dose.code ?? "", times: repeat.frequency, days } : null;
}

/** The order with one field of one step changed; later steps move when the days before them change. */
export function withField(order, index, field, value) {
  const steps = structuredClone(order.dosageInstruction);
  const { doseAndRate, timing: { repeat } } = steps[index];
  if (field === "dose") doseAndRate[0].doseQuantity.value = value;
  if (field === "times") repeat.frequency = value;
  if (field === "days" && repeat.boundsDuration) repeat.boundsDuration.value = value;
  else if (field === "days") {
    const more = value - daysOf(repeat);
    repeat.boundsPeriod.end = shifted(repeat.boundsPeriod.end, more);
    for (const { timing } of steps.slice(index + 1)) {
      const period = timing?.repeat?.boundsPeriod;
      if (period?.start) period.start = shifted(period.start, more);
      if (period?.end) period.end = shifted(period.end, more);
    }
  }
  return worded({ ...order, dosageInstruction: steps });
}

export function withRoute(order, route) {
  return worded({ ...order, dosageInstruction: order.dosageInstruction.map((step) => ({ ...step, route })) });
}

const PARTS = { Dose: doseText, Route: (step) => routeText(step.route), Times: (step) => frequencyText(step.timing?.repeat), Days: (step) => boundsText(step.timing?.repeat) };
const SHOWN = new Set(["id", "meta", "dosageInstruction", "medicationCodeableConcept", "medicationReference"]);

/** What another version of an order says otherwise: [{what, before, after}]; members without words by their name. */
export function differences(before, after) {
  const found = [];
  const add = (what, old, fresh) => {
    if (old !== fresh) found.push({ what, before: old || "nothing", after: fresh || "nothing" });
  };
  add("Drug", drugText(before), drugText(after));
  add("Drug codes", codesText(before), codesText(after));
  const [old, fresh] = [before.dosageInstruction ?? [], after.dosageInstruction ?? []];
  const count = Math.max(old.length, fresh.length);
  for (let index = 0; index < count; index += 1) {
    const lead = count > 1 ? `Step ${index + 1}: ` : "";
    if (old[index] && fresh[index]) {
      const known = found.length;
      for (const [what, text] of Object.entries(PARTS)) add(lead + (lead ? what.toLowerCase() : what), text(old[index]), text(fresh[index]));
      if (found.length === known) add(`${lead}text`, old[index].text ?? "", fresh[index].text ?? "");
    } else add(`${lead}dosage`, stepText(old[index]), stepText(fresh[index]));
  }
  const others = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((key) => !SHOWN.has(key)
    && JSON.stringify(before[key]) !== JSON.stringify(after[key]));
  for (const key of others) add(key, memberText(before[key]), memberText(after[key]));
  return found;
}

const codesText = (order) => (order.medicationCodeableConcept?.coding ?? []).map((each) => each.code).join(", ");
const stepText = (step) => (step ? codedParts(step).join(", ") || step.text : "");

function memberText(member) {
  if (member === undefined || typeof member !== "object") return String(member ?? "");
  const list = Array.isArray(member) ? member : [member];
  return list.map((each) => each?.text ?? each?.reference ?? (conceptText(each) || JSON.stringify(each))).join("; ");
}
