// What is shown of a problem: its text, one sample or two beside each other, and how they came about.

const SYMBOLS = ["✓", "✗", "?", "·"];

class Pane {
  empty() {
    byId("problem").replaceChildren(el("p", { class: "dim" }, "There are no texts in this file."));
  }

  draw() {
    if (!this.at) return;
    const set = this.columns[this.at.set];
    const [id, text, expected, subset] = this.index.problems[set.problem[this.at.row]];
    const place = byId("problem");
    place.replaceChildren(el("h3", null, cut(id, 120), subset ? el("span", { class: "tag" }, cut(subset, 60)) : null));
    const body = place.appendChild(el("div", { class: "statement" }));
    this.second.show(body, [[], [], [["straight", text]]], { math: this.options.math, marks: false, find: this.options.find });
    place.append(el("p", { class: "expected" }, "Expected: ", el("strong", null, cut(expected, 400) || "not given")));
    this.drawn = this.fill();
  }

  async fill() {
    const turn = (this.filling = (this.filling || 0) + 1);
    const both = [this.at, this.with];
    const texts = await Promise.all(both.map((one) => one && this.textOf(one)));
    if (turn !== this.filling) return;
    byId("columns").classList.toggle("two", Boolean(this.with));
    byId("column-1").hidden = !this.with;
    byId("o-diff").disabled = !this.with;
    const places = both.map((one, i) => one && this.head(byId(`column-${i}`), one, texts[i], i));
    if (this.with && byId("o-diff").checked && texts[0] && texts[1]) showDifference(places[0], places[1], texts[0][0], texts[1][0]);
    else
      for (const [i, reader] of [this.reader, this.second].entries()) {
        const [text, , steps] = texts[i] || [];
        if (text !== undefined) reader.show(places[i], stepsOf(text, steps, this.index.kinds), this.options);
      }
    document.body.dataset.shown = this.address_;
  }

  async textOf(one) {
    const set = this.columns[one.set];
    return set.chunk[one.row] < 0 ? null : (await chunk(set.chunk[one.row]))[set.place[one.row]];
  }

  chips() {
    this.draw();
  }

  // Everything of a column but its text; returns where that goes.
  head(column, one, found, number) {
    const set = this.columns[one.set];
    const verdict = set.verdict[one.row];
    const answer = this.index.answers[set.answer[one.row]];
    const scroll = column.querySelector(".chips")?.scrollTop || 0;
    const rows = number === 0 ? this.shown.get(set.problem[one.row]) || [one.row] : set.of.get(set.problem[one.row]);
    const chips = rows.map((row) =>
      el(
        "button",
        {
          type: "button", class: `chip v${set.verdict[row]}${set.chunk[row] < 0 ? " absent" : ""}`, "aria-pressed": String(row === one.row),
          "aria-label": `sample ${set.sample[row]}, ${this.index.verdicts[set.verdict[row]]}${set.chunk[row] < 0 ? ", text left out" : ""}`,
          onclick: () => {
            if (number === 0) this.open(one.set, row);
            else {
              this.with = { set: one.set, row };
              this.tell(true);
              this.fill();
            }
          },
        },
        `${set.sample[row]} ${SYMBOLS[set.verdict[row]]}`,
      ),
    );
    const reason = set.reasons[set.finish[one.row]];
    const facts = [
      `${set.tokens[one.row].toLocaleString("en")} tokens`,
      reason === "length" ? "cut at the length limit" : `ended: ${reason}`,
      this.index.shifts.length ? `${set.turns[one.row]} turns` : null,
    ];
    const place = el("div", { class: "trace" });
    const text = found ? place : el("p", { class: "dim" }, "The text of this sample was left out of the file.");
    column.replaceChildren(
      el("h4", null, set.label),
      el("div", { class: "chips", role: "group", "aria-label": `samples of ${set.label}` }, ...chips),
      el(
        "p",
        { class: "facts" },
        el("span", { class: `verdict v${verdict}` }, `${SYMBOLS[verdict]} ${this.index.verdicts[verdict]}`),
        el("span", null, "answer: ", el("strong", null, cut(answer, 200) || "none")),
        ...facts.filter(Boolean).map((fact) => el("span", null, fact)),
        el("a", { href: `#traces/${this.link(one)}`, class: "link" }, "link"),
      ),
      text,
      found ? this.details(found[1], one) : "",
    );
    column.querySelector(".chips").scrollTop = scroll;
    return place;
  }

  // How the verdict came about and what made and changed the trace, oldest first.
  details(details, one) {
    const pairs = (object) => Object.entries(object).flatMap(([key, value]) => [el("dt", null, cut(key, 60)), el("dd", null, cut(typeof value === "string" ? value : JSON.stringify(value), 600))]);
    const { lineage = [], ...others } = details;
    const made = el("details", { class: "lineage" }, el("summary", null, `Verdict and lineage (${lineage.length} steps)`));
    if (Object.keys(others).length) made.append(el("dl", null, ...pairs(others)));
    for (const [number, step] of lineage.entries()) made.append(el("p", null, `${number + 1}.`), el("dl", null, ...pairs(step)));
    const set = this.columns[one.set];
    const origin = set.name === "chosen" && this.find("pool", this.index.problems[set.problem[one.row]][0], String(set.sample[one.row]));
    if (origin) made.append(el("p", null, el("a", { href: `#traces/${this.link(origin)}` }, "The generation in the pool that it comes from")));
    return made;
  }
}
