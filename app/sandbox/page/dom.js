// Elements and what is said aloud. Text children become text nodes, whatever they say.

export const byId = (id) => document.getElementById(id);

/** `make("p.note", {title: ...}, child, ...)`: a class after each dot, properties, children; empty ones are left out. */
export function make(spec, properties = {}, ...children) {
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

export const sentence = (text) => (text.endsWith(".") ? text : `${text}.`);
export const plural = (count, word) => `${count} ${word}${Number(count) === 1 ? "" : "s"}`;

/** For those who listen to the page: the live region at its end. */
export function say(text) {
  byId("status").textContent = text;
}

export function panel(kind, title, ...words) {
  return make(`article.panel.${kind}`, {}, make("h3", {}, title), ...words.map((each) => (typeof each === "string" ? make("p", {}, each) : each)));
}
