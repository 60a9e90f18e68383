// What all stages share. A stage is a canvas that the page draws by itself, from arrays that Python sends once, and that
// the reader can touch. Its module imports what it needs from here (stage.py puts this file in front of it) and ends with
//
//   export default stage({ name, label, height, begin, draw, words, controls, grab, hover, key, told })
//
//   name       of the stage; its box gets the class spear-<name>
//   label      what the canvas shows, for those who do not see it
//   height     (width) → its height in CSS pixels, at most 560
//   begin      (data, value, ask, before) → the state, an object of the module's own; data from Python, value as last
//              told. ask() wants a frame, for what happens outside of the functions below; before: the state until now
//   draw       (pen, state, time) → draws one frame; true while something moves
//   words      (state) → a sentence or two that say what is seen now
//   controls   a list of `button`, `slider`, `check`, `choice`, `tabs`: all that can be done, by keyboard, too; each may
//              have `disabled` and `hidden`, functions of the state
//   grab       (state, at) → { move(at), drop(speed) } if there is something to drag at this point; else nothing
//   pan        which way a finger still scrolls the page where something can be dragged, as in CSS; by default none
//   hover      (state, at) → the pointer is there, or gone: null; true if that changes the picture
//   key        (state, key) → true if the canvas knows this key
//   told       (state) → what Python is told of it, a plain object (optional)

const STYLE = `
.spear-stage { color: var(--jp-ui-font-color1, inherit); font: 13px/1.45 system-ui, "DejaVu Sans", sans-serif; }
.spear-stage canvas { display: block; width: 100%; border-radius: 4px; }
.spear-stage canvas:focus-visible, .spear-stage :is(button, input, select):focus-visible
    { outline: 2px solid #2f7fd6; outline-offset: 2px; }
.spear-bar { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 14px; margin: 8px 0 4px; }
.spear-bar label { display: inline-flex; align-items: center; gap: 6px; min-width: 0; }
.spear-bar [hidden] { display: none; }
.spear-bar label.spear-grow { flex: 1 1 14em; }
.spear-bar input[type=range] { flex: 1 1 7em; min-width: 4em; accent-color: #2f7fd6; }
.spear-bar output { min-width: 3.5em; white-space: nowrap; font-variant-numeric: tabular-nums; }
.spear-bar :is(button, select) { font: inherit; color: inherit; cursor: pointer; padding: 3px 10px; border-radius: 4px;
    border: 1px solid color-mix(in srgb, currentColor 45%, transparent); background: transparent; }
.spear-bar select option { color: #111; background: #fff; }
.spear-bar button:hover:enabled { background: color-mix(in srgb, currentColor 12%, transparent); }
.spear-bar :disabled { opacity: .45; cursor: default; }
.spear-tabs { display: flex; flex-wrap: wrap; gap: 4px; margin: 2px 0 8px; }
.spear-tabs button { font: inherit; color: inherit; cursor: pointer; padding: 4px 12px; border-radius: 14px;
    border: 1px solid color-mix(in srgb, currentColor 30%, transparent); background: transparent; }
.spear-tabs button:hover { background: color-mix(in srgb, currentColor 12%, transparent); }
.spear-tabs button[aria-pressed=true] { background: #1f6fc0; border-color: #1f6fc0; color: #fff; font-weight: 600; }
.spear-said { margin: 4px 0 2px; min-height: 2.9em; }
.spear-heard { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
`;

export function stage(scene) {
    return {
        render({ model, el }) {
            const page = new Page(scene, model, el);
            page.begin();
            return () => page.end();
        },
    };
}

// ---------------------------------------------------------------- controls, as the page's own elements
export const button = (label, press, more = {}) => ({ kind: "button", label, press, ...more });
export const slider = (label, range, get, set, more = {}) => ({ kind: "slider", label, range, get, set, ...more });
export const check = (label, get, set, more = {}) => ({ kind: "check", label, get, set, ...more });
export const choice = (label, options, get, set, more = {}) => ({ kind: "choice", label, options, get, set, ...more });
export const tabs = (label, options, get, set) => ({ kind: "tabs", label, options, get, set, above: true });

