// The order pad: unsigned drafts, order-select while they change, order-sign before they become orders.
//
// A call is given up when the next one starts, and what is given up is never shown, however late it answers.

import { answerNodes, failureWords, sorted, spoken } from "./cards.js";
import { byId, make, plural, say, sentence } from "./dom.js";
import {
  activated, adopted, differences, draftOrders, fields, idOf, referenceOf, withField, withRoute, written,
} from "./orders.js";
import { conceptText, dosageLines, drugText } from "./words.js";

const PAUSE = 400; // ms without a change before order-select is fired

const DRAFTING = "drafting";
const CHECKING = "checking";
const ASKING = "asking";
const PLACING = "placing";

export class Pad {
  /** `offer` is the `pad` of demo.json; `signed` is called when orders have reached the FHIR server. */
  constructor({ offer, hooks, fhir, drawer, feedback, signed }) {
    Object.assign(this, { offer, hooks, fhir, drawer, feedback, signed });
    this.kept = new Map();
    this.chart = null;
    this.phase = DRAFTING;
    this.pending = new Set();
    this.timer = 0;
    this.running = new AbortController();
    byId("pick").append(...groups(offer.choices));
    byId("add").onclick = () => this.pick();
    byId("sign").onclick = () => this.sign();
  }

  /** Drafts stay with their patient while the page is open; nobody else's are shown. */
  get drafts() {
    return this.held.drafts;
  }

  get held() {
    const id = this.chart?.id;
    if (!this.kept.has(id)) this.kept.set(id, { drafts: [], placing: false });
    return this.kept.get(id);
  }

  close() {
    this.stop();
    this.chart = null;
    this.phase = DRAFTING;
    this.pending.clear();
    byId("pad").hidden = true;
    byId("order-cards").hidden = true;
    byId("order-cards").replaceChildren();
    this.tell("");
  }

  /** `chart`: id, encounter (an id or ""), signal, select and sign (services), off (why the pad is off, or ""). */
  open(chart) {
    this.close();
    this.chart = chart;
    byId("pad").hidden = false;
    byId("pad-off").textContent = chart.off;
    byId("pad-off").hidden = !chart.off;
    byId("pad-pick").hidden = Boolean(chart.off);
    this.phase = this.held.placing ? PLACING : DRAFTING;
    this.show();
    if (!chart.off && this.drafts.length && this.phase === DRAFTING) this.changed(this.drafts.map(({ order }) => order.id));
  }

  /** Give up what is waiting or under way; a question about signing was about the drafts as they were. */
  stop() {
    clearTimeout(this.timer);
    this.running.abort();
    if (this.phase === CHECKING || this.phase === ASKING) {
      this.phase = DRAFTING;
      this.showFoot();
    }
  }

  // --- the drafts ---------------------------------------------------------------------------------------

  pick() {
    const choice = this.offer.choices.find(({ key }) => key === byId("pick").value);
    if (!choice) {
      byId("pick").focus();
      this.tell("Choose a drug first.");
      return;
    }
    byId("pick").value = "";
    const { id: patientId, encounter: encounterId } = this.chart;
    const orders = written(choice, { pad: this.offer, patientId, encounterId, now: new Date() });
    this.drafts.push(...orders.map((order) => ({ order, change: null })));
    this.show();
    this.changed(orders.map((order) => order.id));
    this.tell(`Draft added: ${orders.map(drugText).join(", ")}. Nothing is ordered before it is signed.`);
  }

  remove(id) {
    const index = this.drafts.findIndex(({ order }) => order.id === id);
    const [{ order }] = this.drafts.splice(index, 1);
    this.show();
    const rows = byId("drafts").querySelectorAll("button.remove");
    (rows[Math.min(index, rows.length - 1)] ?? byId("pick")).focus();
    this.changed([]);
    this.tell(`Draft removed: ${drugText(order)}.`);
  }

  /** The drafts are others than before: ask about what was just picked or edited, after a pause. */
  changed(ids) {
    this.stop();
    for (const id of ids) this.pending.add(id);
    const answers = byId("order-cards");
    if (!this.drafts.length) {
      this.pending.clear();
      answers.hidden = true;
      answers.replaceChildren();
      return;
    }
    if (!answers.hidden) answers.setAttribute("aria-busy", "true");
    this.timer = setTimeout(() => this.select(), PAUSE);
  }

