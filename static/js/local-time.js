// Times are written in the server's zone; a reader's own zone is known here only.
(() => {
  const language = document.documentElement.lang;
  const year = new Date().getFullYear();
  const day = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

  const two = (number) => String(number).padStart(2, "0");
  const part = (parts, type) => parts.find((p) => p.type === type)?.value ?? "";
  const when = (date) => {
    if (language === "bg") {
      const years = date.getFullYear() === year ? "" : `.${date.getFullYear()}`;
      return `${two(date.getDate())}.${two(date.getMonth() + 1)}${years}, ${two(date.getHours())}:${two(date.getMinutes())}`;
    }
    const p = day.formatToParts(date);
    const years = date.getFullYear() === year ? "" : ` ${date.getFullYear()}`;
    return `${part(p, "day")} ${part(p, "month")}${years} ${part(p, "hour")}:${part(p, "minute")}`;
  };

  const localise = (root) => {
    for (const time of root.querySelectorAll("time[data-show]")) {
      const date = new Date(time.dateTime);
      time.textContent = time.dataset.show === "clock" ? clock.format(date) : when(date);
    }
  };

  localise(document);
  document.addEventListener("htmx:afterSwap", (event) => localise(event.target));
})();
