// What a page that follows a run needs beside htmx: logs stay at their end, and what one had opened stays open.
(() => {
  const AT_END = 24;
  const atEnd = (log) => log.scrollHeight - log.scrollTop - log.clientHeight < AT_END;
  const toEnd = (root) => {
    for (const log of root.querySelectorAll("[data-follow]")) log.scrollTop = log.scrollHeight;
  };

  document.addEventListener("DOMContentLoaded", () => toEnd(document));

  // A request that no click or key began does not keep the session alive (app/web/http/access.py).
  document.addEventListener("htmx:configRequest", ({ detail }) => {
    if (!detail.triggeringEvent?.isTrusted) detail.headers["Vezna-Automatic"] = "1";
  });

  // Two parts of a page may be under way at once: what each had is kept by the part, and put back there. A part is put
  // back at once, and again when htmx has settled it, which takes the new markup's attributes.
  const kept = new WeakMap();
  document.addEventListener("htmx:beforeSwap", ({ detail: { target } }) => {
    kept.set(target, {
      open: [...target.querySelectorAll("details[id][open]")].map((details) => details.id),
      logs: [...target.querySelectorAll("[data-follow]")].map((log) => [log.id, atEnd(log) ? -1 : log.scrollTop]),
    });
  });

  function putBack({ detail: { target } }) {
    const had = kept.get(target); // a swap out of band has no target
    if (!had) return;
    for (const id of had.open) document.getElementById(id)?.setAttribute("open", "");
    toEnd(target);
    for (const [id, top] of had.logs) {
      const log = document.getElementById(id);
      if (log && top >= 0) log.scrollTop = top;
    }
  }
  document.addEventListener("htmx:afterSwap", putBack);
  document.addEventListener("htmx:afterSettle", putBack);
})();
