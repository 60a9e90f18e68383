// Scene 4, what a direction means. Any mixture is v R = Σ (v · q_i) x_i: made orthogonal to q_i, it has lost photograph i.
import { bitmap, clamp, dot, mix, smooth, slider } from "../stage.js";
import { mixture, subscript, weights } from "./common.js";

const MIXTURES = 6;

// The photograph that is to be left at the end, of those whose direction was found: by default the one found last.
export function keep(state, sample) {
    if (!state.found.some(entry => entry.chosen && entry.sample === sample)) return;
    Object.assign(state, { keep: sample, wiping: undefined });
}

// The mixtures after each step: rows v of unit length, orthogonal to the directions chosen so far.
export function wiped(state) {
    const b = state.b, count = Math.min(MIXTURES, b), steps = [], basis = [];
    let rows = Array.from({ length: count }, (_, k) => start(b, k));
    const add = (member, stray) => {
        const q = Array.from(state.pool.q.subarray(member * b, (member + 1) * b)), own = [...basis];
        const along = q.map((value, i) => value - own.reduce((sum, e) => sum + dot(e, q) * e[i], 0)), size = Math.hypot(...along);
        if (size < 1e-6) return;
        const e = along.map(value => value / size);
        const next = rows.map(v => without(v, e));
        if (!stray) { basis.push(e); rows = next; }
        steps.push({ member, stray, rows: next });
    };
    steps.push({ member: -1, stray: false, rows });
    const kept = state.found.find(({ sample, chosen }) => chosen && sample === state.keep);
    for (const entry of state.found) if (basis.length < b - 1 && entry !== kept) add(entry.member, !entry.chosen);
    return steps.map(step => ({ ...step, weights: step.rows.map(v => weights(state, v)) }));
}

// A mixture of all rows of R, another one for each k.
const start = (b, k) => unit(Array.from({ length: b }, (_, i) => Math.cos((k + 1) * (i + 0.7) * 1.9) + (i % MIXTURES === k ? 0.6 : 0)));
const unit = v => { const size = Math.hypot(...v); return v.map(value => value / size); };

function without(v, e) {
    const along = dot(v, e), rest = v.map((value, i) => value - along * e[i]);
    return Math.hypot(...rest) > 1e-9 ? unit(rest) : rest;
}

function pictures(state, k) {
    const step = state.wiping[k];
    step.pictures ??= step.rows.map((v, i) => {
        const w = step.weights[i], largest = w.reduce((a, x) => (Math.abs(x) > Math.abs(a) ? x : a), 0);
        return mixture(state, v.map(value => value * Math.sign(largest || 1)));
    });
    return step.pictures;
}

function drawWipe(pen, state, t) {
    state.wiping ??= wiped(state);
    const last = state.wiping.length - 1, k = clamp(Math.floor(t), 0, last), next = Math.min(last, k + 1), fade = smooth(t - k);
    const count = state.wiping[0].rows.length, narrow = pen.width < 620, columns = narrow ? 3 : count;
    const gap = 12, side = Math.min((pen.width - 16) / columns - gap, narrow ? 104 : 170), wide = columns * (side + gap) - gap;
    const left = (pen.width - wide) / 2, top = 34, bars = narrow ? 26 : 54;
    pen.text(heading(state, fade > 0.5 ? next : k, narrow), left, 18, { bold: true });
    const before = pictures(state, k), after = fade > 0 ? pictures(state, next) : before;
    for (let i = 0; i < count; i++) {
        const x = left + (i % columns) * (side + gap), y = top + Math.floor(i / columns) * (side + bars + 18);
        pen.picture(before[i], x, y, side, side);
        if (fade > 0) pen.picture(after[i], x, y, side, side, { alpha: fade });
        pen.box(x, y, side, side, { stroke: pen.faint });
        drawWeights(pen, state, { x, y: y + side + 6, width: side, height: bars }, i, k, next, fade);
    }
    const y = top + Math.ceil(count / columns) * (side + bars + 18) + 18;
    drawPhotographs(pen, state, y, fade > 0.5 ? next : k, left, wide);
}

// How much of each photograph is in a mixture: one bar a photograph, exactly zero once it is wiped.
function drawWeights(pen, state, box, i, k, next, fade) {
    const [before, after] = [state.wiping[k].weights[i], state.wiping[next].weights[i]], b = state.b;
    const top = values => Math.max(...Array.from(values, Math.abs), 1e-30), step = box.width / b;
    const gone = state.wiping[fade > 0.5 ? next : k];
    for (let s = 0; s < b; s++) {
        const share = Math.abs(mix(before[s] / top(before), after[s] / top(after), fade)), tall = share * (box.height - 8);
        const zero = wipedBy(state, gone, s);
        const pointed = s === state.pointed;
        if (zero) pen.line([[box.x + s * step + 1, box.y + box.height - 4], [box.x + (s + 0.8) * step, box.y + box.height - 4]], pen.hot, 2.5);
        else pen.box(box.x + s * step, box.y + box.height - 4 - tall, step * 0.75, tall, { fill: pointed ? pen.good : pen.accent });
    }
    pen.line([[box.x, box.y + box.height - 3], [box.x + box.width, box.y + box.height - 3]], pen.grid);
}

