/**
 * Muon: the momentum of a matrix's gradient, made nearly orthogonal by Newton-Schulz iterations, is
 * what the matrix moves by (Jordan et al. 2024). The step is scaled to the size of one of AdamW's,
 * 0.2 * sqrt(longer side), so both share rate and decay (Liu et al. 2025, "Muon is Scalable for LLM
 * Training"). All of it is products of the training ops; which matrices learn so is not decided here.
 *
 * Matrices lie in panels, tensors row by row. A product with the identity turns one into the other
 * and moves every number as it is.
 */
import { assert } from "@/assert.ts";
import type { Backend, Matrix } from "@/kernels/backend.ts";
import { squareBlocks, type TrainingOps } from "@/kernels/training_ops.ts";
import type { Tensor } from "@/tensor/tensor.ts";

/** Coefficients of a quintic that lifts all singular values towards 1, and how often it is applied. */
const [LINEAR, CUBIC, QUINTIC] = [3.4445, -4.775, 2.0315] as const;
const ITERATIONS = 5;
const RATE_SCALE = 0.2;
/** Far below any norm: the factor that clips a norm to it divides by the norm. A power of two. */
const UNIT = 2 ** -40;

/** What one size of matrix needs beside weights and momentum. */
interface Scratch {
  /** [N, K] */
  readonly direction: Matrix;
  readonly spare: Matrix;
  readonly squares: Matrix;
  readonly zero: Matrix;
  /** The direction row by row, transposed where it is tall: [shorter, longer]. */
  readonly flat: Tensor;
  readonly partial: Tensor;
}

/** What matrices of one shorter side share; all [side, side]. */
interface Square {
  readonly identity: Tensor;
  readonly identityMatrix: Matrix;
  readonly gram: Tensor;
  readonly gramMatrix: Matrix;
  readonly inner: Tensor;
  readonly outer: Tensor;
}

export interface MuonStep {
  readonly weights: Matrix;
  readonly gradient: Matrix;
  /** Running mean of the gradient. */
  readonly momentum: Matrix;
  readonly momentumKeep: number;
  /** [norm, factor that clips the gradient]. */
  readonly norm: Tensor;
  readonly rate: number;
  readonly decay: number;
}

export class Muon {
  readonly #backend: Backend;
  readonly #training: TrainingOps;
  readonly #scratch = new Map<string, Scratch>();
  readonly #squares = new Map<number, Square>();
  /** [_, 1]: clips nothing. */
  readonly #whole: Tensor;
  readonly #unit: Tensor;

