// Scene 2, sampling: b − 1 rows of L are drawn, and the one direction on which all of them vanish is the candidate q.
import { clamp, mix, smooth, times, whole } from "../stage.js";
import { FATES, NEW, drawAt, drawPool, drawTimeline, largest, placeOf, poolAt, shareOf, POOL, TIMELINE, tint, verdictOn } from "./common.js";

const LIT = 0.22, FLOWN = 0.42, SOLVED = 0.62, SHOWN = 0.85; // shares of one draw: rows, block, null vector, bars

function places({ width, height }, state) {
    const bottom = POOL + TIMELINE + 12, top = 40, tall = height - bottom - top, narrow = width < 620;
    const thin = clamp(state.b * 6, 22, narrow ? 48 : 80);
    const cell = clamp(Math.min((tall - 10) / state.b, (width * (narrow ? 0.4 : 0.24)) / state.b), 5, narrow ? 15 : 24);
    const block = { x: thin + (narrow ? 44 : 90), y: top + 4, cell };
    const sphere = state.b === 3 && !narrow ? Math.min(tall, width * 0.33) : 0;
    const q = block.x + cell * state.b + 22, bars = sphere ? block.x + sphere + 40 : q + cell + (narrow ? 42 : 74);
    return {
        L: { x: 8, y: top, width: thin, height: narrow ? tall * 0.56 : tall }, block, q: { x: q, y: block.y },
        bars: narrow ? { x: 8, y: top + tall * 0.64, width: width - 16, height: tall * 0.3 } : { x: bars, y: top + 26, width: width - bars - 8, height: tall - 80 },
        narrow,
    };
}

function drawDraw(pen, state, t) {
    const place = placeOf(state, Math.floor(t)), found = drawAt(state, place), at = places(pen, state);
    const share = shareOf(pen, state);
    drawL(pen, state, at, found, share);
    (state.b === 3 ? drawSphere : drawBlock)(pen, state, at, found, share);
    drawBars(pen, state, at, found, share);
    const fresh = found.fate === NEW && share > SHOWN ? poolAt(state, t).length - 1 : -1;
    drawPool(pen, state, share > SHOWN || found.fate !== NEW ? t : t - 1, fresh, 1);
    drawTimeline(pen, state, t);
}

function drawL(pen, state, { L }, { set }, share) {
    const m = state.L.shape[0];
    pen.text("L", L.x, L.y - 22, { bold: true });
    pen.text(`${m} rows`, L.x, L.y - 7, { size: 12, colour: pen.soft });
    pen.picture(state.tilesOfL(pen), L.x, L.y, L.width, L.height, { frame: pen.faint, line: 1, alpha: 0.75 });
    const lit = Math.ceil(clamp(share / LIT, 0, 1) * set.length);
    for (const row of set.slice(0, lit)) {
        const y = L.y + ((row + 0.5) / m) * L.height;
        pen.box(L.x - 3, y - 2.5, L.width + 6, 5, { stroke: pen.hot, line: 1.5, round: 2 });
    }
}

// b − 1 rows times q: all zero.
function drawBlock(pen, state, { L, block, q }, { set, q: direction }, share) {
    const b = state.b, m = state.L.shape[0], { x, y, cell } = block, most = state.limit;
    pen.text(`${b - 1} rows`, x, y - 10, { size: 12, colour: pen.soft });
    set.forEach((row, k) => {
        const flown = smooth((share - LIT * 0.6 - (0.1 * k) / b) / (FLOWN - LIT));
        if (flown <= 0) return;
        const from = L.y + (row / m) * L.height;
        for (let j = 0; j < b; j++) {
            pen.box(mix(L.x, x + j * cell, flown), mix(from, y + k * cell, flown), cell - 1, mix(3, cell - 1, flown), { fill: tint(pen, state.L[row * b + j] / most) });
        }
    });
    const solved = smooth((share - FLOWN) / (SOLVED - FLOWN));
    if (solved <= 0) return;
    pen.context.globalAlpha = solved;
    pen.text("q", q.x + cell / 2, y - 10, { bold: true, align: "center" });
    for (let j = 0; j < b; j++) pen.box(q.x, y + j * cell, cell - 1, cell - 1, { fill: tint(pen, direction[j] * 1.6) });
    const zero = q.x + cell + 18;
    pen.text("= 0", zero - 8, y + ((b - 1) * cell) / 2, { base: "middle", bold: true });
    pen.text("·", q.x - 13, y + ((b - 1) * cell) / 2, { base: "middle", size: 20 });
    pen.context.globalAlpha = 1;
}

