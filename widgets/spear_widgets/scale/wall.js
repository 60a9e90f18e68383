// A recorded run as a wall: 256 mixtures, each of which turns into a photograph at the time at which the search found it.
//
// Data (benchmarks/wall.py): `b`, `side` of a photograph; seconds of the `split`, of each of the `rounds` with how many were
// found by then, and of the `end`; by place when `found`, its `psnr`, whether `certified`; `sheets` of tiles, `columns` in a
// row: mixtures, photographs, and at full size those of the places `large`. `at` is the time to begin with.
import { button, choice, clamp, decoded, make, mix, slider, smooth, stage } from "../kit/stage.js";

const SPEEDS = [["¼ of real time", 0.25], ["real time", 1], ["4 × real time", 4]];
const FADE = 0.45, GLOW = 1.1; // seconds on the reader's clock
const GAP = 1; // pixels between tiles

function begin(data, value, ask) {
    const sheets = Object.fromEntries(Object.entries(data.sheets).map(([name, bytes]) => [name, decoded(bytes, ask)]));
    const first = data.large.reduce((a, b) => (data.found[a] <= data.found[b] ? a : b));
    return { ...data, sheets, t: data.at, tile: first, touched: false, playing: false, speed: 1, time: 0, laid: {} };
}

// ---------------------------------------------------------------- what the record says
const isFound = (state, k, t = state.t) => state.found[k] !== null && state.found[k] <= t;
const foundAt = (state, t) => state.found.filter(seconds => seconds !== null && seconds <= t).length;
const proven = state => (state.t >= state.end ? state.certified.filter(Boolean).length : 0);
const seconds = value => `${value.toFixed(2)} s`;

function phase(state) {
    if (state.t < state.split) return "splitting the gradient: G = L R";
    const done = state.rounds.filter(([when]) => when <= state.t).length;
    if (done < state.rounds.length) return `search, round ${done + 1}`;
    return state.t < state.end ? "certificate: proving" : "done";
}

// ---------------------------------------------------------------- where things are
const wide = width => width >= 620;
const height = width => (wide(width) ? clamp(width * 0.58, 470, 556) : 556);

function places({ width, height: tall }, b) {
    const top = 32, line = { x: 8, y: tall - 62, width: width - 16, height: 40 };
    const panel = wide(width) ? clamp(width * 0.26, 190, 250) : 0;
    const box = { width: width - (panel ? panel + 18 : 0), height: line.y - top - (panel ? 18 : 176) };
    let side = 0, columns = 1;
    for (let c = 1; c <= b; c++) {
        const fits = Math.floor(Math.min(box.width / c, box.height / Math.ceil(b / c))); // whole pixels stay sharp
        if (fits > side) [side, columns] = [fits, c];
    }
    const wall = { x: 0, y: top, side, columns, rows: Math.ceil(b / columns) };
    if (!panel) wall.x = Math.round((width - side * columns) / 2);
    const big = panel ? Math.min(224, panel) : 146;
    return { wall, line, big: panel ? { x: width - panel, y: top, side: big } : { x: 4, y: top + wall.rows * side + 10, side: big }, narrow: !panel };
}

const corner = ({ wall }, k) => [wall.x + (k % wall.columns) * wall.side, wall.y + Math.floor(k / wall.columns) * wall.side];

// ---------------------------------------------------------------- drawing
function draw(pen, state, time) {
    const passed = clamp((time - state.time) / 1000, 0, 0.1), { sheets } = state;
    state.time = time;
    if (state.playing) {
        state.t = Math.min(state.end + GLOW * state.speed, state.t + passed * state.speed);
        if (state.t >= state.end + GLOW * state.speed) Object.assign(state, { playing: false, t: state.end });
    }
    const at = (state.at = places(pen, state.b)), ready = Object.values(sheets).every(({ image }) => image);
    drawHeading(pen, state);
    if (ready) {
        for (let k = 0; k < state.b; k++) drawTile(pen, state, at, k);
        drawChosen(pen, state, at);
        drawBig(pen, state, at);
    }
    drawLine(pen, state, at.line);
    return state.playing || !ready;
}

