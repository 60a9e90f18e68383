// Scene 1, low rank: G = L R. The spectrum falls off a cliff at b; G slides apart into L and R, whose rows are mixtures.
import { clamp, mix, smooth, slider, whole } from "../stage.js";
import { mixture, tiled } from "./common.js";

const FADE = [0.12, 0.5, 0.62, 1]; // shares of the scene's time: spectrum from … to, sliding apart from … to

export function splitPlaces({ width, height }, state) {
    const narrow = width < 620, spectrum = narrow ? 112 : 118, top = 40;
    const tall = height - spectrum - top - 30, across = narrow ? width * 0.26 : Math.min(width * 0.26, 250);
    const thin = clamp(state.b * 6, 20, narrow ? 40 : 76);
    const columns = narrow ? 3 : Math.ceil(Math.sqrt(state.b * 1.6)), rows = Math.ceil(state.b / columns);
    const left = 8, L = left + across + 30, R = L + Math.max(thin + 30, narrow ? 0 : 100); // L's name is wider than a small L
    const side = Math.min((width - R - 4) / columns - 6, (tall - 34) / rows - 6, 96);
    return {
        G: { x: left, y: top, width: across, height: tall }, L: { x: L, y: top, width: thin, height: tall },
        R: { x: R, y: top, width: Math.min(across, width - R - 4), height: clamp((tall * state.b) / state.L.shape[0], 6, 24) },
        narrow, side, columns, photos: { x: R, y: top + 34 }, spectrum: { x: narrow ? 8 : 44, y: height - spectrum + 6, width: narrow ? width * 0.5 : Math.min(width - 54, 420), height: spectrum - 34 },
        row: { x: Math.min(width - 122, 520), y: height - spectrum - 2, side: spectrum - 12 },
    };
}

function drawSplit(pen, state, t) {
    const at = splitPlaces(pen, state), apart = smooth((t - FADE[2]) / (FADE[3] - FADE[2])), m = state.L.shape[0];
    state.places = at;
    const start = (pen.width - at.G.width) / 2, x = mix(start, at.G.x, apart);
    const G = tiled(state.kept.G, pen, i => state.tiles[i] / 127, state.tiles.shape[0], state.tiles.shape[1]);
    pen.text(at.narrow ? "G = ∂L/∂W" : `G = ∂L/∂W, ${m} × ${whole(state.columns)}`, x, at.G.y - 22, { bold: true });
    pen.text(at.narrow ? "as sent" : "what the server gets, beside ∂L/∂β", x, at.G.y - 7, { size: 12, colour: pen.soft });
    pen.picture(G, x, at.G.y, at.G.width, at.G.height, { frame: pen.faint, line: 1 });
    if (apart > 0) drawFactors(pen, state, at, apart, x);
    drawSpectrum(pen, state, at.spectrum, (t - FADE[0]) / (FADE[1] - FADE[0]));
    if (apart === 1 && state.row >= 0) drawRow(pen, state, at);
}

function drawFactors(pen, state, at, apart, x) {
    const { L, R, G } = at, m = state.L.shape[0], b = state.b;
    const from = x + G.width - L.width, left = mix(from, L.x, apart), top = mix(G.y, R.y, apart);
    pen.context.globalAlpha = smooth((apart - 0.85) / 0.15); // their names, once they stand apart
    pen.text("=", G.x + G.width + 15, G.y + G.height / 2, { size: 20, align: "center" });
    pen.text("·", (L.x + L.width + R.x) / 2, G.y + G.height / 2, { size: 26, align: "center" });
    pen.text(at.narrow ? "L" : `L, ${m} × ${b}`, left, G.y - 22, { bold: true });
    pen.text("shares", left, G.y - 7, { size: 12, colour: pen.soft });
    pen.text(at.narrow ? "R" : `R, ${b} × ${whole(state.columns)}`, R.x, R.y - 22, { bold: true });
    pen.text("its rows are mixtures", R.x, R.y - 7, { size: 12, colour: pen.soft });
    pen.context.globalAlpha = apart;
    pen.picture(state.tilesOfL(pen), left, L.y, L.width, L.height, { alpha: apart, frame: pen.faint, line: 1 });
    pen.picture(state.tilesOfR(pen), R.x, top, R.width, R.height, { alpha: apart, frame: pen.faint, line: 1 });
    state.mixtures ??= Array.from({ length: b }, (_, j) => mixture(state, unit(b, j)));
    state.mixtures.forEach((picture, j) => {
        const px = at.photos.x + (j % at.columns) * (at.side + 6), py = at.photos.y + Math.floor(j / at.columns) * (at.side + 6);
        const flown = smooth(apart * 1.6 - (0.6 * j) / b);
        pen.picture(picture, mix(R.x, px, flown), mix(top, py, flown), at.side, mix(R.height, at.side, flown), { alpha: flown });
    });
    pen.context.globalAlpha = 1;
}

