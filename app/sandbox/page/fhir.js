// The page's FHIR client: reads, searches page by page, and places an order. Failures are values with words.

import { exchange } from "./exchange.js";

const MOST_PAGES = 6;

export class Fhir {
  constructor(base) {
    this.base = base;
  }

  /** One GET: {ok, status, body, why, url, ms}. `why` says in words what went wrong. */
  async get(path, { signal } = {}) {
    const url = path.startsWith("http") ? path : `${this.base}/${path}`;
    const started = performance.now();
    try {
      const response = await fetch(url, {
        headers: { accept: "application/fhir+json" }, cache: "reload", signal, // sends Cache-Control: no-cache
      });
      const body = await response.json().catch(() => null);
      const why = response.ok ? "" : `the FHIR server answered ${response.status}${outcomeText(body, ": ")}`;
      return { ok: response.ok && body !== null, status: response.status, body, why, url, ms: performance.now() - started };
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return { ok: false, status: 0, body: null, why: "the FHIR server could not be reached", url, ms: performance.now() - started };
    }
  }

  /** Every matching resource of a search: {found, why}. `why` is empty only if all pages came. */
  async search(path, { signal } = {}) {
    const found = [];
    let next = path;
    for (let page = 0; next && page < MOST_PAGES; page += 1) {
      const answer = await this.get(next, { signal });
      if (!answer.ok) return { found, why: answer.why };
      for (const entry of answer.body.entry ?? []) {
        if (entry.resource && entry.search?.mode !== "outcome") found.push(entry.resource);
      }
      const link = (answer.body.link ?? []).find((each) => each.relation === "next")?.url;
      next = link && new URL(link, this.base).origin === new URL(this.base).origin ? link : null;
    }
    return { found, why: next ? "there is more than this page reads" : "" };
  }

  /** Store a new resource: {ok, body, why, made}, `made` being the exchange itself. */
  async create(resource) {
    const made = await exchange(`${this.base}/${resource.resourceType}`, { method: "POST", body: resource, type: "application/fhir+json" });
    const ok = made.status >= 200 && made.status < 300;
    const refused = made.status ? `the FHIR server answered ${made.status}${outcomeText(made.answer, ": ")}` : "the FHIR server could not be reached";
    return { ok, body: made.answer, why: ok ? "" : refused, made };
  }
}

/** The words of an OperationOutcome, after `lead`; empty if it is none. */
export function outcomeText(body, lead = "") {
  if (body?.resourceType !== "OperationOutcome") return "";
  const words = (body.issue ?? []).map((issue) => issue.details?.text ?? issue.diagnostics ?? issue.code).filter(Boolean);
  return words.length ? lead + words.join(" · ") : "";
}
