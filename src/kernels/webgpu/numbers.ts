/** The numbers of dispatches on the device: one buffer of slots, each with a bind group of its own. */

/** Bytes of one dispatch's numbers: the alignment that every adapter accepts. */
export const NUMBERS_BYTES = 256;

/** The layout of every slot's bind group. */
export function numbersLayout(gpu: GPUDevice): GPUBindGroupLayout {
  const buffer = { type: "uniform", minBindingSize: NUMBERS_BYTES } as const;
  return gpu.createBindGroupLayout({
    entries: [{ binding: 0, visibility: GPUShaderStage.COMPUTE, buffer }],
  });
}

export class Numbers {
  readonly #gpu: GPUDevice;
  readonly #layout: GPUBindGroupLayout;
  readonly #buffer: GPUBuffer;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #groups: GPUBindGroup[] = [];

  constructor(gpu: GPUDevice, options: { layout: GPUBindGroupLayout; slots: number }) {
    const size = options.slots * NUMBERS_BYTES;
    this.#gpu = gpu;
    this.#layout = options.layout;
    this.#bytes = new Uint8Array(size);
    const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
    this.#buffer = gpu.createBuffer({ size, usage });
  }

  /** Where a slot's numbers are written, to go up with `upload`. */
  view(slot: number): DataView<ArrayBuffer> {
    return new DataView(this.#bytes.buffer, slot * NUMBERS_BYTES, NUMBERS_BYTES);
  }

  group(slot: number): GPUBindGroup {
    return this.#groups[slot] ??= this.#gpu.createBindGroup({
      layout: this.#layout,
      entries: [{
        binding: 0,
        resource: { buffer: this.#buffer, offset: slot * NUMBERS_BYTES, size: NUMBERS_BYTES },
      }],
    });
  }

  /** Sends the first slots, before everything submitted later. */
  upload(slots: number): void {
    this.#gpu.queue.writeBuffer(this.#buffer, 0, this.#bytes, 0, slots * NUMBERS_BYTES);
  }

  destroy(): void {
    this.#buffer.destroy();
  }
}
