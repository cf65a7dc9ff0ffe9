// Names below a text field become buttons that add the name to the field's list, or remove it.
(() => {
  const NAMED = ["all-linear", "peft-default"]; // each stands alone
  const PATTERN = /[\\*+?[\](){}|^$]/; // as in app/web/forms/fields.py: a pattern is no list, so a name replaces it
  const names = (input) => (PATTERN.test(input.value) ? [] : input.value.split(/[\s,]+/).filter(Boolean));
  const inputOf = (group) => document.getElementById(group.dataset.picks);

  function press(group) {
    const chosen = names(inputOf(group));
    for (const button of group.children) button.setAttribute("aria-pressed", chosen.includes(button.textContent));
  }

  function pick(group, name) {
    const input = inputOf(group);
    const chosen = names(input);
    const others = NAMED.includes(name) ? [] : chosen.filter((other) => other !== name && !NAMED.includes(other));
    input.value = (chosen.includes(name) ? others : [...others, name]).join(", ");
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  function enhance() {
    for (const group of document.querySelectorAll("[data-picks]")) {
      for (const word of group.querySelectorAll("span")) {
        word.replaceWith(Object.assign(document.createElement("button"), { type: "button", textContent: word.textContent }));
      }
      press(group);
    }
  }

  document.addEventListener("click", ({ target }) => {
    const button = target.closest("[data-picks] > button");
    if (button) pick(button.parentElement, button.textContent);
  });
  document.addEventListener("change", ({ target }) => {
    if (target.id) document.querySelectorAll(`[data-picks="${CSS.escape(target.id)}"]`).forEach(press);
  });
  enhance();
  document.addEventListener("htmx:afterSwap", enhance);
})();
