// Requests to this server, and the one question for a token where the server wants one. The token is kept
// for as long as this tab is open, and sent nowhere else.

import { dialog, field, h } from "/ui/dom.js";

const KEY = "perdure-token";
let asking = null;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const get = (path, signal) => call("GET", path, undefined, signal);

/** JSON in, JSON out; null for an empty answer. Throws Refused with the server's own words. */
export async function call(method, path, body, signal) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const headers = {};
    if (token) headers.authorization = `Bearer ${token}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    let response;
    try {
      response = await fetch(path, { method, headers, signal, credentials: "omit", cache: "no-store", redirect: "error",
        body: body === undefined ? undefined : JSON.stringify(body) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, "The server does not answer. Is it running?");
    }
    if (response.status === 401) {
      await login(Boolean(token));
      continue;
    }
    const text = await response.text();
    if (!response.ok) throw new Refused(response.status, message(text) || `The server answered ${response.status}.`);
    return text ? JSON.parse(text) : null;
  }
}

function message(text) {
  try {
    const found = JSON.parse(text);
    return typeof found.message === "string" ? found.message : text;
  } catch { return text.slice(0, 500); }
}

/** Ask once, however many requests were refused at the same time. */
function login(wasWrong) {
  asking ||= dialog("This server wants a token", (done) => {
    const input = h("input", { type: "password", autocomplete: "current-password", required: true, autofocus: true });
    return h("form", { onsubmit: (event) => { event.preventDefault(); done(input.value.trim()); } },
      wasWrong ? h("p.bad", { role: "alert" }, "That token was not accepted.") : null,
      field("Bearer token", input, "It stays in this tab and is forgotten when you close it."),
      h("p.buttons", null, h("button.primary", { type: "submit" }, "Go on")));
  }).then((token) => {
    asking = null;
    if (token) sessionStorage.setItem(KEY, token);
    else { sessionStorage.removeItem(KEY); throw new Refused(401, "The server wants a token. Reload the page to give one."); }
  });
  return asking;
}

export const query = (fields) => {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? "?" + new URLSearchParams(given) : "";
};
