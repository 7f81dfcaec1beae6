// The chart beside the cards: the newest results, orders, what was given, problems, allergies.

import { make, sentence } from "./dom.js";
import { ageText, conceptText, dosageLines, drugText, shortText, timeOf, valueText } from "./words.js";

/** Read everything of a patient and fill `chart`; nothing is shown when the signal says so meanwhile. */
export async function showChart(chart, fhir, id, signal) {
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
