// Light, dark or as the system has it. Read before the first paint, so nothing flashes; kept in this browser only.
(() => {
  const KEY = "vezna-theme";
  const root = document.documentElement;

  const kept = () => {
    try { return localStorage.getItem(KEY) || "system"; } catch { return "system"; }
  };
  const show = (theme) => {
    if (theme === "system") root.removeAttribute("data-theme");
    else root.dataset.theme = theme;
  };

  show(kept());

  document.addEventListener("DOMContentLoaded", () => {
    const choice = document.querySelector("[data-theme-switch]");
    if (!choice) return;
    choice.hidden = false;
    for (const input of choice.querySelectorAll("input")) input.checked = input.value === kept();
    choice.addEventListener("change", (event) => {
      try { localStorage.setItem(KEY, event.target.value); } catch { /* a private window: for this page only */ }
      show(event.target.value);
    });
  });

  window.addEventListener("storage", (event) => { if (event.key === KEY) show(kept()); });
})();
