// Objects: which have state, and one of them with its state editor, mailbox and promises.

import { bytes, confirm, count, dialog, empty, facts, field, fill, h, link, payload, pretty, result, select, status, target, toast, when } from "/ui/dom.js";
import { call, query } from "/ui/net.js";
import { go } from "/ui/app.js";

export async function objects(root, place) {
  const names = (await place.get("/services")).services.filter((each) => each.ty !== "Service").map((each) => each.name).sort();
  let service = place.search.get("service") || "", cursor = null, all = [];
  const rows = h("tbody"), note = h("p.muted.small", { role: "status" });
  const more = h("button", { type: "button", onclick: () => place.attempt(() => load(true)) }, "More");
  const key = h("input", { type: "search", "data-search": true, placeholder: "key", autocomplete: "off", spellcheck: "false" });
  const load = async (further) => {
    const found = await place.get("/ui/api/objects" + query({ service, cursor: further ? cursor : "" }));
    all = further ? [...all, ...found.rows] : found.rows;
    cursor = found.cursor;
    more.hidden = !cursor;
    fill(note, `${count(all.length)} with state${cursor ? " so far, in the order of the store" : ""}`);
    fill(rows, all.map((each) => h("tr", null,
      h("td", null, each.service), h("td.what", null, h("a", { href: link("objects", each.service, each.key), "data-row": true }, each.key === "" ? "“”" : each.key)),
      h("td", null, h("code", null, each.names.join(", ")), each.has_more ? " …" : ""))));
  };
  await load(false);
  fill(root, h("h1", null, "Objects"),
    h("form.filters", { role: "search", onsubmit: (event) => {
      event.preventDefault();
      const where = service || (names.length === 1 ? names[0] : "");
      if (!where) return toast("Choose a service, then a key", "bad");
      go(link("objects", where, key.value));
    } },
      field("Service", select([["", "all"], ...names.map((each) => [each, each])], service, (value) => { service = value; place.remember({ service }); place.attempt(() => load(false)); })),
      field("Key", key), h("button.primary", { type: "submit" }, "Open")),
    note, names.length ? null : empty("No virtual object or workflow is deployed."),
    h("div.scroll", null, h("table.rows", null, h("thead", null, h("tr", null, ["Service", "Key", "State"].map((each) => h("th", { scope: "col" }, each)))), rows)),
    h("p", null, more));
}

export async function object(root, place) {
  const [service, key = ""] = place.args;
  const editor = new Editor(place, service, key);
  await editor.refresh();
  fill(root,
    h("p.crumbs", null, h("a", { href: "/ui/objects" }, "Objects"), " / ", h("a", { href: `/ui/objects?service=${encodeURIComponent(service)}` }, service)),
    h("div.title", null, h("h1", null, h("span.muted", null, service, "/"), key === "" ? "“”" : key),
      h("div.buttons", null, h("a.button", { href: "/ui/invocations" + query({ service, key }) }, "Invocations"))),
    editor.node);
  place.every(2000, () => editor.refresh());
}

class Editor {
  constructor(place, service, key) {
    this.place = place;
    this.path = `/ui/api/objects/${encodeURIComponent(service)}/${encodeURIComponent(key)}`;
    this.state = h("section");
    this.mail = h("section");
    this.isEditing = false;
    this.drawn = "";
    this.node = h("div.stack", null, this.state, this.mail);
  }

  async refresh() {
    const found = await this.place.get(this.path);
    if (this.isEditing) return; // the version that the edit began with must stay
    const now = JSON.stringify(found);
    if (now === this.drawn) return;
    this.drawn = now;
    this.found = found;
    this.draw();
    this.drawMail(found);
  }

  draw() {
    const found = this.found;
    fill(this.state,
      h("h2", null, "State", h("span.muted.small", null, "  ", found.state.length ? `${count(found.state.length)} ${found.state.length === 1 ? "key" : "keys"} · ${bytes(found.size || 0)}` : "")),
      found.is_cut ? h("div.banner", null, "There are more keys than this page shows.") : null,
      found.state.length ? h("ul.values", null, found.state.map((each) => this.value(each))) : empty("There is no state."),
      found.version ? h("p.buttons", null, h("button", { type: "button", onclick: () => this.edit(null) }, "Add a key"),
        found.state.length ? h("button.danger", { type: "button", onclick: () => this.save({}, found.state.map((each) => each.name), "Clear the whole state?") } , "Clear all") : null,
        h("span.muted.small", null, "version ", h("code", { title: found.version }, found.version.slice(0, 10)))) : null);
  }