// b = 3: each row is a great circle, and two of them cross in q (and behind, in −q).
function drawSphere(pen, state, { block, bars, narrow, L }, { set, q }, share) {
    const radius = narrow ? Math.min(pen.width * 0.26, L.height * 0.46) : (bars.x - block.x - 40) / 2 - 4;
    const x = block.x + radius, y = L.y + (narrow ? radius : L.height / 2);
    const seen = v => EYE.map(axis => axis[0] * v[0] + axis[1] * v[1] + axis[2] * v[2]);
    pen.disc(x, y, radius, { fill: pen.tone(0.05), stroke: pen.faint });
    const circle = (row, colour, width, length) => {
        const n = state.L.subarray(3 * row, 3 * row + 3), size = Math.hypot(...n);
        if (size < 1e-9) return;
        const normal = Array.from(n, value => value / size), helper = Math.abs(normal[0]) < 0.6 ? [1, 0, 0] : [0, 1, 0];
        const first = unitOf(cross(normal, helper)), second = cross(normal, first);
        let run = [];
        for (let k = 0; k <= 90 * length; k++) {
            const a = (k / 90) * 2 * Math.PI, p = seen(first.map((f, i) => f * Math.cos(a) + second[i] * Math.sin(a)));
            if (p[2] >= 0) run.push([x + radius * p[0], y - radius * p[1]]);
            else if (run.length) { pen.line(run, colour, width); run = []; }
        }
        if (run.length) pen.line(run, colour, width);
    };
    for (let row = 0; row < state.L.shape[0]; row++) circle(row, pen.tone(0.35, 0.35), 0.7, 1);
    set.forEach(row => circle(row, pen.hot, 2.2, smooth((share - LIT * 0.6) / (FLOWN - LIT))));
    if (share < FLOWN) return;
    const p = seen(q), front = p[2] >= 0 ? 1 : -1, grown = smooth((share - FLOWN) / (SOLVED - FLOWN));
    pen.arrow([x, y], [x + front * p[0] * radius * grown, y - front * p[1] * radius * grown], pen.ink, 3, 11);
    pen.text("q", x + front * p[0] * radius + 10, y - front * p[1] * radius - 8, { bold: true, size: 15, halo: true });
}

const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unitOf = v => { const size = Math.hypot(...v); return v.map(value => value / size); };

// A fixed eye on the sphere: right, up and towards it.
const EYE = [[0.8, 0.6, 0], [-0.24, 0.32, 0.917], [0.55, -0.733, 0.4]].map(unitOf);

// L q on all rows, small, and the verdict.
function drawBars(pen, state, { bars, narrow }, { q, zeros, fate, number }, share) {
    const grown = smooth((share - SOLVED) / (SHOWN - SOLVED));
    pen.text(`draw ${whole(number + 1)} of ${whole(state.draws.count)}`, narrow ? pen.width - 8 : bars.x, narrow ? 18 : bars.y - 30, { bold: true, align: narrow ? "right" : "left" });
    if (grown <= 0) return;
    const values = times(state.L, q), hit = fate >= 2;
    const limit = largest(values);
    pen.text(`L q: ${zeros} of ${values.length} entries are zero`, bars.x, bars.y - 8, { size: 12, colour: hit ? pen.hot : pen.soft, bold: hit });
    pen.bars(values.map(value => value * grown), bars, limit, () => (hit ? pen.hot : pen.accent));
    const step = bars.width / values.length, radius = clamp(step * 0.55, 1.4, 3.5);
    values.forEach((value, i) => { if (Math.abs(value) < state.nearZero) pen.disc(bars.x + (i + 0.36) * step, bars.y + bars.height / 2, radius, { fill: pen.hot }); });
    if (share > SHOWN) {
        const y = narrow ? bars.y + bars.height + 10 : bars.y + bars.height + 26;
        pen.text(verdictOn(pen, fate), bars.x, y, { bold: true, size: narrow ? 12 : 14, colour: hit ? pen.good : pen.soft });
    }
}

export const draw = {
    name: "draw", title: "Draw", draws: true, end: state => state.draws.count - 1, draw: drawDraw,
    words(state, t) {
        const found = drawAt(state, placeOf(state, Math.floor(t))), pool = poolAt(state, t).length, { b } = state;
        const drawn = `Draw ${whole(found.number + 1)}: ${b - 1} rows of L, and the one direction q that is orthogonal to all of them. `
            + `(${b} random rows give ${b} draws: each leaves out another one.) `;
        if (state.share < SHOWN && !state.rush) return drawn;
        return `${drawn}${found.zeros} of ${state.L.shape[0]} entries of L q are zero: ${FATES[found.fate]}. Found so far: ${pool}.`;
    },
};
