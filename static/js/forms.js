// A part of a page that is rendered again never overwrites what the user did meanwhile. Forms are morphed (idiomorph), and
// a control that changed after its form was last sent keeps its state. It then reports its change once more, because the
// server has rendered the part without it.
(() => {
  const touched = new WeakMap(); // control → when the user last changed it
  const told = new WeakMap(); // form → when its values were last sent
  const flying = new Map(); // request → the part that it will render, the form that it sent, and when
  let clock = 0; // counts events: two of them may fall into one millisecond
  let latest = 0; // when the user last changed anything
  let swapping = null; // the request whose answer is being swapped in
  let kept = [];

  const group = (control) =>
    control.type === "radio" ? document.querySelectorAll(`[type=radio][name="${CSS.escape(control.name)}"]`) : [control];

  for (const kind of ["input", "change"]) {
    document.addEventListener(kind, ({ target }) => {
      latest = ++clock;
      for (const control of group(target)) touched.set(control, clock);
    }, true);
  }

  document.addEventListener("htmx:beforeSend", ({ detail: { xhr, elt, target, requestConfig } }) => {
    const sends = requestConfig.verb !== "get" || elt.matches("form, [hx-include]");
    const form = sends ? elt.closest("form") : null;
    flying.set(xhr, { part: target, form, at: ++clock });
    if (form) told.set(form, clock);
  });
  document.addEventListener("htmx:afterRequest", ({ detail: { xhr } }) => flying.delete(xhr));

  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    swapping = flying.get(detail.xhr) ?? null;
    kept = [];
    if (!swapping) return;
    for (const [xhr, other] of flying) { // an older answer must not land in the new part
      if (xhr !== detail.xhr && other.part !== detail.target && detail.target.contains(other.part)) xhr.abort();
    }
    if (latest > swapping.at) detail.serverResponse = detail.serverResponse.replaceAll(" autofocus", "");
  });

  // Whether the server rendered a control without knowing its present state.
  function unknown(control) {
    const base = swapping?.form && swapping.form === control.form ? swapping.at : (told.get(control.form) ?? 0);
    return touched.get(control) > base;
  }

  Idiomorph.defaults.callbacks.beforeNodeMorphed = (old, fresh) => {
    if (old.matches?.("[data-picks]") && old.textContent.trim() === fresh.textContent.trim()) return false; // see picks.js
    if (old.name === "idempotency_key" && fresh.name === old.name) return false; // between two clicks it is the same form
    if (!old.matches?.("input, select, textarea") || old.id !== fresh.id || old.name !== fresh.name || !unknown(old)) return true;
    kept.push(old);
    return false;
  };

  Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, element, kind) =>
    !(name === "open" && kind === "remove" && element.matches("details[id]")); // what the user opened stays open

  document.addEventListener("htmx:afterSwap", () => {
    const again = kept.filter((control) => swapping?.form === control.form);
    kept = [];
    for (const control of again) control.dispatchEvent(new Event("change", { bubbles: true }));
  });
})();

// A page that comes back from the browser's history, or is kept for several viewers, has the key of a form that was sent
// before: a new one makes the next submission a new one. (app/web/http/idempotency.py)
window.addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("input[name=idempotency_key]")) {
    field.value = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
  }
});
