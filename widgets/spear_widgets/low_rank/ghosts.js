// Every Q gives a batch, one Q gives the batch: a track from a wrong Q to the right one, and the pictures that come apart.
//
// Data: `rows` of L (k, b) of the live units, with `noise`, `singular` for their zeros; `ways` (w, b, b), the generators B;
// `steps` of a way; `Q` (b, b) and its unit columns `exact`; `combined` = Lᵀ g (b,); `R` (b, n); `photo` says how its rows
// are shown; `zeros` of each column as Python counts them, at the `right` end and at the `wrong` one of each way; `beyond`,
// what of G and g no Q reproduces, and their `norms`.
import { button, choice, develop, dot, slider, smooth, stage } from "../kit/stage.js";
import { zeroEntries } from "../kit/zero.js";

const FULL = 0.2; // |entry| of a unit column of L Q that has the full colour
const ACROSS = 20; // tiles in a line
const SNAP = 0.5; // steps from the right Q within which one has arrived
const PLAY = 6000; // milliseconds from one end of the track to the other

function begin(data, value) {
    const b = data.combined.length, n = data.R.shape[1];
    const state = {
        ...data, b, n, wrong: value.wrong ?? 1, step: 0, playing: false, glow: -1e9, been: new Set(),
        photos: new Float64Array(b * n), canvases: Array.from({ length: b }, () => document.createElement("canvas")),
    };
    go(state, value.step ?? 0);
    return state;
}

// ---------------------------------------------------------------- matrices of b × b numbers, row by row
function product(A, B, b) {
    const out = new Float64Array(b * b);
    for (let i = 0; i < b; i++) {
        for (let k = 0; k < b; k++) for (let j = 0; j < b; j++) out[i * b + j] += A[i * b + k] * B[k * b + j];
    }
    return out;
}

// exp(A) by its series, for A / 16, and four squarings.
function exponential(A, b) {
    let sum = Float64Array.from(A, (_, i) => Number(i % (b + 1) === 0)), term = sum;
    const small = A.map(entry => entry / 16);
    for (let k = 1; k <= 14; k++) {
        term = product(term, small, b).map(entry => entry / k);
        sum = sum.map((entry, i) => entry + term[i]);
    }
    for (let k = 0; k < 4; k++) sum = product(sum, sum, b);
    return sum;
}

// By Gauss and Jordan, with the largest pivot of each column.
function inverse(matrix, b) {
    const A = Array.from({ length: b }, (_, i) => [
        ...matrix.subarray(i * b, (i + 1) * b), ...Array.from({ length: b }, (_, j) => Number(i === j)),
    ]);
    for (let k = 0; k < b; k++) {
        let best = k;
        for (let i = k + 1; i < b; i++) if (Math.abs(A[i][k]) > Math.abs(A[best][k])) best = i;
        [A[k], A[best]] = [A[best], A[k]];
        const pivot = A[k][k];
        A[k] = A[k].map(entry => entry / pivot);
        for (let i = 0; i < b; i++) {
            const share = A[i][k];
            if (i !== k && share) A[i] = A[i].map((entry, j) => entry - share * A[k][j]);
        }
    }
    return Float64Array.from(A.flatMap(row => row.slice(b)));
}

// ---------------------------------------------------------------- the batch of a Q
// Go to a place on the way: directions are the unit columns of Q M⁻¹, with M = exp(u B) and u from 1 (wrong) to 0 (right).
export function go(state, step) {
    const { b, steps } = state;
    step = step > steps - SNAP ? steps : Math.max(0, step);
    if (step === steps && state.step !== steps) state.glow = performance.now();
    Object.assign(state, { step, right: step === steps });
    const way = state.ways.subarray((state.wrong - 1) * b * b, state.wrong * b * b);
    const turned = state.right ? state.exact : product(state.Q, exponential(way.map(entry => -(1 - step / steps) * entry), b), b);
    const norms = Array.from({ length: b }, (_, j) => Math.hypot(...Array.from({ length: b }, (_, i) => turned[i * b + j])));
    reconstruct(state, state.right ? turned : turned.map((entry, k) => entry / norms[k % b]));
    state.been.add(Math.round(step));
}

