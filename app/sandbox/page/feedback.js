// What became of a card, told to the service that made it (CDS Hooks 2.0, "Feedback").

import { exchange } from "./exchange.js";
import { failureText } from "./words.js";

const entry = (card, outcome, rest) => ({ card: card.uuid, outcome, outcomeTimestamp: new Date().toISOString(), ...rest });

export class Feedback {
  constructor({ hooks, drawer }) {
    this.hooks = hooks;
    this.drawer = drawer;
  }

  accepted(service, card, suggestion) {
    if (!card.uuid || !suggestion.uuid) return "No feedback: the card or its suggestion has no uuid.";
    return this.send(service, entry(card, "accepted", { acceptedSuggestions: [{ id: suggestion.uuid }] }));
  }

  /** `reason` is a Coding of the card's own list or null; `comment` the user's words, left out when there are none. */
  overridden(service, card, reason, comment) {
    if (!card.uuid) return "No feedback: the card has no uuid.";
    const said = { ...(reason && { reason }), ...(comment && { userComment: comment }) };
    return this.send(service, entry(card, "overridden", Object.keys(said).length ? { overrideReason: said } : {}));
  }

  /** One sentence: whether the service took it, and if not, how it refused. */
  async send(service, one) {
    const { page } = this.drawer;
    const made = await exchange(`${this.hooks.address(service)}/feedback`, { method: "POST", body: { feedback: [one] } });
    if (this.drawer.page === page) this.drawer.add("feedback", [{ service, made, reads: [] }]);
    return made.status === 200 ? "Feedback sent." : `The feedback was not taken. ${failureText(made.status)[0]}.`;
  }
}
