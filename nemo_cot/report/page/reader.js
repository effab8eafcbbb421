// One text: steps, marks, mathematics, the folded thought, and the difference of two texts.

const LONGEST_SHOWN = 120000; // characters that are shown at first
const LONGEST_FORMULA = 4000;
const MATH_BUDGET_MS = 30; // before the first frame; the rest follows when the page is idle

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
const CJK = "\\u3040-\\u30ff\\u3400-\\u9fff";

// The words of conf/marks as an expression: which stand where in a text.
class Marks {
  constructor(words) {
    this.kinds = new Map();
    const order = Object.keys(words).filter((kind) => kind !== "lead");
    for (const kind of [...order, "lead"])
      for (const word of words[kind] || []) {
        const plain = word.toLowerCase();
        if (!this.kinds.has(plain)) this.kinds.set(plain, kind);
      }
    const all = [...this.kinds.keys()].sort((a, b) => b.length - a.length).map(escaped);
    if (!all.length) return;
    const border = (side) => `(?:${side === "<" ? "(?<![\\p{L}\\p{N}_])|(?<=" : "(?![\\p{L}\\p{N}_])|(?="}[${CJK}]))`;
    const body = `(?:${all.join("|")})`;
    this.anywhere = new RegExp(`${border("<")}${body}${border(">")}`, "giu");
  }

  plain(text) {
    return text.replace(/[\u2019\u2018\u02bc]/g, "'");
  }

  kindOf(word) {
    return this.kinds.get(word.toLowerCase());
  }

  // [start, end, kind] of every mark but those that only lead to one.
  find(text) {
    if (!this.anywhere) return [];
    const found = [];
    for (const match of this.plain(text).matchAll(this.anywhere)) {
      const kind = this.kindOf(match[0]);
      if (kind && kind !== "lead") found.push([match.index, match.index + match[0].length, kind]);
    }
    return found;
  }
}

// [before, thought, solution], each a list of steps [kind, text], as nemo_cot/traces/steps.py cut them.
function stepsOf(text, parts, kinds) {
  let at = 0;
  return parts.map((part) => {
    const steps = [];
    for (let i = 0; i < part.length; i += 2) steps.push([kinds[part[i]], text.slice(at, (at += part[i + 1]))]);
    return steps;
  });
}

// The parts up to `room` characters, and those behind; a step that lies across is cut.
function parted(parts, room) {
  const shown = parts.map(() => []);
  const rest = parts.map(() => []);
  for (const [i, part] of parts.entries())
    for (const [kind, text] of part) {
      if (room > 0) shown[i].push([kind, text.slice(0, room)]);
      if (text.length > room) rest[i].push([kind, text.slice(Math.max(room, 0))]);
      room -= text.length;
    }
  return [shown, rest];
}

const plainText = (steps) => steps.map(([, text]) => text).join("");

