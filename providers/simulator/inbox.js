"use strict";

const FAULTS = [
  ["Healthy", []],
  ["Refuse connections", [{ fault: "refuse" }]],
  ["Slow 5 s", [{ fault: "latency", seconds: 5 }]],
  ["Drop replies", [{ fault: "drop_after_accept" }]],
  ["Out of balance", [{ fault: "out_of_balance" }]],
  ["Throttle", [{ fault: "throttle", seconds: 1 }]],
  ["Server error", [{ fault: "server_error_before_accept" }]],
  ["Undelivered", [{ fault: "receipt_negative", code: "unreachable", status: "undelivered" }]],
  ["No receipts", [{ fault: "receipt_never" }]],
];
const MODES = { key: "honours an idempotency key", lookup: "look-up by reference", none: "no key, no look-up" };
const COUNTS = [["accepted", "accepted"], ["replay", "replays"], ["refused", "refused"], ["dropped", "dropped"], ["receipt_sent", "receipts"]];
const WORDS = { sent: "✓ sent", delivered: "✓✓ delivered", undelivered: "✕ undelivered", expired: "✕ expired", failed: "! receipt not taken" };
const MOST_PHONES = 100;

const messages = new Map(); // seq -> message
const read = new Map(); // number -> seq of the last message seen
let carriers = [];
let chosen = null; // the number to show; null follows the newest message
let shown = null;
let newest = 0; // bubbles above this one have just arrived
let painting = false;

const at = (id) => document.getElementById(id);

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function tone(slug) {
  return `c${Math.max(carriers.findIndex((carrier) => carrier.slug === slug), 0) % 6}`;
}

function put(path, method, body) {
  return fetch(path, { method, body: body === undefined ? undefined : JSON.stringify(body) });
}

function byPhone() {
  const phones = new Map();
  for (const message of [...messages.values()].sort((a, b) => a.seq - b.seq)) {
    if (!phones.has(message.to)) phones.set(message.to, []);
    phones.get(message.to).push(message);
  }
  return phones;
}

function paintPhones(phones) {
  const order = [...phones].sort((a, b) => b[1].at(-1).seq - a[1].at(-1).seq).slice(0, MOST_PHONES);
  const rows = order.map(([number, thread]) => {
    const last = thread.at(-1);
    const row = element("li");
    const button = element("button");
    button.type = "button";
    button.setAttribute("aria-current", String(number === shown));
    const unread = thread.filter((message) => message.seq > (read.get(number) ?? 0)).length;
    button.append(
      element("span", "face", number.slice(-2)),
      element("strong", "", number),
      element("time", "", clock(last.at)),
      element("span", "preview", `${last.sender}: ${last.text}`),
      unread ? element("span", "unread", unread) : "",
    );
    button.addEventListener("click", () => { chosen = number; paint(); });
    row.append(button);
    return row;
  });
  at("phones").replaceChildren(...(rows.length ? rows : [element("li", "nothing", "Nobody has got a message yet.")]));
}

function receiptOf(message) {
  const rank = { sent: 0, failed: 1, expired: 2, undelivered: 2, delivered: 3 };
  return message.receipts.reduce((best, one) => (best && rank[best.status] > rank[one.status] ? best : one), null);
}

function bubble(message, copy) {
  const item = element("li", message.seq > newest ? "message new" : "message");
  const from = element("div", "from");
  from.append(element("b", "", message.sender), element("time", "", clock(message.at)));
  const text = element("div", "bubble", message.text);
  text.dir = "auto";
  const receipt = receiptOf(message);
  const state = receipt ? WORDS[receipt.status] + (receipt.error_code ? ` · ${receipt.error_code}` : "") : "on its way";
  const parts = message.segments > 1 ? ` · ${message.segments} parts` : "";
  const facts = element("div", "facts");
  facts.append(
    element("span", `chip ${tone(message.carrier)}`, message.carrier),
    element("span", "", `${message.price} ${message.currency}${parts}`),
    element("span", receipt ? receipt.status : "", state),
    copy > 1 ? element("span", "copy", `same text, copy ${copy}`) : "",
  );
  item.append(from, text, facts);
  return item;
}

function paintThread(thread) {
  const list = at("thread");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  const switched = list.dataset.number !== shown;
  list.dataset.number = shown ?? "";
  at("number").textContent = shown ?? "No phone yet";
  at("country").textContent = thread.length ? `${thread.length} message${thread.length > 1 ? "s" : ""}` : "Messages";
  if (!thread.length) {
    const empty = element("li", "empty", "Send one through the API or to a carrier's port, and it arrives here.");
    empty.prepend(element("b", "", "No messages yet"));
    list.replaceChildren(empty);
    return;
  }
  const copies = new Map();
  list.replaceChildren(...thread.map((message) => {
    copies.set(message.text, (copies.get(message.text) ?? 0) + 1);
    return bubble(message, copies.get(message.text));
  }));
  if (atEnd || switched) list.scrollTop = list.scrollHeight;
  read.set(shown, thread.at(-1).seq);
}

