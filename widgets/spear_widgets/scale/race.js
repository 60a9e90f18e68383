// Three attacks on one gradient, side by side by their own clocks: pictures that sharpen, or are there at once.
//
// Data (races.py): `lanes`, the last of which computes: `name`, `times` (frames,) in seconds at which each of its batches was
// there, `pictures` (frames · b, H, W, 3), their `psnr` (frames, b) and whether the last is `certified`; the private pictures
// `truth` (b, H, W, 3); the `limit` in dB from which no 8-bit pixel differs; `at`, the share of the longest run to begin with.
import { bitmap, button, check, choice, clamp, fromColours, slider, stage } from "../kit/stage.js";

const SPEEDS = [["1/20 of real time", 0.05], ["real time", 1], ["4 × real time", 4]];
const TOP = 170; // dB at the top of the chart
const MAGNIFIED = 20; // times an error is shown

function begin(data, value, ask, before) {
    const end = Math.max(...data.lanes.map(({ times }) => times.at(-1)));
    const b = data.truth.shape[0], lanes = data.lanes.map((lane, i) => ({ ...lane, last: lane.times.length - 1, computes: i === data.lanes.length - 1 }));
    return { ...data, lanes, b, end, t: data.at * end, playing: false, speed: before?.speed ?? 1, time: 0, sample: -1, errors: before?.errors ?? false };
}

// ---------------------------------------------------------------- what was there when
// The frame of a lane at the present time; −1 while what is computed is not there. A guess has its random start at once.
export function frameAt({ times, computes }, t) {
    let frame = computes ? -1 : 0;
    while (frame + 1 < times.length && times[frame + 1] <= t) frame += 1;
    return frame;
}

const psnrAt = (state, lane, frame) => lane.psnr.subarray(frame * state.b, (frame + 1) * state.b);
const seconds = value => `${value.toFixed(2)} s`;
const decibels = value => (value >= 999 ? "∞ dB" : `${Math.round(value)} dB`);

