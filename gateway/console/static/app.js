// Start, routes, navigation, keys. A page is a function of its place: it fills the root it is given and
// says how often it wants to be refreshed; when another page comes, its requests are cut.

import { dialog, fill, h } from "/ui/dom.js";
import { get } from "/ui/net.js";
import { deployments } from "/ui/deployments.js";
import { invocation } from "/ui/invocation.js";
import { invocations } from "/ui/invocations.js";
import { objects, object } from "/ui/objects.js";
import { overview } from "/ui/overview.js";
import { schedules } from "/ui/schedules.js";
import { services, handler } from "/ui/services.js";
import { timers } from "/ui/timers.js";

const PAGES = [
  { name: "", title: "Overview", key: "o", page: overview },
  { name: "services", title: "Services", key: "s", page: services, inner: handler },
  { name: "invocations", title: "Invocations", key: "i", page: invocations, inner: invocation },
  { name: "objects", title: "Objects", key: "b", page: objects, inner: object },
  { name: "timers", title: "Timers", key: "t", page: timers },
  { name: "schedules", title: "Schedules", key: "c", page: schedules },
  { name: "deployments", title: "Deployments", key: "d", page: deployments },
];

const main = document.getElementById("main");
let current = null;

/** What a page gets: where it is, and what ends with it. */
class Place {
  constructor(args, search) {
    this.args = args;
    this.search = new URLSearchParams(search);
    this.stop = new AbortController();
    this.timers = [];
  }

  get(path) { return get(path, this.stop.signal); }

  get isOver() { return this.stop.signal.aborted; }

  /** Call ``refresh`` again and again while the page is seen; a failure is told at the foot of the page. */
  every(ms, refresh) {
    const again = async () => {
      if (this.isOver) return;
      if (!document.hidden) await this.attempt(refresh);
      if (!this.isOver) this.timers.push(setTimeout(again, ms));
    };
    this.timers.push(setTimeout(again, ms));
  }

  async attempt(refresh) {
    try {
      await refresh();
      setHealth(true);
    } catch (error) {
      if (error.name !== "AbortError" && !this.isOver) setHealth(false, error.message);
    }
  }

  /** Change the address without a new page. */
  remember(fields) {
    const given = Object.entries(fields).filter(([, value]) => value);
    const text = new URLSearchParams(given).toString();
    history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
  }

  end() {
    this.stop.abort();
    this.timers.forEach(clearTimeout);
  }
}

function setHealth(good, why) {
  const box = document.getElementById("health");
  const text = good ? "connected" : "not connected";
  if (box.textContent !== text) fill(box, text);
  box.dataset.state = good ? "good" : "bad";
  box.title = why || "";
}

export function go(path) {
  history.pushState(null, "", path);
  show();
}

async function show() {
  if (current) current.end();
  const [name = "", ...args] = location.pathname.replace(/^\/ui\/?/, "").split("/").filter(Boolean).map(decode);
  const found = PAGES.find((each) => each.name === name) || PAGES[0];
  const place = current = new Place(args, location.search);
  drawNav(found);
  document.title = `${args.length ? args.join("/") : found.title} · Perdure`;
  const root = h("div.page", { "data-page": found.name || "overview" });
  fill(main, root);
  window.scrollTo(0, 0);
  try {
    await (args.length && found.inner ? found.inner : found.page)(root, place);
    setHealth(true);
  } catch (error) {
    if (error.name === "AbortError" || place.isOver) return;
    if (!error.status) setHealth(false, error.message);
    fill(root, h("div.empty", { role: "alert" }, h("p", null, error.message),
      h("p", null, h("button", { type: "button", onclick: show }, "Try again"))));
  }
}

function decode(segment) {
  try { return decodeURIComponent(segment); } catch { return segment; }
}

function drawNav(found) {
  fill(document.getElementById("nav"), PAGES.map((each) =>
    h("a", { href: `/ui/${each.name}`, "aria-current": each === found ? "page" : null, "data-name": each.name || "overview", title: `g ${each.key}` }, each.title)));
  document.querySelector("#nav [aria-current]").scrollIntoView({ block: "nearest", inline: "center" });
}

document.addEventListener("click", (event) => {
  const anchor = event.target.closest("a[href^='/ui/']");
  if (!anchor || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  go(anchor.getAttribute("href"));
});
window.addEventListener("popstate", show);
document.getElementById("help").addEventListener("click", help);

// ---- keys ----------------------------------------------------------------------------------------

const KEYS = [
  ["/", "search on this page"], ["j  k", "next, previous row"], ["Enter", "open it"], ["Esc", "leave a field, close, go up"],
  ["x", "select a row"], ["r", "refresh"], ...PAGES.map((each) => [`g ${each.key}`, each.title]), ["?", "this list"],
];

function help() {
  if (document.querySelector("dialog")) return;
  dialog("Keys", (done) => [
    h("dl.keys", null, KEYS.map(([key, text]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, text)))),
    h("p.buttons", null, h("button", { type: "button", autofocus: true, onclick: () => done(null) }, "Close")),
  ]);
}

let pendingG = 0;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog")) return;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== "checkbox";
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (Date.now() - pendingG < 1200) {
    pendingG = 0;
    const found = PAGES.find((each) => each.key === event.key);
    if (found) { event.preventDefault(); return go(`/ui/${found.name}`); }
  }
  const act = { "/": search, j: () => step(1), k: () => step(-1), "?": help, g: () => { pendingG = Date.now(); }, r: show, x: tick, Escape: up }[event.key];
  if (act) { event.preventDefault(); act(); }
});

function search() {
  const box = main.querySelector("[data-search]");
  if (box) { box.focus(); box.select(); }
}

/** Rows are links; the one with the focus is the one that Enter opens. */
function step(by) {
  const rows = [...main.querySelectorAll("a[data-row]")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1);
  rows[next].focus();
  rows[next].scrollIntoView({ block: "nearest" });
}

function tick() {
  const row = document.activeElement.closest("tr");
  const box = row && row.querySelector("input[type=checkbox]");
  if (box) box.click();
}

function up() {
  const parts = location.pathname.replace(/\/+$/, "").split("/");
  if (parts.length > 3) go(parts.slice(0, 3).join("/"));
  else document.activeElement.blur();
}

show();
