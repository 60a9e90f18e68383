// A search that was computed step by step, played: what circle.js and wells.js share.
//
// A run stands at a place between 0 and counts.length: after counts[i] steps at place i, after the finish at the last.
import { button, clamp, develop, dot, mix, slider, times } from "../kit/stage.js";

const PACE = 7; // places a second

export const newRun = (counts, at = 0) => ({ counts, at: clamp(at, 0, counts.length), clock: at, playing: false, time: null });

// On by the time since the frame before; true while it plays. Who wants no flights sees one step after the other.
export function advance(run, time, calm) {
    if (!run.playing) return false;
    run.clock = Math.min(run.clock + PACE * Math.min(100, time - (run.time ?? time)) / 1000, run.counts.length);
    Object.assign(run, { time, at: calm ? Math.floor(run.clock) : run.clock, playing: run.clock < run.counts.length });
    return run.playing;
}

export function go(run, place, playing = false) {
    const at = clamp(place, 0, run.counts.length);
    Object.assign(run, { at, clock: at, playing, time: null });
}

export const ended = run => run.at >= run.counts.length;

// Play, pause, or once more from the start.
export const toggle = run => go(run, ended(run) ? 0 : run.at, !run.playing);

export const stepOn = (run, by) => go(run, by > 0 ? Math.floor(run.at) + by : Math.ceil(run.at) + by);

export function after(place, counts) {
    if (place >= counts.length) return "finish";
    const count = counts[Math.floor(place)];
    return `${count} step${count === 1 ? "" : "s"}`;
}

export const runControls = [
    button(({ run }) => (run.playing ? "Pause" : ended(run) ? "Again" : "Play"), ({ run }) => toggle(run)),
    slider("steps", ({ run }) => [0, run.counts.length], ({ run }) => Math.floor(run.at), ({ run }, place) => go(run, place),
        { text: ({ run }) => after(run.at, run.counts), grow: true }),
];

// Keys that all runs know.
export function runKey(run, name) {
    if (name === " ") toggle(run);
    else if (name === "Home" || name === "End") go(run, name === "Home" ? 0 : run.counts.length);
    else if (name === "PageUp" || name === "PageDown") stepOn(run, name === "PageUp" ? 1 : -1);
    else return false;
    return true;
}

// The input c R that a point of the page stands for, c = chart · point scaled to c · means = 1, as a picture on `onto`;
// false where no input lies.
export function developGhost({ chart, means, R, photo }, point, onto) {
    const c = times(chart, point), share = dot(means, c), [rows, columns] = R.shape;
    if (!(share > 1e-12)) return false;
    const ghost = new Float64Array(columns);
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) ghost[j] += (c[i] / share) * R[i * columns + j];
    develop(ghost, photo, 0, onto);
    return true;
}

export function drawGhost(pen, there, image, { x, y, side }, colour, line) {
    if (there) return pen.picture(image, x, y, side, side, { frame: colour, line });
    pen.box(x, y, side, side, { fill: pen.tone(0.18), stroke: colour, line });
    if (side > 60) pen.text("no input here", x + side / 2, y + side / 2 + 4, { size: 12, colour: pen.soft, align: "center" });
}

// Colours of the misfit from 0, deep, to 1, high: red, green, blue.
const DEPTHS = [[0, [24, 20, 76]], [0.1, [42, 58, 140]], [0.3, [70, 128, 180]], [0.55, [142, 190, 190]], [0.8, [216, 206, 166]], [1, [236, 214, 160]]];

export function depthColour(misfit) {
    const above = Math.max(1, DEPTHS.findIndex(([level]) => level >= clamp(misfit, 0, 1)));
    const [[low, from], [high, to]] = [DEPTHS[above - 1], DEPTHS[above]];
    return from.map((channel, i) => mix(channel, to[i], (clamp(misfit, 0, 1) - low) / (high - low)));
}

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

// A misfit in words: 0.31, 0.004, 3·10⁻⁷.
export function inWords(misfit) {
    if (misfit >= 0.01 || misfit === 0) return misfit === 0 ? "0" : misfit.toFixed(2);
    const [digit, power] = misfit.toExponential(0).split("e-");
    return `${digit}·10⁻${Array.from(power, d => SUPERSCRIPTS[d]).join("")}`;
}