function median(values) {
    const sorted = Array.from(values).sort((a, b) => a - b), middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function verdict(lane, t) {
    if (t < lane.times.at(-1)) return [lane.computes ? "computing" : "guessing", "soft"];
    if (!lane.computes) return ["stopped, proves nothing", "bad"];
    return lane.certified ? ["✓ proven", "good"] : ["not proven", "bad"];
}

const colours = pen => [pen.samples[1], pen.samples[0], pen.good];

const errors = new WeakMap();

// How far a picture is from the private one, `MAGNIFIED` times, on black; made once.
function error(pictures, k, { truth, b }) {
    if (!errors.has(pictures)) errors.set(pictures, new Map());
    const made = errors.get(pictures), [, height, width] = truth.shape, size = height * width * 3;
    if (!made.has(k)) {
        const off = Uint8ClampedArray.from({ length: size }, (_, i) => MAGNIFIED * Math.abs(pictures[k * size + i] - truth[(k % b) * size + i]));
        made.set(k, fromColours(off, width, height));
    }
    return made.get(k);
}

// ---------------------------------------------------------------- where things are
const wide = width => width >= 620;
const height = width => (wide(width) ? clamp(width * 0.54, 460, 550) : 556);

// A place for each of the four columns (rows, where it is narrow), the private photographs first, and the chart below.
function places({ width, height: tall }, b) {
    if (!wide(width)) {
        const side = Math.min(58, (width - 24) / 4), step = side + 40;
        const lanes = [0, 1, 2, 3].map(i => ({ x: 2, y: i * step + 14, clock: width - 4, pictures: i * step + 21 }));
        return { lanes, side, grid: b, label: 13, chart: { x: 30, y: 4 * step + 14, width: width - 40, height: tall - 4 * step - 40 } };
    }
    const column = width / 4, grid = Math.ceil(Math.sqrt(b)), rows = Math.ceil(b / grid), room = tall - clamp(tall * 0.32, 150, 170) - 76;
    const side = Math.floor(Math.min((column - 16 - 6 * (grid - 1)) / grid, room / rows - 20));
    const lanes = [0, 1, 2, 3].map(i => ({ x: i * column + 2, y: 18, pictures: 50 })), top = 50 + rows * (side + 20) + 22;
    return { lanes, side, grid, label: 14, chart: { x: 40, y: top, width: width - 52, height: tall - top - 30 } };
}

const placeOf = (at, lane, k) => [lane.x + (k % at.grid) * (at.side + 6), lane.pictures + Math.floor(k / at.grid) * (at.side + 20)];

// ---------------------------------------------------------------- drawing
function draw(pen, state, time) {
    const passed = clamp((time - state.time) / 1000, 0, 0.1);
    state.time = time;
    if (state.playing) {
        state.t = Math.min(state.end, state.t + passed * state.speed);
        state.playing = state.t < state.end;
    }
    const at = (state.at = places(pen, state.b));
    drawTruth(pen, state, at);
    state.lanes.forEach((lane, i) => drawLane(pen, state, at, lane, i));
    drawChart(pen, state, at.chart);
    return state.playing;
}

function drawTruth(pen, state, at) {
    const place = at.lanes[0];
    pen.text("private photographs", place.x, place.y, { bold: true });
    pen.text("known to the client only", place.clock ?? place.x, place.y + (place.clock ? 0 : 20), { size: 12, colour: pen.soft, align: place.clock ? "right" : "left" });
    for (let k = 0; k < state.b; k++) {
        const [x, y] = placeOf(at, place, k);
        pen.picture(bitmap(state.truth, k), x, y, at.side, at.side, { frame: k === state.sample ? pen.ink : null });
    }
}

function drawLane(pen, state, at, lane, i) {
    const place = at.lanes[i + 1], frame = frameAt(lane, state.t), colour = colours(pen)[i], [said, tone] = verdict(lane, state.t);
    const used = pen.text(lane.name, place.x, place.y, { bold: true, colour });
    const clock = seconds(Math.min(state.t, lane.times.at(-1)));
    const words = { size: 12, colour: pen[tone], bold: tone === "good" };
    if (place.clock) pen.text(clock, place.x + used + 10, place.y, { bold: true });
    else pen.text(clock, place.x, place.y + 21, { bold: true, size: 16 });
    pen.text(said, place.clock ?? place.x + 66, place.y + (place.clock ? 0 : 21), { ...words, align: place.clock ? "right" : "left" });
    for (let k = 0; k < state.b; k++) {
        const [x, y] = placeOf(at, place, k), { side } = at;
        if (frame < 0) {
            pen.box(x, y, side, side, { fill: pen.tone(0.06), stroke: pen.faint });
            pen.text("?", x + side / 2, y + side / 2, { size: side * 0.3, align: "center", base: "middle", colour: pen.soft });
            continue;
        }
        const value = psnrAt(state, lane, frame)[k], sure = lane.certified;
        pen.picture((state.errors ? error : bitmap)(lane.pictures, frame * state.b + k, state), x, y, side, side, { frame: sure ? pen.good : k === state.sample ? pen.ink : null });
        pen.text(decibels(value), x + side / 2, y + side + at.label, { size: 12, align: "center", bold: k === state.sample, colour: sure ? pen.good : pen.ink });
    }
}

// PSNR of every photograph over the seconds, as far as they have passed.
function drawChart(pen, state, box) {
    const across = t => box.x + (box.width * t) / state.end, up = value => box.y + box.height * (1 - clamp(value, 0, TOP) / TOP), foot = box.y + box.height;
    for (const value of [0, 50, 100, 150]) {
        pen.line([[box.x, up(value)], [box.x + box.width, up(value)]], pen.grid);
        pen.text(String(value), box.x - 6, up(value) + 4, { size: 11, colour: pen.soft, align: "right" });
    }
    pen.text("dB", box.x - 6, box.y - 3, { size: 11, colour: pen.soft, align: "right" });
    pen.line([[box.x, up(state.limit)], [box.x + box.width, up(state.limit)]], pen.faint, 1.5);
    pen.text(`from ${state.limit} dB on no 8-bit pixel differs`, box.x + box.width, up(state.limit) + 13, { size: 11, colour: pen.soft, align: "right" });
    for (let t = 0; t <= state.end; t += state.end > 8 ? 2 : state.end > 3 ? 1 : 0.5) {
        pen.text(`${t} s`, across(t), foot + 17, { size: 11, colour: pen.soft, align: "center" });
    }
    state.lanes.forEach((lane, i) => {
        const frame = frameAt(lane, state.t), colour = colours(pen)[i];
        if (frame < 0) return;
        for (let k = 0; k < state.b; k++) {
            const points = [];
            for (let f = 0; f <= frame; f++) points.push([across(lane.times[f]), up(lane.psnr[f * state.b + k])]);
            if (lane.computes) points.unshift([across(lane.times[0]), foot]);
            points.push([across(frame < lane.last ? state.t : Math.min(state.t, state.end)), points.at(-1)[1]]);
            pen.context.globalAlpha = state.sample < 0 || state.sample === k ? 1 : 0.25;
            pen.line(points, colour, state.sample === k ? 2.5 : 1.3);
            pen.context.globalAlpha = 1;
        }
    });
    pen.line([[box.x, foot], [box.x + box.width, foot]], pen.grid, 6);
    pen.line([[box.x, foot], [across(state.t), foot]], pen.accent, 6);
    pen.line([[across(state.t), box.y], [across(state.t), foot]], pen.ink, 1.5);
    pen.disc(across(state.t), foot, 7, { fill: pen.ink, stroke: pen.paper, line: 2 });
}

// ---------------------------------------------------------------- touching
const scrub = (state, t) => Object.assign(state, { t: clamp(t, 0, state.end), playing: false });

function grab(state, at) {
    if (!state.at || at.y < state.at.chart.y - 6) return null;
    const { x, width } = state.at.chart;
    return { move: to => scrub(state, ((to.x - x) / width) * state.end) };
}

// The photograph pointed at, in all columns and in the chart.
function point(state, at) {
    const before = state.sample, { lanes, side } = state.at ?? { lanes: [] };
    state.sample = -1;
    for (const lane of at ? lanes : []) {
        for (let k = 0; k < state.b; k++) {
            const [x, y] = placeOf(state.at, lane, k);
            if (at.x >= x && at.x <= x + side && at.y >= y && at.y <= y + side) state.sample = k;
        }
    }
    return state.sample !== before;
}

function play(state) {
    if (!state.playing && state.t >= state.end) state.t = 0;
    state.playing = !state.playing;
}

function key(state, name) {
    const turn = by => { state.sample = ((state.sample + 1 + by + state.b + 1) % (state.b + 1)) - 1; };
    const acts = {
        " ": () => play(state), Home: () => scrub(state, 0), End: () => scrub(state, state.end),
        ArrowRight: () => scrub(state, state.t + state.end / 50), ArrowLeft: () => scrub(state, state.t - state.end / 50),
        ArrowDown: () => turn(1), ArrowUp: () => turn(-1),
    };
    acts[name]?.();
    return name in acts;
}

const medians = state => state.lanes.map(lane => {
    const frame = frameAt(lane, state.t);
    return frame < 0 ? null : median(psnrAt(state, lane, frame));
});

function words(state) {
    if (state.errors && !state.playing) return `Instead of the pictures, how far each pixel is from the private one, ${MAGNIFIED} times, after ${seconds(state.t)}. Black is no difference in any 8-bit pixel.`;
    if (state.playing) return "Each clock is that attack's own, in processor seconds of one thread; here they start together.";
    if (state.t === 0) return "Three attacks on one gradient of the same photographs, each run by itself just now. Play, or drag the time below.";
    const had = medians(state).map((value, i) => `${state.lanes[i].name} ${value === null ? "nothing yet" : decibels(value)}`);
    const { certified, times } = state.lanes.at(-1), done = state.t >= times[0];
    const proof = !done ? "" : certified ? " The last one is proven, from the gradient and b alone; a guess never is." : " The last one could not be proven here.";
    return `After ${seconds(state.t)}, median PSNR: ${had.join(", ")}.${proof}`;
}

export default stage({
    name: "race-stage",
    label: "The private photographs, and what three attacks have of them at the same time, each with its clock; below, PSNR over the seconds. Up and down choose a photograph.",
    height, begin, draw, words, grab, key,
    pan: "pan-y",
    hover: point,
    controls: [
        button(state => (state.playing ? "Pause" : "Play"), play),
        slider("time", state => [0, state.end, state.end / 500], state => state.t, scrub, { grow: true, text: state => seconds(state.t) }),
        choice("speed", SPEEDS, state => state.speed, (state, value) => { state.speed = value; }),
        check(`show errors, × ${MAGNIFIED}`, state => state.errors, (state, on) => { state.errors = on; }),
    ],
    told: state => ({ seconds: state.t, medians: medians(state) }),
});
