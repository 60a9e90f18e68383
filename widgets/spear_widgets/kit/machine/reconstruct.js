// Scene 5: the bias gradient gives the lengths, Q⁻¹ R the batch, and the certificate says what is proven.
import { bitmap, clamp, develop, fromColours, smooth, whole } from "../stage.js";

const SCALED = 0.3, COMPARED = 0.55, ASKED = 0.62; // shares of the scene's time: lengths, errors, first part of the proof
const BEST = -7, WORST = 0; // powers of ten of the error maps

function rows(state) {
    state.recovered ??= (() => {
        const { coefficients, lengths } = state.result, b = state.b, n = state.R.shape[1];
        return Array.from({ length: coefficients.shape[0] ?? 0 }, (_, k) => {
            const row = new Float64Array(n);
            for (let j = 0; j < b; j++) for (let i = 0; i < n; i++) row[i] += coefficients[k * b + j] * state.R[j * n + i];
            return { row, length: Math.abs(lengths[k]) };
        });
    })();
    return state.recovered;
}

// Row k as a picture, as if its direction had `share` of the way to its right length; few shares are kept.
function photograph(state, k, share) {
    const found = rows(state)[k], step = Math.round(share * 12), typical = Math.max(...rows(state).map(({ length }) => length));
    found.pictures ??= new Map();
    if (!found.pictures.has(step)) {
        const wrong = Math.min(4, typical / found.length) ** (1 - step / 12) * (step === 12 ? 1 : 0.35 + (0.65 * step) / 12);
        found.pictures.set(step, develop(found.row.map(value => value * wrong), state.photo));
    }
    return found.pictures.get(step);
}

function drawReconstruct(pen, state, t) {
    const b = state.b, narrow = pen.width < 620, columns = narrow ? Math.ceil(b / 2) : Math.min(b, 12), bands = Math.ceil(b / columns);
    const side = Math.min((pen.width - 100) / columns - 6, narrow ? (pen.height - 210) / (3 * bands) - 12 : 76), left = 92, line = side + 8;
    const scaled = smooth(t / SCALED), compared = smooth((t - SCALED) / (COMPARED - SCALED));
    const words = 14; // below an error map
    const at = (s, band) => [
        left + (s % columns) * (side + 6),
        8 + (band * bands + Math.floor(s / columns)) * line + band * 10 + (band === 2 ? Math.floor(s / columns) * words : 0),
    ];
    ["client\u2019s own", "recovered", "error"].forEach((name, band) => pen.text(name, 4, at(0, band)[1] + side / 2 + 4, { size: 12, colour: pen.soft }));
    pen.text("white: rounding", 4, at(0, 2)[1] + side / 2 + 18, { size: 10, colour: pen.soft });
    for (let s = 0; s < b; s++) {
        const k = state.result.order[s];
        pen.picture(bitmap(state.truth, s), ...at(s, 0), side, side);
        if (k < 0) { pen.box(...at(s, 1), side, side, { fill: pen.tone(0.08) }); continue; }
        pen.picture(photograph(state, k, scaled), ...at(s, 1), side, side);
        if (compared > 0) pen.picture(errorMap(state, s), ...at(s, 2), side, side, { alpha: compared, frame: pen.faint, line: 1 });
        if (compared > 0.6) {
            const [x, y] = at(s, 2), psnr = state.result.psnr[s];
            const words = psnr < 0 ? "not found" : side < 44 ? psnr.toFixed(0) : `${psnr.toFixed(0)} dB`;
            pen.text(words, x + side / 2, y + side + 12, { size: 11, align: "center", colour: state.result.rows[k] ? pen.good : psnr >= 90 ? pen.soft : pen.bad, bold: true });
        }
    }
    drawCertificate(pen, state, t, at(b - 1, 2)[1] + side + 42);
}

// Errors on a scale of powers of ten, the largest of an entry's colours: white is rounding, black a standard deviation.
function errorMap(state, s) {
    state.errorMaps ??= new Map();
    if (!state.errorMaps.has(s)) {
        const { shape } = state.photo, n = state.R.shape[1], powers = state.result.errors.subarray(s * n, (s + 1) * n);
        const [channels, height, width] = shape ?? [1, 6, Math.ceil(n / 6)], colours = new Uint8ClampedArray(3 * height * width).fill(255);
        for (let i = 0; i < height * width && i < n; i++) {
            let worst = BEST;
            for (let c = 0; c < channels; c++) worst = Math.max(worst, powers[i + c * height * width] ?? BEST);
            colours.fill((255 * (WORST - clamp(worst, BEST, WORST))) / (WORST - BEST), 3 * i, 3 * i + 3);
        }
        state.errorMaps.set(s, fromColours(colours, width, height));
    }
    return state.errorMaps.get(s);
}

function drawCertificate(pen, state, t, top) {
    const { parts } = state.result, narrow = pen.width < 620, columns = narrow ? 1 : 2, step = narrow ? 21 : 26;
    parts.forEach(([name, holds, asked], i) => {
        const x = 8 + (i % columns) * (pen.width / columns), y = top + Math.floor(i / columns) * step;
        const open = t < ASKED + i * 0.07, mark = open ? "·" : holds === true ? "✓" : holds === false ? "✗" : "–";
        const colour = open ? pen.faint : holds === true ? pen.good : holds === false ? pen.bad : pen.soft;
        pen.text(mark, x, y, { bold: true, size: 16, colour });
        const wide = pen.text(name, x + 20, y, { bold: !open, colour: open ? pen.soft : pen.ink });
        if (pen.width >= 900) pen.text(asked, x + 28 + wide, y, { size: 11, colour: pen.soft });
    });
    if (t >= ASKED + 4 * 0.07) {
        const y = top + Math.ceil(parts.length / columns) * step + 8;
        const [claim, draws] = verdict(state, narrow), colour = state.result.certified ? pen.good : pen.bad;
        const wide = pen.text(claim, 8, y, { bold: true, size: 16, colour });
        pen.text(draws, narrow ? 8 : 20 + wide, y + (narrow ? 20 : 0), { colour: pen.soft });
    }
}

// The claim, and what it took.
export function verdict({ result, b, expected, found }, narrow = false) {
    const last = Math.max(...found.filter(({ chosen }) => chosen).map(({ number }) => number)) + 1;
    const draws = narrow ? `the last one met after ${whole(last)} draws`
        : `the last one met after ${whole(last)} of ${whole(result.draws)} draws; theory expected ${whole(Math.round(expected))}`;
    const exact = result.rows.filter(Boolean).length;
    if (result.certified) return [`✓ ${exact} of ${b} proven exact`, draws];
    return [exact ? `${exact} of ${b} proven exact, the others are not` : "not certified", `${whole(result.draws)} draws`];
}

export const reconstruct = {
    name: "reconstruct", title: "Reconstruct", seconds: 6, end: () => 1, draw: drawReconstruct,
    words(state, t) {
        if (t < SCALED) return "Q has the right directions and no lengths yet: the bias gradient g = L Q̄ s gives them by least squares.";
        if (t < ASKED) return "Xᵀ = Q⁻¹ R. Errors are against the private batch, which only we can see: white is rounding.";
        if (t < ASKED + 4 * 0.07) return "The server has no private batch to compare with. It may say exact only where all four parts of the certificate hold.";
        const why = state.result.notes.length && !state.result.certified ? ` ${state.result.notes[0]}.` : "";
        return `The certificate (not in the paper): ${verdict(state).join(", ")}.${why}`;
    },
};