  constructor(backend: Backend) {
    assert(backend.training, "an optimiser on a backend without training ops");
    this.#backend = backend;
    this.#training = backend.training;
    this.#whole = backend.allocate("f32", [2]);
    this.#unit = backend.allocate("f32", [2]);
    backend.write(this.#whole, Float32Array.of(1, 1));
  }

  /** Records one step of a matrix [N, K]. */
  step(options: MuonStep): void {
    const { weights, gradient, momentum, momentumKeep, norm, rate, decay } = options;
    const training = this.#training;
    const { rows, columns } = weights;
    const scratch = this.#scratchOf(weights);
    const { direction, spare, squares, zero } = scratch;
    this.#blend(gradient, momentum, { keep: momentumKeep, norm, scratch });
    // Nesterov: the gradient counts once more.
    this.#blend(momentum, direction, { keep: 0, norm: this.#whole, scratch });
    this.#blend(gradient, direction, { keep: momentumKeep, norm, scratch });
    this.#orthogonalize(scratch);
    const still = { beta1: 0, beta2: 0, epsilon: 1, step: 1, norm: this.#whole };
    training.fill({ out: spare, value: 0 });
    const stores = { weights, gradient: zero, first: spare, second: squares };
    training.adamW({ ...stores, ...still, rate, decay });
    const scale = -rate * RATE_SCALE * Math.sqrt(Math.max(rows, columns));
    this.#fromFlat(scratch, weights, { scale, accumulate: true });
  }

  close(): void {
    const { free } = this.#backend;
    const held = [...this.#scratch.values(), ...this.#squares.values()];
    for (const one of held) for (const store of Object.values(one)) free.call(this.#backend, store);
    for (const tensor of [this.#whole, this.#unit]) this.#backend.free(tensor);
    this.#scratch.clear();
    this.#squares.clear();
  }

  /** into = keep * into + (1 - keep) * factor * from: what AdamW does to its first moment. */
  #blend(
    from: Matrix,
    into: Matrix,
    { keep, norm, scratch }: { keep: number; norm: Tensor; scratch: Scratch },
  ): void {
    const { zero: weights, squares: second } = scratch;
    const stores = { weights, gradient: from, first: into, second, norm };
    const rates = { rate: 0, decay: 0, beta1: keep, beta2: 0, epsilon: 1, step: 1 };
    this.#training.adamW({ ...stores, ...rates });
  }

  /** The direction, and its flat form, over its norm and then through the iterations. */
  #orthogonalize(scratch: Scratch): void {
    const { direction, spare, partial } = scratch;
    const training = this.#training;
    training.squareSums({ input: direction, partial });
    training.clipFactor({ partial, normMax: UNIT, norm: this.#unit });
    this.#blend(direction, spare, { keep: 0, norm: this.#unit, scratch });
    this.#toFlat(spare, scratch);
    this.#fromFlat(scratch, direction, { scale: 1 / UNIT, accumulate: false });
    this.#toFlat(direction, scratch);
    for (let i = 0; i < ITERATIONS; i++) this.#iterate(scratch);
  }

  /** X <- (a + b G + c G²) X with the Gram matrix G of the shorter side. */
  #iterate(scratch: Scratch): void {
    const { direction, flat } = scratch;
    const { ops } = this.#backend;
    const training = this.#training;
    const once = { scale: 1, accumulate: false };
    const { identity, identityMatrix, gram, gramMatrix, inner, outer } = this.#squareOf(direction);
    if (isTall(direction)) {
      training.matmulInputGrad({ outGrad: flat, weight: direction, ...once, inputGrad: gram });
    } else ops.matmul({ input: flat, weight: direction, out: gram });
    training.matmulWeightGrad({ outGrad: identity, input: gram, ...once, weightGrad: gramMatrix });
    training.fill({ out: inner, value: 0 });
    training.matmulAdd({ input: identity, weight: identityMatrix, scale: CUBIC, out: inner });
    training.matmulAdd({ input: gram, weight: identityMatrix, scale: QUINTIC, out: inner });
    training.fill({ out: outer, value: 0 });
    training.matmulAdd({ input: identity, weight: identityMatrix, scale: LINEAR, out: outer });
    training.matmulAdd({ input: inner, weight: gramMatrix, scale: 1, out: outer });
    const operands = isTall(direction)
      ? { outGrad: flat, input: outer }
      : { outGrad: outer, input: flat };
    training.matmulWeightGrad({ ...operands, ...once, weightGrad: direction });
    this.#toFlat(direction, scratch);
  }

  #toFlat(matrix: Matrix, { flat }: Scratch): void {
    const { identity } = this.#squareOf(matrix);
    if (isTall(matrix)) this.#backend.ops.matmul({ input: identity, weight: matrix, out: flat });
    else {
      const once = { scale: 1, accumulate: false };
      this.#training.matmulInputGrad({
        outGrad: identity,
        weight: matrix,
        ...once,
        inputGrad: flat,
      });
    }
  }

  #fromFlat(
    { flat }: Scratch,
    matrix: Matrix,
    how: { scale: number; accumulate: boolean },
  ): void {
    const { identity } = this.#squareOf(matrix);
    const operands = isTall(matrix)
      ? { outGrad: flat, input: identity }
      : { outGrad: identity, input: flat };
    this.#training.matmulWeightGrad({ ...operands, ...how, weightGrad: matrix });
  }

  #scratchOf({ rows, columns }: Matrix): Scratch {
    const key = `${rows} ${columns}`;
    let scratch = this.#scratch.get(key);
    if (scratch === undefined) {
      const backend = this.#backend;
      const matrix = () => this.#matrix(rows, columns);
      const direction = matrix();
      const sides = [Math.min(rows, columns), Math.max(rows, columns)];
      scratch = {
        direction,
        spare: matrix(),
        squares: matrix(),
        zero: matrix(),
        flat: backend.allocate("f32", sides),
        partial: backend.allocate("f32", [squareBlocks(direction.storage.sizeBytes / 4)]),
      };
      this.#scratch.set(key, scratch);
    }
    return scratch;
  }

  #matrix(rows: number, columns: number): Matrix {
    const matrix = this.#backend.createMatrix({ format: "f32", rows, columns });
    this.#training.fill({ out: matrix, value: 0 });
    return matrix;
  }

  #squareOf({ rows, columns }: Matrix): Square {
    const side = Math.min(rows, columns);
    let square = this.#squares.get(side);
    if (square === undefined) {
      const backend = this.#backend;
      const tensor = () => backend.allocate("f32", [side, side]);
      const matrix = () => this.#matrix(side, side);
      const identity = tensor();
      const values = Float32Array.from({ length: side * side }, (_, i) => +(i % (side + 1) === 0));
      backend.write(identity, values);
      square = {
        identity,
        identityMatrix: matrix(),
        gram: tensor(),
        gramMatrix: matrix(),
        inner: tensor(),
        outer: tensor(),
      };
      const { identityMatrix: weightGrad } = square;
      const operands = { input: identity, outGrad: identity, scale: 1, accumulate: false };
      this.#training.matmulWeightGrad({ ...operands, weightGrad });
      this.#squares.set(side, square);
    }
    return square;
  }
}

function isTall({ rows, columns }: Matrix): boolean {
  return rows >= columns;
}
