// The first page: what this server does right now.

import { bytes, count, empty, fill, h, link, micros, span } from "/ui/dom.js";
import { query } from "/ui/net.js";

const UNFINISHED = ["running", "backing-off", "suspended", "paused", "pending", "scheduled"];
const ALL = [...UNFINISHED, "completed"];

export async function overview(root, place) {
  let before = null;
  const body = h("div.stack");
  const refresh = async () => {
    const now = await place.get("/ui/api/overview");
    now.at = performance.now();
    fill(body, draw(now, before));
    before = now;
  };
  await refresh();
  fill(root, h("h1", null, "Overview"), body);
  place.every(2000, refresh);
}

function draw(now, before) {
  return [
    now.health ? h("div.banner.bad", { role: "alert" }, h("strong", null, "Not working: "), now.health) : null,
    tiles(now, before),
    now.invocations ? states(now.invocations) : null,
    now.invocations ? byService(now.invocations) : null,
    h("div.columns", null, partitions(now), now.actors ? tree(now.actors) : null),
  ];
}

const tile = (name, value, unit, hint) =>
  h("div.tile", { title: hint }, h("p.tile-name", null, name), h("p.tile-value", null, value, unit ? h("small", null, " ", unit) : null));

function tiles(now, before) {
  const ingress = now.ingress, last = ingress.requests.slice(-5);
  const rate = last.reduce((a, b) => a + b, 0) / Math.max(last.length, 1);
  const latency = ingress.latency;
  let ends = null;
  if (before && before.invocations && now.invocations) {
    const passed = (now.at - before.at) / 1000;
    ends = Math.max(0, now.invocations.completed_count - before.invocations.completed_count) / passed;
  }
  return h("section.tiles", { "aria-label": "Rates and latencies" },
    h("div.tile.wide", null, h("p.tile-name", null, "Requests a second, two minutes"), bars(ingress), h("p.tile-value", null, number(rate), h("small", null, " /s"))),
    tile("Completed", ends === null ? "–" : number(ends), "/s", "invocations that ended, calls between handlers included"),
    tile("p50", latency ? micros(latency.p50_us) : "–", "", "of requests to the ingress, last minute"),
    tile("p99", latency ? micros(latency.p99_us) : "–", "", latency ? `longest ${micros(latency.max_us)}` : ""),
    tile("Open requests", count(ingress.open_requests), "", "callers that wait for an answer"),
    tile("Up", span(now.uptime_s * 1000), "", `version ${now.version}`));
}

const number = (value) => (value >= 100 ? count(Math.round(value)) : value >= 10 ? value.toFixed(0) : value.toFixed(1));

function bars(ingress) {
  const most = Math.max(...ingress.requests, 1), width = ingress.requests.length;
  const all = ingress.requests.map((n, i) => (n ? `M${i + 0.5} 40V${(40 - (38 * n) / most).toFixed(1)}` : "")).join("");
  const bad = ingress.failures.map((n, i) => (n ? `M${i + 0.5} 40V${(40 - Math.max((38 * n) / most, 2)).toFixed(1)}` : "")).join("");
  return h("svg.bars", { viewBox: `0 0 ${width} 40`, preserveAspectRatio: "none", role: "img", "aria-label": `Requests a second, highest ${most}` },
    h("path.bar", { d: all || "M0 40" }), h("path.bar.bad", { d: bad || "M0 40" }));
}

function states(found) {
  const total = ALL.reduce((sum, each) => sum + (found.by_status[each] || 0), 0);
  const note = found.is_whole ? (found.age_s > 5 ? `counted ${span(found.age_s * 1000)} ago` : null) : `counting … ${Math.round(100 * (found.progress || 0))} %`;
  return h("section", null,
    h("h2", null, "Invocations", h("span.muted.small", null, "  ", count(total), note ? ` · ${note}` : "")),
    h("ul.states", null, ALL.map((each) => h("li", null,
      h("a", { href: link("invocations") + query({ status: each }), "data-row": true },
        h("b", null, count(found.by_status[each] || 0)), h("span.status", { "data-status": each }, h("i", { "aria-hidden": "true" }), each))))));
}

function byService(found) {
  const names = Object.keys(found.by_service).sort();
  if (!names.length) return empty("Nothing was invoked yet.", "Services → a handler → Invoke, or call the ingress.");
  return h("section.scroll", null, h("table.matrix", null,
    h("caption.visually-hidden", null, "Invocations by service and status"),
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "Service"), ALL.map((each) => h("th.number", { scope: "col" }, each)))),
    h("tbody", null, names.slice(0, 50).map((name) => h("tr", null,
      h("th", { scope: "row" }, h("a", { href: link("invocations") + query({ service: name }) }, name)),
      ALL.map((each) => {
        const n = found.by_service[name][each] || 0;
        return h("td.number", { "data-zero": n === 0 }, n ? h("a", { href: link("invocations") + query({ service: name, status: each }) }, count(n)) : "·");
      }))))));
}

function partitions(now) {
  return h("section", null, h("h2", null, "Partitions"), h("div.scroll", null, h("table", null,
    h("thead", null, h("tr", null, ["", "State", "Groups", "Epoch", "fsync", "Size", "Attempts"].map((each, i) => h(i > 1 ? "th.number" : "th", { scope: "col" }, each)))),
    h("tbody", null, now.partitions.map((each) => h("tr", null,
      h("th", { scope: "row" }, each.index),
      h("td", null, h("span.status", { "data-status": each.state === "up" ? "completed" : "failed" }, h("i", { "aria-hidden": "true" }), each.state), each.has_room === false ? " · disk nearly full" : ""),
      each.state === "up"
        ? [count(each.position), count(each.epoch), micros(each.fsync_us), bytes(each.size_bytes), count(each.open_attempts)].map((v) => h("td.number", null, v))
        : h("td", { colspan: 5 }, each.reason)))))));
}

function tree(found) {
  const rows = found.actors.map((each) => h("li", { "data-level": Math.min(each.level, 4) },
    each.service ? h("a.target", { href: each.key ? link("objects", each.service, each.key) : link("services", each.service) }, each.service, each.key ? ["/", h("b", null, each.key)] : null) : h("span.target", null, each.actor),
    h("span.muted.small", null, [
      each.attempt_count ? `${count(each.attempt_count)} open` : each.state, span(each.age_s * 1000),
      each.waiting_count ? `${count(each.waiting_count)} wait for the key` : "", each.mailbox_depth ? `${count(each.mailbox_depth)} messages` : "",
      each.restarts ? `${count(each.restarts)} restarts` : "",
    ].filter(Boolean).join(" · ")),
    each.last_error ? h("span.bad.small", null, each.last_error) : null));
  const hidden = found.actor_count - found.actors.length;
  const notes = [`${count(found.actor_count)} actors`, found.partition_restarts ? `${count(found.partition_restarts)} restarts of the partition` : "", found.dead_letters ? `${count(found.dead_letters)} dead letters` : ""];
  return h("section", null,
    h("h2", null, "Supervision", h("span.muted.small", { title: `${found.strategy}: at most ${found.restart_limit} restarts in ${found.restart_window_s} s` }, `  ${notes.filter(Boolean).join(" · ")}`)),
    h("ul.tree", null, rows), hidden > 0 ? h("p.muted.small", null, `and ${count(hidden)} more`) : null);
}
