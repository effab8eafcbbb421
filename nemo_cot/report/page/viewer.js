// The trace viewer: problems, filters, search, one or two samples, keys, and a link to each.

const ROW = 46; // pixels of a row of the list

class Viewer extends Pane {
  constructor(index) {
    super();
    this.index = index;
    this.reader = new Reader(new Marks(index.words));
    this.second = new Reader(this.reader.marks);
    this.lower = index.problems.map((p) => `${p[0]}\n${p[1]}\n${p[2]}`.toLowerCase());
    this.columns = index.sets.map((set) => Object.assign(set, { of: this.grouped(set) }));
    this.options = { math: true, marks: true, folded: true, find: "" };
    this.matches = null; // per set, which samples hold the text that is searched for
    this.search = 0;
    this.at = null; // {set, row}: the sample that is shown
    this.with = null; // the one beside it
    this.fields();
    this.keys();
    this.filter();
    if (!this.follow()) this.openFirst();
  }

  // Rows by problem.
  grouped(set) {
    const found = new Map();
    set.problem.forEach((problem, row) => {
      if (!found.has(problem)) found.set(problem, []);
      found.get(problem).push(row);
    });
    return found;
  }

  // ---- filters

  fields() {
    const { index } = this;
    const options = (id, pairs) => byId(id).append(...pairs.map(([value, text]) => el("option", { value }, text)));
    options("f-set", this.columns.map((set, i) => [i, `${set.label} (${set.problem.length.toLocaleString("en")})`]));
    options("f-verdict", [["", "all"], ...index.verdicts.map((name, i) => [i, name])]);
    options("f-subset", [["", "all"], ...[...new Set(index.problems.map((p) => p[3]).filter(Boolean))].map((s) => [s, s])]);
    options("f-finish", [["", "all"], ...[...new Set(this.columns.flatMap((set) => set.reasons))].map((r) => [r, r === "length" ? "length (cut)" : r])]);
    if (byId("f-subset").options.length < 2) byId("f-subset").closest("label").hidden = true;
    if (!this.columns.some((set) => set.turns.some(Boolean))) byId("f-turns").closest("label").hidden = true;
    const beside = [["", "nothing"], ["sample", "another sample"], ...this.columns.map((set, i) => [i, set.label])];
    options("o-with", beside);
    const form = byId("filters");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      if (event.target.id === "f-text") this.searchLater();
      else this.filter(true);
    });
    byId("f-text").addEventListener("search", () => this.searchNow()); // Escape empties it without an input event
    form.addEventListener("reset", () => setTimeout(() => this.searchNow()));
    for (const name of ["math", "marks", "folded"])
      byId(`o-${name}`).addEventListener("change", (event) => {
        this.options[name] = event.target.checked;
        this.draw();
      });
    byId("o-diff").addEventListener("change", () => this.draw());
    byId("o-with").addEventListener("change", () => this.beside());
    const list = byId("list");
    list.addEventListener("scroll", () => this.rows());
    list.addEventListener("click", (event) => {
      const row = event.target.closest("[data-place]");
      if (row) this.openProblem(Number(row.dataset.place));
    });
    list.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.moveProblem(step);
    });
    new ResizeObserver(() => this.rows()).observe(list);
  }

  get set() {
    return this.columns[Number(byId("f-set").value) || 0];
  }

  // The samples that the filters let through, and their problems.
  filter(reopen = false) {
    const value = (id) => byId(id).value;
    const number = (id, other) => (value(id) === "" ? other : Number(value(id)));
    const { set } = this;
    const [verdict, subset, finish] = [value("f-verdict"), value("f-subset"), value("f-finish")];
    const [low, high, turns] = [number("f-min", -1), number("f-max", Infinity), number("f-turns", 0)];
    const reason = set.reasons.indexOf(finish);
    const found = this.matches && this.matches[this.columns.indexOf(set)];
    this.shown = new Map();
    let count = 0;
    for (let row = 0; row < set.problem.length; row += 1) {
      if (verdict !== "" && set.verdict[row] !== Number(verdict)) continue;
      if (finish !== "" && set.finish[row] !== reason) continue;
      if (set.tokens[row] < low || set.tokens[row] > high || set.turns[row] < turns) continue;
      const problem = set.problem[row];
      if (subset !== "" && this.index.problems[problem][3] !== subset) continue;
      if (found && !found[row]) continue;
      const rows = this.shown.get(problem);
      if (rows) rows.push(row);
      else this.shown.set(problem, [row]);
      count += 1;
    }
    this.list = [...this.shown.keys()];
    this.sort(value("f-sort"));
    const samples = `${count.toLocaleString("en")} of ${set.problem.length.toLocaleString("en")} samples`;
    byId("f-count").textContent = `${samples}, ${this.list.length.toLocaleString("en")} problems`;
    byId("list-size").style.height = `${this.list.length * ROW}px`;
    this.rows(true);
    if (reopen && this.list.length) {
      const same = this.at && this.columns[this.at.set] === set && this.shown.get(set.problem[this.at.row]);
      if (!same || !same.includes(this.at.row)) this.openProblem(0);
      else this.chips();
    }
  }

  share(problem, set = this.set) {
    const rows = set.of.get(problem) || [];
    return rows.filter((row) => set.verdict[row] === 0).length / (rows.length || 1);
  }

  sort(by) {
    const key = {
      hard: (p) => this.share(p),
      easy: (p) => -this.share(p),
      mixed: (p) => Math.abs(this.share(p) - 0.5),
    }[by];
    if (!key) return;
    const keys = new Map(this.list.map((p) => [p, key(p)]));
    this.list.sort((a, b) => keys.get(a) - keys.get(b) || a - b);
  }

  // ---- search

  searchLater() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.searchNow(), 180);
  }

  // Problems and answers at once, then text by text, with what was found so far.
  async searchNow() {
    const turn = (this.search += 1);
    const find = byId("f-text").value.trim().toLowerCase();
    this.options.find = find;
    const bar = byId("f-progress");
    if (!find) {
      this.matches = null;
      bar.hidden = true;
      this.filter(true);
      this.draw();
      return;
    }
    const problems = this.lower.map((text) => text.includes(find));
    const answers = this.index.answers.map((text) => text.toLowerCase().includes(find));
    this.matches = this.columns.map((set) => Uint8Array.from(set.problem, (p, row) => problems[p] || answers[set.answer[row]]));
    this.filter();
    const order = [this.set, ...this.columns.filter((set) => set !== this.set)];
    const numbers = [...new Set(order.flatMap((set) => set.chunk.filter((c) => c >= 0)))];
    const rowsOf = new Map(numbers.map((number) => [number, []]));
    this.columns.forEach((set, s) => set.chunk.forEach((c, row) => c >= 0 && rowsOf.get(c).push([s, row])));
    bar.hidden = false;
    bar.max = numbers.length;
    for (const [done, number] of numbers.entries()) {
      const texts = await (chunks.get(number) || decoded(`chunk-${number}`));
      if (turn !== this.search) return;
      for (const [s, row] of rowsOf.get(number)) {
        const set = this.columns[s];
        if (!this.matches[s][row] && texts[set.place[row]][0].toLowerCase().includes(find)) this.matches[s][row] = 1;
      }
      if (done % 8 === 7) {
        bar.value = done + 1;
        this.filter();
        await new Promise((next) => setTimeout(next));
        if (turn !== this.search) return;
      }
    }
    bar.hidden = true;
    this.filter(true);
    this.draw();
  }

  // ---- the list: only what is in sight has elements

  rows(fresh = false) {
    const list = byId("list");
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
    const last = Math.min(this.list.length, first + Math.ceil(list.clientHeight / ROW) + 9);
    const current = this.at && this.columns[this.at.set] === this.set ? this.set.problem[this.at.row] : -1;
    if (!fresh && this.window && this.window[0] === first && this.window[1] === last && this.window[2] === current) return;
    this.window = [first, last, current];
    const made = [];
    for (let place = first; place < last; place += 1) made.push(this.row(place, current));
    const size = byId("list-size");
    size.replaceChildren(...made);
    if (this.list.includes(current) && made.some((row) => row.id === `p-${current}`)) list.setAttribute("aria-activedescendant", `p-${current}`);
    else list.removeAttribute("aria-activedescendant");
  }

  row(place, current) {
    const problem = this.list[place];
    const [id, text] = this.index.problems[problem];
    const all = this.set.of.get(problem);
    const right = Math.round(this.share(problem) * all.length);
    const shown = this.shown.get(problem).length;
    const row = el(
      "div",
      {
        id: `p-${problem}`, class: "row", role: "option", "data-place": place, "aria-selected": String(problem === current),
        "aria-setsize": this.list.length, "aria-posinset": place + 1,
      },
      el("span", { class: "name" }, cut(id, 60)),
      el("span", { class: "score" }, `${right}/${all.length} ✓${shown < all.length ? ` · ${shown} shown` : ""}`),
      el("span", { class: "text" }, cut(text.slice(0, 400).replace(/\s+/g, " "), 110)),
    );
    row.style.top = `${place * ROW}px`;
    return row;
  }

  // ---- opening a sample

  openFirst() {
    if (this.list.length) this.openProblem(0, false);
    else this.empty();
  }

  openProblem(place, tell = true) {
    const problem = this.list[Math.min(this.list.length - 1, Math.max(0, place))];
    if (problem === undefined) return;
    const rows = this.shown.get(problem);
    const readable = rows.find((row) => this.set.chunk[row] >= 0);
    this.open(this.columns.indexOf(this.set), readable === undefined ? rows[0] : readable, tell);
  }

  open(set, row, tell = true) {
    this.at = { set, row };
    if (this.with && this.columns[this.with.set].problem[this.with.row] !== this.columns[set].problem[row]) this.partner();
    this.tell(tell);
    this.reveal();
    this.draw();
  }

  // Another sample of the problem, from the set that was chosen.
  partner() {
    const asked = byId("o-with").value;
    this.with = null;
    if (asked === "" || !this.at) return;
    const own = this.columns[this.at.set];
    const other = asked === "sample" ? this.at.set : Number(asked);
    const set = this.columns[other];
    const rows = (set.of.get(own.problem[this.at.row]) || []).filter((row) => other !== this.at.set || row !== this.at.row);
    const row = rows.find((r) => set.chunk[r] >= 0 && set.verdict[r] !== own.verdict[this.at.row]) ?? rows.find((r) => set.chunk[r] >= 0) ?? rows[0];
    if (row !== undefined) this.with = { set: other, row };
  }

  beside() {
    this.partner();
    this.tell(true);
    this.draw();
  }

  reveal() {
    const place = this.list.indexOf(this.columns[this.at.set].problem[this.at.row]);
    const list = byId("list");
    if (place >= 0 && (place * ROW < list.scrollTop || (place + 1) * ROW > list.scrollTop + list.clientHeight))
      list.scrollTop = Math.max(0, place * ROW - list.clientHeight / 3);
    this.rows();
  }

  // ---- the address: #traces/SET/PROBLEM/SAMPLE[/SET/PROBLEM/SAMPLE]

  link(one) {
    const set = this.columns[one.set];
    return [set.name, this.index.problems[set.problem[one.row]][0], set.sample[one.row]].map(encodeURIComponent).join("/");
  }

  address() {
    return `#traces/${this.link(this.at)}${this.with ? `/${this.link(this.with)}` : ""}`;
  }

  tell(replace) {
    this.address_ = this.address();
    if (replace && byId("traces").classList.contains("shown")) history.replaceState(null, "", this.address_);
  }

  find(name, id, sample) {
    const set = this.columns.findIndex((one) => one.name === name);
    if (set < 0) return null;
    const columns = this.columns[set];
    const row = columns.problem.findIndex((p, r) => this.index.problems[p][0] === id && String(columns.sample[r]) === sample);
    return row < 0 ? null : { set, row };
  }

  // Opens what the address names; false if it names nothing.
  follow() {
    const words = location.hash.slice(1).split("/").map((word) => {
      try {
        return decodeURIComponent(word);
      } catch {
        return word;
      }
    });
    if (words[0] !== "traces" || words.length < 4) return false;
    const at = this.find(words[1], words[2], words[3]);
    if (!at) {
      byId("f-count").textContent = "The address names a sample that is not in this file.";
      return false;
    }
    this.with = words.length >= 7 ? this.find(words[4], words[5], words[6]) : null;
    byId("o-with").value = this.with ? (this.with.set === at.set ? "sample" : String(this.with.set)) : "";
    if (Number(byId("f-set").value) !== at.set) byId("f-set").value = String(at.set);
    this.at = at;
    this.filter();
    if (!(this.shown.get(this.columns[at.set].problem[at.row]) || []).includes(at.row)) {
      byId("filters").reset();
      byId("f-set").value = String(at.set);
      this.matches = null;
      this.filter();
    }
    this.tell(false);
    this.reveal();
    this.draw();
    return true;
  }

  // ---- moving

  moveProblem(step) {
    if (!this.at) return;
    const place = this.list.indexOf(this.columns[this.at.set].problem[this.at.row]);
    if (place + step >= 0 && place + step < this.list.length) this.openProblem(place + step);
  }

  moveSample(step) {
    if (!this.at) return;
    const set = this.columns[this.at.set];
    const rows = this.shown.get(set.problem[this.at.row]) || [];
    const next = rows[rows.indexOf(this.at.row) + step];
    if (next !== undefined) this.open(this.at.set, next);
    else {
      const place = this.list.indexOf(set.problem[this.at.row]) + step;
      if (place < 0 || place >= this.list.length) return;
      const others = this.shown.get(this.list[place]);
      this.open(this.at.set, others[step > 0 ? 0 : others.length - 1]);
    }
  }

  keys() {
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !byId("traces").classList.contains("shown")) return;
      if (event.target.matches("input, select, textarea")) {
        if (event.key === "Escape") event.target.blur();
        return;
      }
      const act = {
        j: () => this.moveSample(1), k: () => this.moveSample(-1),
        ArrowRight: () => this.moveProblem(1), ArrowLeft: () => this.moveProblem(-1),
        "/": () => byId("f-text").focus(),
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
    window.addEventListener("hashchange", () => location.hash !== this.address_ && this.follow());
  }
}

async function startViewer() {
  if (!byId("index")) return;
  try {
    window.viewer = new Viewer(await decoded("index"));
    performance.mark("usable");
    document.body.dataset.ready = "yes";
  } catch (error) {
    byId("f-count").textContent = `The texts cannot be read: ${error.message}`;
    throw error;
  }
}
startViewer();