function drawHeading(pen, state) {
    const end = pen.width - 2, narrow = !wide(pen.width);
    const used = pen.text(`${foundAt(state, state.t)} of ${state.b}`, 2, 20, { bold: true, size: 19 });
    const words = proven(state) ? `found, ${proven(state)} proven` : narrow ? "found" : "photographs found";
    pen.text(words, used + 10, 20, { size: 14, colour: proven(state) ? pen.good : pen.soft, bold: proven(state) > 0 });
    const clock = pen.text(seconds(Math.min(state.t, state.end)), end, 20, { bold: true, size: 19, align: "right" });
    if (!narrow) pen.text(phase(state), end - clock - 14, 20, { size: 13, colour: pen.soft, align: "right" });
}

// A tile of a sheet, whatever the size of its tiles.
function put({ context }, state, name, k, x, y, side) {
    const { image } = state.sheets[name], own = image.width / state.columns;
    context.drawImage(image, (k % state.columns) * own, Math.floor(k / state.columns) * own, own, own, x, y, side, side);
}

// All tiles of a sheet in the wall's own size, drawn once: frames only copy from it.
function laid(pen, state, name, { wall }) {
    const scale = pen.canvas.width / pen.width, own = state.sheets[name].image.width / state.columns, known = state.laid[name];
    if (known?.columns === wall.columns && known.side === wall.side && known.scale === scale) return known;
    const sheet = make("canvas"), context = Object.assign(sheet, { width: wall.columns * wall.side * scale, height: wall.rows * wall.side * scale }).getContext("2d");
    context.scale(scale, scale);
    for (let k = 0; k < state.b; k++) {
        const from = [(k % state.columns) * own, Math.floor(k / state.columns) * own], to = corner({ wall: { ...wall, x: 0, y: 0 } }, k);
        context.drawImage(state.sheets[name].image, ...from, own, own, ...to, wall.side - GAP, wall.side - GAP);
    }
    return (state.laid[name] = { sheet, columns: wall.columns, side: wall.side, scale });
}

function copy({ context }, { sheet, scale }, { wall }, k, alpha) {
    const [x, y] = corner({ wall }, k), side = wall.side - GAP;
    context.globalAlpha = alpha;
    context.drawImage(sheet, (x - wall.x) * scale, (y - wall.y) * scale, side * scale, side * scale, x, y, side, side);
    context.globalAlpha = 1;
}

function drawTile(pen, state, at, k) {
    const [x, y] = corner(at, k), side = at.wall.side - GAP, since = state.t - (state.found[k] ?? Infinity);
    const passed = pen.calm || !state.playing ? Infinity : since / state.speed; // a flight of the page's own
    const share = since < 0 ? 0 : smooth(passed / FADE), there = smooth(0.25 + 0.75 * (state.t / state.split) ** 3);
    if (share < 1) copy(pen, laid(pen, state, "mixtures", at), at, k, there);
    if (share > 0) copy(pen, laid(pen, state, "photographs", at), at, k, share);
    const glow = since < 0 ? 0 : 1 - passed / GLOW;
    if (glow > 0) pen.box(x - 1, y - 1, side + 2, side + 2, { stroke: pen.tone(1, glow), line: 3 * glow });
    if (state.t >= state.end && share > 0) drawSeal(pen, x, y, side, state.certified[k]);
}

// What is proven has a tick in its corner, what is not a bar across.
function drawSeal(pen, x, y, side, holds) {
    const r = clamp(side * 0.11, 2, 5), cx = x + side - r - 1, cy = y + side - r - 1;
    if (!holds) { pen.line([[x, y + side], [x + side, y]], pen.bad, 2.5); return; }
    pen.disc(cx, cy, r, { fill: pen.good, stroke: pen.paper });
    if (r > 4) pen.line([[cx - r * 0.5, cy], [cx - r * 0.1, cy + r * 0.42], [cx + r * 0.52, cy - r * 0.42]], pen.paper, 1.5);
}

