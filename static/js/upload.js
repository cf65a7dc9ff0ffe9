// Files are dropped or chosen, named with their sizes, and sent with a bar that says how far they are. Without scripts
// the form is sent as any other.
(() => {
  const form = (node) => node.closest?.("[data-upload]");
  const part = (upload, name) => upload.querySelector(`[data-${name}]`);
  let request = null;

  const size = (bytes) => {
    const units = ["B", "KiB", "MiB", "GiB"];
    const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(bytes, 1)) / 10));
    const format = new Intl.NumberFormat(document.documentElement.lang, { maximumSignificantDigits: 3 });
    return `${format.format(bytes / 1024 ** power)}\u00a0${units[power]}`;
  };
  const share = (part) => new Intl.NumberFormat(document.documentElement.lang, { style: "percent" }).format(part);
  const filled = (text, values) => text.replace(/\{(\w+)\}/g, (_all, name) => values[name]);
  const total = (files) => [...files].reduce((sum, file) => sum + file.size, 0);

  function refuse(upload, text) {
    part(upload, "error").textContent = text;
    const input = upload.querySelector("input[type=file]");
    if (text) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  function tell(upload) {
    const { files } = upload.querySelector("input[type=file]");
    part(upload, "chosen").replaceChildren(
      ...[...files].map((file) => Object.assign(document.createElement("li"), { textContent: `${file.name}, ${size(file.size)}` })),
    );
    refuse(upload, tooLarge(upload, files));
  }

  const tooLarge = (upload, files) => (total(files) > Number(upload.dataset.most) ? filled(upload.dataset.tooLarge, { size: size(total(files)) }) : "");

  function sending(upload, on) {
    part(upload, "sending").hidden = part(upload, "stop").hidden = !on;
    upload.querySelector("[type=submit]").disabled = on;
    upload.querySelector("input[type=file]").disabled = on;
  }

  function send(upload) {
    const input = upload.querySelector("input[type=file]");
    const body = new FormData(upload);
    const bytes = total(input.files);
    request = new XMLHttpRequest();
    request.open("POST", upload.action);
    request.upload.addEventListener("progress", (event) => {
      const done = event.lengthComputable ? event.loaded / event.total : 0;
      upload.querySelector("progress").value = done;
      part(upload, "told").textContent = filled(upload.dataset.sent, { share: share(done), size: size(bytes) });
    });
    request.addEventListener("load", () => {
      if (request.status < 400) {
        window.location.assign(request.responseURL);
        return;
      }
      const page = new DOMParser().parseFromString(request.responseText, "text/html");
      const main = page.getElementById("main");
      if (!main) return void (sending(upload, false), refuse(upload, upload.dataset.broken));
      document.title = page.title;
      document.getElementById("main").replaceWith(main);
      window.htmx?.process(main);
      enhance();
      (document.getElementById("errors") ?? main).focus();
    });
    request.addEventListener("error", () => (sending(upload, false), refuse(upload, upload.dataset.broken)));
    request.addEventListener("abort", () => sending(upload, false));
    sending(upload, true);
    request.send(body);
  }

  // Files that are there: named, and sent at once where the form says so.
  function take(upload) {
    tell(upload);
    if (upload.hasAttribute("data-at-once")) upload.requestSubmit();
    else upload.querySelector("[type=submit]").focus();
  }

  document.addEventListener("change", (event) => {
    if (event.target.type !== "file" || !form(event.target)) return;
    if (form(event.target).hasAttribute("data-at-once")) take(form(event.target));
    else tell(form(event.target));
  });
  document.addEventListener("submit", (event) => {
    const upload = form(event.target);
    if (!upload) return;
    event.preventDefault();
    const { files } = upload.querySelector("input[type=file]");
    const why = files.length ? tooLarge(upload, files) : upload.dataset.none;
    refuse(upload, why);
    if (why) upload.querySelector("input[type=file]").focus();
    else send(upload);
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-stop]")) request?.abort();
  });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      const upload = form(event.target);
      if (!upload || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      upload.toggleAttribute("data-over", kind === "dragenter" || kind === "dragover");
      if (kind !== "drop") return;
      upload.querySelector("input[type=file]").files = event.dataTransfer.files;
      take(upload);
    });
  }

  window.addEventListener("pageshow", (event) => {
    if (event.persisted) for (const upload of document.querySelectorAll("[data-upload]")) sending(upload, false);
  });

  const enhance = () => {
    for (const words of document.querySelectorAll("[data-upload] [data-scripted]")) words.hidden = false;
    for (const button of document.querySelectorAll("[data-at-once] [type=submit]")) button.hidden = true;
  };
  enhance();
})();
