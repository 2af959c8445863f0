/**
 * How much memory a GPU grants, found by asking for it: WebGPU does not tell how much there is.
 * What is granted is given back at once.
 */
import { openDevice } from "./device.ts";

/** Asked for at a time; every adapter has buffers of this size. */
const CHUNK_BYTES = 128 * 1024 * 1024;
/** Left to the display, to other programs and to what drivers keep beside buffers. */
const SHARE = 0.9;

/**
 * Bytes that may be used of `wantedBytes`: all of them when the GPU grants them, else nine tenths
 * of what it grants. Software adapters take the system's memory and are not asked.
 */
export async function usableDeviceBytes(
  wantedBytes: number,
  gpu: GPU | undefined = navigator.gpu,
): Promise<number> {
  const { gpu: device, isSoftware } = await openDevice(gpu);
  try {
    if (isSoftware) return wantedBytes;
    return await grantedBytes(device, wantedBytes);
  } finally {
    device.destroy();
  }
}

/** The trial itself, on any device, which may be lost over it. */
export async function grantedBytes(device: GPUDevice, wantedBytes: number): Promise<number> {
  const held: GPUBuffer[] = [];
  // A device that is lost over it has granted what it granted before.
  const lost = device.lost.then(() => true);
  try {
    for (let bytes = 0; bytes < wantedBytes; bytes += CHUNK_BYTES) {
      device.pushErrorScope("out-of-memory");
      held.push(device.createBuffer({ size: CHUNK_BYTES, usage: GPUBufferUsage.STORAGE }));
      const refused = device.popErrorScope().then((error) => error !== null, () => true);
      if (await Promise.race([refused, lost])) return Math.floor(SHARE * bytes);
    }
    return wantedBytes;
  } finally {
    for (const buffer of held) buffer.destroy();
  }
}
