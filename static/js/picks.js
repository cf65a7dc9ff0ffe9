// Names below a text field become buttons that put the name into the field's list, or take it out again.
(() => {
  const ALL = "all-linear";
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
    const others = name === ALL ? [] : chosen.filter((other) => other !== name && other !== ALL);
    input.value = (chosen.includes(name) ? others : [...others, name]).join(", ");
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  function enhance() {
    for (const group of document.querySelectorAll("[data-picks]:has(> span)")) {
      for (const word of group.querySelectorAll("span")) {
        const button = Object.assign(document.createElement("button"), { type: "button", textContent: word.textContent });
        button.addEventListener("click", () => pick(group, button.textContent));
        word.replaceWith(button);
      }
      inputOf(group).addEventListener("change", () => press(group));
      press(group);
    }
  }

  enhance();
  document.addEventListener("htmx:afterSwap", enhance);
})();
