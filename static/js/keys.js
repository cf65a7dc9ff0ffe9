// Keyboard shortcuts: ? lists them, / goes to the filter, j and k walk the rows of a list, g and a letter goes to a page.
// Single-key shortcuts are ignored in text fields and can be switched off for this browser (WCAG 2.1.4).
(() => {
  const KEPT = "vezna-keys";
  const PATIENCE = 1500; // milliseconds between g and the letter after it
  const ROWS = "main :is([data-rows], .table.list) > tbody > tr";
  const FIELDS = "input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]";
  const SEARCH = "main [role=search] input:is([type=search], [type=text], :not([type])), main [role=search] select";
  let waiting = 0;

  const on = () => {
    try { return localStorage.getItem(KEPT) !== "off"; } catch { return true; }
  };
  const keep = (wanted) => {
    try { localStorage.setItem(KEPT, wanted ? "on" : "off"); } catch { /* a private window: on for the next page */ }
  };

  function walk(step) {
    const rows = [...document.querySelectorAll(ROWS)].filter((row) => row.offsetParent);
    const here = rows.indexOf(document.activeElement.closest(ROWS));
    const next = rows[here < 0 ? (step > 0 ? 0 : rows.length - 1) : here + step];
    next?.querySelector("a[href], summary, button")?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "nearest" });
    return rows.length > 0;
  }

  function search() {
    const field = document.querySelector(SEARCH);
    field?.focus();
    field?.select?.();
    return Boolean(field);
  }

  function act(dialog, key) {
    const place = Date.now() - waiting < PATIENCE && dialog.querySelector(`[data-go="${CSS.escape(key)}"]`);
    waiting = key === "g" ? Date.now() : 0;
    if (place) { place.click(); return true; }
    if (key === "?") { dialog.showModal(); return true; }
    if (key === "/") return search();
    return key === "j" ? walk(1) : key === "k" ? walk(-1) : false;
  }

  document.addEventListener("DOMContentLoaded", () => {
    const dialog = document.getElementById("keys");
    const toggle = document.getElementById("keys-on");
    if (!dialog) return;
    toggle.checked = on();
    toggle.addEventListener("change", () => keep(toggle.checked));
    for (const button of document.querySelectorAll("[data-keys]")) {
      button.hidden = false;
      button.addEventListener("click", () => dialog.showModal());
    }
    document.addEventListener("keydown", (event) => {
      const busy = event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey;
      if (busy || document.querySelector("dialog[open]") || event.target.closest?.(FIELDS) || !on()) return;
      if (act(dialog, event.key)) event.preventDefault();
    });
  });
})();
