// Fifteen seconds of the machine, as times at which each scene is where.
import { clamp, mix, smooth } from "../stage.js";

export const FILM_SECONDS = 15;

const PARTS = [
    { until: 3.4, at: (state, t) => ({ scene: "split", at: t, said: splitting(state, t) }) },
    { until: 5.6, at: (state, t) => ({ scene: "draw", at: 0, share: Math.min(1, 1.1 * t), said: `Any ${state.b - 1} rows give one candidate direction q.` }) },
    { until: 8.4, at: drawing },
    { until: 11.8, at: (state, t) => ({ scene: "wipe", at: wipes(state, t), said: "Each direction found wipes one photograph out of every mixture." }) },
    { until: FILM_SECONDS, at: (state, t) => ({ scene: "reconstruct", at: clamp(t * 1.25, 0, 1), said: `All ${state.b} photographs are back, down to rounding, and it can be proven.` }) },
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

// All draws in a rush, faster and faster.
function drawing(state, t) {
    const last = state.draws.count - 1;
    return { scene: "filter", at: Math.floor(last * smooth(clamp(t, 0, 1)) ** 1.6), share: 1, rush: true, said: "Where half of the entries of L q vanish, q is a photograph's own direction." };
}

const wipes = (state, t) => mix(0, state.b - 1, clamp(t * 1.1, 0, 1));
