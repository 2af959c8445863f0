/** Estimates of the divergence from a reference policy, per token, from one sampled token. */

export type KlKind = "k1" | "abs" | "k2" | "k3";

/** Estimate from `drift`, the log-probability now minus that of the reference. */
export function klOf(kind: KlKind, drift: number): number {
  switch (kind) {
    case "k1":
      return drift;
    case "abs":
      return Math.abs(drift);
    case "k2":
      return drift * drift / 2;
    case "k3":
      return Math.exp(-drift) + drift - 1;
  }
}

/** Derivative of `klOf` by the log-probability now. */
export function klSlope(kind: KlKind, drift: number): number {
  switch (kind) {
    case "k1":
      return 1;
    case "abs":
      return Math.sign(drift);
    case "k2":
      return drift;
    case "k3":
      return 1 - Math.exp(-drift);
  }
}

/** The k3 estimate with bounds: exponent ±20, value ±10. */
export function boundedK3(drift: number): number {
  const bounded = Math.min(20, Math.max(-20, drift));
  return Math.min(10, Math.max(-10, klOf("k3", bounded)));
}
