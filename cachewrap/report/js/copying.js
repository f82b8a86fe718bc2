// What a button did, told aloud; text that is copied as it is seen.

let speaking = null;

/** Says to those who listen what a button did. */
function tell(words) {
  speaking ??= document.body.appendChild(el("p", { class: "hidden", "aria-live": "polite" }));
  speaking.textContent = words;
}

async function copy(text, button) {
  const name = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "hidden", "aria-hidden": "true", tabindex: -1 });
    area.value = text;
    button.after(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = "Copied";
  tell("Copied");
  setTimeout(() => (button.textContent = name), 1500);
}

/** Code as it was written, with a button that copies what is seen. */
function code(text, language = "", label = "Code") {
  const inside = say(el("code", {}), text.replace(/\n$/, ""));
  const name = language ? stored("span", language, { class: "language" }) : null;
  const button = el("button", { type: "button", class: "quiet copy", onclick: () => copy(inside.textContent, button) }, "Copy");
  return el("div", { class: language ? "code" : "code bare" }, el("div", { class: "code-head" }, name, button),
    el("pre", { tabindex: 0, role: "region", "aria-label": label, dir: "ltr" }, inside));
}
