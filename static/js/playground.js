// Language models side by side: tokens as they arrive, the probability of each, and where the answers part.
(() => {
  const SURE = [[0.9, ""], [0.5, "q1"], [0.2, "q2"], [0, "q3"]];
  const number = (value, digits) => new Intl.NumberFormat(document.documentElement.lang, {
    minimumFractionDigits: digits, maximumFractionDigits: digits,
  }).format(value).replace("-", "\u2212");
  const say = (template, values) => template.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  let open = null; // the stream of the page that is shown

  function probabilities(token) {
    return token.top.map(([, text, logprob]) => `${JSON.stringify(text)} ${number(Math.exp(logprob), 2)}`).join("; ");
  }

  function common(one, other) {
    const most = Math.min(one.tokens.length, other.tokens.length);
    let place = 0;
    while (place < most && one.tokens[place].text === other.tokens[place].text) place += 1;
    return place;
  }

  // Each lane parts where it differs from the one that it follows longest.
  function mark(lanes, root) {
    let longest = null;
    for (const lane of lanes) {
      const others = lanes.filter((other) => other !== lane && other.began);
      lane.box.querySelector(".apart")?.classList.remove("apart");
      if (!others.length || !lane.began) continue;
      const place = Math.max(...others.map((other) => common(lane, other)));
      const token = lane.box.children[place];
      if (!token) continue;
      token.classList.add("apart");
      lane.apart = place;
      if (!longest || place >= longest) longest = place;
    }
    const head = root.querySelector("[data-headline]");
    if (lanes.length > 1) head.textContent = longest === null ? head.dataset.same : say(head.dataset.differ, { place: longest + 1 });
    else head.textContent = head.dataset.one;
    return longest;
  }

  function cell(row, label, text, kind) {
    const td = row.insertCell();
    td.dataset.label = label;
    if (kind) td.className = kind;
    if (kind === "num") td.textContent = text;
    else td.append(Object.assign(document.createElement("code"), { textContent: text }));
  }

  function candidates(lanes, root, place) {
    const section = root.querySelector("[data-candidates]");
    if (!section || place === null) return;
    const heads = [...section.querySelectorAll("thead th")].map((th) => th.textContent);
    const body = section.querySelector("tbody");
    body.replaceChildren();
    for (const lane of lanes.filter((one) => one.tokens[place])) {
      const token = lane.tokens[place];
      const row = body.insertRow();
      const title = document.createElement("th");
      title.scope = "row";
      title.append(lane.root.querySelector("h3 .method").cloneNode(true));
      row.append(title);
      cell(row, heads[1], lane.tokens.slice(0, place).map((one) => one.text).join(""));
      cell(row, heads[2], token.text);
      cell(row, heads[3], number(Math.exp(token.logprob), 2), "num");
      cell(row, heads[4], probabilities(token));
    }
    section.hidden = body.rows.length < 2;
  }

  function listen(lane, root) {
    const tell = (span) => {
      const token = lane.tokens[[...lane.box.children].indexOf(span)];
      if (!token) return;
      const chosen = say(root.dataset.token, { token: JSON.stringify(token.text), probability: number(Math.exp(token.logprob), 2) });
      lane.note.textContent = `${chosen} (${probabilities(token)})`;
    };
    lane.box.addEventListener("mouseover", ({ target }) => tell(target));
    lane.box.addEventListener("focusin", ({ target }) => tell(target));
    lane.box.addEventListener("keydown", (event) => {
      const spans = [...lane.box.children];
      const at = spans.indexOf(document.activeElement);
      const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: spans.length - 1 }[event.key];
      if (next === undefined || !spans[next]) return;
      event.preventDefault();
      spans[next].focus();
    });
  }

  function begin(root) {
    const address = root.dataset.stream;
    root.removeAttribute("data-stream"); // a page that comes back from the history does not ask again
    const status = root.querySelector("[data-status]");
    const requested = performance.now();
    const lanes = [...root.querySelectorAll("[data-lane]")].map((lane) => ({
      root: lane, box: lane.querySelector("[data-tokens]"), note: lane.querySelector("[data-note]"),
      summary: lane.querySelector("[data-summary]"), tokens: [], began: 0, first: 0,
    }));
    for (const lane of lanes) listen(lane, root);
    status.textContent = root.dataset.waits;
    const source = new EventSource(address);
    open = source;
    const on = (kind, act) => source.addEventListener(kind, ({ data }) => act(JSON.parse(data)));
    const fail = (sentence) => {
      source.close();
      status.textContent = "";
      const place = root.querySelector("[data-failed]");
      place.textContent = sentence;
      place.hidden = false;
    };
    on("loading", ({ subject }) => { status.textContent = `${lanes[subject].root.dataset.title} ${root.dataset.loads}`; });
    on("token", (token) => {
      const lane = lanes[token.subject];
      if (!lane.began) {
        lane.began = performance.now();
        status.textContent = `${lane.root.dataset.title} ${root.dataset.writes}`;
      }
      lane.tokens.push(token);
      const span = document.createElement("span");
      const probability = Math.exp(token.logprob);
      span.className = `tok ${SURE.find(([least]) => probability >= least)[1]}`;
      span.textContent = token.text;
      span.tabIndex = -1;
      span.title = `${token.text}: ${number(probability, 2)}`;
      lane.box.append(span);
      mark(lanes, root);
    });
    on("finished", ({ subject, tokens, finish }) => {
      const lane = lanes[subject];
      const sum = lane.tokens.reduce((total, token) => total + token.logprob, 0);
      const since = subject ? lanes[subject - 1].ended : requested;
      lane.began ||= performance.now();
      lane.ended = performance.now();
      lane.summary.textContent = say(root.dataset.summary, {
        tokens, first: number((lane.began - since) / 1000, 2), mean: number(sum / Math.max(1, lane.tokens.length), 2),
      }) + (finish === "length" ? `, ${root.dataset.length}` : "");
      candidates(lanes, root, mark(lanes, root));
    });
    on("failed", ({ message }) => fail(message));
    on("end", () => {
      source.close();
      status.textContent = "";
    });
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED || open === source) fail(root.dataset.broken);
    };
  }

  function look() {
    const root = document.querySelector("#texts[data-stream]");
    if (!root) return;
    open?.close();
    begin(root);
  }
  document.addEventListener("DOMContentLoaded", look);
  document.addEventListener("htmx:afterSettle", look);
  document.addEventListener("htmx:beforeSwap", ({ detail: { target } }) => {
    if (target.id === "main") open?.close();
  });
})();
