// Elements from text only: no markup is ever parsed, so a trace cannot be more than text.
"use strict";

const byId = (id) => document.getElementById(id);

// Control and bidirectional characters, made visible and harmless.
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const safe = (text) =>
  String(text).replace(/\r\n/g, "\n").replace(UNSAFE, (c) => {
    const code = c.charCodeAt(0);
    return code < 32 ? String.fromCharCode(0x2400 + code) : `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });

const cut = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

// el("p", {class: "x", onclick: f}, "text", otherElement)
function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children) {
    if (child === null || child === undefined) continue;
    made.append(child instanceof Node ? child : document.createTextNode(safe(child)));
  }
  return made;
}

// What a data block of the page holds: base64 of zlib of JSON.
async function decoded(id) {
  const block = byId(id);
  if (!block) {
    if (document.readyState !== "loading") throw new Error(`the file is cut short: no ${id}`);
    await new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
    return decoded(id);
  }
  const packed = Uint8Array.from(atob(block.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

// The last chunks that were read stay decoded.
const chunks = new Map();
async function chunk(number) {
  let found = chunks.get(number);
  if (!found) {
    found = decoded(`chunk-${number}`);
    chunks.set(number, found);
    if (chunks.size > 24) chunks.delete(chunks.keys().next().value);
  }
  return found;
}

// One part of the page at a time, chosen by the address; without scripts all parts stand below each other.
const parts = [...document.querySelectorAll("main > section")].map((section) => section.id);
function showPart() {
  const asked = decodeURIComponent(location.hash.slice(1).split("/")[0]);
  const shown = parts.includes(asked) ? asked : parts[0];
  for (const id of parts) byId(id).classList.toggle("shown", id === shown);
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.hash === `#${shown}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  return shown;
}
document.documentElement.classList.add("js");
window.addEventListener("hashchange", () => {
  const before = document.querySelector("main > .shown")?.id;
  const shown = showPart();
  if (shown !== before || location.hash === `#${shown}`) window.scrollTo(0, 0);
});
showPart();
