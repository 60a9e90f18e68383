// The machine: one recorded run of SPEAR, played. A transport for all scenes, each of which is a module of its own.
//
// Data (recorded.py): `b`; `L` (m, b), `R` (b, n); `tiles` of G; singular `values` above a `floor`; `least` = τ m; `draws`,
// the `pool` with the order of its `q`; `result`; `truth` and `weights` = Q, which only the client has; `photo`.
import { button, choice, clamp, slider, stage, tabs, whole } from "../stage.js";
import { tiled } from "./common.js";
import { draw } from "./draw.js";
import { drawCaption, filmAt, FILM_SECONDS } from "./film.js";
import { filter } from "./filter.js";
import { reconstruct } from "./reconstruct.js";
import { split } from "./split.js";
import { wipe } from "./wipe.js";

const SCENES = { split, draw, filter, wipe, reconstruct };
const PACE = 0.62; // draws a second at speed 1
const LONGEST = 18; // seconds that a whole run may take at 1,000×
const CAPTION = 40; // pixels below a film's scenes
const SPEEDS = [["1×", 1], ["10×", 10], ["1,000×", 1000]];

function begin(data) {
    const state = {
        ...data, film: undefined, scene: data.scenes?.[0], playing: false, speed: 1, share: 1, rush: false, row: -1, time: 0,
        kept: { G: {}, L: {}, R: {} }, at: Object.fromEntries(Object.keys(SCENES).map(name => [name, 0])),
    };
    if (data.refusal) return state;
    state.at.split = isCalm() && state.scenes.length > 1 ? 1 : 0; // alone it poses the riddle and does not solve it
    state.limit = largestRow(state.L);
    state.nearZero = 3e-3 * state.limit;
    state.found = inOrder(data);
    state.tilesOfL = pen => tiled(state.kept.L, pen, i => (2.2 * state.L[i]) / state.limit, ...state.L.shape);
    state.tilesOfR = pen => {
        const [b, n] = state.R.shape, step = Math.max(1, Math.floor(n / 192)), columns = Math.floor(n / step);
        state.kept.R.limit ??= Math.max(...state.R.filter((_, i) => i % 97 === 0).map(Math.abs));
        return tiled(state.kept.R, pen, i => state.R[Math.floor(i / columns) * n + (i % columns) * step] / state.kept.R.limit, b, columns);
    };
    if (data.film) Object.assign(state, { film: 0 });
    return state;
}

function largestRow(L) {
    const [m, b] = L.shape;
    let most = 0;
    for (let j = 0; j < m; j++) most = Math.max(most, Math.hypot(...L.subarray(j * b, (j + 1) * b)));
    return most;
}

// The directions of the pool in the order in which draws brought them; those that no draw brought come last.
function inOrder({ pool, draws }) {
    const first = new Map(), last = pool.choices.at(-1)?.chosen ?? [];
    for (let i = 0; i < draws.numbers.length; i++) {
        if (draws.fates[i] === 3 && !first.has(draws.members[i])) first.set(draws.members[i], draws.numbers[i]);
    }
    return Array.from(pool.zeros, (zeros, member) => ({
        member, zeros, number: first.get(member) ?? draws.count - 1, chosen: last.includes(member), sample: pool.samples[member],
    }));
}

// ---------------------------------------------------------------- playing
const now = state => state.at[state.scene];
const scene = state => SCENES[state.scene];

function advance(state, seconds) {
    const { draws: byDraws, seconds: long, pace, end } = scene(state), last = end(state);
    if (byDraws) advanceDraws(state, seconds, last);
    else state.at[state.scene] = Math.min(last, now(state) + seconds * (pace ?? last / long));
    const done = now(state) >= last && (!byDraws || state.share >= 1);
    if (done) following(state);
}

function advanceDraws(state, seconds, last) {
    const rate = state.speed < 1000 ? PACE * state.speed : Math.max(600, last / LONGEST);
    const ahead = state.at.draw + state.share + seconds * rate, number = Math.min(last, Math.floor(ahead));
    state.rush = state.speed >= 1000;
    setDraw(state, number, number === last && ahead >= last + 1 ? 1 : Math.min(1, ahead - number));
    if (state.rush && number === last) state.share = 1;
}

// Draw and filter are two looks at one draw.
function setDraw(state, number, share = 1) {
    state.at.draw = state.at.filter = clamp(number, 0, draw.end(state));
    state.share = share;
}

// When a scene is over: the next one, if there is one; after the draws it is not the other look at them.
function following(state) {
    const places = state.scenes, here = places.indexOf(state.scene);
    const next = places.slice(here + 1).find(name => !(scene(state).draws && SCENES[name].draws));
    if (!next || scene(state).name === "split") { state.playing = false; return; }
    Object.assign(state, { scene: next });
    state.at[next] = 0;
}

function paint(pen, state, time) {
    if (state.refusal) {
        pen.text("refused", pen.width / 2, pen.height / 2, { size: 22, align: "center", bold: true, colour: pen.bad });
        return false;
    }
    const seconds = clamp((time - state.time) / 1000, 0, 0.1);
    state.time = time;
    if (state.film !== undefined) film(pen, state, seconds);
    else if (state.playing) advance(state, seconds);
    pen.height -= state.film === undefined ? 0 : CAPTION;
    scene(state).draw(pen, state, now(state));
    if (state.film !== undefined) drawCaption(pen, state.said, pen.height + CAPTION - 14);
    return state.playing;
}

