// Elements, formats, dialogs, toasts. Data becomes text nodes and attributes that we name; there is no
// way in here to turn a text into markup.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "rect", "line", "g"]);

/** h("a.row", {href, onclick}, kids): text for strings; null, undefined and false are left out. */
export function h(spec, props, ...kids) {
  const [tag, ...classes] = spec.split(".");
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else if (name === "checked" || name === "disabled" || name === "open") node[name] = Boolean(value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  put(node, kids);
  return node;
}

function put(node, kids) {
  for (const kid of kids.flat(Infinity)) {
    if (kid === null || kid === undefined || kid === false) continue;
    node.append(kid instanceof Node ? kid : document.createTextNode(String(kid)));
  }
}

/** Put new children in place of the old ones; what had the focus has it again, if it is still there. */
export function fill(node, ...kids) {
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  const href = focused && focused.getAttribute("href");
  node.replaceChildren();
  put(node, kids);
  if (href) {
    const again = [...node.querySelectorAll("a")].find((each) => each.getAttribute("href") === href);
    if (again) again.focus({ preventScroll: true });
  }
  return node;
}

export const link = (...segments) => "/ui/" + segments.map(encodeURIComponent).join("/");

// ---- formats -------------------------------------------------------------------------------------

const UNITS = [[86400000, "d"], [3600000, "h"], [60000, "m"], [1000, "s"]];

export function span(ms) {
  const size = Math.abs(ms);
  if (size < 1000) return `${Math.round(size)} ms`;
  for (let i = 0; i < UNITS.length; i++) {
    const [unit, name] = UNITS[i];
    if (size < unit) continue;
    const whole = Math.floor(size / unit);
    const next = UNITS[i + 1];
    const rest = next && whole < 10 ? Math.floor((size % unit) / next[0]) : 0;
    return rest ? `${whole} ${name} ${rest} ${next[1]}` : `${whole} ${name}`;
  }
}

/** A moment as "5 m ago" or "in 3 h", its full time in the title. */
export function when(ms) {
  if (!ms) return "";
  const date = new Date(ms);
  const off = ms - Date.now();
  const text = Math.abs(off) < 1500 ? "now" : off < 0 ? `${span(off)} ago` : `in ${span(off)}`;
  const valid = !Number.isNaN(date.getTime());
  return h("time", { datetime: valid ? date.toISOString() : null, title: valid ? date.toLocaleString() : null }, text);
}

export function bytes(size) {
  if (size < 1024) return `${size} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = size / 1024, i = 0;
  while (value >= 1024 && i < units.length - 1) { value /= 1024; i++; }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[i]}`;
}

export function micros(us) {
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${us < 1e4 ? (us / 1e3).toFixed(1) : Math.round(us / 1e3)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

export const count = (n) => n.toLocaleString("en-US");

/** JSON as people read it; any other text as it is. */
export function pretty(text) {
  try {
    const indented = JSON.stringify(JSON.parse(text), null, 2);
    return sameNumbers(text, indented) ? indented : text;
  } catch { return text; }
}

/** Whether every digit is still there: large numbers lose some on their way through JavaScript. */
function sameNumbers(a, b) {
  const digits = (text) => (text.match(/\d+/g) || []).join(" ");
  return digits(a) === digits(b);
}

// ---- pieces --------------------------------------------------------------------------------------

export const status = (row) =>
  h("span.status", { "data-status": row.failed ? "failed" : row.status }, h("i", { "aria-hidden": "true" }), row.failed ? "failed" : row.status);

export function target(row) {
  return h("span.target", null, row.service, "/",
    row.key === null || row.key === undefined ? null : [h("b", null, row.key === "" ? "“”" : row.key), "/"], row.handler);
}

/** A payload: JSON indented, other text as it is, bytes as base64; ``more`` gets all of one that was cut. */
export function payload(value, more) {
  if (!value) return null;
  if (value.size === 0) return h("span.muted", null, "empty");
  const shown = value.text !== undefined ? (value.is_cut ? value.text : pretty(value.text)) : value.base64;
  const note = [];
  if (value.text === undefined) note.push("base64");
  if (value.is_cut || value.size > 200) note.push(bytes(value.size));
  if (value.is_cut) note.push("shown in part");
  const box = h("div.payload", null, h("pre", { tabindex: "0" }, shown));
  const foot = h("p.muted.small", null, note.join(" · "));
  if (value.is_cut && more) foot.append(" ", h("button.link", { type: "button", onclick: async () => {
    const whole = await more();
    if (whole) box.replaceWith(payload(whole));
  } }, "show all"));
  if (foot.firstChild) box.append(foot);
  return box;
}

export function result(value, more) {
  if (!value) return null;
  if (value.void) return h("span.muted", null, "nothing");
  if (value.keys) return h("code", null, value.keys.join(", ") || "none");
  if (value.invocation) return h("a", { href: link("invocations", value.invocation) }, value.invocation);
  if (value.failure) return failure(value.failure);
  return payload(value.value, more);
}

export function failure(given) {
  return h("div.failure", null,
    h("p", null, h("strong", null, given.code), " ", given.message),
    given.stacktrace ? h("details", { open: given.stacktrace.length < 4000 }, h("summary", null, "Stack trace"), h("pre", { tabindex: "0" }, given.stacktrace)) : null,
    given.metadata ? h("p.muted.small", null, Object.entries(given.metadata).map(([k, v]) => `${k}: ${v}`).join(" · ")) : null);
}

export const facts = (pairs) =>
  h("dl.facts", null, pairs.filter(([, v]) => v !== null && v !== undefined && v !== "" && v !== false).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));

export const empty = (title, hint) => h("div.empty", null, h("p", null, title), hint ? h("p.muted", null, hint) : null);

export function toast(text, kind) {
  const box = document.getElementById("toasts");
  const note = h("div.toast", { "data-kind": kind || "good", role: kind === "bad" ? "alert" : null }, text);
  box.append(note);
  setTimeout(() => note.remove(), kind === "bad" ? 9000 : 4000);
}

/** A modal dialog; resolves to what ``done`` was given, or null when it was dismissed. */
export function dialog(title, build) {
  return new Promise((resolve) => {
    let answer = null;
    const box = h("dialog", { "aria-labelledby": "dialog-title" }, h("h2", { id: "dialog-title" }, title));
    put(box, [build((value) => { answer = value; box.close(); })]);
    box.addEventListener("close", () => { box.remove(); resolve(answer); });
    document.body.append(box);
    box.showModal();
  });
}

export const confirm = (title, text, verb, kind) => dialog(title, (done) => [
  h("p", null, text),
  h("p.buttons", null,
    h("button", { type: "button", onclick: () => done(null) }, "Keep as it is"),
    h(`button.${kind || "primary"}`, { type: "button", autofocus: true, onclick: () => done(true) }, verb)),
]);

export function field(label, control, hint) {
  const id = control.id || (control.id = `f${++field.last}`);
  return h("div.field", null, h("label", { for: id }, label), control, hint ? h("p.muted.small", { id: `${id}-hint` }, hint) : null);
}
field.last = 0;

export const select = (options, value, onchange) =>
  h("select", { onchange: (event) => onchange && onchange(event.target.value) },
    options.map(([each, text]) => h("option", { value: each, selected: each === value }, text)));
