/**
 * Values on the tape. A tensor of the model names a place (`TapeStorage`); what is written there
 * first, second, … are different values, so an op in place gives a new one and the old one stays
 * for its gradient.
 */
import type { Storage, Tensor } from "@/tensor/tensor.ts";
import type { Buffer } from "./buffer_pool.ts";

/** A place that the model writes to. */
export class TapeStorage implements Storage {
  readonly sizeBytes: number;
  /** What lies there now. */
  value: TapeValue | undefined;
  /** The model has given the place back. */
  isDead = false;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }
}

/** A gradient that several values may share until one of them adds to it. */
export interface SharedGradient {
  readonly buffer: Buffer;
  owners: number;
}

export class TapeValue {
  readonly sizeBytes: number;
  readonly needsGradient: boolean;
  /** Where it was written; missing for what only the tape knows. */
  readonly place: TapeStorage | undefined;
  /** Segment of the program that makes it. */
  readonly segment: number;
  /** Missing once nobody needs it, or until it is computed again. */
  data: Buffer | undefined;
  gradient: SharedGradient | undefined;
  /** The backward pass reads it. */
  isSaved = false;
  /** It is kept to the end, also where a layer is computed again. */
  isKept = false;

  constructor(
    options: {
      sizeBytes: number;
      needsGradient: boolean;
      segment: number;
      place?: TapeStorage | undefined;
    },
  ) {
    this.sizeBytes = options.sizeBytes;
    this.needsGradient = options.needsGradient;
    this.segment = options.segment;
    this.place = options.place;
  }
}

/** A tensor as an op was given it: a view of a value, or memory that is no part of the tape. */
export interface Operand {
  readonly tensor: Tensor;
  readonly value: TapeValue | undefined;
}