function film(pen, state, seconds) {
    if (state.playing) state.film = Math.min(FILM_SECONDS, state.film + seconds);
    const shown = filmAt(state, state.film);
    Object.assign(state, { scene: shown.scene, rush: shown.rush ?? false, said: shown.said });
    if (SCENES[shown.scene].draws) setDraw(state, shown.at, shown.share);
    else state.at[shown.scene] = shown.at;
    if (state.film >= FILM_SECONDS) state.playing = false;
}

// ---------------------------------------------------------------- the transport
function play(state) {
    const last = scene(state).end(state);
    state.playing = !state.playing;
    if (!state.playing) { state.share = 1; return; }
    if (state.film !== undefined) { if (state.film >= FILM_SECONDS) state.film = 0; return; }
    if (now(state) >= last) state.at[state.scene] = 0;
    if (scene(state).draws) setDraw(state, now(state), 0);
}

function step(state, by) {
    state.playing = false;
    if (scene(state).draws) setDraw(state, now(state) + by);
    else {
        const last = scene(state).end(state), whole = scene(state).pace ? 1 : last / 10;
        state.at[state.scene] = clamp(Math.round(now(state) / whole + by) * whole, 0, last);
    }
}

// To the next draw that found a direction, or the one before.
function jump(state, by) {
    const numbers = state.found.map(({ number }) => number).filter(number => (by > 0 ? number > now(state) : number < now(state)));
    if (numbers.length) { state.playing = false; setDraw(state, by > 0 ? Math.min(...numbers) : Math.max(...numbers)); }
}

const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// A scene from its tab: one that tells a story in time begins to play, unless the reader wants nothing to move.
function show(state, name) {
    const told = Boolean(SCENES[name].seconds), playing = told && !isCalm();
    Object.assign(state, { scene: name, playing, share: 1, rush: false });
    if (told) state.at[name] = playing ? 0 : 1;
}

function scrub(state, value) {
    state.playing = false;
    if (scene(state).draws) setDraw(state, Math.round(value));
    else state.at[state.scene] = value;
}

function controls(state) {
    if (state.refusal) return [];
    const playing = button(s => (s.playing ? "Pause" : "Play"), play);
    if (state.film !== undefined) {
        return [playing, slider("film", [0, FILM_SECONDS, 0.1], s => s.film, (s, value) => Object.assign(s, { film: value, playing: false }), { grow: true, text: s => `${s.film.toFixed(0)} s` })];
    }
    const names = state.scenes.map((name, k) => [`${k + 1} ${SCENES[name].title}`, name]);
    const drawing = { hidden: s => !scene(s).draws };
    return [
        tabs("scene", names, s => s.scene, show),
        playing,
        button("◀", s => step(s, -1), { name: "one step back" }), button("▶", s => step(s, 1), { name: "one step on" }),
        slider("position", s => [0, scene(s).end(s), scene(s).draws ? 1 : 0.01], now, scrub, {
            grow: true, hidden: s => scene(s).draws, text: s => (scene(s).draws ? `draw ${whole(now(s) + 1)}` : scene(s).pace ? `${Math.round(now(s))} of ${scene(s).end(s)}` : `${Math.round(100 * now(s))} %`),
        }),
        choice("speed", SPEEDS, s => s.speed, (s, value) => { s.speed = value; }, drawing),
        button("next find", s => jump(s, 1), drawing),
        ...state.scenes.flatMap(name => SCENES[name].controls?.(state) ?? []),
    ];
}

// ---------------------------------------------------------------- touching
function grab(state, at) {
    const { timeline } = state;
    if (state.refusal || state.film !== undefined) return null;
    if (scene(state).draws && timeline && at.y > timeline.y - 14) {
        const move = to => scrub(state, clamp((to.x - timeline.left) / (timeline.right - timeline.left), 0, 1) * scene(state).end(state));
        return { move };
    }
    return scene(state).grab?.(state, at) ?? null;
}

function key(state, name) {
    if (state.refusal) return false;
    const last = state.film === undefined ? scene(state).end(state) : 0;
    const acts = {
        " ": () => play(state), ArrowRight: () => step(state, 1), ArrowLeft: () => step(state, -1), Home: () => scrub(state, 0),
        End: () => scrub(state, last), PageDown: () => jump(state, 1), PageUp: () => jump(state, -1),
    };
    const known = name === " " || (state.film === undefined && name in acts);
    if (known) acts[name]();
    return known;
}

export default stage({
    name: "machine-stage",
    label: "The run of SPEAR: the gradient and its split, drawn units and candidates, the filter, mixtures that lose one photograph after the other, and the recovered batch.",
    height: width => (width < 620 ? 540 : clamp(width * 0.47, 440, 470)),
    begin, controls, grab, key,
    draw: paint,
    hover: (state, at) => !state.refusal && (scene(state).hover?.(state, at) ?? false),
    words: state => (state.refusal ? `The attack refuses this gradient: ${state.refusal}.` : scene(state).words(state, now(state))),
    told: state => ({ scene: state.scene, at: state.scene && now(state) }),
});
