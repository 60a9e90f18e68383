// The full run in three bands: the private batch, the gradient that is sent, and what was computed from it; beside them the
// chosen sample, private and recovered.
//
// Data: `private` and, in the places of the private ones, `recovered` pictures (b, H, W, 3) as bytes; `corner` of the gradient,
// −127 to 127, and `size` of the whole; `phase` of the attack: waiting, running, refused, done or, for a result that has just
// come, fresh; `prompt`, said in place of a result; `claims`, what is proven of each: sample, mean, nothing or missing; `names`
// of the samples; `said` of each in words; of pictures, `differences` (b, H, W, 3) around grey how often they are `magnified`;
// else `table`: names of `columns` and their numbers as texts, `private` and `recovered` (b, n); `chosen`.
import { bitmap, clamp, fromColours, mix, slider, smooth, stage, whole } from "../kit/stage.js";

const MARKS = {
    sample: ["✓", "proven", "one sample of the batch, to rounding"],
    mean: ["?", "one sample or a mean", "one sample of the batch, or a mean of several"],
    nothing: ["?", "not proven", "take it for a guess"],
    missing: ["–", "missing", "did not come back"],
};
const SHINE = 1400; // milliseconds that a sheen takes across what is not there yet
const RISE = 900; // milliseconds in which recovered pictures appear

const begin = (data, value) => ({ ...data, chosen: value.chosen ?? data.chosen, began: performance.now(), there: data.phase === "done" || data.phase === "fresh" });

const colourOf = (pen, claim) => (claim === "sample" ? pen.good : claim === "missing" ? pen.faint : pen.bad);

// ---------------------------------------------------------------- where things are
const HEAD = 24, STRIP = 48, LEGEND = 26, GAP = 8;
const wide = width => width >= 620;
const height = width => (wide(width) ? 430 : 560);

// Squares in a box: in few lines, unless more lines make them clearly larger.
function grid(count, { x, y, width, height: tall }) {
    let best = { side: 0 };
    for (let across = count; across >= 1; across--) {
        const side = Math.min((width + GAP) / across, (tall + GAP) / Math.ceil(count / across), 112 + GAP) - GAP;
        if (side > 1.15 * best.side) best = { side, across };
    }
    const step = best.side + GAP;
    return { ...best, cells: Array.from({ length: count }, (_, i) => ({ x: x + (i % best.across) * step, y: y + Math.floor(i / best.across) * step })) };
}

function places({ width, height: tall }, state) {
    const aside = wide(width) ? Math.min(380, width * 0.36) : 0, below = aside ? 0 : 176, count = state.names.length;
    const across = width - aside - (aside ? 32 : 8), room = (tall - below - 3 * HEAD - STRIP - LEGEND - 20) / 2;
    const own = grid(count, { x: 4, y: HEAD, width: across, height: room }), used = Math.ceil(count / own.across) * (own.side + GAP);
    const sent = HEAD + used + HEAD, strip = tall - below - LEGEND - 8 - used - HEAD - sent, back = sent + strip + HEAD + 4;
    return {
        private: own,
        sent: { x: 4, y: sent, width: across, height: strip },
        recovered: grid(count, { x: 4, y: back, width: across, height: room }),
        legend: { x: 4, y: tall - below - 8 },
        detail: aside ? { x: width - aside, y: 0, width: aside - 4, height: tall } : { x: 4, y: tall - below, width: width - 8, height: below },
    };
}

// ---------------------------------------------------------------- drawing
function draw(pen, state, time) {
    const at = (state.at = places(pen, state)), small = !wide(pen.width), rise = state.phase === "fresh" && !pen.calm;
    const share = i => (rise ? smooth((time - state.began - i * 40) / RISE) : 1);
    const rows = state.table ? ", a row of the table each" : "";
    heading(pen, at.private.cells[0], `private: ${small ? "stays with the client" : `the batch never leaves the client${rows}`}`);
    at.private.cells.forEach((cell, i) => pen.picture(bitmap(state.private, i), cell.x, cell.y, at.private.side, at.private.side));
    const [m, n] = state.size.map(whole);
    heading(pen, at.sent, small ? `sent: a gradient, ${m} × ${n} numbers` : `sent: the gradient of the first layer, ${m} × ${n} numbers (a corner)`);
    pen.picture(noise(pen, state), at.sent.x, at.sent.y, at.sent.width, at.sent.height);
    heading(pen, at.recovered.cells[0], small ? "computed from the gradient" : "computed from the gradient alone");
    at.recovered.cells.forEach((cell, i) => {
        if (state.there) drawRecovered(pen, state, i, cell, at.recovered.side, share(i));
        else drawEmpty(pen, state, cell, at.recovered.side, time);
    });
    drawLegend(pen, state, at.legend);
    for (const { cells, side } of [at.private, at.recovered]) {
        const { x, y } = cells[state.chosen];
        pen.box(x - 3.5, y - 3.5, side + 7, side + 7, { stroke: pen.ink, line: 1.5, round: 4 });
    }
    drawDetail(pen, state, at.detail);
    const last = RISE + 40 * state.names.length;
    return (state.phase === "running" && !pen.calm) || (rise && time - state.began < last);
}

