// GitHub-flavoured Markdown to DOM nodes, for text nobody has reason to trust.
//
// Everything is built with createElement and text nodes, so raw HTML in a card stays visible text. A link or
// image in the text becomes its words and address in plain sight, never something to click or to load: the
// links of a card have a place of their own (card.links).

const DEEPEST = 12;
const MOST_DELIMITERS = 2000;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const ENTITIES = {
  amp: "&", lt: "<", gt: ">", quot: "\"", apos: "'", nbsp: "\u00a0", ge: "≥", le: "≤", ne: "≠", plusmn: "±",
  times: "×", divide: "÷", middot: "·", bull: "•", hellip: "…", ndash: "–", mdash: "—", deg: "°", micro: "µ",
  mu: "μ", alpha: "α", beta: "β", gamma: "γ", sup2: "²", sup3: "³", half: "½", frac12: "½", frac14: "¼",
  rarr: "→", larr: "←", uarr: "↑", darr: "↓", minus: "−", asymp: "≈", sect: "§", para: "¶", copy: "©",
  reg: "®", trade: "™", laquo: "«", raquo: "»", lsquo: "‘", rsquo: "’", ldquo: "“", rdquo: "”", sbquo: "‚",
  bdquo: "„", euro: "€", pound: "£", yen: "¥", ast: "*", lowbar: "_", grave: "`", vert: "|", verbar: "|",
  lsqb: "[", rsqb: "]", lbrack: "[", rbrack: "]", lpar: "(", rpar: ")", num: "#", excl: "!", commat: "@",
  colon: ":", sol: "/", bsol: "\\", tilde: "~", lbrace: "{", rbrace: "}", lcub: "{", rcub: "}", dollar: "$",
  percnt: "%", period: ".", comma: ",", semi: ";", equals: "=", quest: "?", plus: "+", hyphen: "‐", Tab: "\t",
  auml: "ä", ouml: "ö", uuml: "ü", Auml: "Ä", Ouml: "Ö", Uuml: "Ü", szlig: "ß", eacute: "é", egrave: "è",
};

const BLANK = /^\s*$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|(\d{1,9})[.)])(?:( {1,4})(?=\S)|( +)|$)/;
const UNDERLINE = /^ {0,3}(=+|-+)[ \t]*$/;
const TABLE_RULE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

/** A fragment with the rendered text. `top` is the heading level that `#` stands for. */
export function render(markdown, { top = 3 } = {}) {
  const fragment = document.createDocumentFragment();
  const lines = String(markdown).replace(/\r\n?/g, "\n").replace(/\n$/, "").replace(/\t/g, "    ").replace(/\0/g, "\ufffd").split("\n");
  fragment.append(...blocks(lines, { top, depth: 0 }));
  return fragment;
}

function element(name, children, properties = {}) {
  const node = document.createElement(name);
  Object.assign(node, properties);
  node.append(...children);
  return node;
}

function blocks(lines, { top, depth, tight = false }) {
  if (depth > DEEPEST) return [element("p", [lines.join("\n")])];
  const nodes = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    let match;
    if (BLANK.test(line)) {
      at += 1;
    } else if (/^ {4}/.test(line)) {
      let end = at;
      while (end < lines.length && (/^ {4}/.test(lines[end]) || BLANK.test(lines[end]))) end += 1;
      const code = lines.slice(at, end).map((text) => text.slice(4)).join("\n").trimEnd();
      nodes.push(element("pre", [element("code", [`${code}\n`])]));
      at = end;
    } else if ((match = FENCE.exec(line))) {
      const close = new RegExp(`^ {0,3}${match[1][0]}{${match[1].length},} *$`);
      let end = at + 1;
      while (end < lines.length && !close.test(lines[end])) end += 1;
      const code = lines.slice(at + 1, end);
      nodes.push(element("pre", [element("code", [code.length ? `${code.join("\n")}\n` : ""])]));
      at = end + 1;
    } else if ((match = HEADING.exec(line))) {
      nodes.push(heading(match[1].length, match[2] ?? "", top));
      at += 1;
    } else if (RULE.test(line)) {
      nodes.push(element("hr", []));
      at += 1;
    } else if (QUOTE.test(line)) {
      let end = at;
      while (end < lines.length && QUOTE.test(lines[end])) end += 1;
      const inner = lines.slice(at, end).map((text) => text.replace(QUOTE, ""));
      nodes.push(element("blockquote", blocks(inner, { top, depth: depth + 1 })));
      at = end;
    } else if (ITEM.test(line)) {
      const [list, end] = listAt(lines, at, { top, depth });
      nodes.push(list);
      at = end;
    } else if (isTable(lines, at)) {
      const [table, end] = tableAt(lines, at);
      nodes.push(table);
      at = end;
    } else {
      let end = at + 1;
      let level = 0;
      while (end < lines.length && !BLANK.test(lines[end])) {
        if ((match = UNDERLINE.exec(lines[end]))) {
          level = match[1][0] === "=" ? 1 : 2;
          break;
        }
        if (interrupts(lines, end)) break;
        end += 1;
      }
      const text = lines.slice(at, end).map((part) => part.replace(/^ +/, "")).join("\n").trimEnd();
      if (level) nodes.push(heading(level, text, top));
      else if (tight) nodes.push(...(nodes.length ? ["\n"] : []), ...inline(text));
      else nodes.push(element("p", inline(text)));
      at = end + (level ? 1 : 0);
    }
  }
  return nodes;
}