const OPENERS = /\$\$|\\\[|\\\(|\\begin\{(\w{1,20}\*?)\}|\\f?boxed\{|(?<![\\$\w])\$(?![\s$])/g;
const CLOSERS = { "$$": "$$", "\\[": "\\]", "\\(": "\\)", $: "$" };

// Plain texts and formulas in turn: [text, false] or [raw, true, tex, display]. Each closer is searched for once.
function formulasOf(text) {
  const parts = [];
  const next = {};
  let done = 0;
  OPENERS.lastIndex = 0;
  for (let match; (match = OPENERS.exec(text)); ) {
    const from = OPENERS.lastIndex;
    let closer = match[1] ? `\\end{${match[1]}}` : CLOSERS[match[0]];
    let end;
    if (closer) {
      if (!(next[closer] >= from || next[closer] === -1)) next[closer] = text.indexOf(closer, from);
      end = next[closer];
      if (closer === "$" && end >= 0 && (/[\s\\]/.test(text[end - 1]) || /[\d$]/.test(text[end + 1] || "") || text.slice(from, Math.min(end, from + 600)).includes("\n"))) end = -1;
    } else {
      closer = "}";
      let depth = 1;
      for (end = from; end < from + 400 && end < text.length; end += 1) {
        if (text[end] === "{") depth += 1;
        if (text[end] === "}" && --depth === 0) break;
      }
      if (depth) end = -1;
    }
    if (end < 0 || end === from || end - from > LONGEST_FORMULA) continue;
    const whole = match[1] || !CLOSERS[match[0]];
    const raw = text.slice(match.index, end + closer.length);
    if (match.index > done) parts.push([text.slice(done, match.index), false]);
    parts.push([raw, true, whole ? raw : text.slice(from, end), match[0] === "$$" || match[0] === "\\[" || Boolean(match[1])]);
    done = OPENERS.lastIndex = end + closer.length;
  }
  if (done < text.length) parts.push([text.slice(done), false]);
  return parts;
}

// MathML of an untrusted formula, or its source with the reason.
function formula(raw, tex, display) {
  const place = el("span", { class: display ? "math display" : "math" });
  try {
    temml.render(tex, place, {
      displayMode: display, throwOnError: true, trust: false, strict: false, maxExpand: 200, maxSize: [10, 200], macros: {},
    });
    for (const node of place.querySelectorAll("*"))
      for (const name of ["id", "href", "src"]) node.removeAttribute(name); // \label would name an element
    return place;
  } catch (error) {
    return el("code", { class: "bad", title: safe(cut(`not drawn: ${error.message}`, 200)) }, raw);
  }
}

const MATH_CACHE = new Map();
function drawn(raw, tex, display) {
  const key = raw;
  let found = MATH_CACHE.get(key);
  if (!found) {
    found = formula(raw, tex, display);
    MATH_CACHE.set(key, found);
    if (MATH_CACHE.size > 4000) MATH_CACHE.delete(MATH_CACHE.keys().next().value);
  }
  return found.cloneNode(true);
}

class Reader {
  constructor(marks) {
    this.marks = marks;
    this.turn = 0;
  }

  // Fills `place` with the steps of `parts` (see stepsOf). options: math, marks, folded, find (lower case).
  show(place, parts, options) {
    const turn = (this.turn += 1);
    place.replaceChildren();
    const [shown, rest] = parted(parts, LONGEST_SHOWN);
    const [before, thought, solution] = shown;
    const waiting = [];
    const add = (where, steps) => {
      for (const step of steps) where.append(this.step(step, options, waiting));
    };
    add(place, before);
    const thinking = plainText(thought);
    if (thinking.trim()) {
      const words = thinking.split(/\s+/).length;
      const fold = el("details", { class: "thought" }, el("summary", null, `Thinking, ${words.toLocaleString("en")} words`));
      fold.open = !options.folded || Boolean(options.find && thinking.toLowerCase().includes(options.find));
      add(fold, thought);
      place.append(fold);
    }
    add(place, solution);
    if (rest.some((part) => part.length)) place.append(this.more(place, rest, options));
    this.draw(waiting, place, turn);
  }

  more(place, rest, options) {
    const left = rest.reduce((sum, part) => sum + plainText(part).length, 0);
    const button = el("button", { type: "button", class: "more" }, `Show the other ${left.toLocaleString("en")} characters`);
    button.addEventListener("click", () => {
      button.remove();
      this.show(place.appendChild(el("div", null)), rest, options);
    });
    return button;
  }

  step([kind, text], options, waiting) {
    const marked = options.marks && kind !== "straight";
    const made = el("div", { class: `step k-${marked ? kind : "straight"}` });
    if (marked) made.append(el("span", { class: "kind" }, kind));
    const parts = options.math ? formulasOf(text) : [[text, false]];
    for (const [raw, isMath, tex, display] of parts) {
      if (!isMath) {
        this.words(made, raw, options);
        continue;
      }
      const place = el("span", { class: "waiting" }, raw);
      waiting.push([place, raw, tex, display]);
      made.append(place);
    }
    return made;
  }

  // Text with reflection marks and what was searched for highlighted.
  words(place, text, options) {
    let spans = options.marks ? this.marks.find(text) : [];
    if (options.find) {
      const lower = text.toLowerCase();
      const found = [];
      for (let at = lower.indexOf(options.find); at >= 0 && found.length < 500; at = lower.indexOf(options.find, found.at(-1)[1]))
        found.push([at, at + options.find.length, "found"]);
      spans = spans.filter(([start, end]) => !found.some((one) => start < one[1] && one[0] < end));
      spans = spans.concat(found).sort((a, b) => a[0] - b[0]);
    }
    let done = 0;
    for (const [start, end, kind] of spans) {
      if (start < done) continue;
      place.append(safe(text.slice(done, start)), el("mark", { class: `m-${kind}`, title: kind }, text.slice(start, end)));
      done = end;
    }
    place.append(safe(text.slice(done)));
  }

  // Formulas within the budget at once, the others when the page is idle, unless another text is shown by then.
  draw(waiting, place, turn) {
    const until = performance.now() + MATH_BUDGET_MS;
    let next = 0;
    const some = (limit) => {
      while (next < waiting.length && performance.now() < limit) {
        const [node, ...of] = waiting[next];
        node.replaceWith(drawn(...of));
        next += 1;
      }
    };
    some(until);
    const later = () => {
      if (!place.isConnected || this.turn > turn + 1) return;
      some(performance.now() + 12);
      if (next < waiting.length) setTimeout(later, 8);
    };
    if (next < waiting.length) setTimeout(later, 8);
  }
}

// The longest common subsequence of two lists, as [same, from a, from b] runs; null where that would take too long.
function difference(a, b) {
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const x = a.slice(head, a.length - tail);
  const y = b.slice(head, b.length - tail);
  const width = y.length + 1;
  if (x.length * y.length > 6e6) return null;
  const best = new Uint16Array((x.length + 1) * width);
  for (let i = x.length - 1; i >= 0; i -= 1)
    for (let j = y.length - 1; j >= 0; j -= 1)
      best[i * width + j] = x[i] === y[j] ? best[(i + 1) * width + j + 1] + 1 : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  const runs = [[true, a.slice(0, head), []]];
  const push = (same, one, two) => {
    let last = runs[runs.length - 1];
    if (last[0] !== same) runs.push((last = [same, [], []]));
    if (one !== null) last[1].push(one);
    if (two !== null) last[2].push(two);
  };
  let i = 0;
  let j = 0;
  while (i < x.length || j < y.length) {
    if (i < x.length && j < y.length && x[i] === y[j]) push(true, x[(j += 1, i++)], null);
    else if (j < y.length && (i === x.length || best[i * width + j + 1] >= best[(i + 1) * width + j])) push(false, null, y[j++]);
    else push(false, x[i++], null);
  }
  for (const word of a.slice(a.length - tail)) push(true, word, null);
  return runs;
}

// Both texts with what only one of them has marked, word by word (sentence by sentence where they are long).
function showDifference(placeA, placeB, textA, textB) {
  const cuts = [/(?<=\s)(?=\S)/, /(?<=[.!?\n]\s)(?=\S)/, /(?<=\n)/];
  let runs = null;
  for (const by of cuts) {
    runs = difference(textA.slice(0, LONGEST_SHOWN).split(by), textB.slice(0, LONGEST_SHOWN).split(by));
    if (runs) break;
  }
  placeA.replaceChildren();
  placeB.replaceChildren();
  if (!runs) {
    for (const place of [placeA, placeB]) place.append(el("p", { class: "dim" }, "Too long to be compared word by word."));
    return;
  }
  const one = placeA.appendChild(el("div", { class: "step" }));
  const two = placeB.appendChild(el("div", { class: "step" }));
  for (const [same, a, b] of runs) {
    if (same) {
      one.append(safe(a.join("")));
      two.append(safe(a.join("")));
      continue;
    }
    if (a.length) one.append(el("del", null, a.join("")));
    if (b.length) two.append(el("ins", null, b.join("")));
  }
}
