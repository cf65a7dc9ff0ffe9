// What a page that follows a run needs beside htmx: logs stay at their end, and what one had opened stays open.
(() => {
  const AT_END = 24;
  const atEnd = (log) => log.scrollHeight - log.scrollTop - log.clientHeight < AT_END;
  const toEnd = (root) => {
    for (const log of root.querySelectorAll("[data-follow]")) log.scrollTop = log.scrollHeight;
  };

  document.addEventListener("DOMContentLoaded", () => toEnd(document));

  let places = new Map();
  let open = new Set();
  document.addEventListener("htmx:beforeSwap", (event) => {
    const target = event.detail.target;
    places = new Map([...target.querySelectorAll("[data-follow]")].map((log) => [log.id, atEnd(log) ? -1 : log.scrollTop]));
    open = new Set([...target.querySelectorAll("details[id][open]")].map((details) => details.id));
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    const log = document.querySelector("[data-follow]");
    for (const [id, top] of places) {
      const found = document.getElementById(id);
      if (found) found.scrollTop = top < 0 ? found.scrollHeight : top;
    }
    if (log && !places.has(log.id)) toEnd(event.target);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  });
})();