function heading(level, text, top) {
  return element(`h${Math.min(6, level + top - 1)}`, inline(text.trim()));
}

function interrupts(lines, at) {
  const line = lines[at];
  const item = ITEM.exec(line);
  const starts = item && line.length > item[0].length && (item[3] === undefined || Number(item[3]) === 1);
  return starts || HEADING.test(line) || RULE.test(line) || FENCE.test(line) || QUOTE.test(line) || isTable(lines, at);
}

function listAt(lines, start, { top, depth }) {
  const first = ITEM.exec(lines[start]);
  const kind = first[2].at(-1);
  const items = [];
  let at = start;
  let loose = false;
  while (at < lines.length) {
    const match = ITEM.exec(lines[at]);
    if (!match || match[2].at(-1) !== kind || RULE.test(lines[at])) break;
    const width = match[1].length + match[2].length + (match[4]?.length ?? 1);
    const inner = [lines[at].slice(width)];
    at += 1;
    while (at < lines.length) {
      const line = lines[at];
      const blankBefore = BLANK.test(lines[at - 1]);
      if (BLANK.test(line)) inner.push("");
      else if (/^ */.exec(line)[0].length >= width) inner.push(line.slice(width));
      else if (!blankBefore && !ITEM.test(line) && !interrupts(lines, at)) inner.push(line.trimStart());
      else break;
      at += 1;
    }
    const last = inner.findLastIndex((line) => !BLANK.test(line));
    const gap = inner.slice(0, last + 1).some((line, index) => BLANK.test(line) && index > 0);
    const next = at < lines.length && ITEM.exec(lines[at]);
    if (gap || (Math.max(last + 1, 1) < inner.length && next && next[2].at(-1) === kind)) loose = true;
    items.push(inner.slice(0, last + 1));
  }
  const list = element(first[3] === undefined ? "ul" : "ol", items.map((inner) => (
    element("li", blocks(inner, { top, depth: depth + 1, tight: !loose }))
  )));
  if (first[3] !== undefined && Number(first[3]) !== 1) list.start = Number(first[3]);
  return [list, at];
}

function cells(line) {
  const row = line.trim().replace(/^\|/, "");
  const found = [""];
  for (let at = 0; at < row.length; at += 1) {
    if (row[at] === "\\" && row[at + 1] === "|") {
      found[found.length - 1] += "\\|";
      at += 1;
    } else if (row[at] === "\\" && row[at + 1] === "\\") {
      found[found.length - 1] += "\\\\";
      at += 1;
    } else if (row[at] === "|") {
      found.push("");
    } else {
      found[found.length - 1] += row[at];
    }
  }
  if (found.length > 1 && BLANK.test(found.at(-1))) found.pop();
  return found.map((cell) => cell.trim());
}

function isTable(lines, at) {
  return at + 1 < lines.length && lines[at].includes("|") && TABLE_RULE.test(lines[at + 1])
    && /[|:]/.test(lines[at + 1]) && cells(lines[at]).length === cells(lines[at + 1]).length;
}

function tableAt(lines, start) {
  const sides = cells(lines[start + 1]).map((cell) => (
    { "true,true": "center", "true,false": "left", "false,true": "right" }[[cell.startsWith(":"), cell.endsWith(":")]]
  ));
  const row = (line, name) => {
    const found = cells(line);
    return element("tr", sides.map((side, index) => (
      element(name, inline(found[index] ?? ""), { className: side ? `align-${side}` : "", ...(name === "th" && { scope: "col" }) })
    )));
  };
  const body = [];
  let at = start + 2;
  while (at < lines.length && !BLANK.test(lines[at]) && (lines[at].trimStart().startsWith("|") || !interrupts(lines, at))) {
    body.push(row(lines[at], "td"));
    at += 1;
  }
  const parts = [element("thead", [row(lines[start], "th")]), ...(body.length ? [element("tbody", body)] : [])];
  return [element("div", [element("table", parts)], { className: "table" }), at];
}

// --- inline ---------------------------------------------------------------------------------------------

function entityAt(text, at) {
  const match = /^&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,31}));/.exec(text.slice(at, at + 40));
  if (!match) return null;
  if (match[3]) return match[3] in ENTITIES ? [ENTITIES[match[3]], match[0].length] : null;
  const point = match[1] ? Number(match[1]) : Number.parseInt(match[2], 16);
  const bad = point === 0 || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff);
  return [bad ? "\ufffd" : String.fromCodePoint(point), match[0].length];
}

