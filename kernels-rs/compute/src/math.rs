//! Elementary functions on vectors. Lanes are independent: a value's result does not depend on its
//! neighbours or its place.

use crate::simd::Vector;

/// e^x within 2 ulp on [-87.3, 88.3]; outside, the value at the border. NaN stays NaN.
/// Cephes `expf`: range reduction by ln 2 in two parts, then a polynomial of degree 7.
#[inline(always)]
pub fn exp<V: Vector>(x: V) -> V {
    let x = x.at_least(V::splat(-87.336_54)).at_most(V::splat(88.376_26));
    let n = x.mul(V::splat(std::f32::consts::LOG2_E)).nearest();
    let r = n.madd(V::splat(-0.693_359_4), x);
    let r = n.madd(V::splat(2.121_944_4e-4), r);
    let coefficients = [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];
    let mut p = V::splat(1.987_569_1e-4);
    for coefficient in coefficients {
        p = p.madd(r, V::splat(coefficient));
    }
    let y = p.madd(r.mul(r), r).add(V::splat(1.0));
    y.mul(V::power_of_two(n))
}

/// x * sigmoid(x).
#[inline(always)]
pub fn silu<V: Vector>(x: V) -> V {
    let denominator = exp(V::splat(0.0).sub(x)).add(V::splat(1.0));
    x.div(denominator)
}

/// Coefficients of erfc's exponent in t = 1 / (1 + z/2), highest power first: Press et al.,
/// Numerical Recipes, section 6.2 (relative error below 1.2e-7).
const ERFC_EXPONENT: [f32; 10] = [
    0.170_872_77,
    -0.822_152_23,
    1.488_515_9,
    -1.135_204,
    0.278_868_07,
    -0.186_288_06,
    0.096_784_18,
    0.374_091_96,
    1.000_023_7,
    -1.265_512_2,
];

/// 1 - erf(z) for z >= 0, within 3e-7 relative where it matters.
#[inline(always)]
fn erfc<V: Vector>(z: V) -> V {
    let t = V::splat(1.0).div(z.madd(V::splat(0.5), V::splat(1.0)));
    let mut exponent = V::splat(ERFC_EXPONENT[0]);
    for &coefficient in &ERFC_EXPONENT[1..] {
        exponent = exponent.madd(t, V::splat(coefficient));
    }
    t.mul(exp(exponent.sub(z.mul(z))))
}

/// Exact (erf) GELU. Written with erfc of |x|, which cancels nothing: max(x, 0) - |x| / 2 *
/// erfc(|x| / sqrt 2).
#[inline(always)]
pub fn gelu<V: Vector>(x: V) -> V {
    let size = x.abs();
    let tail = erfc(size.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2)));
    x.at_least(V::splat(0.0)).sub(size.mul(V::splat(0.5)).mul(tail))
}

/// The normal distribution's cumulative probability.
#[cfg(feature = "train")]
#[inline(always)]
pub fn normal_cdf<V: Vector>(x: V) -> V {
    let tail = erfc(x.abs().mul(V::splat(std::f32::consts::FRAC_1_SQRT_2))).mul(V::splat(0.5));
    V::pick_less(x, V::splat(0.0), tail, V::splat(1.0).sub(tail))
}

/// Sum of the lanes in a fixed order.
#[inline(always)]
pub fn lane_sum<V: Vector>(v: V) -> f32 {
    let [a, b, c, d] = v.lanes();
    (a + b) + (c + d)
}

/// Largest lane.
#[inline(always)]
pub fn lane_max<V: Vector>(v: V) -> f32 {
    let [a, b, c, d] = v.lanes();
    a.max(b).max(c.max(d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::scalar::Scalar;

    fn one(f: impl Fn(Scalar) -> Scalar, x: f32) -> f32 {
        f(Scalar::splat(x)).lanes()[0]
    }

    #[test]
    fn exp_is_within_two_ulp() {
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(one(exp, x)) - expected).abs() / expected;
            assert!(error <= 2.0 * f64::from(f32::EPSILON), "exp({x}): {error:e}");
        }
        assert!(one(exp, -1e30) < 1.3e-38);
        assert!(one(exp, 1e30).is_finite());
        assert!(one(exp, f32::NAN).is_nan());
    }

    /// erf by its Taylor series below 3 and its continued fraction above, in float64.
    fn erf_f64(x: f64) -> f64 {
        let a = x.abs();
        let value = if a < 3.0 {
            let (mut term, mut sum) = (a, a);
            for n in 1..100 {
                term *= -a * a / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        } else {
            let mut fraction = 0.0;
            for n in (1..60).rev() {
                fraction = f64::from(n) / 2.0 / (a + fraction);
            }
            1.0 - (-a * a).exp() / ((a + fraction) * std::f64::consts::PI.sqrt())
        };
        value.copysign(x)
    }

    #[test]
    fn gelu_is_within_three_ten_millionths() {
        for i in -120_000..120_000 {
            let x = i as f32 / 10_000.0;
            let wide = f64::from(x);
            let expected = 0.5 * wide * (1.0 + erf_f64(wide / std::f64::consts::SQRT_2));
            let error = (f64::from(one(gelu, x)) - expected).abs();
            assert!(error < 3e-7, "gelu({x}): {error:e}");
        }
    }

    #[test]
    fn silu_is_exact_enough_and_finite_at_the_ends() {
        for i in -2000..2000 {
            let x = i as f32 / 50.0;
            let expected = f64::from(x) / (1.0 + (-f64::from(x)).exp());
            let error = (f64::from(one(silu, x)) - expected).abs();
            assert!(error <= 3e-7 * expected.abs() + 1e-30, "silu({x}): {error:e}");
        }
        assert!(one(silu, -1000.0).abs() < 1e-30);
        assert_eq!(one(silu, 1000.0), 1000.0);
    }
}
