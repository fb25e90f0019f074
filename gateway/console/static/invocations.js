// Invocations: filters, a list, and operations on one or many of them.

import { confirm, count, empty, field, fill, h, link, select, status, target, toast, when } from "/ui/dom.js";
import { call, query } from "/ui/net.js";
import { go } from "/ui/app.js";

const STATUSES = ["running", "backing-off", "suspended", "paused", "pending", "scheduled", "completed"];
const UNFINISHED = STATUSES.slice(0, -1);

/** What may be done, in which status, and whether to ask first (admin API, 6). */
export const OPERATIONS = [
  { op: "cancel", title: "Cancel", when: UNFINISHED, ask: "The handler gets a cancellation and may undo what it did." },
  { op: "kill", title: "Kill", when: UNFINISHED, ask: "It ends at once. Nothing is undone, and what it called goes on." },
  { op: "pause", title: "Pause", when: ["running", "backing-off", "suspended"] },
  { op: "resume", title: "Resume", when: ["backing-off", "suspended", "paused"] },
  { op: "restart-as-new", title: "Restart as new", when: ["completed"], ask: "A new invocation begins with the same input." },
  { op: "purge", title: "Purge", when: ["completed"], ask: "It is forgotten, its result and journal too." },
];

/** Carry out one operation on these ids. Resolves to the ids that it worked for. */
export async function operate(operation, ids) {
  const what = ids.length === 1 ? "this invocation" : `${count(ids.length)} invocations`;
  if (operation.ask && !(await confirm(`${operation.title} ${what}?`, operation.ask, operation.title, /kill|purge/.test(operation.op) ? "danger" : "primary"))) return [];
  const done = [], wrong = [], waiting = [...ids];
  let made = null;
  const worker = async () => {
    for (let id = waiting.shift(); id; id = waiting.shift()) {
      try {
        made = await call("PATCH", `/invocations/${encodeURIComponent(id)}/${operation.op}`);
        done.push(id);
      } catch (error) { wrong.push(error.message); }
    }
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
  if (done.length) toast(`${operation.title}: ${done.length === 1 ? "done" : `${count(done.length)} done`}`);
  if (wrong.length) toast(wrong.length === 1 ? wrong[0] : `${count(wrong.length)} refused: ${wrong[0]}`, "bad");
  if (made && made.new_invocation_id && ids.length === 1) go(link("invocations", made.new_invocation_id));
  return done;
}

export async function invocations(root, place) {
  const names = (await place.get("/services")).services.map((each) => each.name).sort();
  const wanted = Object.fromEntries(["service", "handler", "key", "status"].map((each) => [each, place.search.get(each) || ""]));
  const list = new List(place, wanted);
  const changed = () => { place.remember(wanted); return place.attempt(() => list.load(false)); };
  const find = h("input", { type: "search", "data-search": true, value: wanted.key, placeholder: "key, or inv_…", autocomplete: "off", spellcheck: "false" });
  const handler = h("input", { type: "text", value: wanted.handler, placeholder: "any", autocomplete: "off", spellcheck: "false" });
  const form = h("form.filters", { role: "search", onsubmit: (event) => {
    event.preventDefault();
    const text = find.value.trim();
    if (/^inv_\w+$/.test(text)) return go(link("invocations", text));
    wanted.key = find.value;
    wanted.handler = handler.value.trim();
    changed();
  } },
    field("Key or id", find),
    field("Service", select([["", "all"], ...names.map((each) => [each, each])], wanted.service, (value) => { wanted.service = value; changed(); })),
    field("Handler", handler),
    field("Status", select([["", "all"], ...STATUSES.map((each) => [each, each])], wanted.status, (value) => { wanted.status = value; changed(); })),
    h("button.visually-hidden", { type: "submit" }, "Filter"));
  await list.load(false);
  fill(root, h("h1", null, "Invocations"), form, list.node);
  place.every(3000, () => list.refresh());
}

class List {
  constructor(place, wanted) {
    this.place = place;
    this.wanted = wanted;
    this.rows = new Map();
    this.chosen = new Set();
    this.isFirst = true;
    this.turn = 0;
    this.body = h("tbody");
    this.note = h("p.muted.small", { role: "status" });
    this.more = h("button", { type: "button", onclick: () => place.attempt(() => this.load(true)) }, "More");
    this.none = empty("Nothing here.", "No invocation matches, or none was made yet.");
    this.bar = h("div.bulk", { hidden: true });
    this.all = h("input", { type: "checkbox", "aria-label": "Select all that are shown", onchange: () => this.chooseAll() });
    this.table = h("div.scroll", null, h("table.rows", null, h("thead", null, h("tr", null,
      h("th.tick", { scope: "col" }, this.all), ["Status", "Invocation", "Changed", "Attempts", ""].map((each) => h("th", { scope: "col" }, each)))), this.body));
    this.node = h("div.stack", null, this.bar, this.note, this.table, this.none, h("p", null, this.more));
  }

  /** The first page again while nobody reads further or picks rows; seldom where it costs a scan. */
  async refresh() {
    this.turn = (this.turn + 1) % 5;
    if (this.isFirst && (this.isCheap || !this.turn) && !this.chosen.size) await this.load(false);
  }

  async load(more) {
    const asked = JSON.stringify(this.wanted);
    const found = await this.place.get("/ui/api/invocations" + query({ ...this.wanted, cursor: more ? this.cursor : "" }));
    if (asked !== JSON.stringify(this.wanted)) return; // the filter changed meanwhile
    this.isFirst = !more;
    this.isCheap = found.newest_first;
    if (!more) { this.rows.clear(); this.chosen.clear(); }
    for (const row of found.rows) if (!this.rows.has(row.id)) this.rows.set(row.id, row);
    this.cursor = found.cursor;
    this.draw(found);
  }

  draw(found) {
    fill(this.body, [...this.rows.values()].map((row) => this.row(row)));
    this.more.hidden = !this.cursor;
    this.table.hidden = !this.rows.size;
    this.none.hidden = Boolean(this.rows.size || this.cursor);
    const total = found.total === undefined ? "" : ` of ${found.is_whole ? "" : "at least "}${count(Math.max(found.total, this.rows.size))}`;
    const order = found.newest_first ? "newest change first" : "further ones in the order of the store";
    const counting = found.is_whole ? "" : ` · counting … ${Math.round(100 * (found.progress || 0))} %`;
    fill(this.note, this.rows.size ? `${count(this.rows.size)}${total}, ${order}${counting}` : this.cursor ? `Nothing yet; there is more to look through.${counting}` : "");
    this.drawBar();
  }

  row(row) {
    return h("tr", null,
      h("td.tick", null, h("input", { type: "checkbox", "aria-label": `Select ${row.id}`, checked: this.chosen.has(row.id), onchange: (event) => this.choose(row.id, event.target.checked) })),
      h("td", null, status(row)),
      h("td.what", null, h("a", { href: link("invocations", row.id), "data-row": true }, target(row)), h("code.id", null, row.id)),
      h("td", null, when(row.modified)),
      h("td", null, h("span.phone-label", null, "attempts "), row.attempts),
      h("td.message", null, row.due ? ["due ", when(row.due), row.message ? " · " : ""] : null, row.message || null));
  }

  choose(id, isChosen) {
    if (isChosen) this.chosen.add(id);
    else this.chosen.delete(id);
    this.drawBar();
  }

  chooseAll() {
    this.chosen = new Set(this.all.checked ? this.rows.keys() : []);
    for (const box of this.body.querySelectorAll("input")) box.checked = this.all.checked;
    this.drawBar();
  }

  drawBar() {
    this.all.checked = this.chosen.size > 0 && this.chosen.size === this.rows.size;
    this.bar.hidden = !this.chosen.size;
    const states = new Set([...this.chosen].map((id) => this.rows.get(id).status));
    const possible = OPERATIONS.filter((each) => each.when.some((word) => states.has(word)));
    fill(this.bar, h("span", null, `${count(this.chosen.size)} selected`), possible.map((each) =>
      h("button", { type: "button", onclick: async () => {
        const ids = [...this.chosen].filter((id) => each.when.includes(this.rows.get(id).status));
        const done = await operate(each, ids);
        if (done.length && !this.place.isOver) await this.place.attempt(() => this.load(false));
      } }, each.title)));
  }
}
