// The Lab's low-rank step: pictures, curve, numbers and the sentence follow the rank and the chosen matrix.
(() => {
  const SIDE = 32, NS = "http://www.w3.org/2000/svg";

  function begin(root) {
    const { ranks, rows, columns, of, words, methods, symbols, language } = JSON.parse(root.dataset.lowRank);
    const slider = root.querySelector("#rank"), curve = root.querySelector("[data-curve]");
    const shown = (name, text) => root.querySelectorAll(`[data-shown="${name}"]`).forEach((node) => { node.textContent = text; });
    const number = (x, digits = 0) => x.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
    const percent = (x) => `${x > 0.9995 ? "100" : x < 0.0005 ? "0" : number(100 * x, x < 0.1 || x > 0.9949 ? 1 : 0)}\u00a0%`;
    const say = (name, values) => words[name].replace(/\{(\w+)\}/g, (_all, key) => values[key]);
    const bytes = (text) => Int8Array.from(atob(text), (c) => c.charCodeAt(0));
    const pictures = Object.fromEntries(Object.entries(of).map(([key, source]) => [key, source.pictures.map(bytes)]));
    const picture = (name) => root.querySelector(`[data-picture="${name}"]`);
    const rgb = (text) => (text.match(/[\d.]+/g) || [0, 0, 0]).slice(0, 3).map(Number);

    function paint(canvas, values, width) { // −1 is the surface, +1 the matrix's own colour
      const style = getComputedStyle(canvas), low = rgb(style.backgroundColor), high = rgb(style.color);
      const height = values.length / width, context = canvas.getContext("2d");
      canvas.width = width; canvas.height = height;
      const image = context.createImageData(width, height);
      values.forEach((value, i) => {
        const t = Math.max(0, Math.min(1, (value + 127) / 254));
        for (let c = 0; c < 3; c++) image.data[4 * i + c] = low[c] + t * (high[c] - low[c]);
        image.data[4 * i + 3] = 255;
      });
      context.putImageData(image, 0, 0);
    }

    const last = ranks.length - 1;
    const stopOf = (rank) => { // where a rank lies between the slider's stops
      const i = Math.max(0, ranks.findIndex((r, k) => rank <= r && k > 0) - 1);
      return last ? i + Math.log(rank / ranks[i]) / Math.log(ranks[i + 1] / ranks[i]) : 0;
    };

    function draw(chosen, place) {
      const width = curve.clientWidth, height = curve.clientHeight, edge = 12, top = 18;
      const x = (stop) => edge + (stop / (last || 1)) * (width - 2 * edge), y = (v) => top + (1 - v) * (height - top - 4);
      curve.replaceChildren();
      const add = (tag, attributes, text) => {
        const node = document.createElementNS(NS, tag);
        for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
        if (text) node.textContent = text;
        curve.append(node);
      };
      add("line", { x1: x(place), x2: x(place), y1: top - 14, y2: height });
      for (const v of [0, 0.5, 1]) {
        add("line", { x1: 0, x2: width, y1: y(v), y2: y(v), opacity: v ? 0.35 : 1 });
        if (v) add("text", { x: width, y: y(v) - 4, "text-anchor": "end" }, v === 1 ? "σ₁" : "½ σ₁");
      }
      const path = (points) => points.map(([r, v], k) => `${k ? "L" : "M"}${x(stopOf(r)).toFixed(1)} ${y(v).toFixed(1)}`).join("");
      for (const key of Object.keys(of).filter((other) => other !== chosen).concat(chosen)) {
        const points = of[key].value_ranks.map((r, k) => [r, of[key].values[k]]), on = key === chosen ? " on" : "";
        if (on) {
          const kept = points.filter(([r]) => r <= ranks[place]);
          add("path", { class: "area", "data-method": methods[key], d: `${path(kept)}V${y(0)}H${x(0)}Z` });
        }
        add("path", { class: `line${on}${key === "random" ? " dashed" : ""}`, "data-method": methods[key], d: path(points) });
      }
      const label = of[chosen].values.length > 3 ? Math.floor(of[chosen].values.length / 3) : 0;
      add("text", { class: "name on", "data-method": methods[chosen], x: x(stopOf(of[chosen].value_ranks[label])) + 8, y: y(of[chosen].values[label]) - 6 }, words[chosen]);
    }

    function sentence(key, rank, energy) {
      const values = { rank, kept: percent(energy), whose: words[key], times: number((rank * (rows + columns)) / (rows * columns), 2) };
      if (rank === ranks[last]) return say("says-full", values);
      if (rank * (rows + columns) >= rows * columns) return say("says-no-gain", values);
      return say(energy < 0.3 ? "says-little" : energy < 0.9 ? "says-part" : "says-enough", values);
    }

    function update() {
      const key = root.querySelector("[name=matrix]:checked").value, place = Number(slider.value), rank = ranks[place];
      const energy = of[key].energy[place], error = Math.sqrt(Math.max(0, 1 - energy)), parameters = rank * (rows + columns);
      const share = parameters / (rows * columns), near = pictures[key][place], whole = pictures[key][last], width = Math.min(SIDE, columns);
      const values = { rank, kept: percent(energy), error: percent(error), symbol: symbols[key] };
      for (const name of ["whole", "near", "lost"]) picture(name).dataset.method = methods[key];
      paint(picture("whole"), whole, width); paint(picture("near"), near, width);
      paint(picture("lost"), whole.map((v, k) => Math.max(-127, Math.min(127, v - near[k]))), width);
      shown("symbol", symbols[key]); shown("near", say("near", values)); shown("near-keeps", say("near-keeps", values)); shown("lost-norm", say("lost-norm", values));
      picture("whole").setAttribute("aria-label", words[key]);
      picture("near").setAttribute("aria-label", `${say("near", values)}, ${say("near-keeps", values)}`);
      picture("lost").setAttribute("aria-label", `${words.lost}, ${say("lost-norm", values)}`);
      shown("rank", rank); shown("keeps", say("keeps", values)); shown("energy", values.kept); shown("error", values.error);
      shown("parameters", number(parameters));
      shown("saved", share < 1 ? percent(1 - share) : say("none-saved", { times: number(share, 1) }));
      shown("says", sentence(key, rank, energy));
      slider.setAttribute("aria-valuetext", say("spoken", values));
      root.querySelectorAll(".slider li").forEach((li, k) => li.toggleAttribute("data-on", k === place));
      for (const name of Object.keys(of)) {
        root.querySelector(`[data-kept="${name}"]`).textContent = percent(of[name].energy[place]);
        root.querySelector(`[data-meter="${name}"]`).setAttribute("width", 100 * of[name].energy[place]);
      }
      draw(key, place);
    }

    root.addEventListener("input", update);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
    new MutationObserver(update).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    new ResizeObserver(update).observe(curve);
    update();
  }

  const start = () => document.querySelectorAll("[data-low-rank]:not([data-begun])").forEach((root) => { root.dataset.begun = ""; begin(root); });
  document.addEventListener("DOMContentLoaded", start);
  document.addEventListener("htmx:afterSettle", start);
})();