  // --- the hooks ----------------------------------------------------------------------------------------

  /** The calls, or null when they were given up. */
  async ask(hook, services, more) {
    clearTimeout(this.timer);
    this.running.abort();
    const running = new AbortController();
    this.running = running;
    const { id: patientId, encounter: encounterId, signal } = this.chart;
    const context = { patientId, ...(encounterId && { encounterId }), ...more, draftOrders: draftOrders(this.drafts.map(({ order }) => order)) };
    try {
      return await this.hooks.fire(hook, services, context, AbortSignal.any([running.signal, signal]));
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      if (!signal.aborted) this.drawer.note(`${hook}: a call was given up because something was changed.`);
      return null;
    }
  }

  /** What has been picked since the last answer; without that (a draft was removed) all that is left. */
  async select() {
    const orders = this.drafts.map(({ order }) => order);
    const picked = orders.filter(({ id }) => this.pending.has(id));
    const about = picked.length ? picked : orders;
    this.waiting("Asking order-select …");
    const calls = await this.ask("order-select", this.chart.select, { selections: about.map(referenceOf) });
    if (!calls) return;
    if (!sorted(calls).failures.length) this.pending.clear();
    this.answer(calls, "order-select", `On what was picked: ${about.map(drugText).join(", ")}`);
  }

  async sign() {
    const invalid = byId("drafts").querySelector("[aria-invalid=true]");
    if (invalid) {
      invalid.focus();
      this.tell("Not signed: this field has no value that can be ordered.");
      return;
    }
    this.phase = CHECKING;
    this.showFoot();
    this.tell("");
    this.waiting("Asking order-sign …");
    const calls = await this.ask("order-sign", this.chart.sign, {});
    if (!calls) return;
    this.pending.clear();
    this.answer(calls, "order-sign", "Before signing");
    const { cards, failures } = sorted(calls);
    const critical = cards.filter((card) => card.indicator === "critical").length;
    if (critical || failures.length) {
      this.phase = ASKING;
      this.showFoot(critical, failures);
    } else await this.place();
  }

  /** Each draft becomes an active order of the FHIR server; what it refuses stays a draft, with the reason. */
  async place() {
    const { chart, held } = this;
    held.placing = true;
    this.phase = PLACING;
    this.showFoot();
    const [placed, failed] = [[], []];
    for (const draft of [...held.drafts]) {
      const answer = await this.fhir.create(activated(draft.order, new Date()));
      if (this.chart === chart) this.drawer.add("order", [{ made: answer.made }]);
      if (answer.ok) held.drafts.splice(held.drafts.indexOf(draft), 1);
      if (answer.ok) placed.push(drugText(draft.order));
      else failed.push(`${drugText(draft.order)}: ${answer.why}`);
    }
    held.placing = false;
    if (this.chart?.id !== chart.id) return;
    this.phase = DRAFTING;
    this.show();
    byId("pick").focus({ preventScroll: true });
    this.tell([
      placed.length ? `✓ Signed, active in the chart: ${placed.join(", ")}.` : "",
      failed.length ? `Not signed, still drafts: ${failed.map(sentence).join(" ")}` : "",
    ].filter(Boolean).join(" "), failed.length > 0);
    if (placed.length) this.signed();
  }

  // --- suggestions of cards -----------------------------------------------------------------------------

  /** Why a suggestion cannot be carried out here; "" if it can. */
  refusal(suggestion) {
    if (!this.chart || this.chart.off) return "The order pad is off: this page has nowhere to put it.";
    if (this.held.placing) return "The drafts are being signed.";
    if (!suggestion.actions?.length) return "This suggestion holds no action.";
    return suggestion.actions.map((action) => this.objection(action)).find(Boolean) ?? "";
  }

  objection({ type, resource, resourceId }) {
    const missing = "It names an order that is no draft of this pad.";
    if (type === "delete") return this.draft(resourceId ?? resource) ? "" : missing;
    if (!["create", "update"].includes(type) || resource?.resourceType !== "MedicationRequest") return "This page carries out changes of medication orders only.";
    const [kind, id] = String(resource.subject?.reference ?? "").split("/").slice(-2);
    if (kind !== "Patient" || id !== this.chart.id) return "This order is not for the patient of the open chart: it cannot be accepted.";
    return type === "create" || this.draft(resource.id) ? "" : missing;
  }

