// Deployments: where handlers run; register a new one after a look at what it offers, remove an old one.

import { confirm, dialog, empty, facts, field, fill, h, link, toast, when } from "/ui/dom.js";
import { call } from "/ui/net.js";

export async function deployments(root, place) {
  const list = h("div.cards");
  let drawn = "";
  const refresh = async () => {
    const found = (await place.get("/deployments")).deployments;
    const now = JSON.stringify(found);
    if (now === drawn) return;
    drawn = now;
    found.sort((a, b) => ((a.created_at || "") < (b.created_at || "") ? 1 : -1));
    fill(list, found.length ? found.map((each) => card(each, remove)) : empty("No deployment is registered.", "Handlers of this process need none. Register the URL of a service to add one."));
  };
  const remove = async (each) => {
    const sure = await confirm("Remove this deployment?", `${each.uri || each.arn || each.id}: invocations that are pinned to it wait until it is back.`, "Remove", "danger");
    if (!sure) return;
    try {
      await call("DELETE", `/deployments/${encodeURIComponent(each.id)}?force=true`);
      toast("Removed");
    } catch (error) { toast(error.message, "bad"); }
    await place.attempt(refresh);
  };
  await refresh();
  fill(root, h("div.title", null, h("h1", null, "Deployments"), h("div.buttons", null,
    h("button.primary", { type: "button", onclick: async () => { if (await register()) await place.attempt(refresh); } }, "Register"))), list);
  place.every(4000, refresh);
}

function card(each, remove) {
  return h("section.card", null,
    h("header", null, h("h2", null, each.uri || each.arn || "this process"), each.http_version ? h("span.tag", null, each.http_version) : null,
      each.protocol_type ? h("span.tag", null, each.protocol_type === "BidiStream" ? "both ways at once" : "request, response") : null),
    h("p.small", null, h("code", null, each.id)),
    h("p", null, each.services.map((one) => [h("a", { href: `/ui/invocations?service=${encodeURIComponent(one.name)}` }, one.name), h("span.muted.small", null, ` r${one.revision}  `)])),
    facts([["Registered", each.created_at ? when(Date.parse(each.created_at)) : ""], ["SDK", each.sdk_version], ["Protocol", each.min_protocol_version ? `${each.min_protocol_version} to ${each.max_protocol_version}` : ""],
      ["Status", each.status], ...Object.entries(each.metadata || {})]),
    h("p.buttons", null, h("button.danger", { type: "button", onclick: () => remove(each) }, "Remove")));
}

/** Ask for a URL, show what is found there, register it. True when something was registered. */
function register() {
  return dialog("Register a deployment", (done) => {
    const uri = h("input", { type: "text", inputmode: "url", required: true, placeholder: "http://127.0.0.1:9080", autocomplete: "off", spellcheck: "false", autofocus: true });
    const http11 = h("input", { type: "checkbox" });
    const force = h("input", { type: "checkbox" });
    const wrong = h("p.bad", { role: "alert" }), preview = h("div", { "aria-live": "polite" });
    const button = h("button.primary", { type: "submit" }, "Look");
    let looked = "";
    const again = () => { looked = ""; fill(button, "Look"); fill(preview); };
    for (const each of [uri, http11, force]) each.addEventListener("input", again);
    return h("form.stack", { onsubmit: async (event) => {
      event.preventDefault();
      const asked = { uri: uri.value.trim(), use_http_11: http11.checked, force: force.checked };
      fill(wrong);
      button.disabled = true;
      try {
        if (looked === JSON.stringify(asked)) {
          await call("POST", "/deployments", asked);
          toast("Registered");
          return done(true);
        }
        const found = await call("POST", "/deployments", { ...asked, dry_run: true });
        looked = JSON.stringify(asked);
        fill(preview, h("h3", null, "It offers"), h("ul", null, found.services.map((each) => h("li", null, h("b", null, each.name), h("span.muted.small", null, ` ${each.handlers.map((one) => one.name).join(", ")}`)))));
        fill(button, "Register");
      } catch (error) { fill(wrong, error.message); } finally { button.disabled = false; }
    } },
      field("URL", uri), h("div.row", null, field("HTTP/1.1 only", http11), field("Replace one of the same address", force)),
      preview, wrong, h("p.buttons", null, h("button", { type: "button", onclick: () => done(null) }, "Cancel"), button));
  });
}
