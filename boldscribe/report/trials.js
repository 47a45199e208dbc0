// Search, sort and turn the pages of all trials. A data set's pack is opened when its table is first seen.
"use strict";
const PAGE = matchMedia("(max-width: 44rem)").matches ? 10 : 25;

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

function rowsOf(pack, name) {
  const [subjects, trials, actions, references] = pack.trials;
  const { texts, scores } = pack.conditions[name];
  return subjects.map((subject, i) => {
    const row = { subject, trial: trials[i], prediction: pack.texts[texts[i]], reference: pack.texts[references[i]] };
    scores.forEach((values, m) => { row["score" + m] = values[i]; });
    row.words = `sub-${subject} ${row.trial} ${pack.texts[actions[i]]} ${row.prediction} ${row.reference}`.toLowerCase();
    return row;
  });
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  return a < b ? -1 : 1;
}

class Trials {
  constructor(root) {
    this.root = root;
    this.by = (role) => root.querySelector(`[data-role=${role}]`);
    this.sort = { key: "", falling: false };
    this.page = 0;
    this.cached = {};
    const again = () => { this.page = 0; this.show(); };
    let waiting;
    this.by("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(again, 120); });
    this.by("condition").addEventListener("change", again);
    this.by("subject").addEventListener("change", again);
    this.by("order").addEventListener("change", (event) => {
      const [key, direction] = event.target.value.split(" ");
      this.sort = { key, falling: direction === "falling" };
      again();
    });
    root.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => {
      const key = button.dataset.key;
      this.sort = { key, falling: this.sort.key === key ? !this.sort.falling : key.startsWith("score") };
      this.by("order").value = `${key} ${this.sort.falling ? "falling" : "rising"}`;
      again();
    }));
    this.by("previous").addEventListener("click", () => { this.page -= 1; this.show(); });
    this.by("next").addEventListener("click", () => { this.page += 1; this.show(); });
  }

  async open() {
    try {
      this.pack = await unpack(this.root.querySelector("script").textContent.trim());
    } catch (error) {
      this.by("count").textContent = "This browser cannot unpack the trials; use a newer one.";
      return;
    }
    this.show();
  }

  found() {
    const name = this.by("condition").value;
    this.cached[name] ??= rowsOf(this.pack, name);
    const words = this.by("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const subject = this.by("subject").value;
    const rows = this.cached[name].filter((row) => (!subject || row.subject === subject) && words.every((w) => row.words.includes(w)));
    const { key, falling } = this.sort;
    // What has no score stands last either way.
    if (key) rows.sort((a, b) => compare(a[key], b[key]) * (falling && a[key] !== null && b[key] !== null ? -1 : 1));
    return rows;
  }

  show() {
    if (!this.pack) return;
    const rows = this.found();
    const pages = Math.max(1, Math.ceil(rows.length / PAGE));
    this.page = Math.min(Math.max(this.page, 0), pages - 1);
    const first = this.page * PAGE;
    const shown = rows.slice(first, first + PAGE);
    this.by("body").replaceChildren(...shown.map((row) => this.line(row)));
    this.by("count").textContent = rows.length ? `Trials ${first + 1} to ${first + shown.length} of ${rows.length.toLocaleString("en")}` : "No trial contains these words.";
    this.by("previous").disabled = this.page === 0;
    this.by("next").disabled = this.page === pages - 1;
    this.root.querySelectorAll("th").forEach((head) => {
      const own = head.querySelector("button")?.dataset.key === this.sort.key && this.sort.key;
      if (own) head.setAttribute("aria-sort", this.sort.falling ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  line(row) {
    const line = document.createElement("tr");
    line.setAttribute("role", "row");
    this.root.querySelectorAll("th button").forEach(({ dataset: { key }, textContent }) => {
      const cell = document.createElement("td");
      cell.setAttribute("role", "cell");
      cell.dataset.label = textContent;
      cell.className = key.startsWith("score") ? "score" : key;
      if (key === "prediction" || key === "reference") cell.dir = "auto";
      const value = row[key];
      cell.textContent = value === null ? "–" : key.startsWith("score") ? value.toFixed(1) : value === "" ? "(empty)" : value;
      line.append(cell);
    });
    return line;
  }
}

const seen = new IntersectionObserver((entries) => entries.filter((e) => e.isIntersecting).forEach((e) => {
  seen.unobserve(e.target);
  e.target.trials.open();
}), { rootMargin: "1000px" });
document.querySelectorAll("[data-trials]").forEach((root) => {
  root.hidden = false;
  root.trials = new Trials(root);
  seen.observe(root);
});