const heading = (pen, { x, y }, words) => pen.text(words, x, y - 8, { size: 13, bold: true });

function drawRecovered(pen, state, i, { x, y }, side, share) {
    const claim = state.claims[i], colour = colourOf(pen, claim);
    if (claim === "missing") return pen.box(x + 0.5, y + 0.5, side - 1, side - 1, { stroke: pen.faint });
    pen.picture(bitmap(state.recovered, i), x, y, side, side, { alpha: share, frame: share > 0.9 ? colour : null, line: 2 });
    const radius = clamp(side * 0.16, 7, 11);
    if (share > 0.9) badge(pen, x + side - radius + 3, y + side - radius + 3, radius, claim);
    return undefined;
}

function badge(pen, x, y, radius, claim) {
    pen.disc(x, y, radius, { fill: colourOf(pen, claim), stroke: pen.paper, line: 1.5 });
    pen.text(MARKS[claim][0], x, y + 0.5, { size: radius * 1.5, bold: true, colour: pen.paper, align: "center", base: "middle" });
}

function drawEmpty(pen, state, { x, y }, side, time) {
    pen.box(x + 0.5, y + 0.5, side - 1, side - 1, { fill: pen.tone(0.04), stroke: pen.grid });
    if (state.phase !== "running" || pen.calm) return;
    const wave = ((time - state.began) / SHINE - x / 900) % 1;
    pen.box(x + 1, y + 1, side - 2, side - 2, { fill: pen.tone(0.5, 0.22 * Math.sin(Math.PI * (wave < 0 ? wave + 1 : wave)) ** 2) });
}

// The corner of the gradient in colours on the page's own ground; made once for each theme.
function noise(pen, state) {
    if (state.noise?.dark === pen.dark) return state.noise.picture;
    const [rows, columns] = state.corner.shape, colours = new Uint8ClampedArray(3 * rows * columns), paper = pen.dark ? 24 : 255;
    state.corner.forEach((entry, i) => {
        const full = entry < 0 ? [0, 114, 178] : [213, 94, 0], share = (Math.abs(entry) / 127) ** 0.7;
        full.forEach((end, channel) => { colours[3 * i + channel] = mix(paper, end, share); });
    });
    state.noise = { dark: pen.dark, picture: fromColours(colours, columns, rows) };
    return state.noise.picture;
}

function drawLegend(pen, state, { x, y }) {
    if (!state.there) return pen.text(state.prompt, x, y, { colour: pen.soft });
    for (const [claim, [, name]] of Object.entries(MARKS)) {
        const count = state.claims.filter(each => each === claim).length;
        if (!count) continue;
        badge(pen, x + 8, y - 5, 8, claim);
        x += 22 + pen.text(`${name}: ${count} of ${state.names.length}`, x + 22, y, { size: 13 }) + 18;
    }
    return undefined;
}

// ---------------------------------------------------------------- the chosen sample
function drawDetail(pen, state, box) {
    if (wide(pen.width)) pen.line([[box.x - 14, 6], [box.x - 14, box.height - 6]], pen.grid);
    else pen.line([[box.x, box.y], [box.x + box.width, box.y]], pen.grid);
    const top = box.y + (wide(pen.width) ? 16 : 20), claim = state.there ? state.claims[state.chosen] : null;
    pen.text(state.names[state.chosen], box.x, top, { bold: true, size: 14 });
    if (claim) drawClaim(pen, box, top, claim);
    (state.table ? drawTable : drawPair)(pen, state, { ...box, y: top + 30, height: box.y + box.height - top - 30 }, claim);
}

