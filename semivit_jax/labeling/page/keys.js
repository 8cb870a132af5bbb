// Which keys are the page's own, and which are those of the part that has the focus.

const LETTER = /^\p{L}$/u;

// always, single, withCtrl: key -> what it does; single ones can be turned off. digit(number): of 1 to 9.
export function listenToKeys({ always, single, withCtrl, digit }) {
  const singleKeys = document.getElementById("single-keys");
  const written = document.getElementById("written");

  function ofSingle(key) {
    if (!singleKeys.checked) return undefined;
    if (/^[1-9]$/.test(key)) return () => digit(Number(key));
    if (LETTER.test(key)) written.focus(); // where the letter is then written
    return single[key];
  }

  document.addEventListener("keydown", (event) => {
    const on = event.target;
    if (on.closest("input:not([type=range]):not([type=checkbox]), select, dialog") || event.altKey) return;
    if (on.closest("button, a, input") && ["Enter", " "].includes(event.key)) return;
    if (on.type === "range" && event.key.startsWith("Arrow")) return;
    const action = event.ctrlKey || event.metaKey ? withCtrl[event.key] : always[event.key] ?? ofSingle(event.key);
    if (!action) return;
    event.preventDefault();
    action(event);
  });
}
