// The demo page plays the EHR: it lists patients, opens a chart, fires patient-view, shows what comes back, takes orders.

import { answerNodes, failure, spoken } from "./cards.js";
import { showChart } from "./chart.js";
import { byId, make, panel, say, sentence } from "./dom.js";
import { Drawer } from "./drawer.js";
import { Feedback } from "./feedback.js";
import { Fhir } from "./fhir.js";
import { Hooks } from "./hooks.js";
import { Pad } from "./pad.js";
import { conceptText, nameText, recordNumber, sexText, yearsOld } from "./words.js";

const settings = await (await fetch("demo.json")).json();
const fhir = new Fhir(settings.fhir);
const drawer = new Drawer({ drawer: byId("drawer"), line: byId("drawer-line"), list: byId("exchanges"), discovery: byId("discovery") });
const mode = () => document.querySelector("input[name=mode]:checked").value;
if (settings.statistics) {
  byId("statistics").href = settings.statistics;
  byId("statistics").hidden = false;
}
const hooks = new Hooks({ cds: settings.cds, fhir, mode, drawer });
const feedback = new Feedback({ hooks, drawer });
const pad = new Pad({ offer: settings.pad, hooks, fhir, drawer, feedback, signed });
const patients = new Map();
let opened = null;

// --- the patient list -----------------------------------------------------------------------------------

async function listPatients() {
  const stories = settings.stories;
  const ids = stories.map((story) => encodeURIComponent(story.id)).join(",");
  const [people, stays] = await Promise.all([
    fhir.search(ids ? `Patient?_id=${ids}&_count=100` : "Patient?_count=50"),
    fhir.search("Encounter?status=in-progress&_count=100"),
  ]);
  const here = new Map(stays.found.map((stay) => [stay.subject?.reference, stay]));
  for (const patient of people.found) {
    const stay = here.get(`Patient/${patient.id}`);
    const bed = stay?.location?.at(-1)?.location?.display || conceptText(stay?.type?.[0]);
    patients.set(patient.id, { patient, bed, encounter: stay?.id ?? "", title: "", line: "" });
  }
  for (const story of stories) {
    const known = patients.get(story.id) ?? { patient: { id: story.id, name: [{ text: story.name }] }, bed: "" };
    patients.delete(story.id);
    patients.set(story.id, { ...known, title: story.title, line: story.line });
  }
  byId("patients").replaceChildren(...[...patients.values()].map(patientRow));
  if (people.why || !patients.size) note(people.why ? sentence(`Patients: ${people.why}`) : "The FHIR server holds no patients.");
}

function note(text) {
  byId("patients-note").textContent = text;
  byId("patients-note").hidden = !text;
}

function patientRow({ patient, bed, title, line }) {
  const age = yearsOld(patient);
  const facts = [age === null ? "" : `${age} y`, patient.gender ? sexText(patient) : "", bed].filter(Boolean).join(" · ");
  return make("li", {},
    make("a", { href: `#patient=${encodeURIComponent(patient.id)}`, title: line },
      make("span.name", {}, nameText(patient)), make("span.facts", {}, facts), make("span.line", {}, title)));
}

function filterPatients() {
  const wanted = byId("filter").value.trim().toLocaleLowerCase();
  let shown = 0;
  for (const row of byId("patients").children) {
    row.hidden = !`${row.textContent} ${row.firstChild.title}`.toLocaleLowerCase().includes(wanted);
    shown += row.hidden ? 0 : 1;
  }
  note(shown ? "" : "No patient matches the filter.");
}

// --- opening a chart ------------------------------------------------------------------------------------