  value(each) {
    const canEdit = this.found.version && !each.is_cut && each.text !== undefined;
    return h("li", null, h("header", null, h("h3", null, each.name), h("span.muted.small", null, bytes(each.size)),
      h("span.buttons", null,
        canEdit ? h("button", { type: "button", "aria-label": `Edit ${each.name}`, onclick: () => this.edit(each) }, "Edit") : null,
        this.found.version ? h("button", { type: "button", "aria-label": `Delete ${each.name}`, onclick: () => this.save({}, [each.name], `Delete '${each.name}'?`) }, "Delete") : null)),
      payload(each));
  }

  /** A dialog with one value. What is typed there survives a conflict. */
  async edit(shown) {
    await this.place.attempt(() => this.refresh()); // begin with the newest version
    const each = shown && this.found.state.find((one) => one.name === shown.name);
    this.isEditing = true;
    const name = h("input", { type: "text", value: each ? each.name : "", disabled: Boolean(each), autocomplete: "off", spellcheck: "false" });
    const text = h("textarea", { rows: 10, spellcheck: "false", value: each ? pretty(each.text) : "" });
    const wrong = h("p.bad", { role: "alert" });
    const isJson = each && isJsonText(each.text);
    await dialog(each ? `Edit ${each.name}` : "Add a key", (done) => h("form.stack", { onsubmit: async (event) => {
      event.preventDefault();
      if ((isJson || !each) && !isJsonText(text.value)) return fill(wrong, "That is not JSON. Handlers read most state as JSON.");
      const content = each && text.value === pretty(each.text) ? each.text : isJson ? compact(text.value) : text.value;
      const problem = await this.put({ [name.value]: { text: content } }, []);
      if (!problem) return done(true);
      fill(wrong, problem.message, problem.status === 409 ? [" ", h("button.link", { type: "button", onclick: async () => { await this.reload(); fill(wrong, "Now on the newest version; what you typed is still here. Save writes over it."); } }, "Take the newest version")] : null);
    } },
      each ? null : field("Name", name), field(isJson || !each ? "Value, JSON" : "Value", text), wrong,
      h("p.buttons", null, h("button", { type: "button", onclick: () => done(null) }, "Cancel"), h("button.primary", { type: "submit" }, "Save"))));
    this.isEditing = false;
    if (!this.place.isOver) await this.place.attempt(() => this.refresh());
  }

  async reload() { this.found = await this.place.get(this.path); }

  async save(values, removed, question) {
    if (!(await confirm(question, "It is applied in turn, after the invocation that holds the key.", "Go on", "danger"))) return;
    const problem = await this.put(values, removed);
    if (problem) toast(problem.message, "bad");
    if (!this.place.isOver) await this.place.attempt(() => this.refresh());
  }

  /** Ask for a change of the version that is shown; null, or what went wrong. */
  async put(values, removed) {
    const before = this.found.version;
    try {
      const { version } = await call("PUT", `${this.path}/state`, { version: before, set: values, delete: removed });
      await this.settle(before, version);
      return null;
    } catch (error) { return error; }
  }

  /** The change waits for its turn: look whether it was applied, or came too late after all. */
  async settle(before, wanted) {
    for (let left = 10; left && !this.place.isOver; left--) {
      const found = await this.place.get(this.path);
      if (found.version === wanted) return toast("Saved");
      if (found.version !== before) throw new Error("Another change came first; yours was not applied.");
      if (found.mailbox.entries.some((each) => each.state_patch !== undefined)) return toast("It waits for its turn in the mailbox");
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  drawMail(found) {
    const entries = found.mailbox.entries;
    fill(this.mail,
      h("h2", null, "Mailbox", h("span.muted.small", null, "  ", entries.length ? `${count(entries.length)}${found.mailbox.has_more ? "+" : ""}` : "")),
      entries.length ? h("div.scroll", null, h("table.rows", null,
        h("thead", null, h("tr", null, ["", "Status", "Invocation", "Since"].map((each) => h("th", { scope: "col" }, each)))),
        h("tbody", null, entries.map((each, i) => h("tr", null, h("td", null, i === 0 ? h("span.tag", null, "holds the key") : i),
          each.state_patch !== undefined ? h("td", { colspan: 3 }, `a change of the state to ${count(each.state_patch)} keys`)
            : [h("td", null, status(each)), h("td.what", null, h("a", { href: link("invocations", each.id), "data-row": true }, each.service ? target(each) : each.id)), h("td", null, when(each.created))]))))) : empty("Nothing waits for this key."),
      found.promises.length ? [h("h2", null, "Promises"), h("ul.values", null, found.promises.map((each) => h("li", null, h("header", null, h("h3", null, each.name)),
        each.result ? result(each.result) : facts([["Open, awaited by", each.waiters]]))))] : null);
  }
}

function isJsonText(text) {
  try { JSON.parse(text); return true; } catch { return false; }
}

/** JSON without the space that was added for reading; texts in it stay as they are. */
function compact(text) {
  return text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, (_, quoted) => quoted || "");
}
