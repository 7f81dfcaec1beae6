// The CDS client: discovery, prefetch templates, one call of every service of a hook.

import { exchange } from "./exchange.js";

const USER = "Practitioner/demo-icu";

export class Hooks {
  constructor({ cds, fhir, mode, drawer }) {
    this.cds = cds;
    this.fhir = fhir;
    this.mode = mode;
    this.drawer = drawer;
  }

  address(service) {
    return `${this.cds}/cds-services/${encodeURIComponent(service.id)}`;
  }

  /** {made, usable, of(hook)}: the exchange, whether it is a discovery document, and the services of a hook. */
  async discover(signal) {
    const made = await exchange(`${this.cds}/cds-services`, { signal });
    const usable = made.status === 200 && Array.isArray(made.answer?.services);
    const services = usable ? made.answer.services : [];
    return { made, usable, of: (hook) => services.filter((service) => service.hook === hook) };
  }

  /** [{service, made}], one for each service, in their order. Throws AbortError when the signal says so, late or not. */
  async fire(hook, services, context, signal) {
    const calls = await Promise.all(services.map(async (service) => {
      const full = { userId: USER, ...context };
      const request = { hook, hookInstance: crypto.randomUUID(), fhirServer: this.fhir.base, context: full };
      let reads = [];
      if (this.mode() === "prefetch") {
        const got = await this.prefetch(service.prefetch, full, signal);
        reads = got.reads;
        if (Object.keys(got.filled).length) request.prefetch = got.filled;
      }
      return { service, reads, made: await exchange(this.address(service), { method: "POST", body: request, signal }) };
    }));
    signal.throwIfAborted();
    this.drawer.add(hook, calls);
    return calls;
  }

  /** Fill a service's prefetch templates; a failed read is passed on as its OperationOutcome, else left out. */
  async prefetch(templates, context, signal) {
    const reads = await Promise.all(Object.entries(templates ?? {}).map(async ([key, template]) => {
      const path = template.replace(/\{\{\s*context\.(\w+)\s*\}\}/g, (whole, field) => context[field] ?? whole);
      if (path.includes("{{")) return { key, path, why: "token not resolved: left out", ms: 0 };
      const answer = await this.fhir.get(path, { signal });
      const usable = answer.ok || answer.body?.resourceType === "OperationOutcome";
      return { key, path, status: answer.status, ms: answer.ms, why: answer.why, body: usable ? answer.body : undefined };
    }));
    const filled = Object.fromEntries(reads.filter((read) => read.body !== undefined).map((read) => [read.key, read.body]));
    return { filled, reads };
  }
}
