// A picture before and after, with a line between that mouse, finger and arrow keys move.

/** Return the element. `what` names the result for those who do not see it. */
export function slider(before, after, what) {
  const box = document.createElement("div");
  box.className = "slider";
  const now = image(after, `Anonymized: ${what}`, "after");
  const then = image(before, "Original", "before");
  now.addEventListener("load", () => box.style.setProperty("--ratio", now.naturalWidth / now.naturalHeight));
  const line = mark("line", "");
  const range = document.createElement("input");
  Object.assign(range, { type: "range", min: 0, max: 100, value: 20 });
  range.setAttribute("aria-label", `Share of the original that is shown, ${what}`);
  const move = () => {
    box.style.setProperty("--split", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % original`);
  };
  range.addEventListener("input", move);
  move();
  box.append(now, then, mark("tag left", "Before"), mark("tag right", "After"), line, range);
  return box;
}

function image(source, alt, name) {
  const made = new Image();
  made.className = name;
  made.alt = alt;
  made.draggable = false;
  made.src = source;
  return made;
}

function mark(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  made.setAttribute("aria-hidden", "true");
  return made;
}