function drawChosen(pen, state, at) {
    const [x, y] = corner(at, state.tile), side = at.wall.side - GAP;
    pen.box(x - 1.5, y - 1.5, side + 3, side + 3, { stroke: pen.paper, line: 5 });
    pen.box(x - 1.5, y - 1.5, side + 3, side + 3, { stroke: pen.hot, line: 3 });
}

function drawBig(pen, state, at) {
    const { x, y, side } = at.big, k = state.tile, found = isFound(state, k), kept = state.large.indexOf(k);
    if (!found) put(pen, state, "mixtures", k, x, y, side);
    else if (kept >= 0) put(pen, state, "large", kept, x, y, side);
    else put(pen, state, "photographs", k, x, y, side);
    pen.box(x, y, side, side, { stroke: pen.faint });
    const [left, top] = at.narrow ? [x + side + 12, y + 14] : [x, y + side + 22];
    about(state, k).forEach(([words, style], i) => {
        pen.text(words, left, top + 20 * i, { size: 13, bold: i === 0, colour: { good: pen.good, bad: pen.bad, soft: pen.soft }[style] ?? pen.ink });
    });
}

// What is said of a tile, line by line.
function about(state, k) {
    if (!isFound(state, k)) return [[`row ${k + 1} of R`], [`a mixture of all ${state.b} photographs`, "soft"], ["not found yet", "soft"]];
    const kept = state.large.includes(k), seal = state.t < state.end ? ["not proven yet", "soft"]
        : state.certified[k] ? [`✓ proven after ${seconds(state.end)}`, "good"] : ["not proven: may be wrong", "bad"];
    return [
        [`photograph ${k + 1}`], [`found after ${seconds(state.found[k])}`], [`${Math.round(state.psnr[k])} dB at ${state.side} × ${state.side}`], seal,
        [kept ? "shown at its full size" : "kept here at 64 × 64", "soft"],
    ];
}

// The clock as a line: how many were found by when, and what the server was doing.
function drawLine(pen, state, { x, y, width, height: tall }) {
    const across = t => x + width * clamp(t / state.end, 0, 1), up = count => y + tall * (1 - count / state.b);
    const steps = [[x, y + tall]];
    let before = 0;
    for (const [when, count] of [...state.rounds, [state.end, foundAt(state, state.end)]]) {
        steps.push([across(when), up(before)], [across(when), up(count)]);
        before = count;
    }
    pen.text(wide(pen.width) ? "photographs found by then" : "found by then", x, y + 14, { size: 12, colour: pen.soft });
    const { context } = pen;
    context.beginPath();
    steps.forEach(([px, py], i) => (i ? context.lineTo(px, py) : context.moveTo(px, py)));
    context.lineTo(x + width, y + tall);
    context.fillStyle = pen.tone(1, 0.1);
    context.fill();
    pen.line(steps, pen.accent, 1.5);
    pen.line([[x, y + tall], [x + width, y + tall]], pen.grid, 6);
    const head = across(state.t), last = state.rounds.at(-1)[0];
    pen.line([[x, y + tall], [head, y + tall]], pen.accent, 6);
    for (const t of [state.split, last]) pen.line([[across(t), y + 4], [across(t), y + tall + 6]], pen.faint);
    const parts = [[0, state.split, "split G = L R"], [state.split, last, wide(pen.width) ? "search, round by round" : "search"], [last, state.end, "proof"]];
    for (const [from, to, words] of parts) {
        pen.text(words, mix(across(from), across(to), 0.5), y + tall + 18, { size: 12, colour: pen.soft, align: "center" });
    }
    pen.line([[head, y - 2], [head, y + tall]], pen.ink, 1.5);
    pen.disc(head, y + tall, 7, { fill: pen.ink, stroke: pen.paper, line: 2 });
}

