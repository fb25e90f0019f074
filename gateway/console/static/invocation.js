// One invocation: what it is, what can be done, and its journal as a timeline in time.

import { confirm, empty, facts, failure, fill, h, link, payload, result, status, target, toast, when } from "/ui/dom.js";
import { Axis, percent, precise, Scale } from "/ui/moments.js";
import { OPERATIONS, operate } from "/ui/invocations.js";
import { call } from "/ui/net.js";
import { go } from "/ui/app.js";

const GROUPS = {
  input: "io", output: "io", run: "run", sleep: "time", call: "call", one_way_call: "call", attach_invocation: "call",
  get_invocation_output: "call", send_signal: "signal", signal: "signal", complete_awakeable: "signal", completion: "io",
  get_promise: "promise", peek_promise: "promise", complete_promise: "promise",
};
const WORDS = {
  one_way_call: "send", get_eager_state: "get state", get_lazy_state: "get state", get_eager_state_keys: "state keys",
  get_lazy_state_keys: "state keys", set_state: "set state", clear_state: "clear state", clear_all_state: "clear all state",
  get_promise: "await promise", peek_promise: "peek promise", complete_promise: "complete promise", send_signal: "send signal",
  complete_awakeable: "complete awakeable", attach_invocation: "attach", get_invocation_output: "get output",
};
const MOST_PAGES = 8; // of 500 entries; more are loaded on request

export async function invocation(root, place) {
  const id = place.args[0];
  const view = new View(place, id);
  await view.refresh();
  fill(root, view.node);
  place.every(2000, async () => { if (!view.isOver) await view.refresh(); });
}

class View {
  constructor(place, id) {
    this.place = place;
    this.id = id;
    this.pages = 1;
    this.opened = new Set();
    this.drawn = "";
    this.head = h("div.stack");
    this.lines = h("div");
    this.node = h("div.stack", null, this.head, h("section", null, h("h2", null, "Timeline"), this.lines));
  }

  async refresh() {
    const path = `/ui/api/invocations/${encodeURIComponent(this.id)}`;
    const row = await this.place.get(path);
    this.isOver = row.status === "completed";
    const items = [];
    let next = 0, now = 0;
    for (let page = 0; page < this.pages && next !== undefined; page++) {
      const found = await this.place.get(`${path}/timeline?from=${next}`);
      items.push(...found.items);
      next = found.next;
      now = found.now; // the server's clock, as all moments are
    }
    if (this.isOver) for (const item of items) if (item.open) Object.assign(item, { open: false, isForsaken: true });
    const seen = JSON.stringify([row, items]);
    if (seen !== this.drawn) { // else it keeps what a reader has selected
      this.drawn = seen;
      this.drawHead(row);
      this.drawLines(row, items, next);
    }
    this.lay(now);
  }

  drawHead(row) {
    const buttons = OPERATIONS.filter((each) => each.when.includes(row.status)).map((each) =>
      h("button", { type: "button", class: /kill|purge/.test(each.op) ? "danger" : null, onclick: async () => {
        const done = await operate(each, [this.id]);
        if (!done.length || this.place.isOver) return;
        if (each.op === "purge") go("/ui/invocations");
        else await this.place.attempt(() => this.refresh());
      } }, each.title));
    const caller = row.invoked_by.startsWith("inv_") ? h("a", { href: link("invocations", row.invoked_by) }, row.invoked_by) : row.invoked_by;
    fill(this.head,
      h("p.crumbs", null, h("a", { href: "/ui/invocations" }, "Invocations"), " / ", h("code", null, this.id)),
      h("div.title", null, h("h1", null, target(row)), status(row), h("div.buttons", null, buttons)),
      facts([
        ["Created", when(row.created)], ["Changed", when(row.modified)], ["Completed", when(row.completed)],
        ["Took", row.completed ? `${(row.completed - (row.execution_time || row.created)).toLocaleString("en-US")} ms` : ""],
        [row.status === "backing-off" ? "Next attempt" : "Starts", when(row.due)],
        ["Attempts", row.attempts], ["Failed in a row", row.retries || ""], ["Entries", row.entry_count],
        ["Waits for", row.awaiting], ["Invoked by", caller],
        ["Object", row.key === null ? "" : h("a", { href: link("objects", row.service, row.key) }, `${row.service}/${row.key}`)],
        ["Idempotency key", row.idempotency_key], ["Deployment", row.deployment || "this process"],
        ["Kept until", row.expires ? when(row.expires) : ""],
      ]),
      row.paused_reason ? h("div.banner", null, h("strong", null, "Paused: "), row.paused_reason) : null,
      row.last_failure ? lastFailure(row) : null,
      row.result ? h("section", null, h("h2", null, row.failed ? "Failure" : "Result"), result(row.result)) : null);
  }

  drawLines(row, items, next) {
    this.bars = [];
    this.axis = null;
    if (!items.length) return fill(this.lines, empty("There is no journal.", "Its retention is over, or it was purged."));
    this.scale = new Scale(row, items);
    if (this.scale.isTimed) this.axis = new Axis(this.scale);
    const focused = this.lines.contains(document.activeElement) && document.activeElement.closest("li");
    this.list = h("ol.timeline", { "aria-label": "Journal entries in order", "data-timed": this.scale.isTimed || null }, items.map((item) => this.line(item)));
    fill(this.lines,
      this.axis ? this.axis.node : h("p.muted.small", null, "An older release wrote this journal, without moments: the bars are in journal order."),
      this.list,
      next !== undefined ? h("p", null, h("button", { type: "button", onclick: () => this.place.attempt(async () => { this.pages = Math.min(this.pages + 1, MOST_PAGES); await this.refresh(); }) }, "More entries")) : null,
      this.isOver ? null : h("p.muted.small", null, "It is not over: more may come."));
    const again = focused && this.list.querySelector(`[data-index="${focused.dataset.index}"] summary`);
    if (again && document.activeElement === document.body) again.focus({ preventScroll: true });
  }

