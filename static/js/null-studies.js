// The Lab's A/A studies: the bars grow study by study, and follow the chosen number of test items.
(() => {
  const NS = "http://www.w3.org/2000/svg", STEP = 12, BIN = 2; // studies a frame, points a bar

  function begin(root) {
    const { drawn, lead, words, language } = JSON.parse(root.dataset.nullStudies);
    const svg = root.querySelector(".leads");
    const number = (x, digits = 0) => x.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
    const percent = (x) => `${number(100 * x, 1)}\u00a0%`;
    const say = (name, values) => words[name].replace(/\{(\w+)\}/g, (_all, key) => values[key]);
    const shown = (name, text) => root.querySelectorAll(`[data-shown="${name}"]`).forEach((node) => { node.textContent = text; });
    const bin = (points) => Math.sign(points) * BIN * Math.floor(Math.abs(points) / BIN + 1e-6);
    const binned = (leads) => leads.reduce((bins, points) => bins.set(bin(points), (bins.get(bin(points)) || 0) + 1), new Map());
    let upTo = Infinity;

    function draw(chosen) {
      const width = svg.clientWidth, height = svg.clientHeight, base = height - 38, top = 18;
      const all = binned(chosen.leads), most = Math.max(...all.values()), bins = binned(chosen.leads.slice(0, upTo));
      const widest = Math.max(BIN, ...[...all.keys()].map(Math.abs));
      const step = Math.min(width / 3, width / (widest / (BIN / 2) + 1)), bar = step * 0.78, x = (points) => width / 2 + (points / BIN) * step;
      svg.querySelectorAll(":scope > :not(defs)").forEach((node) => node.remove());
      const add = (tag, attributes, text) => {
        const node = document.createElementNS(NS, tag);
        for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
        if (text) node.textContent = text;
        svg.append(node);
      };
      for (let points = -widest; points <= widest; points += BIN) {
        const count = bins.get(points) || 0, tall = (count / most) * (base - top);
        if (count) {
          add("rect", { class: points ? "phantom" : "none", x: x(points) - bar / 2, y: base - tall, width: bar, height: tall });
          add("text", { class: "count", x: x(points), y: base - tall - 5, "text-anchor": "middle" }, number(count));
        }
        const label = points ? `${points > 0 ? "+" : "−"}${Math.abs(points)}` : chosen.items * lead > 101 ? words["less"] : "0";
        if (step > 24 || points % (2 * BIN) === 0) add("text", { x: x(points), y: base + 17, "text-anchor": "middle" }, label);
      }
      add("line", { x1: 0, x2: width, y1: base, y2: base });
      add("text", { x: 0, y: base + 34 }, words["axis-b"]);
      add("text", { x: width / 2, y: base + 34, "text-anchor": "middle" }, words["axis"]);
      add("text", { x: width, y: base + 34, "text-anchor": "end" }, words["axis-a"]);
    }

    const current = () => drawn[Number(root.querySelector("[name=items]:checked").value)];
    function update() {
      const chosen = current(), values = { items: number(chosen.items), share: percent(chosen.leading) };
      for (const name of ["winners", "leading", "excluded"]) shown(name, percent(chosen[name]));
      shown("width", `±\u00a0${number(chosen.width, 1)}`);
      shown("says", say("says", values));
      svg.setAttribute("aria-label", say("spoken", values));
      draw(chosen);
    }

    root.addEventListener("input", () => { upTo = Infinity; update(); });
    new ResizeObserver(() => draw(current())).observe(svg);
    addEventListener("beforeprint", () => { upTo = Infinity; draw(current()); });
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
      upTo = 0;
      const grow = () => {
        if (upTo === Infinity) return;
        upTo += STEP;
        if (upTo >= current().leads.length) upTo = Infinity;
        draw(current());
        requestAnimationFrame(grow);
      };
      requestAnimationFrame(grow);
    }
    update();
  }

  const start = () => document.querySelectorAll("[data-null-studies]:not([data-begun])").forEach((root) => { root.dataset.begun = ""; begin(root); });
  document.addEventListener("DOMContentLoaded", start);
  document.addEventListener("htmx:afterSettle", start);
})();