// As `spear_core.spear.reconstruction.reconstruct`: lengths from the bias gradient, Xᵀ = Q⁻¹ R, entries of L q.
function reconstruct(state, directions) {
    const { b, n, R, rows } = state, turn = inverse(directions, b);
    const lengths = Array.from({ length: b }, (_, i) => dot(turn, state.combined, i * b));
    const coefficients = turn.map((entry, k) => entry / lengths[Math.floor(k / b)]);
    state.photos.fill(0);
    for (let i = 0; i < b; i++) {
        const row = state.photos.subarray(i * n, (i + 1) * n);
        for (let k = 0; k < b; k++) for (let j = 0, c = coefficients[i * b + k]; j < n; j++) row[j] += c * R[k * n + j];
        develop(row, state.photo, 0, state.canvases[i]);
    }
    state.columns = Array.from({ length: b }, (_, j) => {
        const q = Float64Array.from({ length: b }, (_, i) => directions[i * b + j]);
        const entries = Float64Array.from({ length: rows.shape[0] }, (_, i) => dot(rows, q, i * b));
        const zero = zeroEntries(entries, q, state);
        return { q, entries, zero, zeros: zero.reduce((sum, one) => sum + one, 0) };
    });
    if (state.right) state.zeros.right.forEach((count, j) => { state.columns[j].zeros = count; });
    if (state.step === 0) state.zeros.wrong[state.wrong - 1].forEach((count, j) => { state.columns[j].zeros = count; });
    const Q = directions.map((entry, k) => entry * lengths[k % b]);
    state.residual = residual(state, Q, product(Q, coefficients, b));
}

// How far (L Q)(Q⁻¹ R) is from G, and (L Q) 1 from g: as `gradient_residual` in spear_core.
function residual({ b, combined, singular, beyond, norms }, Q, identity) {
    const inside = Math.hypot(...identity.map((entry, k) => (entry - Number(k % (b + 1) === 0)) * singular[Math.floor(k / b)]));
    const bias = Math.hypot(...Array.from(combined, (entry, i) => Q.subarray(i * b, (i + 1) * b).reduce((a, q) => a + q, -entry)));
    return Math.max(Math.hypot(inside, beyond[0]) / norms[0], Math.hypot(bias, beyond[1]) / norms[1]);
}

// ---------------------------------------------------------------- where things are
const TRACK = 112, ABOVE = 22, BETWEEN = 24; // heights of the track with its words, of a name, of a count
const height = width => (width < 620 ? 550 : width < 1200 ? 500 : 560);

// As many pictures in a line as make them largest.
function places({ width, height: tall }, state) {
    const { b } = state, lines = Math.ceil(state.rows.shape[0] / ACROSS), down = 1 + lines / ACROSS, room = tall - TRACK;
    let best = { side: 0 };
    for (let across = 1; across <= b; across++) {
        const rows = Math.ceil(b / across);
        const side = Math.min((width - 12 * (across - 1) - 4) / across, (room / rows - ABOVE - BETWEEN) / down);
        if (side > best.side) best = { side, across, rows };
    }
    const { side, across, rows } = best, step = side + Math.min(30, across > 1 ? (width - 4 - across * side) / (across - 1) : 0);
    const left = (width - step * (across - 1) - side) / 2, cell = ABOVE + side * down + BETWEEN;
    const top = ABOVE + (room - rows * cell) / 2;
    return {
        side, room,
        cells: state.canvases.map((_, i) => ({ x: left + (i % across) * step, y: top + Math.floor(i / across) * cell })),
        track: { x: 52, y: tall - TRACK + 40, width: width - 72, height: 40 },
    };
}

