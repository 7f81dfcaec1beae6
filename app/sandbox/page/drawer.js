// "What was sent and answered": the exchanges of the open chart, the newest first and unfolded.

import { make } from "./dom.js";
import { bytesText, indented } from "./words.js";

const MOST_KEPT = 12;

const statusWord = (made) => (made.status ? String(made.status) : "no answer");
const lineOf = ({ made }) => `${made.method} ${new URL(made.url).pathname} · ${statusWord(made)} · ${made.ms.toFixed(0)} ms · sent ${bytesText(made.sentBytes)} · received ${bytesText(made.receivedBytes)}`;

export class Drawer {
  constructor({ drawer, line, list, discovery }) {
    Object.assign(this, { drawer, line, list, discovery, page: 0 });
  }

  /** A chart was opened: `page` is another number, so that what began before it can be kept out. */
  clear() {
    this.page += 1;
    this.drawer.hidden = true;
    this.line.textContent = "";
    this.list.replaceChildren();
    this.discovery.textContent = "";
  }

  discovered(made) {
    this.drawer.hidden = false;
    this.line.textContent ||= `GET ${new URL(made.url).pathname} · ${statusWord(made)}`;
    this.discovery.textContent = `Discovery: GET ${made.url} · ${statusWord(made)} · ${made.ms.toFixed(0)} ms`;
  }

  /** The exchanges of one event; `what` is the hook, "feedback", or a write to the FHIR server. */
  add(what, calls) {
    if (!calls.length) return;
    this.drawer.hidden = false;
    this.line.textContent = calls.map(lineOf).join("  |  ");
    for (const older of this.list.querySelectorAll("details.event[open]")) older.open = false;
    this.list.prepend(...calls.map((call) => event(what, call)));
    while (this.list.children.length > MOST_KEPT) this.list.lastElementChild.remove();
  }

  /** Something that went out and has no answer to show. */
  note(text) {
    this.list.prepend(make("p.note", {}, text));
  }
}

function event(what, call) {
  return make("details.event", { open: true }, make("summary", {}, make("strong", {}, what), ` ${lineOf(call)}`), exchangeNode(call));
}

function exchangeNode({ made, reads }) {
  return make("div.exchange", {},
    side("Request", `${made.method} ${made.url}`, made.headers, made.sent, made.sentBytes, true),
    side("Response", `HTTP ${statusWord(made)} in ${made.ms.toFixed(1)} ms`, made.received, made.text, made.receivedBytes, made.answer !== null),
    reads?.length ? make("details.reads", {}, make("summary", {}, `Prefetch: ${reads.length} templates read by this page before the call`),
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