const valueOf = (thing, state) => (typeof thing === "function" ? thing(state) : thing);

// Each returns the element to show and a function that brings it up to the state.
const ELEMENTS = {
    button(control, page) {
        const node = make("button");
        node.type = "button";
        node.addEventListener("click", () => page.change(state => control.press(state)));
        return [node, state => {
            setText(node, valueOf(control.label, state));
        }];
    },
    slider(control, page) {
        const [node, input, out] = [make("label", control.grow ? "spear-grow" : ""), make("input"), make("output")];
        input.type = "range";
        if (control.basis) node.style.flexBasis = control.basis; // of a row's width, in which it grows
        node.append(control.label, input, ...(control.text ? [out] : []));
        input.addEventListener("input", () => page.change(state => control.set(state, Number(input.value))));
        return [node, state => {
            const [low, high, step] = valueOf(control.range, state);
            const value = control.get(state), text = control.text ? control.text(state) : String(value);
            Object.assign(input, { min: low, max: high, step: step ?? 1 });
            if (Number(input.value) !== value) input.value = value;
            if (input.getAttribute("aria-valuetext") !== text) input.setAttribute("aria-valuetext", text);
            input.setAttribute("aria-label", control.label);
            setText(out, text);
        }];
    },
    check(control, page) {
        const [node, input] = [make("label"), make("input")];
        input.type = "checkbox";
        node.append(input, control.label);
        input.addEventListener("input", () => page.change(state => control.set(state, input.checked)));
        return [node, state => { input.checked = control.get(state); }];
    },
    choice(control, page) {
        const [node, select] = [make("label"), make("select")];
        for (const [text, value] of control.options) select.append(new Option(text, value));
        node.append(control.label, select);
        select.addEventListener("input", () => {
            const [, value] = control.options[select.selectedIndex];
            page.change(state => control.set(state, value));
        });
        return [node, state => {
            select.selectedIndex = control.options.findIndex(([, value]) => value === control.get(state));
        }];
    },
    tabs(control, page) {
        const node = make("div", "spear-tabs"), buttons = control.options.map(([text, value]) => {
            const tab = make("button");
            tab.type = "button";
            tab.textContent = text;
            tab.addEventListener("click", () => page.change(state => control.set(state, value)));
            node.append(tab);
            return [tab, value];
        });
        node.setAttribute("role", "group");
        node.setAttribute("aria-label", control.label);
        return [node, state => {
            for (const [tab, value] of buttons) tab.setAttribute("aria-pressed", String(value === control.get(state)));
        }];
    },
};

// ---------------------------------------------------------------- the page's side of a stage
class Page {
    constructor(scene, model, el) {
        Object.assign(this, { scene, model, frames: 0, wanted: 0, heardSoon: 0, told: "" });
        this.root = make("div", `spear-stage spear-${scene.name}`);
        this.root.stage = this; // for tests, and for whoever is curious
        this.canvas = make("canvas");
        this.above = make("div");
        this.bar = make("div", "spear-bar");
        this.said = make("p", "spear-said");
        this.heard = make("p", "spear-heard");
        this.heard.setAttribute("aria-live", "polite");
        this.status = make("p", "spear-status");
        const style = make("style");
        style.textContent = STYLE;
        this.root.append(style, this.above, this.canvas, this.bar, this.said, this.heard, this.status);
        el.append(this.root);
        this.pen = new Pen(this.canvas);
        this.ask = () => { this.wanted ||= requestAnimationFrame(time => this.paint(time)); };
        this.listen();
    }