/** Nodes of one paragraph, heading or cell. */
function inline(text) {
  const parts = [];
  let plain = "";
  let delimiters = 0;
  const flush = () => {
    if (plain) parts.push(plain);
    plain = "";
  };
  let at = 0;
  while (at < text.length) {
    const here = text[at];
    if (here === "\\") {
      const next = text[at + 1];
      if (next === "\n") {
        flush();
        parts.push(element("br", []), "\n");
        at += 2;
      } else if (next !== undefined && /[!-/:-@[-`{-~]/.test(next)) {
        plain += next;
        at += 2;
      } else {
        plain += here;
        at += 1;
      }
    } else if (here === "\n") {
      const hard = / {2,}$/.test(plain);
      plain = plain.trimEnd();
      flush();
      parts.push(...(hard ? [element("br", [])] : []), "\n");
      at += 1;
    } else if (here === "`") {
      const run = /^`+/.exec(text.slice(at))[0];
      const close = closingTicks(text, at + run.length, run.length);
      if (close < 0) {
        plain += run;
        at += run.length;
      } else {
        flush();
        let code = text.slice(at + run.length, close).replaceAll("\n", " ");
        if (/^ .*[^ ].* $|^ [^ ] $/.test(code)) code = code.slice(1, -1);
        parts.push(element("code", [code]));
        at = close + run.length;
      }
    } else if (here === "&") {
      const entity = entityAt(text, at);
      plain += entity ? entity[0] : here;
      at += entity ? entity[1] : 1;
    } else if ((here === "*" || here === "_" || here === "~") && delimiters < MOST_DELIMITERS) {
      let end = at;
      while (text[end] === here) end += 1;
      flush();
      parts.push(delimiter(text, at, end));
      delimiters += 1;
      at = end;
    } else if (here === "[" || (here === "!" && text[at + 1] === "[")) {
      const link = /^!?\[([^[\]\n]{0,300})\]\(<?([^\s()<>]{0,2000})>?(?:\s+"[^"\n]{0,300}")?\)/.exec(text.slice(at, at + 2700));
      if (link) {
        flush();
        parts.push(...inline(link[1]), link[2] && link[2] !== link[1] ? ` (${link[2]})` : "");
        at += link[0].length;
      } else {
        plain += here;
        at += 1;
      }
    } else {
      plain += here;
      at += 1;
    }
  }
  flush();
  return emphasis(parts);
}

function closingTicks(text, from, length) {
  const runs = /`+/g;
  runs.lastIndex = from;
  for (let match = runs.exec(text); match; match = runs.exec(text)) {
    if (match[0].length === length) return match.index;
  }
  return -1;
}

/** A run of `*`, `_` or `~` and whether it may open or close (CommonMark's left- and right-flanking). */
function delimiter(text, start, end) {
  const before = start ? String.fromCodePoint(text.slice(0, start).codePointAt(start - (/[\udc00-\udfff]/.test(text[start - 1]) && start > 1 ? 2 : 1))) : " ";
  const after = end < text.length ? String.fromCodePoint(text.codePointAt(end)) : " ";
  const left = !/\s/.test(after) && (!PUNCTUATION.test(after) || /\s/.test(before) || PUNCTUATION.test(before));
  const right = !/\s/.test(before) && (!PUNCTUATION.test(before) || /\s/.test(after) || PUNCTUATION.test(after));
  const mark = text[start];
  return {
    mark,
    count: end - start,
    whole: end - start,
    open: mark === "_" ? left && (!right || PUNCTUATION.test(before)) : left,
    close: mark === "_" ? right && (!left || PUNCTUATION.test(after)) : right,
  };
}

const isDelimiter = (part) => typeof part === "object" && "mark" in part && !(part instanceof Node);

function pairs(opener, closer) {
  if (!isDelimiter(opener) || opener.mark !== closer.mark || !opener.open || !opener.count) return false;
  if (closer.mark === "~") return opener.count === closer.count && closer.count <= 2;
  const both = (opener.close || closer.open) && (opener.whole + closer.whole) % 3 === 0;
  return !both || (opener.whole % 3 === 0 && closer.whole % 3 === 0);
}

/** CommonMark's pairing of delimiter runs: the nearest opener left of each closer, two marks before one. */
function emphasis(parts) {
  for (let at = 0; at < parts.length; at += 1) {
    const closer = parts[at];
    if (!isDelimiter(closer) || !closer.close) continue;
    while (closer.count) {
      let from = at - 1;
      while (from >= 0 && !pairs(parts[from], closer)) from -= 1;
      if (from < 0) break;
      const opener = parts[from];
      const width = closer.mark === "~" ? closer.count : Math.min(2, opener.count, closer.count);
      const name = closer.mark === "~" ? "s" : width === 2 ? "strong" : "em";
      const inner = parts.slice(from + 1, at).map(literal);
      parts.splice(from + 1, at - from - 1, element(name, inner));
      opener.count -= width;
      closer.count -= width;
      at = from + 2;
    }
  }
  return parts.map(literal).filter((part) => part !== "");
}

const literal = (part) => (isDelimiter(part) ? part.mark.repeat(part.count) : part);
