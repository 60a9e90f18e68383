// One slide at a time. `n` shows the notes below it, `s` in a window of their own, which the speaker moves to the other screen.
const slides = [...document.querySelectorAll("section")];
let notes = null;
let at = 0;

function show(number) {
  at = Math.min(Math.max(number, 0), slides.length - 1);
  slides.forEach((slide, i) => slide.classList.toggle("now", i === at));
  document.getElementById("at").textContent = `${at + 1} / ${slides.length}`;
  history.replaceState(null, "", `#${at + 1}`);
  if (notes && !notes.closed) tell();
}

function tell() {
  const heading = (slide) => slide?.querySelector("h1, h2")?.textContent ?? "the end";
  const [now, next] = [notes.document.createElement("h2"), notes.document.createElement("p")];
  now.textContent = `${at + 1} · ${heading(slides[at])}`;
  next.textContent = `Next: ${heading(slides[at + 1])}`;
  const said = notes.document.createElement("div");
  said.innerHTML = slides[at].querySelector("aside").innerHTML;
  notes.document.body.replaceChildren(now, said, next);
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const to = { ArrowRight: at + 1, PageDown: at + 1, " ": at + 1, ArrowLeft: at - 1, PageUp: at - 1, Home: 0, End: slides.length };
  if (event.key in to) {
    event.preventDefault();
    show(to[event.key]);
  } else if (event.key === "n") {
    document.body.classList.toggle("notes");
  } else if (event.key === "s") {
    notes = window.open("", "notes", "width=700,height=600");
    if (!notes) return; // the browser keeps windows from opening: `n` is left
    notes.document.title = "Notes";
    notes.document.body.style.cssText = "font: 20px/1.5 sans-serif; margin: 1.5em";
    notes.onkeydown = onKey;
    tell();
  }
}

document.body.classList.add("live");
window.addEventListener("keydown", onKey);
window.addEventListener("hashchange", () => show(Number(location.hash.slice(1)) - 1 || 0));
show(Number(location.hash.slice(1)) - 1 || 0);
