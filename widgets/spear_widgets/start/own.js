// A zone where a picture is dropped or chosen. The file goes to the kernel as a message; the widget's state holds its name only.
const STYLE = `
.spear-own { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 10px; padding: 6px 10px; margin: 4px 0; border-radius: 4px;
    border: 1.5px dashed color-mix(in srgb, currentColor 45%, transparent); color: var(--jp-ui-font-color1, inherit);
    font: 13px/1.45 system-ui, "DejaVu Sans", sans-serif; }
.spear-own.spear-over { border-color: #2f7fd6; background: color-mix(in srgb, #2f7fd6 14%, transparent); }
.spear-own button { font: inherit; color: inherit; cursor: pointer; padding: 3px 10px; border-radius: 4px; background: transparent;
    border: 1px solid color-mix(in srgb, currentColor 45%, transparent); }
.spear-own button:hover { background: color-mix(in srgb, currentColor 12%, transparent); }
.spear-own button:focus-visible { outline: 2px solid #2f7fd6; outline-offset: 2px; }
.spear-own small { font-size: 12px; opacity: .85; }
`;

function render({ model, el }) {
    const add = (tag, parent, text = "") => parent.appendChild(Object.assign(document.createElement(tag), { textContent: text }));
    const zone = add("div", el), style = add("style", zone, STYLE), words = add("span", zone);
    zone.className = "spear-own";
    const choose = add("button", zone, "Choose a picture …"), without = add("button", zone, "Take it out again");
    add("small", zone, "It goes to this notebook's kernel and nowhere else.");
    const input = Object.assign(document.createElement("input"), { type: "file", accept: "image/*", hidden: true });
    input.setAttribute("aria-label", "a picture of your own");
    style.after(input);

    const show = () => {
        const name = model.get("name");
        words.textContent = name ? `“${name}” is sample 1.` : "A picture of your own: drop it here, or";
        without.hidden = !name;
    };
    // Too large a message would break the connection to the kernel: such a file stays here, and the kernel says so.
    const send = async file => {
        if (!file) return;
        const whole = file.size <= model.get("most");
        model.send({ name: file.name || "picture", size: file.size }, undefined, whole ? [await file.arrayBuffer()] : []);
    };
    choose.addEventListener("click", () => input.click());
    without.addEventListener("click", () => { model.send({ name: "", size: 0 }); choose.focus(); });
    input.addEventListener("change", () => { send(input.files[0]); input.value = ""; });
    const over = on => event => { event.preventDefault(); event.stopPropagation(); zone.classList.toggle("spear-over", on); };
    for (const kind of ["dragenter", "dragover"]) zone.addEventListener(kind, over(true));
    zone.addEventListener("dragleave", over(false));
    zone.addEventListener("drop", event => { over(false)(event); send(event.dataTransfer.files[0]); });
    model.on("change:name", show);
    show();
    return () => model.off("change:name", show);
}

export default { render };