  draft(reference) {
    return this.drafts.find(({ order }) => order.id === idOf(reference));
  }

  /** All actions of a suggestion, or none: {ok, words, more}; `more` adds words while the same chart is open. */
  apply(suggestion) {
    const refusal = this.refusal(suggestion);
    if (refusal) return { ok: false, words: sentence(`Not accepted: ${refusal}`) };
    const [words, ids] = [[], []];
    for (const kind of ["delete", "create", "update"]) {
      for (const { resource, resourceId } of suggestion.actions.filter(({ type }) => type === kind)) {
        if (kind === "delete") {
          const gone = this.draft(resourceId ?? resource);
          this.drafts.splice(this.drafts.indexOf(gone), 1);
          words.push(`${drugText(gone.order)}: draft removed.`);
        } else if (kind === "create") {
          const taken = new Set(this.drafts.map(({ order }) => order.id));
          const order = adopted(resource, { pad: this.offer, encounterId: this.chart.encounter, taken, now: new Date() });
          this.drafts.push({ order, change: null });
          ids.push(order.id);
          words.push(`${drugText(order)}: a draft in the order pad, not yet signed.`);
        } else {
          const changed = this.draft(resource.id);
          changed.change = { label: suggestion.label, list: differences(changed.order, resource) };
          changed.order = resource;
          ids.push(resource.id);
          words.push(`${drugText(resource)}: draft changed.`);
        }
      }
    }
    this.show();
    this.changed(ids);
    this.tell(words.join(" "));
    const { chart } = this;
    const more = (text) => {
      if (this.chart === chart) byId("pad-state").append(` ${text}`);
    };
    return { ok: true, words: words.join(" "), more };
  }

  // --- what is shown ------------------------------------------------------------------------------------

  tell(text, failed = false) {
    byId("pad-state").textContent = text;
    byId("pad-state").className = failed ? "trouble" : "";
  }

  waiting(text) {
    const answers = byId("order-cards");
    answers.setAttribute("aria-busy", "true");
    if (answers.hidden) answers.replaceChildren(make("p.waiting", {}, text));
    answers.hidden = false;
  }

  answer(calls, hook, title) {
    const answers = byId("order-cards");
    answers.replaceChildren(make("h2", {}, title, " ", make("code", {}, hook)), ...answerNodes(calls, this));
    answers.setAttribute("aria-busy", "false");
    say(`${hook}. ${spoken(calls)}`);
  }

  show() {
    byId("drafts").replaceChildren(...this.drafts.map((draft) => this.row(draft)));
    this.showFoot();
  }

  showFoot(critical = 0, failures = []) {
    const count = this.drafts.length;
    const locked = this.phase === CHECKING || this.phase === PLACING;
    byId("drafts").inert = locked;
    byId("add").disabled = locked;
    byId("sign").hidden = !count || Boolean(this.chart?.off);
    byId("sign").disabled = this.phase !== DRAFTING;
    byId("sign").textContent = `Sign ${plural(count, "draft")}`;
    const back = make("button", { type: "button", onclick: () => this.back() }, "Go back to the drafts");
    const anyway = make("button.anyway", { type: "button", onclick: () => this.place() }, "Sign anyway");
    const lines = {
      [CHECKING]: () => [make("p", {}, "Checking with order-sign before anything is signed …"), back],
      [PLACING]: () => [make("p", {}, "Signing …")],
      [ASKING]: () => [
        make("h3", {}, critical ? `${plural(critical, "critical card")} before signing` : "The check before signing did not happen"),
        ...failures.map(({ service, made }) => make("p", {}, `${service.title ?? service.id}: ${failureWords(made).join(". ")}`)),
        make("p", {}, "The service informs and warns; it cannot stop an order. That a second, deliberate press is asked for here, and what may be signed at all, is the decision of this EHR."),
        make("div.buttons", {}, back, anyway)],
    };
    const ask = byId("ask");
    ask.replaceChildren(...(lines[this.phase]?.() ?? []));
    ask.hidden = !ask.children.length;
    if (this.phase === ASKING) back.focus();
  }

