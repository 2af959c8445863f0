/**
 * WGSL functions with defined results. WGSL leaves division, exp and log inexact by a few units;
 * these keep to about one, on every adapter, so that results stay comparable. `fma` is written out
 * everywhere, so that no compiler may choose.
 */

/** Workgroup index over both axes, for kernels that count workgroups linearly. */
export const linear = /* wgsl */ `
fn linear_index(group: vec3<u32>, groups: vec3<u32>, local: u32, size: u32) -> u32 {
  return (group.y * groups.x + group.x) * size + local;
}`;

/**
 * a / b, correctly rounded: as it is where the adapter's division is exact, else with a Newton
 * step, which needs an fma that rounds once. The machine declares exact_division.
 */
export const divide = /* wgsl */ `
fn divide(a: f32, b: f32) -> f32 {
  let q = a / b;
  if (exact_division) { return q; }
  if ((bitcast<u32>(q) & 0x7f800000u) == 0x7f800000u) { return q; }
  let c = fma(fma(-q, b, a), 1.0 / b, q);
  return select(c, q, (bitcast<u32>(c) & 0x7f800000u) == 0x7f800000u);
}`;

/** sqrt(x) with the same correction. */
export const squareRoot = /* wgsl */ `
fn square_root(x: f32) -> f32 {
  let s = sqrt(x);
  if (exact_division || !(s > 1e-18)) { return s; }
  return fma(fma(-s, s, x), 0.5 / s, s);
}`;

/** e^x: Cephes' reduction by ln 2 in two parts, degree 6; 0 below -87.33, infinite above 88.72. */
export const exponential = /* wgsl */ `
fn exponential(x: f32) -> f32 {
  if (x < -87.33) { return 0.0; }
  let t = min(x, 88.8);
  let n = round(t * 1.44269504088896341);
  let whole = i32(n);
  var r = fma(n, -0.693359375, t);
  // Not n again: a compiler that may reassociate would join the two parts of ln 2.
  r = fma(f32(whole), 2.12194440e-4, r);
  var y = 1.9875691500e-4;
  y = fma(y, r, 1.3981999507e-3);
  y = fma(y, r, 8.3334519073e-3);
  y = fma(y, r, 4.1665795894e-2);
  y = fma(y, r, 1.6666665459e-1);
  y = fma(y, r, 5.0000001201e-1);
  y = fma(y, r * r, r) + 1.0;
  let half = whole >> 1u;
  let first = bitcast<f32>(u32(half + 127) << 23u);
  let second = bitcast<f32>(u32(whole - half + 127) << 23u);
  return y * first * second;
}`;

/** ln x for normal x > 0: Cephes' polynomial around 1. */
export const logarithm = /* wgsl */ `
fn logarithm(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  var e = f32(i32(bits >> 23u) - 126);
  var m = bitcast<f32>((bits & 0x007fffffu) | 0x3f000000u);
  if (m < 0.707106781186547524) { e -= 1.0; m = m + m; }
  m -= 1.0;
  let z = m * m;
  var y = 7.0376836292e-2;
  y = fma(y, m, -1.1514610310e-1);
  y = fma(y, m, 1.1676998740e-1);
  y = fma(y, m, -1.2420140846e-1);
  y = fma(y, m, 1.4249322787e-1);
  y = fma(y, m, -1.6668057665e-1);
  y = fma(y, m, 2.0000714765e-1);
  y = fma(y, m, -2.4999993993e-1);
  y = fma(y, m, 3.3333331174e-1);
  y = y * m * z;
  y = fma(e, -2.12194440e-4, y);
  y = fma(z, -0.5, y);
  return fma(e, 0.693359375, m + y);
}`;

/** erfc(z) for z >= 0 (Press et al., Numerical Recipes, section 6.2). Needs \`exponential\`. */
export const errorFunction = /* wgsl */ `
fn erfc_positive(z: f32) -> f32 {
  let t = divide(1.0, fma(z, 0.5, 1.0));
  var e = 0.17087277;
  e = fma(e, t, -0.82215223);
  e = fma(e, t, 1.48851587);
  e = fma(e, t, -1.13520398);
  e = fma(e, t, 0.27886807);
  e = fma(e, t, -0.18628806);
  e = fma(e, t, 0.09678418);
  e = fma(e, t, 0.37409196);
  e = fma(e, t, 1.00002368);
  e = fma(e, t, -1.26551223);
  return t * exponential(fma(-z, z, e));
}`;

/** Half-precision bits of a float32, to nearest, ties to even; beyond 65504 it saturates. */
export const half = /* wgsl */ `
fn half_bits(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x477ff000u) { return sign | 0x7bffu; }
  if (magnitude < 0x38800000u) {
    return sign | u32(round(bitcast<f32>(magnitude) * 16777216.0));
  }
  let rounded = magnitude + 0xfffu + ((magnitude >> 13u) & 1u);
  return sign | ((rounded - 0x38000000u) >> 13u);
}`;

/** Largest magnitude to int8 code: what all backends round activations with. */
export const toCode = /* wgsl */ `
fn to_code(value: f32, inverse: f32) -> i32 {
  return i32(round(clamp(value * inverse, -127.0, 127.0)));
}`;

/** Sum of the products of four signed bytes each. The machine declares has_packed_dot. */
export const packedDot = /* wgsl */ `
fn dot4(a: u32, b: u32) -> i32 { return packed_dot(a, b); }`;