    listen() {
        const { canvas, scene, model } = this, calm = matchMedia("(prefers-reduced-motion: reduce)");
        const dark = matchMedia("(prefers-color-scheme: dark)");
        this.pen.calm = calm.matches;
        const calmed = () => { this.pen.calm = calm.matches; this.ask(); };
        const watched = new MutationObserver(this.ask), sized = new ResizeObserver(this.ask);
        const again = () => this.begin();
        calm.addEventListener("change", calmed);
        dark.addEventListener("change", this.ask);
        watched.observe(document.documentElement, { attributes: true });
        watched.observe(document.body, { attributes: true });
        sized.observe(this.root);
        model.on("change:data", again);
        this.forget = () => {
            calm.removeEventListener("change", calmed);
            dark.removeEventListener("change", this.ask);
            watched.disconnect();
            sized.disconnect();
            model.off("change:data", again);
        };
        canvas.setAttribute("aria-label", scene.label);
        canvas.setAttribute("role", scene.key ? "application" : "img");
        if (scene.key) {
            canvas.tabIndex = 0;
            canvas.addEventListener("click", () => canvas.focus({ preventScroll: true })); // a notebook took it away
            canvas.addEventListener("keydown", event => {
                if (event.altKey || event.ctrlKey || event.metaKey) return;
                if (this.change(state => scene.key(state, event.key))) event.preventDefault();
            });
        }
        this.pointer();
    }

    pointer() {
        const { canvas, scene } = this;
        let held = null, last = null;
        const at = event => {
            const box = canvas.getBoundingClientRect();
            return { x: event.clientX - box.left, y: event.clientY - box.top, time: event.timeStamp };
        };
        canvas.style.touchAction = scene.grab ? scene.pan ?? "none" : "auto";
        canvas.addEventListener("pointerdown", event => {
            if (event.button || !this.state) return;
            held = scene.grab?.(this.state, at(event)) ?? null;
            last = at(event);
            if (held) {
                canvas.setPointerCapture(event.pointerId);
                canvas.style.cursor = "grabbing";
                this.ask();
            }
        });
        canvas.addEventListener("pointermove", event => {
            const here = at(event);
            if (held) {
                const span = Math.max(1, here.time - last.time);
                held.speed = { x: (here.x - last.x) / span, y: (here.y - last.y) / span };
                last = here;
                this.change(() => held.move?.(here));
            } else if (this.state) {
                const hit = scene.grab && event.pointerType !== "touch" && scene.grab(this.state, here, true);
                canvas.style.cursor = hit ? "grab" : "";
                if (scene.hover?.(this.state, here)) this.ask();
            }
        });
        const drop = event => {
            if (!held) return;
            const [dropped, still] = [held, event.timeStamp - last.time > 80];
            held = null;
            canvas.style.cursor = "";
            this.change(() => dropped.drop?.(still ? { x: 0, y: 0 } : dropped.speed ?? { x: 0, y: 0 }));
        };
        canvas.addEventListener("pointerup", drop);
        canvas.addEventListener("pointercancel", drop);
        canvas.addEventListener("pointerleave", () => { if (!held && scene.hover?.(this.state, null)) this.ask(); });
    }

    begin() {
        this.guard(() => {
            const data = this.model.get("data");
            if (!data || !Object.keys(data).length) return;
            this.state = this.scene.begin(arrays(data), this.model.get("value") ?? {}, this.ask, this.state);
            this.above.replaceChildren();
            this.bar.replaceChildren();
            this.refreshers = (valueOf(this.scene.controls, this.state) ?? []).map(control => {
                const [node, refresh] = ELEMENTS[control.kind](control, this);
                (control.above ? this.above : this.bar).append(node);
                const input = node.querySelector("input, select") ?? node;
                return state => {
                    refresh(state);
                    node.hidden = control.hidden?.(state) ?? false;
                    input.disabled = control.disabled?.(state) ?? false;
                };
            });
            // arrows move what is here, not the notebook; JupyterLab looks for this on the very node that has the focus
            for (const node of this.root.querySelectorAll("canvas, input, select, button")) node.dataset.lmSuppressShortcuts = "true";
            this.ask();
        });
    }

    change(act) {
        let result;
        this.guard(() => { result = act(this.state); this.ask(); });
        return result;
    }

    paint(time) {
        this.wanted = 0;
        const width = this.root.clientWidth;
        if (!this.state || !width) return;
        this.guard(() => {
            this.pen.fit(width, Math.min(560, this.scene.height(width)), this.root);
            this.said.style.minHeight = width < 520 ? "5.8em" : ""; // room for the longest words: nothing below may jump
            const more = this.scene.draw(this.pen, this.state, time);
            this.frames += 1;
            for (const refresh of this.refreshers) refresh(this.state);
            this.say(this.scene.words(this.state));
            this.tell();
            if (more) this.ask();
        });
    }