const unit = (b, j) => Array.from({ length: b }, (_, i) => Number(i === j));

// Singular values on a logarithmic scale: b of them stand above the rounding.
function drawSpectrum(pen, state, { x, y, width, height }, t) {
    if (t <= 0) return;
    const values = state.values, top = Math.log10(values[0]) + 0.3, low = Math.log10(Math.max(state.floor, values[0] * 1e-12)) - 1.2;
    const step = width / values.length, shown = clamp(t, 0, 1) * values.length;
    pen.box(x, y + height * (1 - (Math.log10(state.floor) - low) / (top - low)), width, height * ((Math.log10(state.floor) - low) / (top - low)), { fill: pen.tone(0.07) });
    for (let i = 0; i < Math.min(values.length, shown); i++) {
        const tall = clamp((Math.log10(Math.max(values[i], 10 ** low)) - low) / (top - low), 0.02, 1) * height;
        pen.box(x + i * step, y + height - tall, Math.max(2, step * 0.7), tall, { fill: i < state.b ? pen.accent : pen.faint });
    }
    pen.line([[x, y + height], [x + width, y + height]], pen.faint);
    pen.text("singular values of G", x, y + height + 17, { size: 12, colour: pen.soft });
    if (shown > state.b) {
        const cliff = x + state.b * step;
        pen.line([[cliff - step * 0.15, y - 4], [cliff - step * 0.15, y + height]], pen.hot, 1.5);
        pen.text(width < 400 ? `b = ${state.b}` : `${state.b} stand above rounding: b = ${state.b}`, cliff + 6, y + 8, { size: 13, bold: true, colour: pen.hot });
    }
}

// Row j: of L, of G, and the mixture of pictures that it is.
function drawRow(pen, state, { G, L, row }) {
    const m = state.L.shape[0], y = G.y + ((state.row + 0.5) / m) * G.height;
    for (const box of [G, L]) pen.box(box.x - 3, y - 3, box.width + 6, 6, { stroke: pen.hot, line: 2, round: 3 });
    const weight = state.L.subarray(state.row * state.b, (state.row + 1) * state.b), silent = weight.every(w => Math.abs(w) < 1e-6);
    pen.text(`row ${state.row + 1} of G`, row.x - 8, row.y + 16, { size: 12, align: "right", colour: pen.soft });
    pen.text(silent ? "silent for all" : "is this mixture", row.x - 8, row.y + 32, { size: 12, align: "right", colour: pen.soft });
    if (state.shownRow !== state.row) {
        state.rowPicture = silent ? null : mixture(state, weight);
        state.shownRow = state.row;
    }
    if (state.rowPicture) pen.picture(state.rowPicture, row.x, row.y, row.side, row.side, { frame: pen.hot, line: 2 });
}

function rowAt(state, at) {
    const { G, L } = state.places ?? {};
    if (!at || !G || at.y < G.y || at.y > G.y + G.height || at.x > L.x + L.width + 8 || at.x < G.x - 4) return -1;
    return clamp(Math.floor(((at.y - G.y) / G.height) * state.L.shape[0]), 0, state.L.shape[0] - 1);
}

export const split = {
    name: "split", title: "Split", seconds: 6, end: () => 1, draw: drawSplit,
    hover(state, at) {
        const row = rowAt(state, at), changed = row >= 0 && row !== state.row;
        if (changed) state.row = row;
        return changed;
    },
    grab: (state, at) => (rowAt(state, at) < 0 ? null : { move: to => split.hover(state, to) }),
    controls: state => [slider("row", [1, state.L.shape[0]], s => s.row + 1, (s, value) => { s.row = value - 1; }, { text: s => (s.row < 0 ? "–" : String(s.row + 1)), hidden: s => s.scene !== "split" })],
    words: (state, t) => (t < FADE[1]
        ? `The gradient G has ${whole(state.L.shape[0])} × ${whole(state.columns)} entries, and looks like noise.`
        : `Only ${state.b} singular values of G stand above rounding errors: the batch has b = ${state.b} samples, and `
            + `G = L R with ${state.b} rows in R. Point at a row of G: it is a mixture of pictures, and row of L says of how much of each.`),
};
