// Which entries of L q are zero to rounding, for a unit vector q: those up to ν ‖S⁻¹ q‖ + 16 ε, as in
// `spear_core.spear.zeros.zero_tolerance`; `noise` and `singular` are what `Scene.live_rows` says of the rows.
export function zeroEntries(entries, q, { noise, singular }) {
    const amplified = Math.hypot(...Array.from(q, (entry, i) => entry / singular[i]));
    return Array.from(entries, (entry, i) => Math.abs(entry) <= noise[i] * amplified + 16 * Number.EPSILON);
}
