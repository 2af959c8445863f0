/**
 * Bounded memory of the ids of frequent pieces. Owns only the bound and the order of eviction.
 */
import { limits } from "@/limits.ts";

/**
 * Two generations: new and used entries live in the young one; when it is full it becomes the old
 * one and the previous old one is dropped. Constant time, and what is used often stays.
 */
export class PieceCache {
  #young = new Map<string, readonly number[]>();
  #old = new Map<string, readonly number[]>();
  readonly #generationSize: number;

  constructor(piecesMax: number = limits.tokenizerCachePiecesMax) {
    this.#generationSize = Math.max(1, Math.floor(piecesMax / 2));
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  get(piece: string): readonly number[] | undefined {
    const young = this.#young.get(piece);
    if (young !== undefined) return young;
    const old = this.#old.get(piece);
    if (old !== undefined) {
      this.#old.delete(piece);
      this.#insert(piece, old);
    }
    return old;
  }

  set(piece: string, ids: readonly number[]): void {
    // A slice may keep the whole prompt it was cut from alive; a rebuilt string does not.
    const units = Array.from({ length: piece.length }, (_, i) => piece.charCodeAt(i));
    this.#insert(String.fromCharCode(...units), ids);
  }

  #insert(piece: string, ids: readonly number[]): void {
    if (this.#young.size >= this.#generationSize) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(piece, ids);
  }
}