async function open() {
  const id = new URLSearchParams(location.hash.slice(1)).get("patient");
  if (!id) return;
  opened?.abort.abort();
  const abort = new AbortController();
  const chart = { id, encounter: patients.get(id)?.encounter ?? "", abort, signal: abort.signal };
  opened = chart;
  for (const link of byId("patients").querySelectorAll("a")) {
    const here = link.hash === `#patient=${encodeURIComponent(id)}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (here) link.scrollIntoView({ block: "nearest" });
  }
  clear();
  try {
    const answer = await fhir.get(`Patient/${encodeURIComponent(id)}`, { signal: chart.signal });
    banner(id, answer);
    await Promise.all([showChart(byId("chart"), fhir, id, chart.signal), view(chart, { first: true })]);
  } catch (error) {
    if (error.name !== "AbortError") failed(error);
  }
}

function failed(error) {
  byId("cards").replaceChildren(panel("trouble", "This page failed", "Nothing can be concluded from what it shows."));
  byId("cards").setAttribute("aria-busy", "false");
  throw error;
}

/** Nothing of the chart that was open before may stand beside the new patient's name. */
function clear() {
  byId("again").disabled = false;
  byId("banner").hidden = true;
  drawer.clear();
  pad.close();
  byId("chart").replaceChildren();
  byId("chart").setAttribute("aria-busy", "true");
  byId("cards").replaceChildren(make("p.waiting", {}, "Asking the decision-support service …"));
  byId("cards").setAttribute("aria-busy", "true");
}

function banner(id, answer) {
  const patient = answer.body?.resourceType === "Patient" ? answer.body : null;
  const known = patients.get(id);
  const field = (label, value) => make("div", {}, make("dt", {}, label), make("dd", {}, value));
  const age = yearsOld(patient);
  const died = patient?.deceasedDateTime || patient?.deceasedBoolean;
  byId("banner").hidden = false;
  byId("banner").replaceChildren(
    make("h2", {}, patient ? nameText(patient) : known ? nameText(known.patient) : id),
    make("dl", {},
      field("Born", patient?.birthDate ? `${patient.birthDate}${age === null ? "" : ` (${age} y)`}` : "not recorded"),
      field("Sex", sexText(patient)), field("Record no.", recordNumber(patient) || id),
      ...(known?.bed ? [field("Place", known.bed)] : [])),
    ...(died ? [make("span.tag.died", {}, "deceased")] : []),
    make("p.story", {}, make("span.tag", {}, "synthetic patient"), ` ${known?.line ?? ""}`),
    ...(answer.ok ? [] : [make("p.trouble", {}, sentence(`Patient: ${answer.why}`))]),
  );
  document.title = `${patient ? nameText(patient) : id} · rescue-cds demo`;
}

// --- patient-view ---------------------------------------------------------------------------------------

async function view(chart, { first }) {
  const found = await hooks.discover(chart.signal);
  drawer.discovered(found.made);
  if (!found.usable) drawer.add("discovery", [{ made: found.made }]);
  if (first) pad.open({ ...chart, select: found.of("order-select"), sign: found.of("order-sign"), off: padOff(found) });
  const services = found.of("patient-view");
  const calls = await hooks.fire("patient-view", services, { patientId: chart.id }, chart.signal);
  const shown = answerNodes(calls, pad);
  if (!found.usable) shown.push(failure(found.made, "Discovery"));
  else if (!calls.length) {
    shown.push(panel("trouble", "No patient-view service", "The service offers nothing for the patient-view hook. Nothing was evaluated."));
  }
  byId("cards").replaceChildren(make("h2", {}, "On the open chart ", make("code", {}, "patient-view")), ...shown);
  byId("cards").setAttribute("aria-busy", "false");
  if (first) byId("work").scrollTop = 0;
  say(spoken(calls) || (byId("cards").querySelector("h3")?.textContent ?? ""));
}

/** Why there is no order pad with this service; "" when there is. */
function padOff(found) {
  if (!found.usable) return "The order pad is off: it is not known which services there are.";
  const missing = ["order-select", "order-sign"].filter((hook) => !found.of(hook).length);
  return missing.length ? `The order pad is off: this service offers no ${missing.join(" and no ")} hook.` : "";
}

/** Orders were signed: the chart is another one, and patient-view may have another answer. */
async function signed() {
  const chart = opened;
  byId("cards").setAttribute("aria-busy", "true");
  try {
    await Promise.all([showChart(byId("chart"), fhir, chart.id, chart.signal), view(chart, { first: false })]);
  } catch (error) {
    if (error.name !== "AbortError") failed(error);
  }
}

// --- start ----------------------------------------------------------------------------------------------

byId("filter").addEventListener("input", filterPatients);
byId("again").addEventListener("click", open);
byId("mode").addEventListener("change", open);
window.addEventListener("hashchange", open);
await listPatients();
await open();