// ---------------------------------------------------------------- drawing
function draw(pen, state, time) {
    if (state.playing) advance(state, time, pen.calm);
    const at = (state.at = places(pen, state)), glow = pen.calm ? 0 : 1 - smooth((time - state.glow) / 900);
    at.cells.forEach((cell, i) => drawGhost(pen, state, i, cell, at.side, glow));
    drawLegend(pen, at);
    drawTrack(pen, state, at.track);
    return state.playing || glow > 0;
}

function advance(state, time, calm) {
    const span = time - (state.last ?? time);
    state.last = time;
    go(state, calm ? state.steps : state.step + (span / PLAY) * state.steps);
    if (state.right) state.playing = false;
}

function drawGhost(pen, state, i, { x, y }, side, glow) {
    const { entries, zero, zeros } = state.columns[i], tile = side / ACROSS, middle = x + side / 2, small = side < 130;
    const colour = state.right ? pen.sample(i) : pen.faint, size = small ? 11 : 13;
    pen.text(small ? `row ${i + 1}` : `row ${i + 1} of Q⁻¹ R`, middle, y - 7, { size, colour: pen.soft, align: "center" });
    pen.picture(state.canvases[i], x, y, side, side, { frame: state.right ? colour : null, line: 3 });
    if (glow > 0) pen.box(x - 3, y - 3, side + 6, side + 6, { stroke: pen.tone(1, glow), line: 8 * glow, round: 4 });
    const top = y + side + 4;
    entries.forEach((entry, k) => {
        const [left, up] = [x + (k % ACROSS) * tile, top + Math.floor(k / ACROSS) * tile];
        drawTile(pen, left, up, tile, entry, zero[k]);
    });
    const bottom = top + Math.ceil(entries.length / ACROSS) * tile + 15;
    const words = small ? `${zeros} of ${entries.length}` : `${zeros} of ${entries.length} zero`;
    pen.text(words, middle, bottom, { size, bold: state.right, colour: state.right ? pen.hot : pen.ink, align: "center" });
}

// The colour grows with |entry|, from none at zero; an exact zero has a mark of its own.
function drawTile(pen, x, y, side, entry, zero) {
    const { context } = pen, inset = Math.min(0.5, side / 12);
    context.globalAlpha = zero ? 1 : Math.min(1, Math.abs(entry) / FULL);
    context.fillStyle = zero ? pen.grid : pen.accent;
    context.fillRect(x + inset, y + inset, side - 2 * inset, side - 2 * inset);
    context.globalAlpha = 1;
    if (!zero) return;
    const [middle, centre, r] = [x + side / 2, y + side / 2, side * 0.36];
    context.beginPath();
    context.moveTo(middle, centre - r);
    for (const [dx, dy] of [[r, 0], [0, r], [-r, 0]]) context.lineTo(middle + dx, centre + dy);
    context.fillStyle = pen.hot;
    context.fill();
}

function drawLegend(pen, { room }) {
    const y = room + 10, wide = pen.width >= 620, size = 12, bar = wide ? 120 : 60, colour = pen.soft;
    let x = wide ? 52 : 4;
    const say = words => { x += pen.text(words, x, y + 4, { size, colour }) + 6; };
    say(wide ? "a tile: the size of one entry of the column of L Q, " : "entry of L Q: ");
    say("0");
    const shades = pen.context.createLinearGradient(x, 0, x + bar, 0);
    shades.addColorStop(0, pen.paper);
    shades.addColorStop(1, pen.accent);
    pen.box(x, y - 6, bar, 12, { fill: shades, stroke: pen.faint });
    x += bar + 6;
    say(`${FULL}${wide ? " and more" : "+"}`);
    x += wide ? 16 : 4;
    drawTile(pen, x, y - 7, 14, 0, true);
    x += 20;
    say(wide ? "zero, up to rounding" : "zero to rounding");
}