function card(carrier) {
  const node = element("article", `card ${tone(carrier.slug)}`);
  const head = element("header");
  const healthy = carrier.faults.length === 0;
  head.append(
    element("h3", "", carrier.name),
    element("code", "", `:${carrier.port}`),
    carrier.listening
      ? element("span", healthy ? "state" : "state faulty", healthy ? "● healthy" : "● faulty")
      : element("span", "state down", "● refusing"),
  );
  const price = carrier.prices["*"] ? ` · ${carrier.prices["*"]} ${carrier.currency}` : "";
  const lag = carrier.lag ? `, ${carrier.lag} s late` : "";
  const counts = element("dl", "counts");
  for (const [key, word] of COUNTS) {
    const cell = element("div");
    cell.append(element("dt", "", word), element("dd", "", (carrier.counts[key] ?? 0).toLocaleString("en")));
    counts.append(cell);
  }
  const faults = element("div", "faults");
  for (const [word, rules] of FAULTS) {
    const button = element("button", rules.length ? "" : "heal", word);
    button.type = "button";
    button.dataset.key = `${carrier.slug} ${word}`;
    button.setAttribute("aria-pressed", String(same(carrier.faults, rules)));
    button.addEventListener("click", () => put(`/api/carriers/${carrier.slug}/faults`, "PUT", rules));
    faults.append(button);
  }
  node.append(head, element("p", "about", `${MODES[carrier.mode]}${lag}${price}`), counts, faults);
  if (!FAULTS.some(([, rules]) => same(carrier.faults, rules))) node.append(element("p", "plan", carrier.faults.map(inWords).join("; ")));
  return node;
}

function inWords(rule) {
  const words = [rule.fault.replaceAll("_", " ")];
  if (rule.code) words.push(rule.code);
  if (rule.seconds) words.push(`${rule.seconds} s`);
  if (rule.share !== undefined) words.push(`${Math.round(rule.share * 1000) / 10} %`);
  if (rule.to_prefix) words.push(`to ${rule.to_prefix}…`);
  if (rule.on) words.push(`on ${rule.on}`);
  if (rule.count !== undefined) words.push(`${rule.count} more times`);
  return words.join(" ");
}

function same(one, other) {
  return one.length === other.length && other.every((rule, place) => {
    const keys = new Set([...Object.keys(rule), ...Object.keys(one[place])]);
    return [...keys].every((key) => rule[key] === one[place][key]);
  });
}

function paintCarriers() {
  const focused = document.activeElement?.dataset.key;
  at("carriers").replaceChildren(...carriers.map(card));
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function paint() {
  if (painting) return;
  painting = true;
  requestAnimationFrame(() => {
    painting = false;
    const phones = byPhone();
    const last = Math.max(0, ...messages.keys());
    if (chosen !== null && !phones.has(chosen)) chosen = null;
    shown = chosen ?? messages.get(last)?.to ?? null;
    paintThread(phones.get(shown) ?? []);
    paintPhones(phones);
    paintCarriers();
    newest = last;
    at("follow").setAttribute("aria-pressed", String(chosen === null));
    const total = carriers.reduce((sum, carrier) => sum + (carrier.counts.accepted ?? 0), 0);
    at("totals").textContent = `${total.toLocaleString("en")} SMS accepted`;
  });
}

function connect() {
  const stream = new EventSource("/api/stream");
  stream.addEventListener("open", () => { at("link").textContent = "live"; at("link").classList.add("live"); });
  stream.addEventListener("error", () => { at("link").textContent = "reconnecting"; at("link").classList.remove("live"); });
  stream.addEventListener("message", (event) => {
    const data = JSON.parse(event.data);
    if (data.reset) {
      messages.clear();
      if (!data.messages.length) newest = 0;
    }
    for (const message of data.messages) messages.set(message.seq, message);
    for (const seq of [...messages.keys()].sort((a, b) => a - b).slice(0, -500)) messages.delete(seq);
    carriers = data.carriers;
    paint();
  });
}

function tick() {
  at("clock").textContent = clock(Date.now() / 1000);
}

at("follow").addEventListener("click", () => { chosen = null; paint(); });
at("reset").addEventListener("click", () => { read.clear(); put("/api/reset", "POST"); });
setInterval(tick, 1000);
tick();
paint();
connect();
