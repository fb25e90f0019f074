// Services and their handlers, and a form to invoke one.

import { empty, facts, field, fill, h, link, result, toast } from "/ui/dom.js";
import { bodyOf } from "/ui/form.js";
import { call } from "/ui/net.js";

const KINDS = { Service: "service", VirtualObject: "virtual object", Workflow: "workflow" };

export async function services(root, place) {
  const found = (await place.get("/services")).services.sort((a, b) => (a.name < b.name ? -1 : 1));
  const list = h("div.cards");
  const box = h("input", { type: "search", "data-search": true, placeholder: "name", autocomplete: "off", oninput: () => draw() });
  const draw = () => {
    const word = box.value.toLowerCase();
    const shown = found.filter((each) => [each.name, ...each.handlers.map((one) => one.name)].some((name) => name.toLowerCase().includes(word)));
    fill(list, shown.length ? shown.map(card) : empty(found.length ? "No service has that name." : "No service is deployed.", found.length ? "" : "perdure up module:app, or Deployments → Register."));
  };
  draw();
  fill(root, h("h1", null, "Services"), h("form.filters", { role: "search", onsubmit: (event) => event.preventDefault() }, field("Service or handler", box)), list);
}

function card(service) {
  const handlers = service.handlers.sort((a, b) => (a.name < b.name ? -1 : 1));
  return h("section.card", null,
    h("header", null, h("h2", null, service.name), h("span.tag", null, KINDS[service.ty] || service.ty), service.public ? null : h("span.tag", null, "private"),
      h("span.muted.small", null, `revision ${service.revision}`)),
    service.documentation ? h("p.muted", null, service.documentation) : null,
    h("ul.handlers", null, handlers.map((each) => h("li", null,
      h("a", { href: link("services", service.name, each.name), "data-row": true }, h("b", null, each.name)),
      each.ty && each.ty !== "Exclusive" ? h("span.tag", null, each.ty.toLowerCase()) : null, each.public ? null : h("span.tag", null, "private"),
      h("span.muted.small", null, `${each.input_description} → ${each.output_description}`)))),
    h("p.small", null, h("a", { href: `/ui/invocations?service=${encodeURIComponent(service.name)}` }, "invocations"),
      service.ty === "Service" ? null : [" · ", h("a", { href: `/ui/objects?service=${encodeURIComponent(service.name)}` }, "objects")]));
}

export async function handler(root, place) {
  const [name, handlerName] = place.args;
  const path = `/services/${encodeURIComponent(name)}`;
  const service = await place.get(path);
  const found = service.handlers.find((each) => each.name === handlerName);
  if (!found) return fill(root, h("h1", null, name), h("div.cards", null, card(service)));
  const retry = { ...service.retry_policy, ...Object.fromEntries(Object.entries(found.retry_policy || {}).filter(([, value]) => value !== null)) };
  fill(root,
    h("p.crumbs", null, h("a", { href: "/ui/services" }, "Services"), " / ", name),
    h("h1", null, h("span.muted", null, name, "/"), found.name),
    found.documentation ? h("p", null, found.documentation) : null,
    facts([
      ["Kind", `${KINDS[service.ty]}${found.ty ? `, ${found.ty.toLowerCase()}` : ""}`], ["Input", found.input_description], ["Output", found.output_description],
      ["Deployment", service.deployment_id || "this process"], ["Inactivity timeout", found.inactivity_timeout || service.inactivity_timeout],
      ["Journal retention", found.journal_retention || service.journal_retention],
      ["Retries", retry.initial_interval ? `${retry.initial_interval} × ${retry.exponentiation_factor}, up to ${retry.max_interval}, ${retry.max_attempts || "unlimited"} attempts, then ${String(retry.on_max_attempts).toLowerCase()}` : ""],
    ]),
    found.public ? invokeForm(service, found) : h("div.banner", null, "This handler is private: only other handlers may call it."));
}

function invokeForm(service, found) {
  const isKeyed = service.ty !== "Service", isRun = found.ty === "Workflow";
  const key = h("input", { type: "text", autocomplete: "off", "data-search": true, spellcheck: "false" });
  const wantsBody = found.input_description !== "none";
  const body = wantsBody ? bodyOf(found.input_json_schema) : null;
  const idempotency = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const delay = h("input", { type: "text", inputmode: "decimal", autocomplete: "off" });
  const answer = h("section", { "aria-live": "polite" });
  const wrong = h("p.bad", { role: "alert" });
  const buttons = [h("button.primary", { type: "submit" }, "Call"), h("button", { type: "button", onclick: () => ask(true) }, "Send")];
  const ask = async (send) => {
    fill(wrong);
    const asked = { service: service.name, handler: found.name, send };
    try {
      if (isKeyed) asked.key = key.value;
      if (body) asked.body = body.text();
      if (idempotency.value) asked.idempotency_key = idempotency.value;
      if (delay.value.trim()) {
        const seconds = Number(delay.value);
        if (!(seconds >= 0)) throw new Error("The delay must be a number of seconds");
        asked.delay_ms = Math.round(seconds * 1000);
      }
      if (delay.value.trim() && !send) throw new Error("A call cannot be delayed; send it");
    } catch (error) { return fill(wrong, error.message); }
    buttons.forEach((each) => { each.disabled = true; });
    try {
      drawAnswer(answer, await call("POST", "/ui/api/invoke", asked), send);
    } catch (error) {
      fill(answer);
      fill(wrong, error.message);
    } finally {
      buttons.forEach((each) => { each.disabled = false; });
    }
  };
  return h("section.invoke", null, h("h2", null, "Invoke"),
    h("form.stack", { onsubmit: (event) => { event.preventDefault(); ask(false); } },
      isKeyed ? field("Key", key, isRun ? "A workflow's run has one key for ever." : null) : null,
      body ? body.node : h("p.muted", null, "It takes no input."),
      h("details", null, h("summary", null, "More"), h("div.stack", null,
        isRun ? null : field("Idempotency key", idempotency, "The same key runs once and answers alike."),
        field("Delay in seconds", delay, "Only when sent."))),
      wrong, h("p.buttons", null, buttons)), answer);
}

function drawAnswer(box, found, send) {
  const open = h("a", { href: link("invocations", found.id), "data-row": true }, found.id);
  if (found.goes_on) return fill(box, h("h2", null, "It goes on"), h("p", null, "It takes longer than this page waits: ", open));
  if (send) {
    toast("Sent");
    return fill(box, h("h2", null, found.is_new ? "Sent" : "It was sent before"), h("p", null, open));
  }
  fill(box, h("h2", null, found.failure ? "Failed" : "Answer"), result(found), h("p", null, open));
}
