// The demo page plays the EHR: it lists patients, opens a chart, fires patient-view, shows what comes back.

import { Fhir, outcomeText } from "./fhir.js";
import { render } from "./gfm.js";
import {
  ageText, bytesText, conceptText, dosageLines, drugText, failureText, indented, nameText, recordNumber, sexText,
  shortText, silenceText, timeOf, valueText, yearsOld,
} from "./words.js";

const USER = "Practitioner/demo-icu";
const DECISION = "org.rescue-cds.decision";
const INDICATORS = { info: ["i", "Info"], warning: ["!", "Warning"], critical: ["‼", "Critical"] };
const SEVERITY = ["critical", "warning", "info"];

const byId = (id) => document.getElementById(id);
const settings = await (await fetch("demo.json")).json();
const fhir = new Fhir(settings.fhir);
const patients = new Map();
let opened = null;

/** `make("p.note", {title: ...}, child, ...)`: text children become text nodes, whatever they say. */
function make(spec, properties = {}, ...children) {
  const [name, ...classes] = spec.split(".");
  const node = document.createElement(name);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

const sentence = (text) => (text.endsWith(".") ? text : `${text}.`);

// --- the patient list -----------------------------------------------------------------------------------

async function listPatients() {
  const stories = settings.stories;
  const ids = stories.map((story) => encodeURIComponent(story.id)).join(",");
  const [people, stays] = await Promise.all([
    fhir.search(ids ? `Patient?_id=${ids}&_count=100` : "Patient?_count=50"),
    fhir.search("Encounter?status=in-progress&_count=100"),
  ]);
  const beds = new Map(stays.found.map((stay) => [stay.subject?.reference, stay.location?.at(-1)?.location?.display || conceptText(stay.type?.[0])]));
  for (const patient of people.found) {
    patients.set(patient.id, { patient, bed: beds.get(`Patient/${patient.id}`) ?? "", title: "", line: "" });
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
  const chart = { id, abort: new AbortController() };
  opened = chart;
  for (const link of byId("patients").querySelectorAll("a")) {
    const here = link.hash === `#patient=${encodeURIComponent(id)}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (here) link.scrollIntoView({ block: "nearest" });
  }
  const { signal } = chart.abort;
  clear();
  try {
    const answer = await fhir.get(`Patient/${encodeURIComponent(id)}`, { signal });
    banner(id, answer);
    await Promise.all([showChart(id, signal), fire(id, signal)]);
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("cards").replaceChildren(panel("trouble", "This page failed", "Nothing can be concluded from what it shows."));
    throw error;
  }
}

/** Nothing of the chart that was open before may stand beside the new patient's name. */
function clear() {
  byId("again").disabled = false;
  byId("banner").hidden = true;
  byId("drawer").hidden = true;
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

// --- the hook -------------------------------------------------------------------------------------------

async function exchange(url, { method = "GET", body, signal }) {
  const headers = { accept: "application/json", ...(body && { "content-type": "application/json" }) };
  const sent = body ? JSON.stringify(body) : "";
  const made = { url, method, headers, sent, sentBytes: new Blob([sent]).size, status: 0, received: {}, text: "", answer: null };
  const started = performance.now();
  try {
    const response = await fetch(url, { method, headers, body: sent || undefined, signal });
    made.text = await response.text();
    made.status = response.status;
    made.received = Object.fromEntries(response.headers);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    made.text = "The service could not be reached.";
  }
  made.ms = performance.now() - started;
  made.receivedBytes = new Blob([made.text]).size;
  try {
    made.answer = JSON.parse(made.text);
  } catch {
    made.answer = null;
  }
  return made;
}

/** Fill a service's prefetch templates; a failed read is passed on as its OperationOutcome, else left out. */
async function prefetch(templates, context, signal) {
  const reads = await Promise.all(Object.entries(templates ?? {}).map(async ([key, template]) => {
    const path = template.replace(/\{\{\s*context\.(\w+)\s*\}\}/g, (whole, field) => context[field] ?? whole);
    if (path.includes("{{")) return { key, path, why: "token not resolved: left out", ms: 0 };
    const answer = await fhir.get(path, { signal });
    const usable = answer.ok || answer.body?.resourceType === "OperationOutcome";
    return { key, path, status: answer.status, ms: answer.ms, why: answer.why, body: usable ? answer.body : undefined };
  }));
  const filled = Object.fromEntries(reads.filter((read) => read.body !== undefined).map((read) => [read.key, read.body]));
  return { filled, reads };
}

async function fire(id, signal) {
  const discovery = await exchange(`${settings.cds}/cds-services`, { signal });
  const services = (discovery.answer?.services ?? []).filter((service) => service.hook === "patient-view");
  const calls = await Promise.all(services.map(async (service) => {
    const context = { userId: USER, patientId: id };
    const request = { hook: "patient-view", hookInstance: crypto.randomUUID(), fhirServer: settings.fhir, context };
    let reads = [];
    if (mode() === "prefetch") {
      const got = await prefetch(service.prefetch, context, signal);
      reads = got.reads;
      if (Object.keys(got.filled).length) request.prefetch = got.filled;
    }
    const url = `${settings.cds}/cds-services/${encodeURIComponent(service.id)}`;
    return { service, reads, made: await exchange(url, { method: "POST", body: request, signal }) };
  }));
  if (signal.aborted) return;
  showCards(discovery, calls);
  showDrawer(discovery, calls);
}

const mode = () => document.querySelector("input[name=mode]:checked").value;

// --- cards ----------------------------------------------------------------------------------------------

function showCards(discovery, calls) {
  const shown = [];
  if (!Array.isArray(discovery.answer?.services) || discovery.status !== 200) shown.push(failure(discovery, "Discovery"));
  else if (!calls.length) {
    shown.push(panel("trouble", "No patient-view service", "The service offers nothing for the patient-view hook. Nothing was evaluated."));
  }
  const said = [];
  for (const { service, made } of calls) {
    if (made.status !== 200 || !Array.isArray(made.answer?.cards)) {
      shown.push(failure(made, service.title ?? service.id));
      continue;
    }
    const decision = made.answer.extension?.[DECISION];
    const cards = [...made.answer.cards].sort((a, b) => SEVERITY.indexOf(a.indicator) - SEVERITY.indexOf(b.indicator));
    shown.push(...(cards.length ? cards.map(cardNode) : [silence(decision)]));
    shown.push(decisionNode(decision, cards.length > 0));
    said.push(...cards.map((card) => `${INDICATORS[card.indicator]?.[1] ?? ""}: ${card.summary}`));
  }
  byId("cards").replaceChildren(...shown.filter(Boolean));
  byId("cards").setAttribute("aria-busy", "false");
  byId("cards").scrollTop = 0;
  say(said.length ? `${said.length} ${said.length === 1 ? "card" : "cards"}. ${said.join(". ")}` : byId("cards").querySelector("h3")?.textContent ?? "");
}

function say(text) {
  byId("status").textContent = text;
}

function panel(kind, title, ...words) {
  return make(`article.panel.${kind}`, {}, make("h3", {}, title), ...words.map((each) => (typeof each === "string" ? make("p", {}, each) : each)));
}

function failure(made, what) {
  const [title, sentence] = made.status === 200
    ? ["The answer could not be read", "It is not what the hook promises. Nothing can be concluded from it."]
    : failureText(made.status);
  const outcome = outcomeText(made.answer);
  return panel("trouble", title, `${what}: ${sentence}`, outcome && make("p.quoted", {}, `The service says: ${outcome}`),
    make("p.note", {}, "This is not an all-clear."));
}

function silence(decision) {
  const [title, sentence] = silenceText(decision);
  return panel("silence", title, sentence);
}

function decisionNode(decision, withCards) {
  const gaps = decision?.gaps ?? [];
  if (!decision) return withCards ? null : make("p.decision", {}, "The answer has no decision extension.");
  const list = gaps.length
    ? make("div.gaps", {}, make("h4", {}, "Not looked at, or not usable"),
      make("ul", {}, ...gaps.map((gap) => make("li", {}, make("strong", {}, gap.source ?? "source not named"), `: ${gap.why ?? "no reason given"}`))))
    : null;
  return make("div.decision", {}, list,
    make("p", {}, "Outcome ", make("code", {}, decision.outcome ?? "not given"), " · decision ", make("code", {}, decision.id ?? "without id")));
}

function cardNode(card) {
  const kind = card.indicator in INDICATORS ? card.indicator : "info";
  const [sign, word] = INDICATORS[kind];
  const heading = make("h3", {}, card.summary ?? "(a card without a summary)");
  const detail = make("div.detail");
  if (card.detail) detail.append(render(card.detail, { top: 4 }));
  const node = make(`article.card.${kind}`, {},
    make("header", {}, make("span.indicator", {}, make("span.sign", { "aria-hidden": "true" }, sign), word), heading),
    card.detail ? detail : null,
    suggestionsNode(card), linksNode(card),
    make("footer", {}, 
      make("div.source", {}, sourceNode(card.source),
        make("div.uuid", { title: "Card uuid: what feedback on this card would name" }, `card ${card.uuid ?? "without uuid"}`)),
      overrideNode(card)));
  return node;
}

/** Only http and https leave the page; any other address is shown as text. */
function safeLink(url, label) {
  const parsed = URL.canParse(url ?? "") ? new URL(url) : null;
  return parsed && ["http:", "https:"].includes(parsed.protocol)
    ? make("a", { href: parsed.href, rel: "noopener noreferrer", target: "_blank" }, label)
    : make("span", {}, url ? `${label} (${url})` : label);
}

function sourceNode(source) {
  const topic = source?.topic?.display ?? source?.topic?.code;
  return make("span", {}, "Source: ", safeLink(source?.url, source?.label ?? "not named"), topic ? ` · ${topic}` : "");
}

function linksNode(card) {
  if (!card.links?.length) return null;
  return make("ul.links", {}, ...card.links.map((link) => make("li", {}, link.type === "absolute"
    ? safeLink(link.url, link.label) : make("span", {}, `${link.label} (a SMART app: this page starts none)`))));
}

function overrideNode(card) {
  if (!card.overrideReasons?.length) return null;
  const menu = make("details.why-not", {}, make("summary", {}, "Why not?"));
  const choose = (reason) => () => {
    menu.replaceWith(make("span.recorded", { tabIndex: -1 },
      `Override noted on this page only: ${reason.display ?? reason.code}`));
    say(`Noted: ${reason.display ?? reason.code}`);
  };
  menu.append(make("ul", {}, ...card.overrideReasons.map((reason) => (
    make("li", {}, make("button", { type: "button", onclick: choose(reason) }, reason.display ?? reason.code))))));
  return menu;
}

function suggestionsNode(card) {
  if (!card.suggestions?.length) return null;
  const any = card.selectionBehavior === "any";
  const group = make("section.suggestions", { "aria-label": "Suggestions" },
    make("h4", {}, any || card.suggestions.length === 1 ? "Suggested orders" : "Suggested orders: one of these"));
  group.append(...card.suggestions.map((suggestion) => suggestionNode(suggestion, () => {
    if (!any) for (const button of group.querySelectorAll("button.accept")) button.disabled = true;
  })));
  return group;
}

function suggestionNode(suggestion, accepted) {
  const orders = (suggestion.actions ?? []).map((action) => action.resource).filter(
    (resource, index) => suggestion.actions[index].type === "create" && resource?.resourceType === "MedicationRequest");
  const outcome = make("p.ordered", { role: "status" });
  const button = make("button.accept", { type: "button" }, "Accept");
  button.setAttribute("aria-label", `Accept: ${suggestion.label}`);
  const refusal = !orders.length || orders.length !== suggestion.actions.length
    ? "This page carries out only the creation of medication orders."
    : orders.some((order) => order.subject?.reference !== `Patient/${opened.id}`)
      ? "This order is not for the patient of the open chart: it cannot be accepted." : "";
  button.disabled = Boolean(refusal);
  button.onclick = async () => {
    button.disabled = true;
    const placed = [];
    for (const order of orders) {
      const { id: _own, ...rest } = order;
      const answer = await fhir.create({ ...rest, status: "active", intent: "order", authoredOn: new Date().toISOString() });
      if (!answer.ok) {
        outcome.className = "ordered failed";
        outcome.textContent = sentence(`Not ordered: ${answer.why}`);
        button.disabled = false;
        return;
      }
      placed.push(`MedicationRequest/${answer.body?.id ?? ""}`);
    }
    button.textContent = "Accepted";
    outcome.textContent = `✓ Ordered: active in the chart as ${placed.join(", ")}`;
    accepted();
    if (opened) showChart(opened.id, opened.abort.signal).catch(() => {});
  };
  return make("div.suggestion", {},
    make("div.suggestion-head", {}, button,
      make("div", {}, make("p.label", {}, suggestion.label, suggestion.isRecommended ? make("span.tag", {}, "preferred by its author") : null),
        make("span.uuid", {}, suggestion.uuid ? `suggestion ${suggestion.uuid}` : ""))),
    ...(suggestion.actions ?? []).map(actionNode),
    refusal ? make("p.refusal", {}, refusal) : null,
    outcome);
}

function actionNode(action) {
  const request = action.resource?.resourceType === "MedicationRequest" ? action.resource : null;
  return make("div.action", {},
    make("p", {}, action.description ?? ""),
    request ? make("div.order", {}, make("strong", {}, drugText(request)),
      make("ol", {}, ...dosageLines(request).map((line) => make("li", {}, line)))) : null,
    action.resource || action.resourceId ? make("details.json", {}, make("summary", {}, action.type === "create" ? "The order as a FHIR resource" : `The ${action.type} as FHIR`),
      make("pre", { tabIndex: 0 }, JSON.stringify(action.resource ?? action.resourceId, null, 2))) : null);
}

// --- the chart beside the cards -------------------------------------------------------------------------

async function showChart(id, signal) {
  const who = `patient=${encodeURIComponent(id)}`;
  const asked = {
    results: `Observation?${who}&_sort=-date&_count=100`,
    orders: `MedicationRequest?${who}&_count=100`,
    given: `MedicationAdministration?${who}&_count=100`,
    taken: `MedicationStatement?${who}&_count=100`,
    procedures: `Procedure?${who}&_count=100`,
    problems: `Condition?${who}&_count=100`,
    allergies: `AllergyIntolerance?${who}&_count=100`,
  };
  const chart = byId("chart");
  chart.hidden = false;
  const got = Object.fromEntries(await Promise.all(
    Object.entries(asked).map(async ([key, path]) => [key, await fhir.search(path, { signal })])));
  if (signal.aborted) return;
  chart.replaceChildren(
    make("h2", {}, "Chart"),
    section("Newest results", got.results, newest(got.results.found), (each) => [shortText(label(each)), valueText(each), each.status]),
    section("Orders", got.orders, newestFirst(got.orders.found), (each) => [drugText(each), dosageLines(each)[0] ?? "", each.status]),
    section("Given", got.given, newest(got.given.found, drugText), (each) => [drugText(each), each.status === "completed" ? "" : each.status, ""]),
    section("Takes", got.taken, newestFirst(got.taken.found), (each) => [drugText(each), each.status, ""]),
    section("Procedures", got.procedures, newestFirst(got.procedures.found), (each) => [conceptText(each.code), each.status, ""]),
    section("Problems", got.problems, newestFirst(got.problems.found), (each) => [conceptText(each.code), conceptText(each.clinicalStatus), ""]),
    section("Allergies", got.allergies, got.allergies.found, (each) => [conceptText(each.code), "", ""]),
  );
  chart.setAttribute("aria-busy", "false");
}

const label = (observation) => conceptText(observation.code);
const newestFirst = (found) => [...found].sort((a, b) => (Date.parse(timeOf(b)) || 0) - (Date.parse(timeOf(a)) || 0));

function newest(found, name = (each) => each.code?.coding?.map((coding) => `${coding.system}|${coding.code}`)[0] ?? label(each)) {
  const kept = new Map();
  for (const each of newestFirst(found)) if (!kept.has(name(each))) kept.set(name(each), each);
  return [...kept.values()];
}

function section(title, { why }, rows, words) {
  if (!rows.length && !why && title !== "Newest results" && title !== "Orders") return "";
  const body = rows.map((each) => {
    const [what, value, status] = words(each);
    const usual = ["final", "active", ""].includes(status ?? "");
    const at = timeOf(each);
    return make("tr", {}, make("th", { scope: "row", title: conceptText(each.code) }, what),
      make(value.length < 15 ? "td.short" : "td", {}, value, usual ? "" : make("span.state", {}, status)), make("td.age", { title: at }, ageText(at)));
  });
  return make("section", {}, make("h3", {}, title),
    why ? make("p.trouble", {}, sentence(`Not complete: ${why}`)) : null,
    body.length ? make("table", {}, make("tbody", {}, ...body)) : why ? null : make("p.note", {}, "Nothing recorded."));
}

// --- the drawer -----------------------------------------------------------------------------------------

function showDrawer(discovery, calls) {
  const drawer = byId("drawer");
  drawer.hidden = false;
  byId("drawer-line").textContent = calls.length
    ? calls.map(({ made }) => `${made.method} ${new URL(made.url).pathname} · ${statusWord(made)} · ${made.ms.toFixed(0)} ms · sent ${bytesText(made.sentBytes)} · received ${bytesText(made.receivedBytes)}`).join("  |  ")
    : `GET ${discovery.url} · ${statusWord(discovery)}`;
  byId("exchanges").replaceChildren(...(calls.length ? calls : [{ made: discovery, reads: [] }]).map(exchangeNode),
    make("p.note", {}, `Discovery: GET ${discovery.url} · ${statusWord(discovery)} · ${discovery.ms.toFixed(0)} ms`));
}

const statusWord = (made) => (made.status ? String(made.status) : "no answer");

function exchangeNode({ made, reads }) {
  return make("div.exchange", {},
    side("Request", `${made.method} ${made.url}`, made.headers, made.sent, made.sentBytes, true),
    side("Response", `HTTP ${statusWord(made)} in ${made.ms.toFixed(1)} ms`, made.received, made.text, made.receivedBytes, made.answer !== null),
    reads.length ? make("details.reads", {}, make("summary", {}, `Prefetch: ${reads.length} templates read by this page before the call`),
      make("ul", {}, ...reads.map((read) => make("li", {}, make("strong", {}, read.key), ` ${read.status ?? ""} `,
        `${(read.ms ?? 0).toFixed(0)} ms${read.body?.total === undefined ? "" : ` · ${read.body.entry?.length ?? 0} of ${read.body.total} entries`}${read.why ? ` · ${read.why}` : ""}`,
        make("code", {}, read.path))))) : null);
}

function side(title, line, headers, text, size, isJson) {
  const copy = make("button.copy", { type: "button" }, "Copy");
  copy.setAttribute("aria-label", `Copy the ${title.toLowerCase()}`);
  copy.onclick = async () => {
    const done = await navigator.clipboard.writeText(text).then(() => true, () => false);
    copy.textContent = done ? "Copied" : "Copying is not allowed here";
  };
  return make("section", {}, make("div.side-head", {}, make("h3", {}, title), make("span.note", {}, `${size} bytes`), copy),
    make("p.line", {}, line),
    make("details", {}, make("summary", {}, "Headers"), make("pre", {}, Object.entries(headers).map(([key, value]) => `${key}: ${value}`).join("\n"))),
    make("pre.body", { tabIndex: 0 }, isJson ? indented(text) : text));
}

// --- start ----------------------------------------------------------------------------------------------

byId("filter").addEventListener("input", filterPatients);
byId("again").addEventListener("click", open);
byId("mode").addEventListener("change", open);
window.addEventListener("hashchange", open);
await listPatients();
await open();
