// A form from a JSON schema. What it does not understand becomes a field for JSON; it never refuses.

import { field, fill, h } from "/ui/dom.js";

const DEPTH = 5; // of nested objects that get fields of their own

/** {node, value()}: value() throws an Error that says which field is wrong. */
export function formOf(schema) {
  return build(schema, schema, "", 0, true);
}

/** Whether a form says more than one field for JSON does. */
export const isFormable = (schema) => Boolean(schema) && typeof schema === "object" && kindOf(resolve(schema, schema)) !== "json";

function resolve(schema, root, left = 8) {
  if (!schema || typeof schema !== "object") return {};
  if (typeof schema.$ref === "string" && schema.$ref.startsWith("#") && left) {
    let found = root;
    for (const part of schema.$ref.slice(1).split("/").filter(Boolean)) found = found && found[part.replaceAll("~1", "/").replaceAll("~0", "~")];
    const { $ref: _, ...rest } = schema;
    return resolve({ ...(found || {}), ...rest }, root, left - 1);
  }
  const options = schema.anyOf || schema.oneOf;
  if (Array.isArray(options) && left) {
    const real = options.filter((each) => each && each.type !== "null");
    if (real.length === 1) return { ...resolve(real[0], root, left - 1), isOptional: real.length < options.length };
  }
  if (Array.isArray(schema.allOf) && schema.allOf.length === 1 && left) return resolve({ ...schema.allOf[0], ...schema, allOf: undefined }, root, left - 1);
  return schema;
}

function kindOf(schema) {
  if (Array.isArray(schema.enum) && schema.enum.length) return "enum";
  if ("const" in schema) return "enum";
  const types = Array.isArray(schema.type) ? schema.type.filter((each) => each !== "null") : [schema.type];
  if (types.length !== 1) return "json";
  if (types[0] === "object") return schema.properties ? "object" : "json";
  return { string: "string", integer: "number", number: "number", boolean: "boolean", array: "array" }[types[0]] || "json";
}

function build(given, root, label, depth, isRequired) {
  const schema = resolve(given, root);
  const kind = depth > DEPTH ? "json" : kindOf(schema);
  const title = label || schema.title || "Value";
  const optional = !isRequired || schema.isOptional;
  return MAKERS[kind](schema, { root, title, depth, optional, hint: schema.description });
}

const named = (title, optional) => (optional ? `${title} (optional)` : title);
const start = (schema) => (schema.default === undefined || schema.default === null ? "" : schema.default);

