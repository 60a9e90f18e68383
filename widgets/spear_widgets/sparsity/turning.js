// An eye that looks at a ball of directions: three rows, right, up and towards it, as in `spear_widgets.kit.eye`.
import { clamp, dot } from "../kit/stage.js";

export const DEGREE = Math.PI / 180;

export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
export const scaled = (a, factor) => [a[0] * factor, a[1] * factor, a[2] * factor];
export const unit = a => scaled(a, 1 / Math.hypot(...a));
export const seen = (eye, point) => eye.map(row => dot(row, point));

// The eye of an upright head that has q at turn and tilt, as `spear_widgets.kit.eye.view`.
export function upright(turn, tilt) {
    const [a, t] = [turn * DEGREE, tilt * DEGREE], [ca, sa, ct, st] = [Math.cos(a), Math.sin(a), Math.cos(t), Math.sin(t)];
    return [[-sa, ca, 0], [-st * ca, -st * sa, ct], [ct * ca, ct * sa, st]];
}

// The eye after all that it sees was turned about an axis in its own coordinates.
export function turned(eye, axis, angle) {
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    const columns = [0, 1, 2].map(k => {
        const p = [eye[0][k], eye[1][k], eye[2][k]], along = dot(axis, p) * (1 - c), side = cross(axis, p);
        return p.map((entry, i) => entry * c + side[i] * s + axis[i] * along);
    });
    const rows = [0, 1, 2].map(i => columns.map(column => column[i]));
    const towards = unit(rows[2]), right = unit(cross(rows[1], towards)); // rounding must not add up
    return [right, cross(towards, right), towards];
}

// … by the shortest way, so that what it sees at one place comes to another.
export function carried(eye, from, to, share = 1) {
    const axis = cross(from, to), sine = Math.hypot(...axis);
    return sine < 1e-12 ? eye : turned(eye, scaled(axis, 1 / sine), share * Math.atan2(sine, dot(from, to)));
}

export const MIDDLE = [0, 0, 1];
export const turnOf = q => Math.atan2(q[1], q[0]) / DEGREE;
export const tiltOf = q => Math.asin(clamp(q[2], -1, 1)) / DEGREE;

// The angle by which the head is not upright.
export function rollOf(eye) {
    const level = upright(turnOf(eye[2]), tiltOf(eye[2]));
    return Math.atan2(dot(eye[0], level[1]), dot(eye[0], level[0])) * -1;
}

// Where on the ball a point of the canvas is, as seen; from close to the rim on, it leaves the ball slowly.
export function onBall({ x, y, radius }, to) {
    const point = [(to.x - x) / radius, (y - to.y) / radius], far = Math.hypot(...point), edge = 0.95;
    return unit([...point, far < edge ? Math.sqrt(1 - far * far) : Math.sqrt(1 - edge * edge) * edge / far]);
}