    say(words) {
        if (!setText(this.said, words)) return;
        clearTimeout(this.heardSoon); // read aloud when it has settled
        this.heardSoon = setTimeout(() => setText(this.heard, words), 700);
    }

    tell() {
        const told = this.scene.told?.(this.state);
        const text = told && JSON.stringify(told);
        if (!text || text === this.told) return;
        this.told = text;
        clearTimeout(this.tellSoon);
        this.tellSoon = setTimeout(() => { this.model.set("value", told); this.model.save_changes(); }, 40);
    }

    guard(work) {
        try {
            work();
        } catch (error) {
            this.status.textContent = `Error: ${error.message}`;
            console.error(error);
        }
    }

    end() {
        cancelAnimationFrame(this.wanted);
        clearTimeout(this.tellSoon); // a kernel that has gone takes no more news
        clearTimeout(this.heardSoon);
        this.forget();
        this.root.remove();
    }
}

export function make(tag, className = "") {
    const node = document.createElement(tag);
    if (className) node.className = className;
    return node;
}

function setText(node, text) {
    if (node.textContent === text) return false;
    node.textContent = text;
    return true;
}

// ---------------------------------------------------------------- numbers from Python
const KINDS = {
    float32: Float32Array, float64: Float64Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array,
    int32: Int32Array, uint32: Uint32Array,
};

// Arrays of `stage.packed` as typed arrays with a `shape`, wherever they stand.
export function arrays(value) {
    if (Array.isArray(value)) return value.map(arrays);
    if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
    if ("dtype" in value && "bytes" in value) {
        const view = value.bytes, Kind = KINDS[value.dtype];
        const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength); // aligned
        return Object.assign(new Kind(bytes), { shape: value.shape });
    }
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, arrays(entry)]));
}

export function dot(a, b, aStart = 0, bStart = 0, count = b.length) {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += a[aStart + i] * b[bStart + i];
    return sum;
}

// M v for a matrix M, row by row in one array with a shape, and a vector v.
export function times(matrix, vector, out = new Float64Array(matrix.shape[0])) {
    const [rows, columns] = matrix.shape;
    for (let i = 0; i < rows; i++) out[i] = dot(matrix, vector, i * columns, 0, columns);
    return out;
}

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
export const smooth = share => { const t = clamp(share, 0, 1); return t * t * (3 - 2 * t); };
export const mix = (from, to, share) => from + (to - from) * share;
export const whole = value => value.toLocaleString("en-US");

// ---------------------------------------------------------------- pictures
const bitmaps = new WeakMap();

// Picture k of an array of bytes of shape (k, H, W, 3), ready to be drawn; made once.
export function bitmap(pictures, k) {
    let made = bitmaps.get(pictures);
    if (!made) bitmaps.set(pictures, (made = new Map()));
    if (!made.has(k)) {
        const [, height, width] = pictures.shape, size = height * width * 3;
        made.set(k, fromColours(pictures.subarray(k * size, (k + 1) * size), width, height));
    }
    return made.get(k);
}

// A compressed picture (the bytes of a WebP, JPEG or PNG) as { image }, which is null until it can be drawn.
export function decoded(bytes, ask) {
    const made = { image: null };
    createImageBitmap(new Blob([bytes])).then(image => { made.image = image; ask(); });
    return made;
}

