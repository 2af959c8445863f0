/** The file that says what weights were trained from: runs and soups write it, soups ask for it. */

/** Lies beside the weights. */
export const LINEAGE_FILE = "lineage.json";

/** Ids of the models that these weights descend from, the oldest first, themselves last. */
export interface Lineage {
  readonly ancestors: readonly string[];
  /** How they were made: by a run, as a soup, by merging low-rank additions. */
  readonly run?: unknown;
  readonly soup?: unknown;
  readonly merge?: unknown;
}