function drawClaim(pen, { x, width }, y, claim) {
    const [mark, name] = MARKS[claim];
    pen.text(`${mark} ${name}`, x + width, y, { bold: true, size: 14, colour: colourOf(pen, claim), align: "right" });
}

// Private, recovered, and what is between them: below each other or, where there is less room, side by side.
function drawPair(pen, state, { x, y, width, height: tall }, claim) {
    const side = Math.min((width - 12) / 2, wide(pen.width) ? (tall - 66) / 2 : Math.min((width - 24) / 3, tall - 22)), { chosen } = state;
    const right = x + side + 12, back = claim && claim !== "missing", last = wide(pen.width) ? { x, y: y + side + 36 } : { x: right + side + 12, y };
    const show = (title, picture, left, top, frame) => {
        pen.text(title, left, top, { size: 12, colour: pen.soft });
        if (picture) pen.picture(picture, left, top + 8, side, side, { frame, line: 2 });
        else pen.box(left + 0.5, top + 8.5, side - 1, side - 1, { stroke: pen.faint });
    };
    show("private", bitmap(state.private, chosen), x, y);
    show("recovered", back && bitmap(state.recovered, chosen), right, y, back && colourOf(pen, claim));
    if (!back) return;
    const often = state.magnified[chosen];
    show(wide(pen.width) ? "difference" : often ? `× ${often}` : "no difference", bitmap(state.differences, chosen), last.x, last.y);
    if (!wide(pen.width)) return;
    const lines = [...(often ? ["magnified", `${often} times`] : ["none: equal", "in every bit"]), "", ...MARKS[claim][2].split(", ")];
    lines.forEach((line, i) => pen.text(line, right, last.y + 22 + 17 * i, { size: 12 }));
}

// As many columns as there is room for: private beside recovered, with a tick where their digits are the same.
function drawTable(pen, state, { x, y, width, height: tall }, claim) {
    const { columns, private: own, recovered } = state.table, line = 19, count = Math.min(columns.length, Math.floor((tall - 18) / line));
    const tick = x + width - 8, second = tick - 18, first = second - Math.min(86, width * 0.25), small = { size: 12, colour: pen.soft };
    pen.text(count < columns.length ? `${count} of ${columns.length} columns` : "column", x, y, small);
    pen.text("private", first, y, { ...small, align: "right" });
    pen.text("recovered", second, y, { ...small, align: "right" });
    for (let k = 0; k < count; k++) {
        const down = y + line * (k + 1), [truth, found] = [own[state.chosen][k], claim && recovered[state.chosen][k]];
        pen.line([[x, down + 5], [x + width, down + 5]], pen.grid);
        pen.text(columns[k], x, down, { size: 13 });
        pen.text(truth, first, down, { size: 13, align: "right" });
        if (!found) continue;
        pen.text(found, second, down, { size: 13, align: "right", colour: found === truth ? pen.ink : pen.bad });
        if (found === truth) pen.text("✓", tick, down, { size: 13, align: "center" });
    }
}

// ---------------------------------------------------------------- touching
function under(state, { x, y }) {
    for (const { cells, side } of state.at ? [state.at.private, state.at.recovered] : []) {
        const found = cells.findIndex(cell => x >= cell.x - 4 && x < cell.x + side + 4 && y >= cell.y - 4 && y < cell.y + side + 4);
        if (found >= 0) return found;
    }
    return -1;
}

function grab(state, at, looking) {
    if (under(state, at) < 0) return null;
    const choose = to => { state.chosen = under(state, to) < 0 ? state.chosen : under(state, to); };
    if (!looking) choose(at);
    return { move: choose };
}

function key(state, name) {
    const line = state.at?.private.across ?? 1, last = state.names.length - 1;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -line, ArrowDown: line, Home: -last, End: last }[name];
    if (by) state.chosen = clamp(state.chosen + by, 0, last);
    return Boolean(by);
}

export default stage({
    name: "full-run-stage",
    label: "A private batch, the gradient that is sent as a coloured strip, what was computed from it, and one sample in detail.",
    height, begin, draw, grab, key, pan: "pan-y",
    words: state => state.said[state.chosen],
    controls: state => (state.names.length < 2 ? [] : [
        slider("look at sample", [1, state.names.length], ({ chosen }) => chosen + 1, (state, place) => { state.chosen = place - 1; }, { grow: true }),
    ]),
    told: ({ chosen }) => ({ chosen }),
});