// ---------------------------------------------------------------- touching
function tileAt(state, { x, y }) {
    const { wall } = state.at ?? {};
    if (!wall) return -1;
    const column = Math.floor((x - wall.x) / wall.side), row = Math.floor((y - wall.y) / wall.side), k = row * wall.columns + column;
    return column >= 0 && column < wall.columns && row >= 0 && k < state.b ? k : -1;
}

function point(state, at) {
    const k = at ? tileAt(state, at) : -1;
    if (k < 0 || k === state.tile) return false;
    Object.assign(state, { tile: k, touched: true });
    return true;
}

const scrub = (state, t) => Object.assign(state, { t: clamp(t, 0, state.end), playing: false });

function grab(state, at, asked) {
    if (!state.at) return null;
    const { line } = state.at;
    if (at.y > line.y - 6) {
        const move = to => scrub(state, ((to.x - line.x) / line.width) * state.end);
        return { move };
    }
    if (asked || tileAt(state, at) < 0) return null;
    point(state, at);
    return { move: to => point(state, to) };
}

function play(state) {
    if (!state.playing && state.t >= state.end) state.t = state.split;
    state.playing = !state.playing;
    if (!state.playing) state.t = Math.min(state.t, state.end);
}

// To the next moment at which something happened, or the one before.
function jump(state, by) {
    const moments = [0, state.split, ...state.rounds.map(([t]) => t), state.end].filter(t => (by > 0 ? t > state.t : t < state.t));
    if (moments.length) scrub(state, by > 0 ? Math.min(...moments) : Math.max(...moments));
}

const nextLarge = state => Object.assign(state, { tile: state.large.find(k => k > state.tile) ?? state.large[0], touched: true });

function key(state, name) {
    const columns = state.at?.wall.columns ?? 1, step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[name];
    if (step) {
        const k = state.tile + step;
        if (k >= 0 && k < state.b) Object.assign(state, { tile: k, touched: true });
        return true;
    }
    const acts = {
        " ": () => play(state), PageDown: () => jump(state, 1), PageUp: () => jump(state, -1), Home: () => scrub(state, 0),
        End: () => scrub(state, state.end),
    };
    acts[name]?.();
    return name in acts;
}

const ORDER = "Each stands in its place in the client's batch; the row of R that stood there had to do with all of them alike.";

function words(state) {
    const found = foundAt(state, state.t), clock = `After ${seconds(Math.min(state.t, state.end))}`, tile = about(state, state.tile).map(([said]) => said);
    const chosen = state.touched ? ` Tile ${state.tile + 1}: ${tile.slice(0, 4).join(", ")}.` : "";
    if (state.playing && state.t < state.end) return "The recorded run, by its own clock: processor seconds of one thread.";
    if (!found) return `${clock}: ${phase(state)}. Every tile is one of the ${state.b} rows of R, a mixture of all photographs. Play, or drag the clock below.${chosen}`;
    if (state.t < state.end) return `${clock}: ${found} of ${state.b} photographs found, none proven yet.${chosen}`;
    return `${clock}: ${found} of ${state.b} photographs found, ${proven(state)} proven, from one gradient. ${chosen ? chosen.trim() : ORDER}`;
}

export default stage({
    name: "wall-stage",
    label: "A wall of 256 tiles that turn from mixtures into photographs, one of them at full size beside it, and the clock of the run below. Arrow keys move from tile to tile.",
    height, begin, draw, words, grab, key,
    pan: "pan-y",
    hover: point,
    controls: [
        button(state => (state.playing ? "Pause" : "Play"), play),
        slider("clock", state => [0, state.end, 0.01], state => Math.min(state.t, state.end), scrub, { grow: true, text: state => seconds(Math.min(state.t, state.end)) }),
        choice("speed", SPEEDS, state => state.speed, (state, value) => { state.speed = value; }),
        button("Next round", state => jump(state, 1)),
        button("Next at full size", nextLarge),
    ],
    told: state => ({ seconds: Math.min(state.t, state.end), tile: state.tile, found: foundAt(state, state.t), proven: proven(state) }),
});