  back() {
    const asked = this.phase === ASKING;
    this.stop();
    if (!asked) this.changed([]);
    this.tell("Not signed. The drafts are as they were.");
    byId("sign").focus();
  }

  row(draft) {
    const { order } = draft;
    const steps = order.dosageInstruction ?? [];
    const remove = make("button.remove", { type: "button", onclick: () => this.remove(order.id) }, "Remove");
    remove.setAttribute("aria-label", `Remove the draft of ${drugText(order)}`);
    const codes = (order.medicationCodeableConcept?.coding ?? []).map(({ code }) => code).join(", ");
    const rest = dosageLines({ dosageInstruction: steps.filter((step) => !fields(step)) });
    return make("li.draft", { "data-id": order.id },
      make("fieldset", {},
        make("legend", {}, drugText(order), make("span.codes", {}, codes || "no code: named by text only")),
        ...steps.map((step, index) => this.stepRow(draft, step, index)),
        rest.length || !steps.length ? make("p.note", {}, steps.length ? "Written in a way this pad does not edit." : "This order says no dose.") : null,
        draft.change ? changeNode(draft.change) : null),
      remove);
  }

  stepRow(draft, step, index) {
    const several = draft.order.dosageInstruction.length > 1;
    const held = fields(step);
    const name = several ? make("span.step-name", {}, `Step ${index + 1}`) : null;
    if (!held) return make("div.step", {}, name, make("p", {}, dosageLines({ dosageInstruction: [step] })[0] ?? "no dose written"));
    const number = (field, label, limits) => {
      const input = make("input", { type: "number", ...limits, value: String(held[field]), inputMode: "decimal" });
      input.oninput = () => {
        const good = input.value !== "" && input.checkValidity();
        input.setAttribute("aria-invalid", String(!good));
        this.stop();
        if (good) this.edit(draft, withField(draft.order, index, field, Number(input.value)));
        else {
          byId("order-cards").hidden = true;
          this.tell(`${label}: this is no number that can be ordered. Until then nothing is asked or signed.`, true);
        }
      };
      return make("label", {}, make("span", {}, label), input);
    };
    return make("div.step", {}, name,
      number("dose", `Dose (${held.unit})`, { min: "0.001", max: "100000", step: "any" }),
      number("times", "Times a day", { min: "1", max: "24", step: "1" }),
      number("days", "Days", { min: "1", max: "400", step: "1" }),
      index ? null : this.routeField(draft, step));
  }

  /** One route for all steps; one that the pad does not know keeps its place in the list. */
  routeField(draft, step) {
    const same = (route) => conceptText(route) === conceptText(step.route);
    const routes = this.offer.routes.some(same) ? this.offer.routes : [step.route ?? {}, ...this.offer.routes];
    const select = make("select", {}, ...routes.map((route, index) => make("option", { value: String(index), selected: same(route) }, conceptText(route) || "not said")));
    select.onchange = () => this.edit(draft, withRoute(draft.order, routes[Number(select.value)]));
    return make("label", {}, make("span", {}, "Route"), select);
  }

  edit(draft, order) {
    draft.order = order;
    draft.change = null;
    byId("drafts").querySelector(`[data-id="${CSS.escape(order.id)}"] .changed`)?.remove();
    this.tell("");
    this.pending.add(order.id);
    if (!byId("drafts").querySelector("[aria-invalid=true]")) this.changed([]);
  }
}

function groups(choices) {
  const named = new Map();
  for (const { key, group, label } of choices) {
    if (!named.has(group)) named.set(group, make("optgroup", { label: group }));
    named.get(group).append(make("option", { value: key }, label));
  }
  return named.values();
}

/** What an accepted suggestion changed, old and new. */
function changeNode({ label, list }) {
  return make("div.changed", {}, make("p", {}, `Changed by the accepted suggestion “${label}”:`),
    list.length ? make("ul", {}, ...list.map(({ what, before, after }) => make("li", {}, `${what}: `, make("del", {}, before), " → ", make("ins", {}, after))))
      : make("p", {}, "The order says the same as before."));
}
