// Schedules: what runs by itself, when it runs next, and how it went.

import { confirm, count, empty, facts, fill, h, link, toast, when } from "/ui/dom.js";
import { call } from "/ui/net.js";
import { go } from "/ui/app.js";

export async function schedules(root, place) {
  const list = h("div.cards");
  let drawn = "";
  const refresh = async () => {
    const found = (await place.get("/schedules")).schedules;
    const now = JSON.stringify(found);
    if (now === drawn) return;
    drawn = now;
    fill(list, found.length ? found.map((each) => card(each, act)) : empty("Nothing is scheduled.", "perdure.cron(...) in code, or perdure schedules create."));
  };
  const act = async (schedule, verb) => {
    const path = `/schedules/${encodeURIComponent(schedule.name)}`;
    if (verb === "delete" && !(await confirm("Delete this schedule?", `${schedule.name} does not run any more; what runs already goes on.`, "Delete", "danger"))) return;
    try {
      const made = verb === "delete" ? await call("DELETE", path) : await call(verb === "trigger" ? "POST" : "PATCH", `${path}/${verb}`);
      if (verb === "trigger") return go(link("invocations", made.invocation_id));
      toast(`${schedule.name}: done`);
    } catch (error) { toast(error.message, "bad"); }
    await place.attempt(refresh);
  };
  await refresh();
  fill(root, h("h1", null, "Schedules"), list);
  place.every(4000, refresh);
}

const at = (text) => (text ? when(Date.parse(text)) : "");

function card(each, act) {
  const timing = each.cron ? `${each.cron} (${each.time_zone})` : each.every ? `every ${each.every}` : ["once, ", at(each.at)];
  const counts = each.counts || {};
  const button = (verb, title, kind) => h("button", { type: "button", class: kind, onclick: () => act(each, verb) }, title);
  return h("section.card", null,
    h("header", null, h("h2", null, each.name), h("span.status", { "data-status": { active: "running", finished: "completed" }[each.status] || each.status }, h("i", { "aria-hidden": "true" }), each.status)),
    h("p", null, h("code", null, timing), " → ", each.target),
    each.problem ? h("p.bad", null, each.problem) : null,
    facts([
      ["Next", at(each.next_tick)], ["Last", each.last_invocation_id ? h("a", { href: link("invocations", each.last_invocation_id), "data-row": true }, at(each.last_tick) || "open") : at(each.last_tick)],
      ["Runs now", (each.running || []).length ? (each.running.map((id) => [h("a", { href: link("invocations", id) }, id.slice(0, 16)), " "])) : ""],
      ["Started", count(counts.started || 0)], ["Failed", counts.failed ? count(counts.failed) : ""], ["Skipped", counts.skipped ? count(counts.skipped) : ""], ["Missed", counts.missed ? count(counts.missed) : ""],
      ["Overlap", each.overlap], ["Paused", each.paused_reason],
    ]),
    h("p.buttons", null, button("trigger", "Run now"), each.status === "paused" ? button("resume", "Resume") : each.status === "active" ? button("pause", "Pause") : null, button("delete", "Delete", "danger")));
}
