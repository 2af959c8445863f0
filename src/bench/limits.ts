/** What the machine allows: the physical limits that rows are held against. */

/** Rates of all threads together, measured from WebAssembly. */
export interface Limits {
  /** Reading memory, at least 600 MB that no cache holds, in GB/s. */
  readonly readGBs: number;
  /** int8 products added up in 16 bits (relaxed dot, add), in 10^9 operations per second. */
  readonly i16Gops: number;
  /** int8 products widened to 32 bits (relaxed dot, dot with ones, add). */
  readonly dot3Gops: number;
  /** float32 multiply-add. */
  readonly f32Gops: number;
}

export interface LimitProbe {
  /** Measures them again. */
  measure(): Promise<Limits>;
  /** As they are at this moment: measured again where they change from second to second. */
  glance(): Promise<Limits>;
}

/** What stands beside a sample: the machine and other engines just before it, or just after. */
export interface Moment {
  readonly limits: Limits;
  /** Speed of each peer that does the same as the sample, in the sample's unit. */
  readonly peers: Readonly<Record<string, number>>;
}

/** The mean of the moments before and after a sample, which may have other peers. */
export function between(before: Moment, after: Moment): Moment {
  const mean = (key: keyof Limits) => (before.limits[key] + after.limits[key]) / 2;
  return {
    limits: {
      readGBs: mean("readGBs"),
      i16Gops: mean("i16Gops"),
      dot3Gops: mean("dot3Gops"),
      f32Gops: mean("f32Gops"),
    },
    peers: Object.fromEntries(
      Object.entries(before.peers).flatMap(([name, speed]) => {
        const later = after.peers[name];
        return later === undefined ? [] : [[name, (speed + later) / 2]];
      }),
    ),
  };
}
