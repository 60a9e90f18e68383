// Fifteen seconds of the machine, as times at which each scene is where.
import { clamp, mix, smooth } from "../stage.js";

export const FILM_SECONDS = 15;

const PARTS = [
    { until: 3.4, at: (state, t) => ({ scene: "split", at: t, said: splitting(state, t) }) },
    { until: 5.2, at: (state, t) => ({ scene: "draw", at: 0, share: Math.min(1, 1.1 * t), said: `Any ${state.b - 1} of its rows give one candidate direction q.` }) },
    { until: 6, at: (state, t) => drawing(state, 0, first(state), t, "Almost every candidate is wrong: L q has hardly a zero.") },
    { until: 7.8, at: state => ({ scene: "filter", at: first(state), share: 1, said: "A ReLU that is off for a photograph leaves a zero. So about half are zero: q is right." }) },
    { until: 8.8, at: (state, t) => drawing(state, first(state), last(state), t, "And again, until there is one direction for each photograph.") },
    { until: 12.4, at: (state, t) => ({ scene: "wipe", at: wipes(state, t), said: "Each direction wipes one photograph out of every mixture. One is left, alone." }) },
    { until: FILM_SECONDS, at: (state, t) => ({ scene: "reconstruct", at: clamp(0.5 + t * 0.7, 0, 1), said: ending(state) }) },
];

const splitting = (state, t) => (t < 0.3 ? "A client shares this gradient, and keeps its photographs."
    : `It has rank ${state.b}: ${state.b} photographs, mixed in the rows of R.`);

// What the film shows after so many seconds.
export function filmAt(state, seconds) {
    let began = 0;
    for (const { until, at } of PARTS) {
        if (seconds < until || until === FILM_SECONDS) return at(state, (seconds - began) / (until - began));
        began = until;
    }
}

// What is said, on one line or, where that is too long, on two.
export function drawCaption(pen, said, y) {
    if (said.length * 9.6 < pen.width) return pen.text(said, pen.width / 2, y, { size: 17, bold: true, align: "center" });
    const half = said.indexOf(" ", said.length / 2 - 3), lines = [said.slice(0, half), said.slice(half + 1)];
    return lines.forEach((line, i) => pen.text(line, pen.width / 2, y - 10 + 18 * i, { size: 13, bold: true, align: "center" }));
}

const ending = ({ b, result }) => `Leave out another one each time: all ${b} are back${result.certified ? ", exactly, with a proof" : ""}.`;

// Draws in a rush, faster and faster.
function drawing(state, from, to, t, said) {
    return { scene: "filter", at: Math.floor(mix(from, to, smooth(t) ** 1.6)), share: 1, rush: true, said };
}

const first = ({ found }) => found[0].number;
const last = ({ found }) => Math.max(...found.map(({ number }) => number));

const wipes = (state, t) => mix(0, state.b - 1, clamp(t * 1.5, 0, 1));
