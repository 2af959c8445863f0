/** How fast a loss falls: the least-squares slope of a window of steps, with its error. */

export interface LossVelocity {
  /** Fall per step: minus the slope. */
  readonly velocity: number;
  /** Standard error of the slope. */
  readonly error: number;
  /** Mean of the window. */
  readonly mean: number;
}

/** Of at least three losses, one per step. */
export function lossVelocity(losses: readonly number[]): LossVelocity {
  const count = losses.length;
  const mean = losses.reduce((a, b) => a + b, 0) / count;
  const middle = (count - 1) / 2;
  let [spread, product] = [0, 0];
  for (const [i, loss] of losses.entries()) {
    spread += (i - middle) ** 2;
    product += (i - middle) * (loss - mean);
  }
  const slope = product / spread;
  let residual = 0;
  for (const [i, loss] of losses.entries()) {
    residual += (loss - mean - slope * (i - middle)) ** 2;
  }
  const error = Math.sqrt(residual / Math.max(1, count - 2) / spread);
  return { velocity: -slope, error, mean };
}
