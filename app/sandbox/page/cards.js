// One component for the cards of every hook: severity first, text as text, suggestions, dismissal with a reason.
//
// `host` is what a card may ask of the page around it: refusal(suggestion), why the page cannot carry it out ("" if it
// can); apply(suggestion), doing so and saying in words what became of it ({ok, words, more}); feedback, the client for it.

import { make, panel, plural, say } from "./dom.js";
import { outcomeText } from "./fhir.js";
import { render } from "./gfm.js";
import { dosageLines, drugText, failureText, silenceText } from "./words.js";

const DECISION = "org.rescue-cds.decision";
const INDICATORS = { info: ["i", "Info"], warning: ["!", "Warning"], critical: ["‼", "Critical"] };
const SEVERITY = ["critical", "warning", "info"];
const MOST_COMMENT = 2000;

let menus = 0;

const readable = ({ made }) => made.status === 200 && Array.isArray(made.answer?.cards);

/** {cards, failures}: all cards of the calls, the severest first, and the calls without a readable answer. */
export function sorted(calls) {
  const cards = calls.filter(readable).flatMap(({ made }) => made.answer.cards);
  return { cards: bySeverity(cards), failures: calls.filter((call) => !readable(call)) };
}

const bySeverity = (cards) => [...cards].sort((a, b) => SEVERITY.indexOf(a.indicator) - SEVERITY.indexOf(b.indicator));

/** The nodes of an answer: cards, or which kind of silence it was, or what went wrong. */
export function answerNodes(calls, host) {
  return calls.flatMap((call) => {
    const { service, made } = call;
    if (!readable(call)) return [failure(made, service.title ?? service.id)];
    const decision = made.answer.extension?.[DECISION];
    const cards = bySeverity(made.answer.cards);
    return [...(cards.length ? cards.map((card) => cardNode(card, service, host)) : [silence(decision)]), decisionNode(decision, cards.length > 0)];
  }).filter(Boolean);
}

/** An answer in one breath, for those who listen. */
export function spoken(calls) {
  const { cards, failures } = sorted(calls);
  const words = cards.map((card) => `${INDICATORS[card.indicator]?.[1] ?? ""}: ${card.summary}`);
  const silent = calls.filter((call) => readable(call) && !call.made.answer.cards.length)
    .map(({ made }) => silenceText(made.answer.extension?.[DECISION])[0]);
  return [words.length ? plural(words.length, "card") : "", ...words, ...silent, ...failures.map(({ made }) => failureWords(made)[0])]
    .filter(Boolean).join(". ");
}

/** [title, sentence] for an exchange that is no answer to a hook. */
export const failureWords = (made) => (made.status === 200
  ? ["The answer could not be read", "It is not what the hook promises. Nothing can be concluded from it."] : failureText(made.status));

export function failure(made, what) {
  const [title, sentence] = failureWords(made);
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

function cardNode(card, service, host) {
  const kind = card.indicator in INDICATORS ? card.indicator : "info";
  const [sign, word] = INDICATORS[kind];
  const heading = make("h3", { tabIndex: -1 }, card.summary ?? "(a card without a summary)");
  const detail = make("div.detail");
  if (card.detail) detail.append(render(card.detail, { top: 4 }));
  const body = make("div.card-body", {},
    card.detail ? detail : null,
    suggestionsNode(card, service, host), linksNode(card),
    make("footer", {},
      make("div.source", {}, sourceNode(card.source),
        make("div.uuid", { title: "Card uuid: what feedback on this card names" }, `card ${card.uuid ?? "without uuid"}`))));
  const node = make(`article.card.${kind}`, {},
    make("header", {}, make("span.indicator", {}, make("span.sign", { "aria-hidden": "true" }, sign), word), heading), body);
  body.lastElementChild.append(dismissal(card, service, host, node, body));
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

/** "Why not?": the card's own reasons and a free comment; then only the card's headline stays, and a way back. */
function dismissal(card, service, host, node, body) {
  menus += 1;
  const name = `dismiss-${menus}`;
  const reasons = card.overrideReasons ?? [];
  const choices = reasons.map((reason, index) => make("label", {}, make("input", { type: "radio", name, value: String(index) }), ` ${reason.display ?? reason.code}`));
  const none = make("label", {}, make("input", { type: "radio", name, value: "", checked: true }), reasons.length ? " None of these, or no reason" : " No reason: the card lists none");
  const comment = make("textarea", { id: `${name}-comment`, rows: 2, maxLength: MOST_COMMENT });
  comment.setAttribute("aria-describedby", `${name}-hint`);
  const button = make("button", { type: "button" }, "Dismiss this card");
  const menu = make("details.why-not", {}, make("summary", {}, "Why not? / dismiss"),
    make("div.dismissal", {},
      make("fieldset", {}, make("legend", {}, "Why is this card not followed?"), ...choices, none),
      make("label", { htmlFor: comment.id }, "Comment (optional)"), comment,
      make("p.note", { id: `${name}-hint` }, "A comment is stored by the service as patient data, with this patient's decisions."), button));
  button.onclick = async () => {
    const chosen = menu.querySelector("input:checked")?.value ?? "";
    const reason = chosen === "" ? null : reasons[Number(chosen)];
    const outcome = make("span", { role: "status" }, "Sending feedback …");
    const undo = make("button", { type: "button" }, "Undo");
    const line = make("p.dismissed", {}, make("strong", {}, `Dismissed${reason ? `: ${reason.display ?? reason.code}` : ""}`), " ", outcome, " ", undo);
    undo.title = "Reopens the card on this page. Feedback that was sent stays sent.";
    undo.onclick = () => {
      line.remove();
      body.hidden = false;
      node.classList.remove("is-dismissed");
      menu.open = false;
      node.querySelector("h3").focus();
      say("The card is open again. Feedback that was sent stays sent.");
    };
    body.hidden = true;
    node.classList.add("is-dismissed");
    node.append(line);
    undo.focus();
    outcome.textContent = await host.feedback.overridden(service, card, reason, comment.value.trim());
  };
  return menu;
}

function suggestionsNode(card, service, host) {
  if (!card.suggestions?.length) return null;
  const any = card.selectionBehavior === "any";
  const group = make("section.suggestions", { "aria-label": "Suggestions" },
    make("h4", {}, any || card.suggestions.length === 1 ? "Suggested" : "Suggested: one of these"));
  group.append(...card.suggestions.map((suggestion) => suggestionNode(card, suggestion, service, host, () => {
    if (!any) for (const button of group.querySelectorAll("button.accept")) button.disabled = true;
  })));
  return group;
}

function suggestionNode(card, suggestion, service, host, accepted) {
  const outcome = make("p.ordered", { role: "status" });
  const button = make("button.accept", { type: "button" }, "Accept");
  button.setAttribute("aria-label", `Accept: ${suggestion.label}`);
  const refusal = host.refusal(suggestion);
  button.disabled = Boolean(refusal);
  button.onclick = async () => {
    const done = host.apply(suggestion);
    outcome.className = done.ok ? "ordered" : "ordered failed";
    outcome.textContent = done.words;
    if (!done.ok) return;
    button.disabled = true;
    button.textContent = "Accepted";
    accepted();
    const told = await host.feedback.accepted(service, card, suggestion);
    outcome.textContent = `✓ ${done.words} ${told}`;
    done.more(told);
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
