// What a browser with JavaScript gets on top: buttons that copy, and on a narrow screen a navigation
// that shows where one is. Every page works without.
"use strict";

document.querySelector(".side [aria-current]")
  ?.scrollIntoView({ block: "nearest", inline: "center" });

for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) break;
  const source = document.getElementById(button.dataset.copy);
  if (!source) continue;
  const label = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}