// A small canvas of colours, red, green and blue for each pixel; `onto` one that is there already.
export function fromColours(colours, width, height, onto = make("canvas")) {
    Object.assign(onto, { width, height });
    const context = onto.getContext("2d"), image = context.createImageData(width, height);
    for (let i = 0, j = 0; i < image.data.length; i += 4, j += 3) {
        image.data[i] = colours[j];
        image.data[i + 1] = colours[j + 1];
        image.data[i + 2] = colours[j + 2];
        image.data[i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    return onto;
}

// A row of n numbers as a picture, from place `start` of an array on; `look` is what `samples.developing` says of the
// data. Rows of a table are coloured squares, six in a column: blue below the mean, orange above.
export function develop(numbers, look, start = 0, onto = make("canvas")) {
    if (!look.shape) return squares(numbers, look.scale.length, start, onto);
    const [channels, height, width] = look.shape, size = height * width, colours = new Uint8ClampedArray(3 * size);
    for (let i = 0; i < size; i++) {
        for (let channel = 0; channel < 3; channel++) {
            const k = i + size * Math.min(channel, channels - 1);
            colours[3 * i + channel] = 255 * (numbers[start + k] * look.scale[k] + look.shift[k]);
        }
    }
    return fromColours(colours, width, height, onto);
}

function squares(numbers, count, start, onto) {
    const height = 6, width = Math.ceil(count / height), colours = new Uint8ClampedArray(3 * height * width).fill(255);
    for (let i = 0; i < count; i++) {
        const value = numbers[start + i] / 3, full = value < 0 ? [0, 114, 178] : [213, 94, 0];
        const share = Math.min(1, Math.abs(value)) ** 0.7;
        full.forEach((end, channel) => { colours[3 * i + channel] = mix(255, end, share); });
    }
    return fromColours(colours, width, height, onto);
}

// ---------------------------------------------------------------- drawing
const LIGHT = {
    samples: ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B07D00", "#2F93CF"],
    good: "#00835E", bad: "#C14E00", accent: "#0072B2", hot: "#D55E00",
};
const DARK = {
    samples: ["#5AA9E6", "#F58B4C", "#3CC79C", "#E3A3C6", "#F0BE4A", "#9AD8F8"],
    good: "#3CC79C", bad: "#F58B4C", accent: "#5AA9E6", hot: "#F58B4C",
};
const MARKERS = ["circle", "square", "triangle", "diamond", "wedge", "plus"];

// A canvas in CSS pixels, at the device's resolution, in the colours of the page around it.
export class Pen {
    constructor(canvas) {
        this.canvas = canvas;
        this.context = canvas.getContext("2d");
        this.calm = false; // whether the reader wants no flights
    }

    fit(width, height, node) {
        const scale = window.devicePixelRatio || 1, { canvas, context } = this;
        const [across, down] = [Math.round(width * scale), Math.round(height * scale)];
        if (canvas.width !== across || canvas.height !== down) {
            Object.assign(canvas, { width: across, height: down });
            canvas.style.height = `${height}px`;
        }
        Object.assign(this, { width, height });
        context.setTransform(scale, 0, 0, scale, 0, 0);
        context.clearRect(0, 0, width, height);
        const ink = rgb(getComputedStyle(node).color).slice(0, 3), paper = ground(node);
        const tone = (share, alpha = 1) => `rgba(${ink.map((c, i) => Math.round(mix(paper[i], c, share)))}, ${alpha})`;
        this.dark = sum(ink) > sum(paper);
        Object.assign(this, this.dark ? DARK : LIGHT, {
            paper: tone(0), ink: tone(1), soft: tone(0.72), faint: tone(0.4), grid: tone(0.13), tone,
        });
    }

    // Colour and marker of a sample: together they tell a dozen apart.
    sample(i) { return this.samples[i % this.samples.length]; }

    line(points, colour, width = 1) {
        const { context } = this;
        context.beginPath();
        points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
        Object.assign(context, { strokeStyle: colour, lineWidth: width, lineJoin: "round", lineCap: "round" });
        context.stroke();
    }

    arrow([x0, y0], [x1, y1], colour, width = 2, head = 9) {
        const angle = Math.atan2(y1 - y0, x1 - x0), { context } = this;
        this.line([[x0, y0], [x1 - Math.cos(angle) * head * 0.7, y1 - Math.sin(angle) * head * 0.7]], colour, width);
        context.beginPath();
        context.moveTo(x1, y1);
        for (const turn of [2.65, -2.65]) context.lineTo(x1 + head * Math.cos(angle + turn), y1 + head * Math.sin(angle + turn));
        context.fillStyle = colour;
        context.fill();
    }

    box(x, y, width, height, { fill, stroke, line = 1, round = 0 } = {}) {
        const { context } = this;
        context.beginPath();
        context.roundRect(x, y, width, height, round);
        if (fill) { context.fillStyle = fill; context.fill(); }
        if (stroke) { Object.assign(context, { strokeStyle: stroke, lineWidth: line }); context.stroke(); }
    }

    disc(x, y, radius, { fill, stroke, line = 1 } = {}) {
        const { context } = this;
        context.beginPath();
        context.arc(x, y, Math.max(0, radius), 0, 2 * Math.PI);
        if (fill) { context.fillStyle = fill; context.fill(); }
        if (stroke) { Object.assign(context, { strokeStyle: stroke, lineWidth: line }); context.stroke(); }
    }

    // The marker of a sample, with a rim in the page's colour.
    marker(i, x, y, radius, fill = this.sample(i)) {
        const { context } = this, kind = MARKERS[i % MARKERS.length], r = radius;
        const shapes = {
            square: [[-.85, -.85], [.85, -.85], [.85, .85], [-.85, .85]], triangle: [[0, -1.1], [1, .8], [-1, .8]],
            diamond: [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]], wedge: [[0, 1.1], [1, -.8], [-1, -.8]],
            plus: [[-.4, -1.1], [.4, -1.1], [.4, -.4], [1.1, -.4], [1.1, .4], [.4, .4], [.4, 1.1], [-.4, 1.1], [-.4, .4],
                [-1.1, .4], [-1.1, -.4], [-.4, -.4]],
        };
        context.beginPath();
        if (kind === "circle") context.arc(x, y, r, 0, 2 * Math.PI);
        else shapes[kind].forEach(([dx, dy], k) => (k ? context.lineTo(x + r * dx, y + r * dy) : context.moveTo(x + r * dx, y + r * dy)));
        context.closePath();
        Object.assign(context, { fillStyle: fill, strokeStyle: this.paper, lineWidth: 2 });
        context.stroke();
        context.fill();
    }

    text(words, x, y, { size = 13, colour = this.ink, align = "left", base = "alphabetic", bold = false, halo = false } = {}) {
        const { context } = this;
        Object.assign(context, {
            font: `${bold ? "600 " : ""}${size}px system-ui, "DejaVu Sans", sans-serif`, textAlign: align,
            textBaseline: base, fillStyle: colour,
        });
        if (halo) {
            Object.assign(context, { strokeStyle: this.paper, lineWidth: 4, lineJoin: "round" });
            context.strokeText(words, x, y);
        }
        context.fillText(words, x, y);
        return context.measureText(words).width;
    }

    // A picture enlarged without smoothing; `alpha` for what fades.
    picture(image, x, y, width, height, { alpha = 1, frame = null, line = 3 } = {}) {
        const { context } = this;
        context.save();
        Object.assign(context, { globalAlpha: alpha, imageSmoothingEnabled: image.width > width });
        context.drawImage(image, x, y, width, height);
        context.restore();
        if (frame) this.box(x - line / 2, y - line / 2, width + line, height + line, { stroke: frame, line });
    }

    // Signed numbers as bars from a line in the middle of a box; `colours(i)` of each.
    bars(values, { x, y, width, height }, limit, colours) {
        const { context } = this, step = width / values.length, middle = y + height / 2;
        for (let i = 0; i < values.length; i++) {
            const tall = clamp(values[i] / limit, -1, 1) * height / 2;
            context.fillStyle = colours(i);
            context.fillRect(x + i * step, tall >= 0 ? middle - tall : middle, Math.max(0.7, step * 0.72), Math.abs(tall));
        }
        this.line([[x, middle], [x + width, middle]], this.faint, 1);
    }
}

const sum = numbers => numbers.reduce((a, b) => a + b, 0);

// Red, green, blue and perhaps alpha of a computed colour, of whichever spelling.
export function rgb(colour) {
    const [r, g, b, ...alpha] = (colour.match(/[\d.]+/g) ?? [0, 0, 0]).map(Number), full = colour.startsWith("color(") ? 255 : 1;
    return [r * full, g * full, b * full, ...alpha];
}

// The colour behind a node: that of the first one around it that has any.
export function ground(node) {
    for (let at = node; at; at = at.parentElement) {
        const [r, g, b, alpha = 1] = rgb(getComputedStyle(at).backgroundColor);
        if (alpha > 0.5) return [r, g, b];
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [17, 17, 17] : [255, 255, 255];
}
