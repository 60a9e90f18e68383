// Fifteen seconds of the machine, as times at which each scene is where.
import { clamp, mix, smooth } from "../stage.js";

export const FILM_SECONDS = 15;

const PARTS = [
    { until: 3.4, at: (state, t) => ({ scene: "split", at: t }) },
    { until: 5.2, at: (state, t) => ({ scene: "draw", at: 0, share: t }) },
    { until: 8.2, at: drawing },
    { until: 11.6, at: (state, t) => ({ scene: "wipe", at: state.scenes && wipes(state, t) }) },
    { until: FILM_SECONDS, at: (state, t) => ({ scene: "reconstruct", at: clamp(t * 1.25, 0, 1) }) },
];

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
    return { scene: "filter", at: Math.floor(last * smooth(clamp(t, 0, 1)) ** 1.6), share: 1, rush: true };
}

const wipes = (state, t) => mix(0, state.b - 1, clamp(t * 1.1, 0, 1));