  /** Bars, ticks and what is still growing, as it is at ``now``. */
  lay(now) {
    if (this.axis) this.list.style.setProperty("--step", this.axis.lay(now));
    for (const { item, bar, took } of this.bars) {
      const place = this.scale.place(item, now);
      bar.hidden = place === null;
      bar.style.setProperty("--from", percent(place ? place[0] : 0));
      bar.style.setProperty("--size", percent(place ? place[1] : 0));
      if (this.scale.isTimed) took.textContent = this.scale.took(item, now);
    }
  }

  line(item) {
    const bar = h("i.bar"), length = h("span.took");
    this.bars.push({ item, bar, took: length });
    const times = this.scale.isTimed ? this.scale.lines(item) : [];
    const more = (index) => () => this.whole(index);
    const body = [
      times.length ? part("When", times) : null,
      item.payload ? part(item.type === "input" ? "Input" : item.type === "set_state" ? "New value" : "Argument", payload(item.payload, more(item.index))) : null,
      item.given ? part("With", result(item.given, more(item.index))) : null,
      item.result ? part(item.type === "output" ? "Output" : "Result", result(item.result, more(item.end || item.index))) : null,
      item.target ? part("To", h("a", { href: link("invocations", item.target) }, item.target)) : null,
      item.idempotency_key ? part("Idempotency key", item.idempotency_key) : null,
      item.headers && item.headers.length ? part("Headers", facts(item.headers)) : null,
      this.isOver && !item.note && item.type !== "output" ? h("p", null, h("button.link", { type: "button", onclick: () => this.restart(item.index) }, "Restart as new from here")) : null,
    ].filter(Boolean);
    const head = [
      h("span.index", null, item.index), h("span.kind", null, WORDS[item.type] || item.type.replaceAll("_", " ")),
      h("span.name", null, item.name ? h("b", null, item.name, " ") : null, item.title || null, item.of ? `of completion ${item.of}` : null,
        item.due ? h("span.muted", null, " ", item.open === false ? ["until ", this.scale.clock(item.due)] : when(item.due)) : null, gist(item),
        item.result && item.result.failure ? h("span.bad", null, " failed") : null, item.open ? h("span.waiting", null, " waiting") : null,
        item.isForsaken ? h("span.muted", null, " never answered") : null),
      this.scale.isTimed ? this.scale.moment(item) : null,
      h("span.span", null, h("span.track", { "aria-hidden": "true" }, bar), length),
    ];
    const line = h("li", { "data-group": GROUPS[item.type] || "state", "data-index": item.index, "data-open": item.open || null, "data-bad": Boolean(item.result && item.result.failure) || null });
    const details = h("details", { open: this.opened.has(item.index), ontoggle: () => (details.open ? this.opened.add(item.index) : this.opened.delete(item.index)) },
      h("summary", null, head), h("div.inside", null, body.length ? body : h("span.muted", null, "nothing more")));
    line.append(details);
    if (item.child) line.append(h("p.child", null, "↳ ", h("a", { href: link("invocations", item.child), "data-row": true }, item.child_row ? target(item.child_row) : item.child), " ",
      item.child_row ? [status(item.child_row), h("span.muted.small", null, " ", took(item.child_row))] : null));
    return line;
  }

  async whole(index) {
    try {
      return await this.place.get(`/ui/api/invocations/${encodeURIComponent(this.id)}/payload/${index}`);
    } catch (error) { toast(error.message, "bad"); }
  }

  async restart(index) {
    if (!(await confirm("Restart as new?", `A new invocation begins with the journal up to entry ${index}.`, "Restart"))) return;
    try {
      const made = await call("PATCH", `/invocations/${encodeURIComponent(this.id)}/restart-as-new?from=${index}`);
      go(link("invocations", made.new_invocation_id));
    } catch (error) { toast(error.message, "bad"); }
  }
}

/** What was given and what came back, in as many characters as a line has room for. */
function gist(item) {
  const given = brief(item.payload || (item.given && item.given.value), 40);
  const found = item.result && (item.result.value ? brief(item.result.value, 60) : item.result.failure ? item.result.failure.message.slice(0, 60) : null);
  if (!given && !found) return null;
  return h("code.gist", null, " ", given, found ? [given ? " → " : "→ ", found] : null);
}

function brief(value, most) {
  if (!value || value.text === undefined || value.text === "") return null;
  const line = value.text.replace(/\s+/g, " ");
  return line.length > most ? `${line.slice(0, most)}…` : line;
}

const part = (title, content) => h("div.part", null, h("h3", null, title), content);

const took = (child) => (child.completed ? precise(child.completed - child.created) : "");

function lastFailure(row) {
  const note = row.last_failure;
  const where = note.related_command_type ? `at command ${note.related_command_index ?? ""} ${note.related_command_type} ${note.related_command_name}` : "";
  return h("section", null, h("h2", null, row.status === "completed" ? "A failed attempt before" : "Last failed attempt", where ? h("span.muted.small", null, "  ", where) : null), failure(note));
}
