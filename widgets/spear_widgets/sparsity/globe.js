// The ball with its great circles, the marks of the samples, and the cross in its middle.
import { clamp } from "../kit/stage.js";
import { seen } from "./turning.js";

// Whether a sample is to be seen: marked, or found.
export const showing = (state, sample) => state.marked || state.found[sample];

const GROUNDS = { light: ["#ffffff", "#eef4fa", "#d3e0ec"], dark: ["#3a4654", "#27303b", "#171d25"] };

// The ball, lit from above; in front of its circles the rim alone, where all lies flat to the view.
export function drawBall({ context, dark, faint }, { x, y, radius }, front) {
    const [dx, dy, inner] = front ? [0, 0, 0.8] : [-0.35, -0.4, 0.1];
    const fill = context.createRadialGradient(x + dx * radius, y + dy * radius, inner * radius, x, y, radius);
    const rim = dark ? "23, 29, 37" : "190, 206, 222";
    const tints = front ? [`rgba(${rim}, 0)`, `rgba(${rim}, .75)`] : GROUNDS[dark ? "dark" : "light"];
    tints.forEach((tint, i) => fill.addColorStop(i / (tints.length - 1), tint));
    Object.assign(context, { fillStyle: fill, strokeStyle: faint, lineWidth: 1 });
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
    if (front) context.stroke();
}

// Half of a great circle with this normal, as seen: an ellipse around the middle of the ball.
function trace(context, { x, y, radius }, [nx, ny, nz], front) {
    const begin = (nz > 0) === front ? Math.PI : 0;
    context.beginPath();
    context.ellipse(x, y, radius, radius * Math.abs(nz), Math.atan2(-nx, -ny), begin, begin + Math.PI);
}

export function drawCircles(pen, state, ball, light) {
    const { context } = pen, normals = state.normals.slice(0, state.count).map(normal => seen(state.shown, normal));
    const stroke = (normal, front, strokeStyle, lineWidth) => {
        Object.assign(context, { strokeStyle, lineWidth, lineCap: "butt" });
        trace(context, ball, normal, front);
        context.stroke();
    };
    for (const normal of normals) stroke(normal, false, pen.tone(0.5, 0.16), 0.7);
    normals.forEach((normal, i) => {
        const samples = [0, 1, 2].filter(k => state.through[3 * i + k] && showing(state, k));
        const colour = samples.length === 1 ? pen.sample(samples[0]) : samples.length ? pen.ink : pen.tone(0.62);
        const through = state.snapped >= 0 && state.zero[i];
        context.globalAlpha = through ? 1 : state.snapped >= 0 ? 0.3 : samples.length ? 0.8 : 0.6;
        stroke(normal, true, colour, through ? 1.8 : samples.length ? 1.2 : 0.9);
        context.globalAlpha = 1;
    });
    normals.forEach((normal, i) => {
        if (light[i] <= 0) return;
        stroke(normal, true, lamp(pen, 0.6 * light[i]), 7);
        stroke(normal, true, pen.tone(1, light[i]), 2);
    });
}

export const lamp = (pen, alpha) => `rgba(255, ${pen.dark ? 208 : 190}, 60, ${alpha})`;

// Each sample twice: q and −q are one direction, one of them in front. The one behind is an empty outline.
export function drawMarks(pen, state, { x, y, radius }) {
    for (let i = 0; i < 3; i++) {
        if (!showing(state, i)) continue;
        const point = seen(state.shown, state.exact.subarray(3 * i, 3 * i + 3)), sign = point[2] < 0 ? -1 : 1;
        const [px, py] = [x + sign * point[0] * radius, y - sign * point[1] * radius];
        if (i !== state.snapped) {
            pen.context.globalAlpha = 0.5;
            pen.disc(2 * x - px, 2 * y - py, 5, { stroke: pen.sample(i), line: 1.5 });
            pen.context.globalAlpha = 1;
        }
        pen.marker(i, px, py, 8);
        const left = px > x + radius * 0.5;
        const place = left ? [px - 13, "right"] : [px + 13, "left"];
        pen.text(`sample ${i + 1}`, place[0], py + (i === state.snapped ? 20 : 5), { bold: true, align: place[1], halo: true });
    }
}

export function drawCross(pen, state, { x, y }, glow) {
    const found = state.snapped >= 0, colour = found ? pen.sample(state.snapped) : pen.ink;
    if (glow > 0) {
        for (const late of [0, 0.35]) {
            const share = clamp((1 - glow - late) / (1 - late), 0, 1);
            if (glow < 1 - late) pen.disc(x, y, 12 + 52 * share, { stroke: colour, line: 5 * (1 - share) });
        }
    }
    for (const [line, tint] of [[5, pen.paper], [2, colour]]) {
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
            pen.line([[x + dx * (found ? 13 : 5), y + dy * (found ? 13 : 5)], [x + dx * 24, y + dy * 24]], tint, line);
        }
    }
    pen.text("q", x - 12, y - 12, { bold: true, size: 15, align: "right", halo: true, colour });
}