// Whether photograph s has weight zero, to rounding, in all mixtures of a step.
const wipedBy = (state, step, s) => {
    step.gone ??= Array.from({ length: state.b }, (_, j) => step.weights.every(w => Math.abs(w[j]) < 1e-6 * Math.max(...Array.from(w, Math.abs))));
    return step.gone[s];
};

function drawPhotographs(pen, state, y, k, left, wide) {
    const b = state.b, rows = pen.width < 620 && b > 8 ? 2 : 1, columns = Math.ceil(b / rows);
    const side = Math.min(wide / columns - 5, (pen.height - y - 22) / rows - 4, 74);
    pen.text(pen.width < 620 ? "only the client has these; tap one to keep it:" : "only the client has these, the server never sees them; click the one that shall be left:", left, y - 4, { size: 12, colour: pen.soft });
    state.photographs = { left, y: y + 6, side, columns };
    for (let s = 0; s < b; s++) {
        const x = left + (s % columns) * (side + 5), at = y + 6 + Math.floor(s / columns) * (side + 4), gone = wipedBy(state, state.wiping[k], s);
        pen.picture(bitmap(state.truth, s), x, at, side, side, { alpha: gone ? 0.22 : 1, frame: s === state.pointed ? pen.good : null });
        if (gone) pen.line([[x + 4, at + side - 4], [x + side - 4, at + 4]], pen.hot, 2.5);
    }
}

function heading(state, k, narrow) {
    const step = state.wiping[k], done = state.wiping.slice(1, k + 1).filter(({ stray }) => !stray).length;
    if (!k) return `${state.wiping[0].rows.length} mixtures of all ${state.b} photographs`;
    if (step.stray) return `q${subscript(step.member + 1)} is a mixture${narrow ? "" : " that slipped in"}: it wipes out nothing`;
    const left = state.b - done;
    if (narrow) return `${done} wiped out, ${left} left${left === 1 ? ", alone" : ""}`;
    return `orthogonal to ${done === 1 ? "one found direction" : `${done} found directions`}: ${done} wiped out, ${left} ${left === 1 ? "is" : "are"} left${left === 1 ? ", alone" : ""}`;
}

const lastFound = ({ found }) => found.filter(({ chosen }) => chosen).at(-1)?.sample ?? 0;

function photographAt({ photographs, b }, at) {
    if (!at || !photographs) return -1;
    const { left, y, side, columns } = photographs, column = Math.floor((at.x - left) / (side + 5)), row = Math.floor((at.y - y) / (side + 4));
    const s = row * columns + column;
    return column >= 0 && column < columns && row >= 0 && s < b ? s : -1;
}

export const wipe = {
    name: "wipe", title: "Wipe", pace: 1.1,
    end: state => (state.wiping ??= wiped(state)).length - 1, draw: drawWipe,
    hover(state, at) {
        const pointed = photographAt(state, at), changed = pointed !== (state.pointed ?? -1);
        state.pointed = pointed;
        return changed;
    },
    grab(state, at, looking = false) {
        const sample = photographAt(state, at);
        if (sample < 0) return null;
        if (!looking) keep(state, sample);
        return {};
    },
    controls: ({ b }) => [slider("keep photograph", [1, b], s => (s.keep ?? lastFound(s)) + 1, (s, value) => keep(s, value - 1), { text: s => String((s.keep ?? lastFound(s)) + 1), hidden: s => s.scene !== "wipe" })],
    words(state, t) {
        const k = Math.round(t), step = (state.wiping ??= wiped(state))[k];
        if (!k) return "Each picture is a mixture v R of all photographs, with weights v of your own; the bars say how much of each photograph is in it. Play: v is made orthogonal to one found direction after the other.";
        if (step.stray) return "This direction passed the filter, and belongs to no sample: no bar falls to zero in all mixtures.";
        const gone = step.weights[0].length ? Array.from({ length: state.b }, (_, s) => s).filter(s => wipedBy(state, step, s)).length : 0;
        return `Every mixture is orthogonal to ${k} found ${k === 1 ? "direction" : "directions"}, and photographs with weight zero in all of them: ${gone} of ${state.b}.`
            + (gone === state.b - 1 ? " The one that is left is a row of Q⁻¹ R. Leave out another direction, and another photograph is left." : "");
    },
};
