// Tells Python what the page around the pictures looks like: at once, and when it has changed.
import { ground, rgb } from "./stage.js";

const LATE = 400; // milliseconds after which a new theme has surely arrived

function render({ model, el }) {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const tell = () => {
        if (!el.isConnected) return;
        const paper = ground(el), sum = colour => colour[0] + colour[1] + colour[2];
        const seen = { paper, dark: sum(rgb(getComputedStyle(el).color)) > sum(paper) };
        if (JSON.stringify(seen) === JSON.stringify(model.get("seen"))) return;
        model.set("seen", seen);
        model.save_changes();
    };
    const soon = () => { requestAnimationFrame(tell); setTimeout(tell, LATE); };
    const watched = new MutationObserver(soon);
    for (const node of [document.documentElement, document.body]) watched.observe(node, { attributes: true });
    dark.addEventListener("change", soon);
    soon();
    return () => { watched.disconnect(); dark.removeEventListener("change", soon); };
}

export default { render };
