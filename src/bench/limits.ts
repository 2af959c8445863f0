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

/** Measures the limits again whenever it is asked. */
export interface LimitProbe {
  measure(): Promise<Limits>;
}
