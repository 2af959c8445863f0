/** The complementary error function in float64, by its textbook expansions. */

/** Where the series hands over to the continued fraction; both are exact to about 1e-15 here. */
const SERIES_MAX = 1.5;
/** Depth at which the continued fraction has converged for arguments above `SERIES_MAX`. */
const FRACTION_DEPTH = 80;

/** 1 - erf(x), without cancellation for large x (Abramowitz & Stegun 7.1.6 and 7.1.14). */
export function erfc(x: number): number {
  if (x < 0) return 2 - erfc(-x);
  return x <= SERIES_MAX ? 1 - erfSeries(x) : erfcFraction(x);
}

/** erf(x) = 2/sqrt(pi) * exp(-x^2) * sum over n of 2^n x^(2n+1) / (2n+1)!!; all terms positive. */
function erfSeries(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; term > sum * 1e-17; n++) {
    term *= 2 * x * x / (2 * n + 1);
    sum += term;
  }
  return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
}

/** erfc(x) = exp(-x^2)/sqrt(pi) * 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + ...)))). */
function erfcFraction(x: number): number {
  let tail = x;
  for (let n = FRACTION_DEPTH; n >= 1; n--) tail = x + n / 2 / tail;
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / tail;
}