// Zeros against the place on the way, as far as the reader has been there.
function drawTrack(pen, state, { x, y, width, height: tall }) {
    const count = state.rows.shape[0], across = step => x + (step / state.steps) * width, up = zeros => y + tall * (1 - zeros / count);
    for (const share of [0, 0.5, 1]) {
        const zeros = Math.round(share * count);
        pen.line([[x, up(zeros)], [x + width, up(zeros)]], share ? pen.grid : pen.faint);
        if (share !== 0.5) pen.text(String(zeros), x - 8, up(zeros) + 4, { size: 11, colour: pen.soft, align: "right" });
    }
    pen.text("zeros in each column, where you have been", x, y - 8, { size: 11, colour: pen.soft });
    for (const step of state.been) if (step < state.steps) pen.disc(across(step), y + tall, 2, { fill: pen.accent });
    if (state.been.has(state.steps)) state.zeros.right.forEach((zeros, i) => pen.marker(i, across(state.steps), up(zeros), 5));
    pen.line([[across(state.step), y - 4], [across(state.step), y + tall]], pen.ink, 2);
    pen.disc(across(state.step), y + tall, 8, { fill: state.right ? pen.hot : pen.ink, stroke: pen.paper, line: 2 });
    pen.text("wrong Q", x, y + tall + 24, { size: 12, colour: pen.soft });
    pen.text("right Q", x + width, y + tall + 24, { size: 12, colour: pen.soft, align: "right" });
}

// ---------------------------------------------------------------- touching
const halt = state => Object.assign(state, { playing: false, last: undefined });

// The track is grabbed where the hand is; the pictures are pushed along.
function grab(state, { x, y }, looking) {
    if (!state.at) return null;
    const { track, room } = state.at, from = state.step;
    if (!looking) halt(state);
    if (y < room) return { move: to => go(state, from + ((to.x - x) / (0.75 * track.width)) * state.steps) };
    return y > track.y - 14 ? { move: to => go(state, ((to.x - track.x) / track.width) * state.steps) } : null;
}

function key(state, name) {
    const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[name];
    const to = { Home: 0, End: state.steps }[name] ?? (by && Math.round(state.step) + by);
    if (name === " ") play(state);
    else if (to !== undefined) go(halt(state), to);
    return name === " " || to !== undefined;
}

function play(state) {
    const playing = !state.playing;
    if (playing && state.right) go(state, 0);
    Object.assign(halt(state), { playing });
}

function another(state, wrong) {
    state.wrong = wrong;
    state.been.clear();
    go(halt(state), state.right ? 0 : state.step);
}

function words(state) {
    const counts = state.columns.map(column => column.zeros).join(", "), size = state.residual.toExponential(0);
    const where = state.right ? "The right Q. " : `A wrong Q, ${percent(state)} of the way. `;
    const fits = state.residual < 1e-5 ? `is the gradient, up to rounding (${size} of it)` : `differs from the gradient by ${size} of it`;
    return `${where}(L Q)(Q⁻¹ R) ${fits}. Entries that are zero in the columns of L Q: ${counts} of ${state.rows.shape[0]} each.`;
}

// Rounded down: 100 % is the end and nothing before it.
const percent = ({ step, steps }) => `${(Math.floor((1000 * step) / steps) / 10).toFixed(1).replace(".0", "")} %`;

export default stage({
    name: "ghosts-stage",
    label: "Pictures that a Q makes of the gradient, the columns of L Q as tiles, and a track from a wrong Q to the right one.",
    height, begin, draw, words, grab, key, pan: "pan-y",
    controls: state => [
        button(({ playing }) => (playing ? "Pause" : "Play"), play),
        slider("from wrong to right", [0, state.steps, 0.5], ({ step }) => step, (state, step) => go(halt(state), step), { text: percent, grow: true }),
        choice("which wrong Q", state.zeros.wrong.map((_, i) => [String(i + 1), i + 1]), ({ wrong }) => wrong, another),
    ],
    told: ({ step, wrong, right, columns }) => ({ step, wrong, right, zeros: columns.map(column => column.zeros) }),
});
