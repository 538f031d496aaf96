"use strict";
// Commands can be selected without this; it adds a button that copies one.
for (const box of document.querySelectorAll(".command")) {
  const button = document.createElement("button");
  const said = document.createElement("span");
  const code = box.querySelector("code");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy the command " + code.textContent.slice(0, 80));
  said.setAttribute("role", "status");
  const select = () => {
    const range = document.createRange();
    range.selectNodeContents(code);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  button.addEventListener("click", async () => {
    let done = true;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      select();
      done = document.execCommand("copy");
    }
    said.textContent = done ? "copied" : "selected";
    setTimeout(() => { said.textContent = ""; }, 3000);
  });
  box.append(button, said);
}
