/** A front's load as a message: float32 by slot, little endian. Reads nothing on trust. */

/** [slots] tokens per second. */
export function encodeLoad(load: Float64Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4 * load.length);
  const view = new DataView(bytes.buffer);
  load.forEach((rate, slot) => view.setFloat32(4 * slot, rate, true));
  return bytes;
}

/** The inverse of `encodeLoad`. Throws RangeError unless it is a load of that many slots. */
export function decodeLoad(bytes: Uint8Array, slots: number): Float64Array {
  if (bytes.length !== 4 * slots) {
    throw new RangeError(`Cannot read a load of ${bytes.length} bytes: ${4 * slots} are expected`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const load = Float64Array.from({ length: slots }, (_, slot) => view.getFloat32(4 * slot, true));
  const wrong = load.find((rate) => !(rate >= 0 && rate < Infinity));
  if (wrong !== undefined) throw new RangeError(`Cannot read a load: ${wrong} tokens per second`);
  return load;
}