const MAKERS = {
  object(schema, about) {
    const required = new Set(schema.required || []);
    const inner = Object.entries(schema.properties).map(([name, each]) => [name, build(each, about.root, name, about.depth + 1, required.has(name)), required.has(name)]);
    const node = h(about.depth ? "fieldset" : "div.stack", null, about.depth ? h("legend", null, named(about.title, about.optional)) : null, inner.map(([, each]) => each.node));
    return { node, value() {
      const made = {};
      for (const [name, each, needed] of inner) {
        const value = each.value();
        if (value !== undefined) made[name] = value;
        else if (needed && !about.optional) throw new Error(`'${name}' is missing`);
      }
      return about.optional && !Object.keys(made).length ? undefined : made;
    } };
  },
  array(schema, about) {
    const list = h("div.stack"), rows = [];
    const add = () => {
      const each = build(schema.items || {}, about.root, `${about.title} ${rows.length + 1}`, about.depth + 1, true);
      const row = h("div.item", null, each.node, h("button.quiet", { type: "button", "aria-label": "Remove", onclick: () => { rows.splice(rows.indexOf(each), 1); row.remove(); } }, "×"));
      rows.push(each);
      list.append(row);
    };
    if (!about.optional && schema.minItems) add();
    const node = h("fieldset", null, h("legend", null, named(about.title, about.optional)), list, h("button", { type: "button", onclick: add }, "Add"));
    return { node, value: () => (about.optional && !rows.length ? undefined : rows.map((each) => each.value())) };
  },
  string(schema, about) {
    const long = schema.maxLength === undefined || schema.maxLength > 200;
    const types = { date: "date", "date-time": "text", email: "email" };
    const input = h("input", { type: types[schema.format] || "text", value: start(schema), maxlength: long ? null : schema.maxLength, required: !about.optional && schema.minLength > 0, placeholder: schema.format || null, autocomplete: "off" });
    return { node: field(named(about.title, about.optional), input, about.hint), value: () => (input.value === "" && about.optional ? undefined : input.value) };
  },
  number(schema, about) {
    const input = h("input", { type: "text", inputmode: "decimal", value: start(schema), autocomplete: "off" });
    return { node: field(named(about.title, about.optional), input, about.hint), value() {
      const text = input.value.trim();
      if (text === "" && about.optional) return undefined;
      if (text === "" || Number.isNaN(Number(text))) throw new Error(`'${about.title}' must be a number`);
      if (schema.type === "integer" && !/^-?\d+$/.test(text)) throw new Error(`'${about.title}' must be a whole number`);
      return new Digits(text);
    } };
  },
  boolean(schema, about) {
    const input = h("input", { type: "checkbox", checked: schema.default === true });
    return { node: field(about.title, input, about.hint), value: () => input.checked };
  },
  enum(schema, about) {
    const options = schema.enum || [schema.const];
    const input = h("select", null, about.optional ? h("option", { value: "" }, "") : null, options.map((each, i) => h("option", { value: i, selected: each === schema.default }, typeof each === "string" ? each : JSON.stringify(each))));
    return { node: field(named(about.title, about.optional), input, about.hint), value: () => (input.value === "" ? undefined : options[Number(input.value)]) };
  },
  json(schema, about) {
    const input = h("textarea", { rows: 4, spellcheck: "false", value: schema.default === undefined ? "" : JSON.stringify(schema.default) });
    return { node: field(`${named(about.title, about.optional)}, as JSON`, input, about.hint), value() {
      if (input.value.trim() === "") {
        if (about.optional) return undefined;
        throw new Error(`'${about.title}' is missing`);
      }
      try { JSON.parse(input.value); } catch { throw new Error(`'${about.title}' is not JSON`); }
      return new Digits(input.value);
    } };
  },
};

/** JSON as it was typed: numbers keep all of their digits. */
class Digits {
  constructor(text) { this.text = text; }
}

/** Like JSON.stringify, but with Digits as they are. */
export function toJson(value) {
  if (value instanceof Digits) return value.text.trim();
  if (Array.isArray(value)) return `[${value.map(toJson).join(", ")}]`;
  if (value && typeof value === "object") return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${toJson(v)}`).join(", ")}}`;
  return JSON.stringify(value);
}

/** Form and JSON side by side, one of them shown. {node, text()} */
export function bodyOf(schema) {
  const raw = h("textarea", { rows: 6, spellcheck: "false", placeholder: "JSON", "aria-label": "Body, JSON" });
  if (!isFormable(schema)) return { node: field("Body, JSON", raw), text: () => check(raw.value) };
  const form = formOf(schema);
  let isRaw = false;
  const box = h("div", null, form.node);
  const flip = h("button.link", { type: "button", onclick: () => {
    isRaw = !isRaw;
    if (isRaw) { try { raw.value = toJson(form.value()); } catch { /* the form is not filled in yet */ } }
    fill(box, isRaw ? raw : form.node);
    fill(flip, isRaw ? "as a form" : "as JSON");
  } }, "as JSON");
  return { node: h("div.stack", null, box, h("p", null, flip)), text: () => (isRaw ? check(raw.value) : textOf(form.value())) };
}

const textOf = (value) => (value === undefined ? "" : toJson(value));

function check(text) {
  if (text.trim() === "") return "";
  try { JSON.parse(text); } catch (error) { throw new Error(`The body is not JSON: ${error.message}`); }
  return text;
}
