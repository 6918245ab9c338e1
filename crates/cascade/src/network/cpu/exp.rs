//! Exponential function. It uses fused multiply-adds, which compute the same bits on every CPU.

/// Returns `e^x` for `x <= 0`, with an error of about one unit in the last place. Arguments below -87 are treated as
/// -87, so that the result is never subnormal. Range reduction and coefficients follow `expf` of Cephes.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// 1.5 * 2^23. Adding it rounds to an integer, ties to even, and leaves that integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.987_569_2e-4_f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.mul_add(r, coefficient);
    }
    let p = p.mul_add(r * r, r + 1.0);
    // Moves the integer `n` from the low bits of `shifted` to the exponent.
    f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23)) * p
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn agrees_with_the_standard_library() {
        for i in 0..=870_000 {
            let x = -(i as f32) / 10_000.0;
            let (ours, theirs) = (exp(x), x.exp());
            assert!((ours - theirs).abs() <= 3e-7 * theirs, "{x}: {ours} {theirs}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }
}
