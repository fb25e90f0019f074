// When the commands of a journal happened: on a scale from the start to the last of them, or to now.
// An entry of an older release has no moment; what is known otherwise stands in for it, or nothing does.

import { h, span } from "/ui/dom.js";

const SECOND = 1000, MINUTE = 60000, HOUR = 3600000, DAY = 86400000;
const STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE,
  10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 30 * DAY, 90 * DAY, 365 * DAY,
];
const MOST_TICKS = 3; // behind the start

/** A span to the millisecond, while that says something. */
export function precise(ms) {
  const size = Math.abs(ms);
  return size < SECOND ? `${size} ms` : size < MINUTE ? `${size / SECOND} s` : span(size);
}

/** "+1.2 s": after the start; "−1 h" is before it. */
const relative = (ms) => `${ms < 0 ? "−" : "+"}${precise(ms)}`;

/** From when to when an item was at it, in ms since the epoch; undefined where nobody knows. */
function lived(item, row) {
  const child = item.child_row || {};
  if (item.at !== undefined) return [item.at, item.until];
  const others = { input: row.created, output: row.completed };
  return [others[item.type] ?? child.created, item.until ?? child.completed];
}

/** Where the moments of ``items`` lie. ``zero``: when it began to run. */
export class Scale {
  constructor(row, items) {
    this.row = row;
    this.zero = row.execution_time || row.created;
    this.isTimed = items.some((each) => each.at !== undefined || each.until !== undefined);
    this.last = Math.max(row.completed || 0, this.zero, ...items.flatMap((each) => lived(each, row)).filter(Boolean));
    this.lastIndex = Math.max(...items.map((each) => Math.max(each.index, each.end || 0)), 1);
  }

  end(now) {
    return Math.max(this.last, this.row.status === "completed" ? 0 : now, this.zero + 1);
  }

  /** Start and size of an item's bar, from 0 to 1; null where its moment is not known. In journal order without moments. */
  place(item, now) {
    if (!this.isTimed) {
      const size = (item.open ? this.lastIndex + 0.6 : item.end ?? item.index + 0.6) - item.index;
      return [item.index / (this.lastIndex + 1), Math.max(size, 0.6) / (this.lastIndex + 1)];
    }
    const [at, until] = lived(item, this.row);
    if (at === undefined) return null;
    const whole = this.end(now) - this.zero;
    const part = (ms) => Math.min(Math.max((ms - this.zero) / whole, 0), 1);
    const from = part(at);
    return [from, (item.open ? 1 : Math.max(part(until ?? at), from)) - from];
  }

  /** How long an item took, or takes until now, in words. */
  took(item, now) {
    const [at, until] = lived(item, this.row);
    if (at === undefined) return "";
    if (item.open) return `${span(Math.max(now - at, 0))} so far`;
    return until === undefined ? "" : precise(Math.max(until - at, 0));
  }

  /** The time of day, with the date where it is another one than the start's, beside the time since the start. */
  moment(item) {
    const [at] = lived(item, this.row);
    if (at === undefined) return h("span.moment");
    return h("span.moment", null, h("b", null, relative(at - this.zero)), " ", this.clock(at));
  }

  clock(ms) {
    const date = new Date(ms);
    if (Number.isNaN(date.getTime())) return null;
    const day = date.toDateString() === new Date(this.zero).toDateString() ? "" : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} `;
    return h("time", { datetime: date.toISOString(), title: date.toLocaleString() }, day + timeOfDay(date));
  }

  /** For the details of an item: a line for each moment, in full. */
  lines(item) {
    const [at, until] = lived(item, this.row);
    const moments = [[item.at === undefined ? "About" : "Journaled", at], ["Completed", until]];
    return moments.filter(([, ms]) => ms !== undefined).map(([name, ms]) =>
      h("p", null, h("span.muted", null, name, " "), day(ms), " ", timeOfDay(new Date(ms)), h("span.muted", null, " ", relative(ms - this.zero))));
  }

  /** Ticks between 0 and the end, as pairs of place and text; and how far they are apart. */
  ticks(now) {
    const whole = this.end(now) - this.zero;
    const step = STEPS.find((each) => whole / each <= MOST_TICKS) || whole;
    const found = [];
    for (let ms = 0; ms <= whole; ms += step) found.push([ms / whole, precise(ms)]);
    return [found, step / whole];
  }
}

const day = (ms) => new Date(ms).toLocaleDateString("en-CA"); // year first
const timeOfDay = (date) => date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });

/** The scale's head above the bars; ``lay`` puts ticks where they belong. */
export class Axis {
  constructor(scale) {
    this.scale = scale;
    this.ticks = h("span.ticks");
    this.node = h("div.axis", { "aria-hidden": "true" }, this.ticks);
  }

  lay(now) {
    const [ticks, step] = this.scale.ticks(now);
    this.ticks.replaceChildren(...ticks.map(([from, text]) => {
      const tick = h("span.tick-mark", { "data-late": from > 0.85 || null }, text);
      tick.style.setProperty("--from", percent(from));
      return tick;
    }));
    return percent(step);
  }
}

export const percent = (part) => `${(100 * part).toFixed(3)}%`;
