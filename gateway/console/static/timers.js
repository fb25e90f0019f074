// Timers by due time: delayed starts, sleeps, retries.

import { empty, fill, h, link, status, target, when } from "/ui/dom.js";
import { query } from "/ui/net.js";

const WORDS = { start: "start", sleep: "sleep", retry: "retry" };

export async function timers(root, place) {
  const rows = h("tbody"), foot = h("p");
  let all = [], cursor = null, isFirst = true;
  const load = async (more) => {
    const found = await place.get("/ui/api/timers" + query({ cursor: more ? cursor : "" }));
    all = more ? [...all, ...found.rows] : found.rows;
    cursor = found.cursor;
    isFirst = !more;
    fill(rows, all.map(draw));
    fill(foot, cursor ? h("button", { type: "button", onclick: () => place.attempt(() => load(true)) }, "Later ones") : null);
    box.hidden = !all.length;
    none.hidden = Boolean(all.length);
  };
  const box = h("div.scroll", null, h("table.rows", null,
    h("thead", null, h("tr", null, ["Due", "For", "Invocation", "Status"].map((each) => h("th", { scope: "col" }, each)))), rows));
  const none = empty("No timer is set.", "Sleeps, delayed sends and retries appear here until they are due.");
  await load(false);
  fill(root, h("h1", null, "Timers"), box, none, foot);
  place.every(3000, async () => { if (isFirst) await load(false); });
}

function draw(row) {
  const found = row.invocation;
  return h("tr", { "data-dim": row.is_obsolete }, h("td", null, when(row.due)),
    h("td", null, WORDS[row.kind] || row.kind, row.is_obsolete ? h("span.muted.small", null, " obsolete") : null),
    h("td", null, h("a", { href: link("invocations", found.id), "data-row": true }, found.service ? target(found) : found.id)),
    h("td", null, found.status ? status(found) : "gone"));
}
