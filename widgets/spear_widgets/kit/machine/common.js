// What the scenes of the machine share: tiles, mixtures, and where the playhead is.
import { clamp, develop, fromColours, make, mix } from "../stage.js";

const ORANGE = [213, 94, 0], BLUE = [0, 114, 178];

// Signed shares in [−1, 1] as a small canvas of tiles, one pixel each, on the page's ground; kept for each theme.
export function tiled(kept, pen, shares, rows, columns) {
    if (kept.dark === pen.dark && kept.image) return kept.image;
    const colours = new Uint8ClampedArray(3 * rows * columns);
    for (let i = 0; i < rows * columns; i++) colours.set(blend(pen, shares(i)), 3 * i);
    Object.assign(kept, { dark: pen.dark, image: fromColours(colours, columns, rows) });
    return kept.image;
}

// The colour of one signed share.
export const tint = (pen, share) => `rgb(${blend(pen, share).map(Math.round)})`;

function blend(pen, share) {
    const full = share < 0 ? BLUE : ORANGE, strength = Math.min(1, Math.abs(share)) ** 0.7;
    return (pen.dark ? [24, 24, 26] : [255, 255, 255]).map((c, i) => mix(c, full[i], strength));
}

// The largest magnitude of some entries, and never zero.
export const largest = values => values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-30);

// v R as a picture, brought to the contrast of the data: a mixture of all photographs i with weights v · q_i.
export function mixture(state, v, factor = null, onto = make("canvas")) {
    const [b, n] = state.R.shape, row = new Float64Array(n);
    for (let j = 0; j < b; j++) for (let i = 0; i < n; i++) row[i] += v[j] * state.R[j * n + i];
    const scale = factor ?? 1 / deviation(row);
    for (let i = 0; i < n; i++) row[i] *= scale;
    return develop(row, state.photo, 0, onto);
}

function deviation(row) {
    let sum = 0, squares = 0;
    for (const value of row) { sum += value; squares += value * value; }
    return Math.sqrt(squares / row.length - (sum / row.length) ** 2) || 1;
}

// Weights v · q_i of the photographs in a mixture; only the client knows them all.
export function weights(state, v) {
    const b = state.b, found = new Float64Array(b);
    for (let i = 0; i < b; i++) for (let j = 0; j < b; j++) found[i] += v[j] * state.weights[j * b + i];
    return found;
}

// Position among the kept draws of draw number `at`: that one, or the last one before it that was kept.
export function placeOf({ draws: { numbers } }, at) {
    let low = 0, high = numbers.length - 1;
    while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (numbers[middle] <= at) low = middle; else high = middle - 1;
    }
    return low;
}

// One draw by its place: rows that were drawn (without the one left out), candidate, zeros, fate, member.
export function drawAt(state, place) {
    const { draws, b } = state;
    const set = Array.from(draws.sets.subarray(place * b, (place + 1) * b));
    set.splice(draws.leftOut[place], 1);
    return {
        number: draws.numbers[place], set, q: draws.q.subarray(place * b, (place + 1) * b), zeros: draws.zeros[place],
        fate: draws.fates[place], member: draws.members[place],
    };
}

// What became of a candidate, as `study.trace.Fate`.
export const FIRST_STAGE = 0;
export const KNOWN = 2;
export const NEW = 3;

export const FATES = [
    "too few zeros on the first rows, so it is dropped", "too few zeros on all rows, so it is dropped", "already in the pool",
    "a new direction for the pool",
];

// The verdict on a candidate, and what follows from it where there is room.
export const verdictOn = (pen, fate) => `${fate >= KNOWN ? "✓" : "✗"} ${pen.width < 620 ? FATES[fate].split(",")[0] : FATES[fate]}`;

// How much of a draw has happened: all of it in a rush, and for readers who want nothing to move; a film sets it itself.
export const shareOf = (pen, state) => (state.film === undefined && (pen.calm || state.rush) ? 1 : state.share);

// Directions that are in the pool after draw `at`, by the order in which they came.
export const poolAt = (state, at) => state.found.filter(({ number }) => number <= at);

// Space for a scene above the strip of the pool and the timeline.
export const TIMELINE = 30;
export const POOL = 54;

// The pool as slots, one for each sample, filled from the left; `glow` is the number of a fresh one.
export function drawPool(pen, state, at, fresh = -1, glow = 0) {
    const found = poolAt(state, at), count = Math.max(state.b, state.found.length);
    const y = pen.height - TIMELINE - POOL, label = 44;
    const side = Math.min(34, (pen.width - label - 8) / count - 4);
    pen.text("pool", 2, y + 22, { size: 12, colour: pen.soft });
    for (let k = 0; k < count; k++) {
        const x = label + k * (side + 4), entry = found[k];
        pen.box(x, y, side, side, { stroke: k < state.b ? pen.faint : pen.grid, round: 4 });
        if (!entry) continue;
        const lit = k === fresh ? glow : 0;
        if (lit) pen.box(x - 4 * lit, y - 4 * lit, side + 8 * lit, side + 8 * lit, { stroke: pen.hot, line: 3 * lit, round: 6 });
        pen.box(x, y, side, side, { fill: pen.tone(0.1), stroke: pen.hot, line: 1.5, round: 4 });
        if (side >= 20) {
            pen.text(`q${subscript(k + 1)}`, x + side / 2, y + side * 0.46, { size: 12, align: "center", base: "middle", bold: true });
            pen.text(String(entry.zeros), x + side / 2, y + side * 0.82, { size: 9, align: "center", base: "middle", colour: pen.soft });
        }
    }
}

export const subscript = number => String(number).replace(/\d/g, digit => "₀₁₂₃₄₅₆₇₈₉"[digit]);

// The whole run as a line, with a tick where a direction was found; the playhead at `at`.
export function drawTimeline(pen, state, at) {
    const y = pen.height - 12, left = 44, right = pen.width - 8, count = state.draws.count;
    const across = number => left + (right - left) * clamp(number / Math.max(1, count - 1), 0, 1);
    pen.text("draws", 2, y + 4, { size: 12, colour: pen.soft });
    pen.line([[left, y], [right, y]], pen.grid, 6);
    pen.line([[left, y], [across(at), y]], pen.accent, 6);
    for (const { number } of state.found) {
        if (number < count) pen.line([[across(number), y - 7], [across(number), y + 7]], number <= at ? pen.hot : pen.faint, 2);
    }
    pen.disc(across(at), y, 7, { fill: pen.ink, stroke: pen.paper, line: 2 });
    state.timeline = { y, left, right };
}
