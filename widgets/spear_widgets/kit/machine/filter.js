// Scene 3, the filter: L q of a candidate as bars. A wrong one has hardly a zero beyond its own rows; a right one, half.
import { check, clamp, smooth, times, whole } from "../stage.js";
import { FATES, FIRST_STAGE, KNOWN, NEW, drawAt, drawPool, drawTimeline, largest, placeOf, poolAt, shareOf, POOL, TIMELINE, verdictOn } from "./common.js";

const GROWN = 0.5, JUDGED = 0.75; // shares of one draw: bars, verdict

function drawFilter(pen, state, t) {
    const found = drawAt(state, placeOf(state, Math.floor(t))), share = shareOf(pen, state);
    const bottom = POOL + TIMELINE + 14, narrow = pen.width < 620, side = narrow ? 0 : Math.min(240, pen.width * 0.27);
    const tall = pen.height - bottom - 50;
    const bars = { x: 8, y: 44, width: pen.width - side - 40, height: narrow ? tall * 0.5 : tall - 26 };
    const counts = narrow ? { x: 30, y: 66 + tall * 0.6, width: pen.width - 40, height: tall * 0.26 } : { x: pen.width - side, y: 60, width: side - 8, height: tall - 60 };
    drawEntries(pen, state, bars, found, share);
    drawCounts(pen, state, counts, t, found, share > JUDGED);
    const fresh = found.fate === NEW && share > JUDGED ? poolAt(state, t).length - 1 : -1;
    drawPool(pen, state, share > JUDGED || found.fate !== NEW ? t : t - 1, fresh, 1);
    drawTimeline(pen, state, t);
}

function drawEntries(pen, state, box, { q, set, zeros, fate, number }, share) {
    const values = times(state.L, q), m = values.length, passes = fate >= KNOWN, own = new Set(set);
    const limit = largest(values), order = Array.from(values, (_, i) => i);
    if (state.sorted ?? true) order.sort((i, j) => values[j] - values[i]);
    const grown = smooth(share / GROWN), judged = smooth((share - GROWN) / (JUDGED - GROWN));
    const narrow = pen.width < 620, needed = Math.ceil(state.least);
    const title = narrow ? `draw ${whole(number + 1)}: ${zeros} zeros, needed ${needed}`
        : `draw ${whole(number + 1)}: ${zeros} of ${m} entries of L q are zero; needed: ${needed}`;
    pen.text(title, box.x, 16, { bold: true, colour: passes && judged ? pen.hot : pen.ink, size: 14 });
    // what is dropped sinks
    const sunk = judged && !passes ? 26 * judged : 0, place = { ...box, y: box.y + sunk };
    pen.context.globalAlpha = passes ? 1 : 1 - 0.55 * judged;
    pen.bars(order.map(i => values[i] * grown), place, limit, () => (passes && judged ? pen.hot : pen.accent));
    const step = box.width / m, middle = place.y + place.height / 2, radius = clamp(step * 0.55, 1.6, 3.5);
    order.forEach((i, k) => {
        if (Math.abs(values[i]) < state.nearZero) pen.disc(place.x + (k + 0.36) * step, middle, radius, { fill: own.has(i) ? pen.faint : pen.hot });
    });
    pen.context.globalAlpha = 1;
    if (judged) {
        pen.text(verdictOn(pen, fate), box.x, 35, { bold: true, colour: passes ? pen.good : pen.soft, halo: true });
    }
}

// How many zeros the candidates so far had: two heaps, and nothing between them.
function drawCounts(pen, state, { x, y, width, height }, t, found, counted) {
    const m = state.L.shape[0], bins = 40, tally = new Float64Array(bins), { numbers, zeros } = state.draws;
    const last = Math.floor(t) - (counted ? 0 : 1);
    let spared = 0, seen = 0;
    for (let i = 0; i < numbers.length && numbers[i] <= last; i++) {
        tally[Math.min(bins - 1, Math.floor((zeros[i] / m) * bins * 1.4))] += 1;
        spared += state.draws.fates[i] === FIRST_STAGE;
        seen += 1;
    }
    const most = Math.log10(1 + Math.max(1, ...tally)), step = width / bins, across = count => x + (count / m) * 1.4 * width;
    tally.forEach((count, k) => {
        const tall = (Math.log10(1 + count) / most) * height;
        if (count) pen.box(x + k * step, y + height - tall, step - 1, tall, { fill: (k / bins / 1.4) * m >= state.least - 1 ? pen.hot : pen.accent });
    });
    pen.line([[x, y + height], [x + width, y + height]], pen.faint);
    pen.line([[across(state.least), y - 4], [across(state.least), y + height]], pen.ink, 1.5);
    pen.text(`needed: ${Math.ceil(state.least)}`, across(state.least) - 14, y - 8, { size: 12 });
    pen.text("zeros of all candidates so far (log scale)", x, y - 26, { size: 12, colour: pen.soft });
    for (const count of [0, Math.round(m / 4), Math.round(m / 2)]) pen.text(String(count), across(count), y + height + 14, { size: 11, colour: pen.soft, align: "center" });
    if (!seen) return;
    pen.text(`dropped: ${whole(spared)} of ${whole(seen)}, after a look`, x, y + height + 31, { size: 12, colour: pen.soft });
    pen.text(`at ${state.first} of the ${m} entries of L q`, x, y + height + 46, { size: 12, colour: pen.soft });
}

export const filter = {
    name: "filter", title: "Filter", draws: true, end: state => state.draws.count - 1, draw: drawFilter,
    controls: () => [check("sort the bars", s => s.sorted ?? true, (s, value) => { s.sorted = value; }, { hidden: s => s.scene !== "filter" })],
    words(state, t) {
        const found = drawAt(state, placeOf(state, Math.floor(t))), own = state.b - 1;
        const why = found.fate >= KNOWN ? `It was made for ${own} of them; at the others a ReLU was off for one sample, and all agree on it.`
            : `It was made for ${own} of them.`;
        const count = `Draw ${whole(found.number + 1)}: L q has ${found.zeros} zeros of ${state.L.shape[0]}, and needs ${Math.ceil(state.least)}. `;
        return state.share < JUDGED && !state.rush ? count : `${count}${why} Verdict: ${FATES[found.fate]}.`;
    },
};
